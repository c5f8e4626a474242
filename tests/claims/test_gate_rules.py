"""Every rule of the gates, on notebooks made by hand: the same holes as in test_gates, fast."""

import copy

import nbformat
import pytest

from qa_lab.claims.gates import GATES, problems, source_is_recorded
from qa_lab.claims.mime import CLAIM, FIGURE
from tests.claims.bad_notebooks import CLAIMS, HYGIENE, SOURCE, write
from tests.claims.by_hand import recorded


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """Where the sound notebook lies."""
    return recorded(tmp_path_factory.mktemp("sound"), "sound", SOURCE)


@pytest.fixture
def sound(path):
    """The sound notebook, for spoiling."""
    return nbformat.read(path, as_version=4)


def found(notebook) -> list[str]:
    """What all the gates say of it."""
    return [problem for gate in GATES for problem in gate(notebook)]


def test_the_sound_notebook_passes(path):
    assert problems(path) == []


@pytest.mark.parametrize("spoil", (*HYGIENE, *CLAIMS), ids=lambda spoil: spoil.__name__)
def test_each_hole_has_one_gate_that_names_the_notebook(spoil, sound, tmp_path):
    spoil(sound)
    write(tmp_path, "spoilt", sound)
    says = (HYGIENE | CLAIMS)[spoil]
    told = problems(tmp_path / "spoilt.ipynb")
    assert any(says in problem for problem in told)
    assert all(problem.startswith("spoilt.ipynb: ") for problem in told)


def test_execution_counts_are_counted_over_code_cells_alone(sound):
    sound.cells.insert(1, nbformat.v4.new_markdown_cell("Between two code cells."))
    assert found(sound) == []
    sound.cells[2].execution_count = 3
    (problem,) = found(sound)
    assert problem.startswith("code cell 2 has execution count 3")


@pytest.mark.parametrize("marker", ["NBVAL_SKIP", "nbval-ignore", "nbval_check", "Nbval-Raises"])
def test_every_marker_of_nbval_is_refused_in_tags_and_in_text(marker, sound):
    tagged = copy.deepcopy(sound)
    tagged.cells[-1].metadata["tags"] = ["slow", marker]
    (problem,) = found(tagged)
    assert problem.startswith(f"the tag '{marker}'")
    sound.cells[-1].source += f"  # {marker}"
    (problem,) = found(sound)
    assert problem.startswith("the marker")


def test_other_tags_are_nobodys_business(sound):
    sound.cells[-1].metadata["tags"] = ["hide", "nbvalidate"]
    assert found(sound) == []


def test_a_cell_that_calls_get_ipython_is_not_plain(sound):
    sound.cells[-1].source = "get_ipython().system('false')"
    assert found(sound) == ["a cell calls get_ipython; use plain Python."]


def test_what_cannot_be_parsed_is_said_once(sound):
    sound.cells[1].source, sound.cells[1].outputs = "%timeit prove()", []
    (problem,) = found(sound)
    assert problem.startswith("a cell is not plain Python (a magic or a shell line?): '%timeit")


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("\ntry:\n    f()\nexcept* ValueError:\n    pass", "line 2 of a cell has a `try`"),
        ("\nsuppress(ValueError)", "line 2 of a cell suppresses"),
    ],
)
def test_the_line_that_swallows_is_named(source, says, sound):
    sound.cells[0].source = source
    (problem,) = found(sound)
    assert problem.startswith(says)


def test_what_may_be_shown(sound):
    for mime in ("text/plain", "text/html", "image/svg+xml"):
        sound.cells[0].outputs = [nbformat.v4.new_output("display_data", data={mime: "x"})]
        assert found(sound) == [], mime
    sound.cells[0].outputs = [
        nbformat.v4.new_output("display_data", data={"text/plain": "", "text/b": "", "text/a": ""})
    ]
    assert found(sound) == ["code cell 1 shows text/a, text/b, which is not compared."]


