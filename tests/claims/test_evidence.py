"""Claims and figures are read back from what was recorded, and a re-run must bring them again."""

import math

import nbformat
import pytest

from qa_lab.claims import within
from qa_lab.claims.evidence import Evidence, UnknownEvidence, drift
from qa_lab.claims.mime import CLAIM, FIGURE
from qa_lab.claims.notebooks import recordings
from tests.claims.bad_notebooks import SOURCE
from tests.claims.by_hand import recorded


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Two recorded notebooks, the second with other ids."""
    folder = tmp_path_factory.mktemp("notebooks")
    other = SOURCE.replace("ten-is-ten", "again").replace("a-figure", "b-figure")
    return recorded(folder, "first", SOURCE), recorded(folder, "second", other)


def test_claims_and_figures_are_found_by_id_in_the_order_of_the_notebooks(paths):
    evidence = Evidence(reversed(paths))
    assert list(evidence.claims) == ["again", "ten-is-ten"]
    assert list(evidence.figures) == ["b-figure", "a-figure"]
    claim, figure = evidence.claim("ten-is-ten"), evidence.figure("a-figure")
    assert (claim.id, claim.notebook, claim.cell) == ("ten-is-ten", "first", "first-01")
    assert claim.source.startswith('prove(\n    "ten-is-ten"')
    assert claim.settles == {} and claim.bound == within(9, 11)
    assert claim.numbers["measured"]["median"] == 10
    assert (figure.id, figure.notebook, figure.cell) == ("a-figure", "first", "first-02")
    assert figure.source.startswith("def draw") and figure.svg.startswith("<svg")
    assert figure.drawn == [{"a": {"x": [1, 2], "y": [3, 4]}}]
    assert evidence.of("second") == [evidence.claim("again")]


def test_evidence_is_of_every_recording_unless_others_are_named():
    assert {claim.notebook for claim in Evidence().claims.values()} == {
        path.stem for path in recordings()
    }
    assert Evidence([]).claims == Evidence([]).figures == {}


def test_a_large_thing_is_left_out_of_what_is_printed(paths):
    evidence = Evidence(paths)
    assert "median" not in repr(evidence.claim("again"))
    assert "<svg" not in repr(evidence.figure("b-figure"))


@pytest.mark.parametrize(("kind", "known"), [("claim", "ten-is-ten, again"), ("figure", "a-fig")])
def test_an_unknown_id_is_named_with_those_there_are(kind, known, paths):
    with pytest.raises(UnknownEvidence) as problem:
        getattr(Evidence(paths), kind)("no-such")
    assert str(problem.value).startswith(f"No recorded notebook holds the {kind} “no-such”.")
    assert known in str(problem.value)


def test_an_id_is_used_once(paths, tmp_path):
    twin = recorded(tmp_path, "twin", SOURCE)
    with pytest.raises(ValueError, match=r"“ten-is-ten”: in first and in twin\."):
        _ = Evidence([*paths, twin]).claims


def claimed(id="x", scale=1.0, tolerance=0.1, **numbers):
    """One cell's output: a claim with these numbers, 10 where nothing is said."""
    measured = {s: numbers.get(s, 10.0) for s in ("min", "median", "max")}
    control = {s: numbers.get(f"control_{s}", 10.0) for s in ("min", "median", "max")}
    stored = {"measured": measured, "control": control, "scale": scale, "tolerance": tolerance}
    return nbformat.v4.new_output(
        "display_data", data={CLAIM: {"id": id}}, metadata={CLAIM: stored}
    )


@pytest.mark.parametrize("statistic", ["min", "median", "max"])
@pytest.mark.parametrize("which", ["measured", "control"])
def test_a_number_may_drift_by_the_tolerance_and_no_further(statistic, which):
    key = statistic if which == "measured" else f"control_{statistic}"
    for back in (9.0, 11.0):
        assert drift([claimed()], [claimed(**{key: back})]) == []
    for back, shown in ((8.99, "8.99"), (11.01, "11.01"), (math.nan, "nan")):
        assert drift([claimed()], [claimed(**{key: back})]) == [
            f"x: the {which} {statistic} was recorded as 10 and came back as {shown}, "
            "further apart than the tolerance of 10%."
        ]


def test_near_zero_the_bounds_scale_is_the_measure():
    recorded = claimed(median=-0.5, scale=20.0)
    assert drift([recorded], [claimed(median=1.5, scale=20.0)]) == []
    assert len(drift([recorded], [claimed(median=1.51, scale=20.0)])) == 1
    negative = claimed(median=-10.0)
    assert drift([negative], [claimed(median=-10.9)]) == []


def test_another_tolerance_is_said():
    assert drift([claimed()], [claimed(tolerance=0.2)]) == [
        "x: recorded with tolerance 0.1, run again with 0.2."
    ]


def test_what_is_missing_and_what_is_new_is_said():
    printed = nbformat.v4.new_output("stream", name="stdout", text="done")
    assert drift([printed, claimed()], [printed]) == ["x was not run again."]
    assert drift([printed], [printed, claimed()]) == ["x was not recorded."]
    assert drift([printed], [printed]) == []


def drawn(tolerance=0.1, **axes):
    """One cell's output: a figure whose second panel has a series with these numbers."""
    return figure_of([{}, {"a": axes}], tolerance)


def figure_of(panels, tolerance=0.1):
    """One cell's output: a figure with these panels."""
    stored = {"drawn": panels, "tolerance": tolerance}
    return nbformat.v4.new_output(
        "display_data", data={FIGURE: {"id": "f"}}, metadata={FIGURE: stored}
    )


def test_a_series_may_drift_by_the_tolerance_of_its_largest_number():
    recorded = drawn(y=[1.0, -10.0, 0.0])
    assert drift([recorded], [drawn(y=[2.0, -9.0, 1.0])]) == []
    for back in ([2.01, -10.0, 0.0], [1.0, -11.01, 0.0], [1.0, math.nan, 0.0], [1.0, -10.0]):
        assert drift([recorded], [drawn(y=back)]) == [
            "f: y of “a” in panel 1 came back with other numbers than were recorded."
        ]
    assert drift([drawn(y=[])], [drawn(y=[])]) == []


def test_other_series_are_said_once():
    for others in (drawn(y=[7.0]), drawn(x=[1.0], y=[7.0]), figure_of([{"a": {"y": [1.0]}}])):
        assert drift([drawn(y=[1.0], z=[2.0])], [others]) == [
            "f: the figure draws other series than were recorded."
        ]
