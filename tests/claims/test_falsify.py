"""The list of mutants fits the lab, and a mutant is caught by a claim, not by an accident."""

import ast
import json
import re
from dataclasses import replace

import pytest

from qa_lab.claims import falsify
from qa_lab.claims.evidence import Evidence
from qa_lab.claims.failing import failing_claims
from qa_lab.claims.falsify import RECORD, Trial, caught_by, recorded_trials
from qa_lab.claims.manifest import load_manifest
from qa_lab.claims.mutants import Mutant, load_mutants
from qa_lab.claims.notebooks import ROOT, recordings

MUTANTS = load_mutants()
LAB = ROOT / "qa_lab" / "transformer"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.en)
def test_a_mutant_is_one_edit_that_leaves_valid_python(mutant):
    text = (LAB / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    broken = text.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text))
    assert re.search(r"[\u4e00-\u9fff]", mutant.zh)


def test_no_mutant_is_listed_twice():
    edits = {(m.file, m.old, m.new, m.notebook) for m in MUTANTS}
    assert len(edits) == len({(m.en, m.notebook) for m in MUTANTS}) == len(MUTANTS)


def test_every_published_question_has_mutants_that_its_claims_must_notice():
    assert {m.notebook for m in MUTANTS} == {q.slug for q in load_manifest().published}


def test_the_record_is_of_this_list_and_of_these_claims():
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    evidence = Evidence(recordings())
    tried = [{k: v for k, v in entry.items() if k not in ("claims", "seconds")} for entry in record]
    assert tried == [mutant.edit for mutant in MUTANTS], "run: make falsify"
    for entry in record:
        assert entry["claims"], f"no claim notices {entry}"
        assert {evidence.claim(id).notebook for id in entry["claims"]} == {entry["notebook"]}


# A whole run takes too long for a test; these are found again, from mechanisms far apart.
AGAIN = [
    ("no 1/√d_k in the fused path alone", "scaled-dot-product"),
    ("softmax over the queries", "soft-lookup"),
    ("heads split by a view without the transpose", "head-subspaces"),
    ("the two masks joined by or", "two-masks"),
]


@pytest.mark.parametrize(("en", "notebook"), AGAIN, ids=[en for en, _ in AGAIN])
def test_a_mutant_is_caught_again_by_the_claims_on_record(en, notebook):
    (mutant,) = (m for m in MUTANTS if (m.en, m.notebook) == (en, notebook))
    (recorded,) = recorded_trials(RECORD, [mutant])
    assert caught_by(mutant) == recorded.claims


def test_a_notebook_that_breaks_outside_a_claim_proves_nothing():
    first_line = (
        '"""Attention as functions: scores, weights, output. The module is in `multi_head`.'
    )
    edit = (first_line, "raise ImportError\n" + first_line)
    with pytest.raises(RuntimeError, match="“import” broke the notebook outside a claim"):
        caught_by(Mutant("import", "导入", "attention/dot_product.py", *edit, "why-scale"))


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
    """A lab of one file, a notebook about it, and a claims package that can run notebooks."""
    package = tmp_path / "qa_lab"
    (package / "transformer").mkdir(parents=True)
    (package / "claims").mkdir()
    for folder in ("", "transformer", "claims"):
        (package / folder / "__init__.py").touch()
    for module in ("failing", "notebooks"):
        text = (ROOT / "qa_lab" / "claims" / f"{module}.py").read_text(encoding="utf-8")
        (package / "claims" / f"{module}.py").write_text(text, encoding="utf-8")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (package / "transformer" / "file.py").write_text("ready, right = 1, True  # √")
    (notebook := tmp_path / "notebooks" / "slug.py").parent.mkdir()
    notebook.write_text(NOTEBOOK)
    monkeypatch.setattr(falsify, "ROOT", tmp_path)
    monkeypatch.setattr(falsify, "sources", lambda: [tmp_path / "other.py", notebook])
    monkeypatch.setenv("PYTHONPATH", "the lab itself, which is not what should run")
    return tmp_path


def mutant(old: str, new: str) -> Mutant:
    return Mutant("all", "全部", "file.py", old, new, "slug")


