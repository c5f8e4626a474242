"""The manifest and the audit are read whole, and a bad entry is named."""

import copy

import pytest
import yaml

from qa_lab.claims.audit import load_audit
from qa_lab.claims.manifest import BadEntry, load_manifest, unfold_chinese

QUESTION = {
    "id": 4,
    "chapter": "attention",
    "slug": "why-scale",
    "difficulty": 1,
    "title": {"en": "Why?", "zh": "为何？"},
    "short": {"en": "Why", "zh": "为何"},
    "asked_in": ["003#1.1"],
}
MANIFEST = {
    "chapters": {"attention": {"en": "Attention", "zh": "注意力"}},
    "sources": {"003": {"title": {"en": "Notes", "zh": "笔记"}}},
    "questions": [QUESTION],
}
STATEMENT = {
    "id": "it-is-so",
    "page": "why-scale",
    "said": [{"source": "003", "where": "#1 L2"}],
    "en": "It is so.",
    "zh": "如此。",
    "verdict": "refuted",
    "because": {"en": "It is not.", "zh": "并非如此。"},
    "claims": ["it-is-not"],
}


@pytest.fixture
def written(tmp_path):
    """Write something as YAML and say where."""

    def write(content):
        path = tmp_path / "file.yaml"
        path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
        return path

    return write


def test_the_real_ones_are_sound():
    manifest = load_manifest()
    assert len(manifest.questions) == 47
    audit = load_audit(manifest)
    assert len(audit.statements) == sum(audit.verdicts().values()) == 322


def test_a_question(written):
    question = load_manifest(written(MANIFEST)).question("why-scale")
    assert question.path == "attention/why-scale"
    assert (question.asked_in[0].source, question.asked_in[0].number) == ("003", "1.1")
    assert question.title["zh"] == "为何？"
    assert not question.published


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chapter": "nowhere"}, "no chapter 'nowhere'"),
        ({"difficulty": 4}, "1, 2 or 3"),
        ({"asked_in": ["009#1"]}, "'009', which is not listed"),
        ({"title": {"en": "Why?"}}, "why-scale, title"),
        ({"publishd": True}, "unknown key 'publishd'"),
    ],
)
def test_a_bad_question_is_named(written, change, reason):
    manifest = copy.deepcopy(MANIFEST)
    manifest["questions"][0] |= change
    with pytest.raises(BadEntry, match=reason) as problem:
        load_manifest(written(manifest))
    assert "why-scale" in str(problem.value)


def test_slugs_are_used_once(written):
    with pytest.raises(BadEntry, match="Two questions have the id 4"):
        load_manifest(written(MANIFEST | {"questions": [QUESTION, QUESTION]}))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"verdict": "wrong"}, "not 'wrong'"),
        ({"verdict": "untestable"}, "needs a `reference`"),
        ({"because": None}, "needs `because`"),
        ({"claims": []}, "needs the `claims`"),
        ({"page": "nowhere"}, "No question is called “nowhere”"),
        ({"said": [{"source": "009", "where": "L1"}]}, "not listed"),
    ],
)
def test_a_bad_statement_is_named(written, change, reason):
    manifest = load_manifest(written(MANIFEST))
    with pytest.raises(BadEntry, match=reason) as problem:
        load_audit(manifest, written([STATEMENT | change]))
    assert "it-is-so" in str(problem.value)


def test_the_audit_counts(written):
    manifest = load_manifest(written(MANIFEST))
    audit = load_audit(manifest, written([STATEMENT]))
    assert audit.verdicts()["refuted"] == audit.verdicts("003")["refuted"] == 1
    assert len(audit.said_in("003")) == 1
    assert audit.of("why-scale") == [audit.statement("it-is-so")]
    with pytest.raises(BadEntry, match="no statement “nothing”"):
        audit.statement("nothing")


def test_folded_chinese_has_no_spaces():
    assert unfold_chinese("缩放\n点积，\n用 softmax\n归一") == "缩放点积，用 softmax\n归一"
