"""Every page has the one anatomy, in both languages, and shows all its notebook's evidence."""

import re
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from qa_lab.claims.evidence import Evidence
from qa_lab.claims.manifest import LANGUAGES, load_manifest
from qa_lab.claims.notebooks import ROOT

MANIFEST = load_manifest()
HEADINGS = {
    "en": [
        "In one breath",
        "The full answer",
        "The proof",
        "What the sources say",
        "Traps",
        "Follow-ups",
        "References",
    ],
    "zh": ["一口气说完", "完整回答", "证明", "来源怎么说", "陷阱", "追问", "参考文献"],
}
BREATH = {"en": 90, "zh": 180}  # words; Chinese characters
PAGES = [(question, language) for question in MANIFEST.published for language in LANGUAGES]
each_page = pytest.mark.parametrize(
    ("question", "language"), PAGES, ids=[f"{q.slug}-{language}" for q, language in PAGES]
)
each_question = pytest.mark.parametrize("question", MANIFEST.published, ids=lambda q: q.slug)


@cache
def page(question, language: str) -> str:
    return Path(ROOT / "docs" / language / f"{question.path}.md").read_text(encoding="utf-8")


def fences(text: str, name: str) -> list[str]:
    return re.findall(rf"^```{name}\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)


def section(text: str, heading: str) -> str:
    return text.split(f"\n## {heading}\n", 1)[1].split("\n## ", 1)[0]


def prose(text: str) -> str:
    """The text without fences, maths and references to evidence."""
    for left_out in (r"^```.*?^```", r"\$\$.*?\$\$", r"\$[^$\n]+\$", r"\[(?:claim|value):[^\]]+\]"):
        text = re.sub(left_out, " ", text, flags=re.DOTALL | re.MULTILINE)
    return text


@each_page
def test_the_title_is_the_manifests(question, language):
    assert page(question, language).splitlines()[0] == f"# {question.title[language]}"


@each_page
def test_the_headings_are_the_anatomy(question, language):
    found = re.findall(r"^## (.*)$", page(question, language), flags=re.MULTILINE)
    assert found == HEADINGS[language]


@each_page
def test_the_question_and_its_audit_stand_where_they_should(question, language):
    text = page(question, language)
    assert fences(text, "question") == [f"{question.slug}\n"]
    sources = section(text, HEADINGS[language][3])
    assert fences(sources, "audit") == [f"{question.slug}\n"]


@each_page
def test_one_breath_is_one_breath(question, language):
    spoken = section(page(question, language), HEADINGS[language][0])
    count = len(spoken.split()) if language == "en" else len(re.findall("[\u4e00-\u9fff]", spoken))
    assert 20 <= count <= BREATH[language]


@each_page
def test_every_claim_and_figure_of_the_notebook_is_in_the_proof_once(question, language):
    proof = section(page(question, language), HEADINGS[language][2])
    shown = Counter(" ".join(fences(proof, "claim")).split())
    assert shown == Counter(claim.id for claim in Evidence().of(question.slug))
    figures = re.findall(r"^id: (\S+)$", "".join(fences(proof, "figure")), flags=re.MULTILINE)
    recorded = (f.id for f in Evidence().figures.values() if f.notebook == question.slug)
    assert Counter(figures) == Counter(recorded)


@each_question
def test_both_languages_refer_to_the_same_evidence_in_the_same_order(question):
    found = [
        re.findall(
            r"\[(?:claim|value):[^\]]+\]|^```\w+\n.*?^```|^id: \S+$",
            re.sub(r"^(alt|caption):.*?(?=^\S)", "", page(question, language), flags=re.S | re.M),
            flags=re.DOTALL | re.MULTILINE,
        )
        for language in LANGUAGES
    ]
    assert found[0] == found[1]


@each_page
def test_every_figure_has_a_caption_and_says_what_it_shows(question, language):
    for figure in fences(page(question, language), "figure"):
        keys = re.findall(r"^(\w+):", figure, flags=re.MULTILINE)
        assert [key for key in keys if key != "explore"] == ["id", "alt", "caption"]


@each_page
def test_markdown_that_python_markdown_reads_otherwise_is_avoided(question, language):
    lines = page(question, language).splitlines()
    for before, line, after in zip(["", *lines], lines, [*lines[1:], ""], strict=False):
        if line.strip() == "$$":
            assert not (before.strip() and after.strip()), "display maths needs blank lines around"
        if line.startswith("|"):
            for formula in re.findall(r"\$[^$]+\$", line):
                assert "|" not in formula, r"write \mid in a table's maths"
        if re.match(r"[-*] |\d+\. ", line):
            assert not before or re.match(r"[-*] |\d+\. |\s", before), (
                f"no blank line before: {line}"
            )


@each_question
def test_chinese_prose_has_chinese_punctuation(question):
    stray = re.findall(
        r"[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", prose(page(question, "zh"))
    )
    assert not stray


def test_chinese_claims_have_chinese_punctuation():
    for claim in Evidence().claims.values():
        for text in (claim.data["zh"], claim.data["of"]["zh"], claim.data["control"]["zh"]):
            assert not re.search(r"[\u4e00-\u9fff][,;:?!]|[,;:?!][\u4e00-\u9fff]", text), claim.id
