"""Every known way to fool nbval: nbval alone passes it, the strict run does not."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
from nbclient.exceptions import CellExecutionError

from qa_lab.claims.gates import problems
from qa_lab.claims.notebooks import ROOT, is_recorded, record
from tests.claims.bad_notebooks import CLAIMS, HYGIENE, LIGHT, NUMBERS, SOURCE, good, write

NBVAL = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout", "60", "-q", "-rfE")
STRICT = ("-p", "qa_lab.claims.strict")


def run(folder: Path, *options: str, **environment: str) -> tuple[int, str]:
    """Run pytest in a process of its own over the notebooks of a folder."""
    command = (sys.executable, "-m", "pytest", *NBVAL, "-p", "no:cacheprovider", *options)
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="session")
def spoilt(tmp_path_factory) -> Path:
    """A folder of bad notebooks, one a hole, and a sound one."""
    folder = tmp_path_factory.mktemp("spoilt")
    (folder / "pytest.ini").write_text("[pytest]\n")
    light, sound = good(folder, "light", LIGHT), good(folder, "sound")
    for spoil in (*HYGIENE, *CLAIMS, *NUMBERS):
        notebook = copy.deepcopy(light if spoil in HYGIENE else sound)
        spoil(notebook)
        write(folder, spoil.__name__, notebook)
    write(folder, "edited", light)
    (folder / "edited.py").write_text(LIGHT.replace("done", "changed"), encoding="utf-8")
    return folder


def test_nbval_alone_passes_every_spoilt_notebook(spoilt):
    names = ("edited", "measured_number_changed", *(spoil.__name__ for spoil in HYGIENE))
    code, report = run(spoilt, *(f"{name}.ipynb" for name in names))
    assert code == 0, report


@pytest.mark.parametrize("spoil", (*HYGIENE, *CLAIMS), ids=lambda spoil: spoil.__name__)
def test_the_gates_catch_it(spoil, spoilt):
    says = (HYGIENE | CLAIMS)[spoil]
    assert any(says in problem for problem in problems(spoilt / f"{spoil.__name__}.ipynb"))


def test_the_gates_catch_a_source_that_was_edited_after_recording(spoilt):
    (problem,) = problems(spoilt / "edited.ipynb")
    assert "edited.py is not what was recorded" in problem


def test_the_gates_pass_the_sound_notebooks(spoilt):
    assert problems(spoilt / "sound.ipynb") == problems(spoilt / "light.ipynb") == []


def test_a_strict_run_adds_the_gates_and_compares_the_numbers(spoilt):
    names = ("light", "never_executed", "edited", *(spoil.__name__ for spoil in NUMBERS))
    code, report = run(spoilt, *STRICT, *(f"{name}.ipynb" for name in names))
    assert code == 1
    assert "light.ipynb::" not in report
    assert "execution count None" in report
    assert "edited.py is not what was recorded" in report
    for spoil, says in NUMBERS.items():
        _, section = report.split(f"{spoil.__name__}.ipynb::", 1)
        assert says in section.split("____", 1)[1].split("\n___")[0]


def test_options_that_blunt_the_comparison_are_refused(spoilt, tmp_path):
    (tmp_path / "any.cfg").write_text("[a]\nregex: \\d+\nreplace: N\n")
    light = str(spoilt / "light.ipynb")
    code, report = run(spoilt, *STRICT, light, "--nbval-sanitize-with", str(tmp_path / "any.cfg"))
    assert (code, "can hide any number" in report) == (4, True)
    code, report = run(spoilt, *STRICT, light, "--nbval-lax")
    assert (code, "compares nothing" in report) == (4, True)


def test_recording_twice_gives_the_same_bytes(tmp_path):
    source = tmp_path / "sound.py"
    source.write_text(SOURCE, encoding="utf-8")
    assert not is_recorded(source)
    first = record(source).read_bytes()
    assert is_recorded(source)
    assert record(source).read_bytes() == first


def test_a_cell_that_raises_leaves_the_old_recording_untouched(tmp_path):
    good(tmp_path, "light", LIGHT)
    before = (tmp_path / "light.ipynb").read_bytes()
    (tmp_path / "light.py").write_text(LIGHT + "assert False\n", encoding="utf-8")
    with pytest.raises(CellExecutionError, match="AssertionError"):
        record(tmp_path / "light.py")
    assert (tmp_path / "light.ipynb").read_bytes() == before


def test_a_replication_run_ignores_recorded_numbers_but_not_bounds(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    random = SOURCE.replace("10.0 * factor", "(10 + torch.rand(())) * factor")
    random = random.replace("# %%\n", "# %%\nimport torch\n\n", 1)
    good(tmp_path, "sound", random)
    code, report = run(tmp_path, *STRICT)
    assert code == 0, report
    code, report = run(tmp_path, *STRICT, QA_LAB_FIRST_SEED="50")
    assert code == 0, report


def test_a_failing_claim_is_said_in_one_sentence_at_the_end(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    notebook = good(tmp_path, "sound")
    notebook.cells[1].source = notebook.cells[1].source.replace("within(9, 11)", "within(1, 2)")
    write(tmp_path, "sound", notebook)
    code, report = run(tmp_path, *STRICT)
    assert code == 1
    _, summary = report.split("what does not hold")
    assert "sound: ClaimFailed: ten-is-ten: ten must be in [1, 2], but 5 of 5 values" in summary
