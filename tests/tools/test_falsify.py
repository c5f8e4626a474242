"""The list of mutants fits the lab, and a mutant is caught by a claim, not by an accident."""

import ast
import json
import re
import shutil
from dataclasses import replace

import pytest

from qa_lab.claims.evidence import Evidence
from qa_lab.claims.manifest import load_manifest
from qa_lab.claims.notebooks import ROOT, recordings
from qa_lab.guide.broken import load_broken
from tests.tools.falsify import __main__ as falsify
from tests.tools.falsify import trial
from tests.tools.falsify.__main__ import RECORD, recorded
from tests.tools.falsify.failing import failing_claims
from tests.tools.falsify.mutants import EDIT, Mutant, load_mutants
from tests.tools.falsify.trial import Trial, caught_by

MUTANTS = load_mutants()
LAB = ROOT / "qa_lab" / "transformer"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_mutant_is_one_edit_that_leaves_valid_python(mutant):
    text = (LAB / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    broken = text.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text))
    assert re.search(r"[\u4e00-\u9fff]", mutant.zh)


def test_no_mutant_is_listed_twice():
    edits = {(m.file, m.old, m.new, m.notebook) for m in MUTANTS}
    words = {(m.en, m.notebook) for m in MUTANTS}
    assert len({m.id for m in MUTANTS}) == len(edits) == len(words) == len(MUTANTS)


def test_an_id_is_kebab_case_and_no_questions_slug():
    ids = {m.id for m in MUTANTS}
    assert [id for id in ids if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", id)] == []
    assert ids & {question.slug for question in load_manifest().questions} == set()


def test_every_published_question_has_mutants_that_its_claims_must_notice():
    assert {m.notebook for m in MUTANTS} == {q.slug for q in load_manifest().published}


def test_the_record_is_of_this_list_and_of_these_claims():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    evidence = Evidence(recordings())
    edits = {id: {name: entry[name] for name in EDIT} for id, entry in record.items()}
    assert edits == {mutant.id: mutant.edit for mutant in MUTANTS}, "run: make falsify"
    for id, entry in record.items():
        assert entry["claims"], f"no claim notices {id}"
        assert {evidence.claim(claim).notebook for claim in entry["claims"]} == {entry["notebook"]}


def test_the_record_says_it_in_the_words_and_the_order_of_the_list():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    words = [(id, entry["en"], entry["zh"]) for id, entry in record.items()]
    listed = [(mutant.id, mutant.en, mutant.zh) for mutant in MUTANTS]
    assert words == listed, "run: python -m tests.tools.falsify --words"


# A whole run takes too long for a test; these are found again, from mechanisms far apart, by the
# notebooks that take the least time.
AGAIN = (
    "no-root-dk-in-soft-lookup",
    "softmax-over-queries-in-soft-lookup",
    "window-one-key-wider",
    "heads-joined-wo-left-out",
)


@pytest.mark.parametrize("id", AGAIN)
def test_a_mutant_is_caught_again_by_the_claims_on_record(id):
    (mutant,) = (m for m in MUTANTS if m.id == id)
    (found,) = recorded([mutant])
    assert caught_by(mutant) == found.claims


def test_a_notebook_that_breaks_outside_a_claim_proves_nothing():
    first_line = (
        '"""Attention as functions: scores, weights, output. The module is in `multi_head`.'
    )
    edit = (first_line, "raise ImportError\n" + first_line)
    with pytest.raises(RuntimeError, match="import-error broke the notebook outside a claim"):
        caught_by(
            Mutant("import-error", "import", "导入", "attention/dot_product.py", *edit, "why-scale")
        )


NOTEBOOK = """
# %%
from qa_lab.transformer.file import ready, right

def prove(id, holds):
    assert holds

def figure(id, holds):
    assert holds

# %%
prove("first", right)

# %%
figure("a-figure", right)

# %%
prove("second", True)

# %%
number = 1 / ready

# %% [markdown]
# 1 / 0

# %%
prove(
    "third",
    right,
)
"""


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab of one file, a notebook about it, and of the claims what can run notebooks."""
    package = tmp_path / "qa_lab"
    (package / "transformer").mkdir(parents=True)
    (package / "claims").mkdir()
    for folder in ("", "transformer", "claims"):
        (package / folder / "__init__.py").touch()
    shutil.copy(ROOT / "qa_lab" / "claims" / "notebooks.py", package / "claims")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (package / "transformer" / "file.py").write_text("ready, right = 1, True  # √")
    (notebook := tmp_path / "notebooks" / "slug.py").parent.mkdir()
    notebook.write_text(NOTEBOOK)
    monkeypatch.setattr(trial, "ROOT", tmp_path)
    monkeypatch.setattr(trial, "sources", lambda: [tmp_path / "other.py", notebook])
    monkeypatch.setenv("PYTHONPATH", "the lab itself, which is not what should run")
    return tmp_path


def mutant(old: str, new: str) -> Mutant:
    return Mutant("all-of-it", "all", "全部", "file.py", old, new, "slug")


def test_every_claim_that_fails_is_named_and_figures_are_not(lab):
    assert caught_by(mutant("True", "False")) == ("first", "third")


def test_a_notebook_that_still_holds_has_not_noticed(lab):
    assert caught_by(mutant("√", "a root")) == ()


def test_a_cell_that_only_prepares_must_not_break(lab):
    with pytest.raises(RuntimeError, match=r"all-of-it broke the notebook(.|\n)*ZeroDivisionError"):
        caught_by(mutant("1, True", "0, True"))


def test_what_failed_before_a_cell_broke_has_noticed(lab):
    assert caught_by(mutant("1, True", "0, False")) == ("first",)


def test_a_run_that_breaks_down_itself_is_shown_whole(lab, monkeypatch):
    monkeypatch.setattr(trial, "FAILING", program := lab / "program.py")
    program.write_text("raise SystemExit('no such thing')")
    with pytest.raises(RuntimeError, match="broke the run itself:\nno such thing"):
        caught_by(mutant("True", "False"))


def test_a_notebook_is_run_from_its_source(tmp_path):
    source = tmp_path / "slug.py"
    source.write_text("# %%\nx = 1\n\n# %%\nprove('a', x, undefined)\n")
    assert failing_claims(source) == {"claims": ["a"], "stopped": None}
    source.write_text("# %%\nx = 1\n\n# %%\nx.prove('a')\n")
    assert "slug.py, cell 1" in failing_claims(source)["stopped"]


def test_an_edit_must_fit_in_one_place(tmp_path):
    (tmp_path / "transformer").mkdir()
    (file := tmp_path / "transformer" / "file.py").write_text("a b a")
    for old, count in (("a", 2), ("c", 0)):
        with pytest.raises(ValueError, match=f"'{old}' occurs {count} times in file.py, not once"):
            mutant(old, "new").apply(tmp_path)
    mutant("b", "√").apply(tmp_path)
    assert file.read_text(encoding="utf-8") == "a √ a"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Three mutants, of which the third survives, and places to report to."""
    mutants = [
        Mutant(f"no-{n}", f"√{n}", f"第 {n} 处", "file.py", str(n), "", f"slug-{n % 2}")
        for n in (1, 2, 3)
    ]
    found = {"no-1": ("a-claim",), "no-2": ("a-claim", "another"), "no-3": ()}
    monkeypatch.setattr(falsify, "load_mutants", lambda: mutants)
    monkeypatch.setattr(trial, "caught_by", lambda mutant: found[mutant.id])
    ticks = iter(range(0, 100, 2))
    monkeypatch.setattr(trial.time, "monotonic", lambda: next(ticks))
    monkeypatch.setattr(falsify, "REPORT", tmp_path / "build" / "falsify.json")
    monkeypatch.setattr(falsify, "RECORD", tmp_path / "falsify.json")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["falsify", *arguments])
        return falsify.main()

    return tmp_path, mutants, run