def test_every_claim_that_fails_is_named_and_figures_are_not(lab):
    assert caught_by(mutant("True", "False")) == ("first", "third")


def test_a_notebook_that_still_holds_has_not_noticed(lab):
    assert caught_by(mutant("√", "a root")) == ()


def test_a_cell_that_only_prepares_must_not_break(lab):
    with pytest.raises(RuntimeError, match=r"“all” broke the notebook(.|\n)*ZeroDivisionError"):
        caught_by(mutant("1, True", "0, True"))


def test_what_failed_before_a_cell_broke_has_noticed(lab):
    assert caught_by(mutant("1, True", "0, False")) == ("first",)


def test_a_run_that_breaks_down_itself_is_shown_whole(lab):
    (lab / "qa_lab" / "claims" / "failing.py").write_text("raise SystemExit('no such thing')")
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
def bench(tmp_path, monkeypatch):
    """Three mutants, of which the third survives, and places to report to."""
    mutants = [
        Mutant(f"√{n}", f"第 {n} 处", "file.py", str(n), "", f"slug-{n % 2}") for n in (1, 2, 3)
    ]
    found = {mutants[0]: ("a-claim",), mutants[1]: ("a-claim", "another"), mutants[2]: ()}
    monkeypatch.setattr(falsify, "load_mutants", lambda: mutants)
    monkeypatch.setattr(falsify, "caught_by", found.get)
    ticks = iter(range(0, 100, 2))
    monkeypatch.setattr(falsify.time, "monotonic", lambda: next(ticks))
    monkeypatch.setattr(falsify, "REPORT", tmp_path / "build" / "falsify.json")
    monkeypatch.setattr(falsify, "RECORD", tmp_path / "falsify.json")

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["falsify", *arguments])
        return falsify.main()

    return tmp_path, mutants, run


def test_a_whole_run_writes_the_report_and_the_record(bench, capsys):
    folder, mutants, run = bench
    assert run() == run() == 1  # the second replaces what the first wrote
    stored = (folder / "build" / "falsify.json").read_text(encoding="utf-8")
    result = json.loads(stored)
    assert "√1" in stored and stored.endswith("\n")  # for whoever reads the file itself
    assert (result["caught"], result["survived"]) == (2, ["√3"])
    assert [entry["claims"] for entry in result["mutants"]] == [
        ["a-claim"],
        ["a-claim", "another"],
        [],
    ]
    assert result["mutants"][0] == {"breaks": "√1"} | Trial(mutants[0], ("a-claim",), 2).entry()
    recorded = json.loads((folder / "falsify.json").read_text("utf-8"))
    assert [{"breaks": m.en} | e for m, e in zip(mutants, recorded, strict=True)] == result[
        "mutants"
    ]
    said = capsys.readouterr().out.splitlines()
    assert said[:4] == [
        f"{'√1':60} {'a-claim':65} 2 s",
        f"{'√2':60} {'a-claim and 1 more':65} 2 s",
        f"{'√3':60} {'SURVIVED':65} 2 s",
        "2 caught, 1 survived",
    ]


def test_a_run_of_one_notebook_tries_its_mutants_and_keeps_the_others(bench, capsys):
    folder, mutants, run = bench
    tried = lambda: [t.mutant.en for t in recorded_trials(folder / "falsify.json", mutants)]  # noqa: E731
    assert run("slug-0", "--jobs", "2") == 0
    assert capsys.readouterr().out.endswith("1 caught, 0 survived\n")
    assert tried() == ["√2"]
    assert run("slug-1") == 1
    assert capsys.readouterr().out.endswith("1 caught, 1 survived\n")
    assert tried() == ["√1", "√2", "√3"]
    mutants.pop(1)  # what is no longer listed is no longer recorded
    mutants[0] = replace(mutants[0], en="√1, in other words")
    assert run("slug-0") == 1
    assert tried() == ["√1, in other words", "√3"]


def test_a_run_that_tries_nothing_proves_nothing(bench):
    _, _, run = bench
    assert run("slug-7") == 1


def test_the_report_and_the_record_have_their_places():
    assert falsify.REPORT == ROOT / "build" / "falsify.json"
    assert falsify.RECORD == ROOT / "docs" / "falsify.json"
