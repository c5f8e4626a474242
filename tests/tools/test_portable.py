"""The stand-ins for another processor: what they move, what they leave, and what they choose."""

import subprocess
import sys

import pytest
import torch

from qa_lab.claims.manifest import load_manifest
from qa_lab.claims.notebooks import ROOT
from tests.tools.jitter import UNITS, Jitter
from tests.tools.machine import STAND_INS, machine, processor
from tests.tools.sample import quickest

COMPARES_BITS = """
import torch

def test_one_row_alone():
    x, W = torch.randn(3, 5), torch.randn(5, 7)
    assert torch.equal((x @ W)[:1], x[:1] @ W)

def test_counts_and_zeros():
    assert torch.ones(5).sum() == 5 and torch.tensor([0.0, -torch.inf]).softmax(0)[1] == 0
"""


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_jitter_moves_a_product_by_a_few_units_in_the_last_place(dtype):
    torch.manual_seed(0)
    x, y = torch.randn(13, 11, dtype=dtype), torch.randn(11, 17, dtype=dtype)
    exact = x @ y
    with Jitter():
        moved = x @ y
    units = ((moved - exact) / exact).abs() / torch.finfo(dtype).eps
    assert units.median() > 1 and units.max() <= UNITS + 1


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_jitter_moves_half_precision_by_one_unit_in_the_last_place(dtype):
    torch.manual_seed(0)
    x, y = torch.randn(13, 11).to(dtype), torch.randn(11, 17).to(dtype)
    exact = x @ y
    with Jitter():
        moved = x @ y
    units = ((moved.double() - exact.double()) / exact.double()).abs() / torch.finfo(dtype).eps
    assert 0.4 < units.max() <= 1.5  # the product with 1 + e is rounded, too


def test_jitter_leaves_what_no_processor_rounds():
    keep, x = torch.tensor([True, False, True]), torch.randn(3)
    with Jitter():
        assert torch.ones(3, 5).sum() == 15 and keep.float().mean(0) != 0
        weights = torch.zeros(3).masked_fill(~keep, -torch.inf).softmax(0)
        assert weights.tolist() == [0.5, 0, 0.5]
        assert ((x + 1) * 3 - (x + 1) * 3 == 0).all(), "one rounding each"


def run(*arguments):
    command = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments)
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=120).stdout


def test_a_test_that_compares_bits_fails_under_jitter(tmp_path):
    (tmp_path / "test_bits.py").write_text(COMPARES_BITS)
    said = run("-p", "tests.tools.jitter", str(tmp_path))
    assert "1 failed, 1 passed" in said and "FAILED" in said and "one_row_alone" in said


def test_the_sample_is_every_so_manieth_test(tmp_path):
    (tmp_path / "test_ten.py").write_text(
        "import pytest\n@pytest.mark.parametrize('n', range(10))\ndef test(n): assert n % 4 == 0"
    )
    assert "3 passed, 7 deselected" in run(
        "-p", "tests.tools.sample", "--every", "4", str(tmp_path)
    )


def test_the_quickest_notebooks_are_by_what_the_manifest_says():
    seconds = {f"{q.slug}.ipynb": q.reprove_seconds for q in load_manifest().published}
    chosen = [seconds[path.name] for path in quickest(3)]
    assert chosen == sorted(seconds.values())[:3] and all(path.exists() for path in quickest(3))


def test_the_machine_says_its_processor_and_the_instructions_in_force(monkeypatch):
    for name in STAND_INS:
        monkeypatch.delenv(name, raising=False)
    lines = machine()
    assert processor() and lines[0].startswith(processor())
    assert torch.backends.cpu.get_cpu_capability() in lines[1] and torch.__version__ in lines[1]
    assert len(lines) == 2
    monkeypatch.setenv("MKL_CBWR", "COMPATIBLE")
    assert machine()[2] == "as another processor would: MKL_CBWR=COMPATIBLE"
