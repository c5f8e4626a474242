"""Every recorded notebook passes the gates, and the set of notebooks is the one the guide needs."""

import pytest

from qa_lab.claims.evidence import Evidence
from qa_lab.claims.gates import problems
from qa_lab.claims.manifest import load_manifest
from qa_lab.claims.notebooks import NOTEBOOKS, recordings, sources

CLAIMS_A_PAGE = 5


@pytest.mark.parametrize("path", recordings(), ids=lambda path: path.stem)
def test_a_recorded_notebook_passes_every_gate(path):
    assert problems(path) == []


def test_there_is_one_notebook_for_each_published_question_and_no_other():
    wanted = {question.path for question in load_manifest().published}
    for found in (sources(), recordings()):
        assert {str(p.relative_to(NOTEBOOKS).with_suffix("")) for p in found} == wanted


def test_all_47_questions_are_in_the_manifest():
    assert sorted(question.id for question in load_manifest().questions) == list(range(1, 48))


@pytest.mark.parametrize("question", load_manifest().published, ids=lambda q: q.slug)
def test_a_question_is_proved_by_at_least_five_claims(question):
    assert len(Evidence().of(question.slug)) >= CLAIMS_A_PAGE


def test_every_random_claim_was_recorded_over_five_seeds_or_more():
    for claim in Evidence().claims.values():
        assert len(claim.numbers["seeds"]) not in range(1, 5), claim.id
