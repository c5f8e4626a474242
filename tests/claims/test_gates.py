"""Every known way to fool nbval: nbval alone passes it, the strict run does not."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient.exceptions import CellExecutionError

from qa_lab.claims.gates import problems
from qa_lab.claims.notebooks import ROOT, is_recorded, record
from tests.claims.bad_notebooks import (
    CLAIM_ALONE,
    CLAIMS,
    HYGIENE,
    LIGHT,
    NUMBERS,
    SOURCE,
    good,
    write,
)

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
    """A folder of bad notebooks, one a hole, and a sound one.

    A kernel takes a second or three to start, so what runs is the holes of a kind `together`.
    """
    folder = tmp_path_factory.mktemp("spoilt")
    (folder / "pytest.ini").write_text("[pytest]\n")
    light, sound = good(folder, "light", LIGHT), good(folder, "sound")
    together = copy.deepcopy(light)
    together.cells = []
    for spoil in (*HYGIENE, *CLAIMS):
        notebook = copy.deepcopy(light if spoil in HYGIENE else sound)
        spoil(notebook)
        write(folder, spoil.__name__, notebook)
        if spoil in HYGIENE:
            together.cells += notebook.cells
    write(folder, "together", together)
    for spoil in NUMBERS:
        spoil(sound)
    write(folder, "numbers_changed", sound)
    write(folder, "edited", light)
    (folder / "edited.py").write_text(LIGHT.replace("done", "changed"), encoding="utf-8")
    return folder


def test_nbval_alone_passes_every_spoilt_notebook(spoilt):
    code, report = run(spoilt, "edited.ipynb", "together.ipynb", "numbers_changed.ipynb")
    assert code == 0, report
    assert f"{len(HYGIENE) + 5} passed" in report


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
    names = ("light", "never_executed", "edited", "numbers_changed")
    code, report = run(spoilt, *STRICT, *(f"{name}.ipynb" for name in names))
    assert code == 1
    assert "light.ipynb::" not in report
    assert "execution count None" in report
    assert "edited.py is not what was recorded" in report
    _, found = report.split("numbers_changed.ipynb::", 1)
    assert all(says in found for says in NUMBERS.values())
    assert not any(says in report.split("numbers_changed.ipynb::")[0] for says in NUMBERS.values())


def test_options_that_blunt_the_comparison_are_refused(spoilt, tmp_path):
    (tmp_path / "any.cfg").write_text("[a]\nregex: \\d+\nreplace: N\n")
    light = str(spoilt / "light.ipynb")
    code, report = run(spoilt, *STRICT, light, "--nbval-sanitize-with", str(tmp_path / "any.cfg"))
    assert (code, "can hide any number" in report) == (4, True)
    code, report = run(spoilt, *STRICT, light, "--nbval-lax")
    assert (code, "compares nothing" in report) == (4, True)


def test_recording_twice_gives_the_same_bytes(spoilt, tmp_path):
    source = tmp_path / "sound.py"
    source.write_text(SOURCE, encoding="utf-8")
    assert not is_recorded(source)
    again = record(source).read_bytes()
    assert is_recorded(source)
    assert again == (spoilt / "sound.ipynb").read_bytes()


def test_a_cell_that_raises_leaves_the_old_recording_untouched(tmp_path):
    good(tmp_path, "light", LIGHT)
    before = (tmp_path / "light.ipynb").read_bytes()
    (tmp_path / "light.py").write_text(LIGHT + "assert False\n", encoding="utf-8")
    with pytest.raises(CellExecutionError, match="AssertionError"):
        record(tmp_path / "light.py")
    assert (tmp_path / "light.ipynb").read_bytes() == before


def test_a_replication_run_ignores_recorded_numbers_but_not_bounds(tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    of_the_seed = "(10 + seed / 100) * factor"  # 10 … 10.04 on record, 10.5 … 10.54, 12 … 12.04
    good(tmp_path, "sound", CLAIM_ALONE.replace("10.0 * factor", of_the_seed))
    code, report = run(tmp_path, *STRICT, QA_LAB_FIRST_SEED="50")
    assert code == 0, report
    code, report = run(tmp_path, *STRICT, QA_LAB_FIRST_SEED="200")
    assert code == 1
    assert "ten-is-ten: ten must be in [9, 11], but 5 of 5 values" in report


def test_a_failing_claim_is_said_in_one_sentence_at_the_end(spoilt, tmp_path):
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    notebook = nbformat.read(spoilt / "sound.ipynb", as_version=4)
    notebook.cells = notebook.cells[:2]
    notebook.cells[1].source = notebook.cells[1].source.replace("within(9, 11)", "within(1, 2)")
    write(tmp_path, "sound", notebook)
    code, report = run(tmp_path, *STRICT)
    assert code == 1
    _, summary = report.split("what does not hold")
    assert "sound: ClaimFailed: ten-is-ten: ten must be in [1, 2], but 5 of 5 values" in summary
