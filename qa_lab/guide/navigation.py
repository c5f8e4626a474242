"""The navigation: all 47 questions by chapter, written or not, and all modules by room."""

from typing import Any

from qa_lab.claims.manifest import Manifest, Question
from qa_lab.guide.lab import Lab

UNWRITTEN = "unwritten"  # a scheme of our own: MkDocs passes it on, `hooks` turns it into text

_TITLES = {
    "en": (
        "Home",
        "Questions",
        "Ledger",
        "Broken on purpose",
        "Audit",
        "Reference",
        "Speed",
        "About",
    ),
    "zh": ("首页", "题目", "证据总账", "破坏试验", "来源审查", "代码参考", "速度", "关于"),
}


def navigation(manifest: Manifest, lab: Lab, language: str) -> list[dict[str, Any]]:
    """What `nav:` in mkdocs.yml would be."""
    home, questions, ledger, broken, audit, reference, speed, about = _TITLES[language]
    chapters = [
        {chapter.title[language]: [_entry(q, language) for q in manifest.of(chapter.key)]}
        for chapter in manifest.chapters.values()
    ]
    modules = [
        {room.title[language]: [{module.name: f"{module.path}.md"} for module in room.modules]}
        for room in lab.rooms
    ]
    return [
        {home: "index.md"},
        {questions: ["questions/index.md", *chapters]},
        {ledger: ["ledger.md", {broken: "broken.md"}]},
        {audit: "audit.md"},
        {reference: ["reference/index.md", *modules, {speed: "reference/speed.md"}]},
        {about: "about.md"},
    ]


def _entry(question: Question, language: str) -> dict[str, str]:
    target = f"{question.path}.md" if question.published else f"{UNWRITTEN}:{question.slug}"
    return {question.short[language]: target}
