"""No test, notebook or measurement asks two computations for equal bits: DESIGN's “no bits”.

This reads the code. `make portable` runs it besides, with every result moved by a rounding error.
"""

import pytest

from qa_lab.claims.notebooks import ROOT, sources
from tests.tools.bits import bit_comparisons

ALLOWED = ROOT / "tests" / "comparing.py"  # its names say why
READ = [
    path
    for folder in ("tests", "qa_lab/experiments", "qa_lab/transformer")
    for path in sorted((ROOT / folder).rglob("*.py"))
    if path != ALLOWED
]

BAD = [
    "assert torch.equal(model(x)[:1], model(x[:1]))",
    "assert not np.array_equal(a, b)",
    "assert (model(x) == other(x)).all()",
    "assert not (before != after).any()",
    "assert ours.tolist() == theirs.tolist()",
    "assert run(0).item() == run(1).item()",
    "assert (model(x) - model(y)).abs().max() == 0",
    "moved = (model(x) - model(y)).abs().amax(0) > 0",
    "reached = (f(x) - f(y)).abs().amax((0, 2)).nonzero()",
    "assert not (f(x) - f(y)).abs().any()",
    "def test():\n    moved = (f(x) - f(y)).abs().amax((0, 2))\n    assert moved[3] == 0",
]
GOOD = [
    "assert_identical(a.argmax(-1), b)",
    "assert (ids == PAD).all() and (keep != 0).any() and (scores == -torch.inf).all()",
    "assert ids.tolist() == [[1, 2], [3, 0]]",
    "assert rows.tolist() == pytest.approx(expected.tolist(), abs=1e-12)",
    "assert (a - b).abs().max() < 1e-12 and (a - b).abs().max() > 0.1",
    "assert ((counts - 1000).abs() < 5 * error).all()",
    "exact = (answers == target).all(dim=1).double().mean()",
    "if depth - 1 > 0 or x > 0:\n    pass",
    "def f():\n    moved = (a - b).abs()\n\ndef g(moved):\n    assert moved == 0",
]


def test_nothing_compares_bits():
    found = {path: bit_comparisons(path.read_text("utf-8")) for path in [*READ, *sources()]}
    assert {str(path.relative_to(ROOT)): said for path, said in found.items() if said} == {}


@pytest.mark.parametrize("code", BAD)
def test_a_comparison_of_bits_is_found(code):
    assert len(bit_comparisons(code)) == 1


@pytest.mark.parametrize("code", GOOD)
def test_other_comparisons_are_left_alone(code):
    assert bit_comparisons(code) == []