def test_a_whole_run_writes_the_report_and_the_record(program, capsys):
    folder, mutants, run = program
    assert run() == run() == 1  # the second replaces what the first wrote
    stored = (folder / "build" / "falsify.json").read_text(encoding="utf-8")
    result = json.loads(stored)
    assert "√1" in stored and stored.endswith("\n")  # for whoever reads the file itself
    assert (result["caught"], result["survived"]) == (2, ["no-3"])
    assert {id: entry["claims"] for id, entry in result["mutants"].items()} == {
        "no-1": ["a-claim"],
        "no-2": ["a-claim", "another"],
        "no-3": [],
    }
    assert result["mutants"]["no-1"] == Trial(mutants[0], ("a-claim",), 2).entry()
    assert json.loads((folder / "falsify.json").read_text("utf-8")) == result["mutants"]
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [
        f"{'no-1':52} {'a-claim':65} 2 s",
        f"{'no-2':52} {'a-claim and 1 more':65} 2 s",
        f"{'no-3':52} {'SURVIVED':65} 2 s",
        "2 caught, 1 survived",
    ]


def test_the_site_reads_what_the_program_writes(program):
    folder, mutants, run = program
    run()
    broken = load_broken(folder / "falsify.json")
    assert [edit.id for edit in broken.edits] == ["no-1", "no-2", "no-3"]
    assert broken.survived == 1
    assert [edit.id for edit in broken.of("a-claim")] == ["no-1", "no-2"]
    first, mutant = broken.edits[0], mutants[0]
    assert (first.text["en"], first.text["zh"]) == (mutant.en, mutant.zh)
    assert {name: getattr(first, name) for name in EDIT} == mutant.edit


def test_a_run_of_one_notebook_tries_its_mutants_and_keeps_the_others(program, capsys):
    _, mutants, run = program
    tried = lambda: [trial.mutant.en for trial in recorded(mutants)]  # noqa: E731
    assert run("slug-0", "--jobs", "2") == 0
    assert capsys.readouterr().out.endswith("1 caught, 0 survived\n")
    assert tried() == ["√2"]
    assert run("slug-1") == 1
    assert capsys.readouterr().out.endswith("1 caught, 1 survived\n")
    assert tried() == ["√1", "√2", "√3"]
    mutants.pop(1)  # what is no longer listed is no longer recorded
    mutants[0] = replace(mutants[0], en="√1, in other words")
    assert run("no-3") == 1  # a single mutant, by its id
    assert capsys.readouterr().out.endswith("0 caught, 1 survived\n")
    assert tried() == ["√1, in other words", "√3"]


def test_new_words_are_taken_over_and_a_new_edit_has_not_been_tried(program, capsys):
    folder, mutants, run = program
    run()
    mutants[0] = replace(mutants[0], zh="换个说法")
    mutants[1] = replace(mutants[1], new="another edit")
    capsys.readouterr()
    assert run("--words") == 0
    assert capsys.readouterr().out == ""
    record = json.loads((folder / "falsify.json").read_text("utf-8"))
    assert list(record) == ["no-1", "no-3"]
    assert (record["no-1"]["zh"], record["no-1"]["claims"]) == ("换个说法", ["a-claim"])


def test_a_run_that_tries_nothing_proves_nothing(program):
    _, _, run = program
    assert run("slug-7") == 1


def test_the_report_and_the_record_have_their_places():
    assert falsify.REPORT == ROOT / "build" / "falsify.json"
    assert falsify.RECORD == ROOT / "docs" / "falsify.json"
