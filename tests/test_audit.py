"""Double entry: a claim says what it settles, the audit says which claims settle a statement."""

from collections import defaultdict

import pytest

from qa_lab.claims.audit import load_audit
from qa_lab.claims.evidence import Evidence
from qa_lab.claims.manifest import load_manifest

MANIFEST = load_manifest()
AUDIT = load_audit(MANIFEST)


def settled() -> dict[str, dict[str, str]]:
    """Statement → claim → verdict, as the claims have it."""
    verdicts: dict[str, dict[str, str]] = defaultdict(dict)
    for claim in Evidence().claims.values():
        for statement, verdict in claim.settles.items():
            verdicts[statement][claim.id] = verdict
    return verdicts


def test_all_322_statements_are_in_the_audit():
    assert len(AUDIT.statements) == 322


@pytest.mark.parametrize("question", MANIFEST.published, ids=lambda question: question.slug)
def test_every_statement_of_a_published_page_is_settled(question):
    open_ones = [s.id for s in AUDIT.of(question.slug) if s.verdict == "open"]
    assert not open_ones, f"{question.slug} is published with open statements."


def test_no_two_claims_settle_one_statement_differently():
    for statement, verdicts in settled().items():
        assert len(set(verdicts.values())) == 1, f"{statement}: {verdicts}"


def test_claims_settle_only_statements_that_exist():
    for statement in settled():
        AUDIT.statement(statement)


def test_the_audit_and_the_claims_tell_the_same_story():
    by_claims = settled()
    for statement in AUDIT.statements:
        verdicts = by_claims.get(statement.id, {})
        assert set(statement.claims) == set(verdicts), statement.id
        if verdicts:
            assert {statement.verdict} == set(verdicts.values()), statement.id
        else:
            assert statement.verdict in ("open", "untestable"), statement.id
