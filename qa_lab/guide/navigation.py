"""The navigation: all 47 questions by chapter, written or not."""

from typing import Any

from qa_lab.claims.manifest import Manifest, Question

UNWRITTEN = "unwritten"  # a scheme of our own: MkDocs passes it on, `hooks` turns it into text

_TITLES = {
    "en": ("Home", "Questions", "Ledger", "Audit", "About"),
    "zh": ("首页", "题目", "证据总账", "来源审查", "关于"),
}


def navigation(manifest: Manifest, language: str) -> list[dict[str, Any]]:
    """What `nav:` in mkdocs.yml would be."""
    home, questions, ledger, audit, about = _TITLES[language]
    chapters = [
        {chapter.title[language]: [_entry(q, language) for q in manifest.of(chapter.key)]}
        for chapter in manifest.chapters.values()
    ]
    return [
        {home: "index.md"},
        {questions: ["questions/index.md", *chapters]},
        {ledger: "ledger.md"},
        {audit: "audit.md"},
        {about: "about.md"},
    ]


def _entry(question: Question, language: str) -> dict[str, str]:
    target = f"{question.path}.md" if question.published else f"{UNWRITTEN}:{question.slug}"
    return {question.short[language]: target}