def test_an_error_and_a_warning_are_named_with_their_cell(sound):
    error = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    sound.cells[0].outputs = [nbformat.v4.new_output("stream", name="stderr", text="w" * 99), error]
    assert found(sound) == [
        f"code cell 1 was recorded with a warning: {'w' * 80!r}",
        "code cell 1 was recorded with an error: ValueError.",
    ]


def test_a_semicolon_is_seen_behind_blanks_and_not_elsewhere(sound):
    sound.cells[0].source = "a = 1; b = 2"
    assert found(sound) == []
    sound.cells[0].source = "a = 1;  \n"
    (problem,) = found(sound)
    assert problem.startswith("code cell 1 ends in a semicolon")


def test_a_claim_that_is_not_shown_or_shown_and_not_proved_is_refused(sound):
    hidden = copy.deepcopy(sound)
    hidden.cells[1].outputs = []
    assert found(hidden)[0].startswith("code cell 2 calls prove or figure 1 times and shows 0")
    sound.cells[0].outputs = sound.cells[1].outputs
    assert found(sound)[0].startswith("code cell 1 calls prove or figure 0 times and shows 1")


def test_two_claims_in_a_cell_are_refused_even_if_both_are_shown(sound):
    cell = sound.cells[1]
    cell.source, cell.outputs = f"display({cell.source})\n{cell.source}", cell.outputs * 2
    (problem,) = found(sound)
    assert problem.startswith("code cell 2 calls prove or figure 2 times and shows 2")


def test_a_call_through_a_module_counts_as_a_call(sound):
    sound.cells[1].source = "import qa_lab.claims as claims\n\nclaims.prove()"
    sound.cells[2].source = "figures.figure()"
    assert found(sound) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"verdict": "refuted"}, "does not say that it holds"),
        ({"control_verdict": "held"}, "does not say that it holds"),
    ],
)
def test_the_record_must_say_that_it_holds_and_that_its_control_misses(change, says, sound):
    sound.cells[1].outputs[0].data[CLAIM] |= change
    (problem,) = found(sound)
    assert problem.startswith("ten-is-ten: ") and says in problem


@pytest.mark.parametrize("which", ["measured", "control"])
@pytest.mark.parametrize("statistic", ["min", "median", "max"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), "10", None])
def test_every_recorded_number_is_a_finite_one(which, statistic, value, sound):
    sound.cells[1].outputs[0].metadata[CLAIM][which][statistic] = value
    (problem,) = found(sound)
    assert problem.startswith(f"ten-is-ten: the {which} numbers")


@pytest.mark.parametrize("which", ["measured", "control"])
def test_a_number_that_was_left_out_is_not_finite(which, sound):
    del sound.cells[1].outputs[0].metadata[CLAIM][which]
    (problem,) = found(sound)
    assert f"the {which} numbers [nan, nan, nan] are not all finite" in problem


def test_without_numbers_nothing_more_is_said(sound):
    del sound.cells[1].outputs[0].metadata[CLAIM]
    (problem,) = found(sound)
    assert problem.startswith("ten-is-ten: the numbers that were measured are missing")


def test_a_record_that_is_empty_is_refused_and_not_stumbled_over(sound):
    output = sound.cells[1].outputs[0]
    output.data[CLAIM], output.metadata[CLAIM] = {}, {"measured": {}}
    assert [problem.split(":")[0] for problem in found(sound)] == ["None"] * 3


def test_a_figure_needs_no_verdict(sound):
    assert FIGURE in sound.cells[2].outputs[0].data
    sound.cells[2].outputs[0].metadata = {}
    assert found(sound) == []


def test_the_source_beside_it_must_be_there_and_be_the_same(path, sound, tmp_path):
    lonely = tmp_path / "lonely.ipynb"
    assert list(source_is_recorded(lonely, sound)) == ["its source lonely.py is missing."]
    edited = recorded(tmp_path, "edited", SOURCE)
    edited.with_suffix(".py").write_text(SOURCE.replace("done", "changed"), encoding="utf-8")
    (problem,) = problems(edited)
    assert problem.endswith("is not what was recorded. Run: make record Q=edited")
