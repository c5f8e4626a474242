"""The list of mutants fits the lab, and a mutant is caught by a claim, not by an accident."""

import ast

import pytest

from qa_lab.claims.falsify import Mutant, caught_by, load_mutants
from qa_lab.claims.manifest import load_manifest
from qa_lab.claims.notebooks import ROOT

MUTANTS = load_mutants()
LAB = ROOT / "qa_lab" / "transformer"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.breaks)
def test_a_mutant_is_one_edit_that_leaves_valid_python(mutant):
    text = (LAB / mutant.file).read_text(encoding="utf-8")
    assert text.count(mutant.old) == 1
    broken = text.replace(mutant.old, mutant.new)
    assert ast.dump(ast.parse(broken)) != ast.dump(ast.parse(text))


def test_no_mutant_is_listed_twice():
    edits = {(m.file, m.old, m.new, m.notebook) for m in MUTANTS}
    assert len(edits) == len({m.breaks for m in MUTANTS}) == len(MUTANTS)


def test_every_published_question_has_mutants_that_its_claims_must_notice():
    assert {m.notebook for m in MUTANTS} == {q.slug for q in load_manifest().published}


def test_a_mutant_is_caught_by_the_claim_that_is_about_it():
    (fused,) = (
        m for m in MUTANTS if m.breaks == "no 1/√d_k in the fused path, as the scale page sees it"
    )
    assert caught_by(fused) == "torch-divides-by-root-dk-too"


def test_a_notebook_that_breaks_outside_a_claim_proves_nothing():
    first_line = '"""Attention: short functions first, the multi-head module last.'
    broken = Mutant(
        "import", "attention.py", first_line, "raise ImportError\n" + first_line, "why-scale"
    )
    with pytest.raises(RuntimeError, match="outside a claim"):
        caught_by(broken)
