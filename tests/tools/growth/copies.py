"""A guide with more pages: every published question several times, with all that belongs to it."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from qa_lab.claims.manifest import LANGUAGES, Question
from qa_lab.claims.notebooks import ROOT
from qa_lab.guide.library import Library

_WORD = re.compile(r"(?<![\w-])[a-z0-9]+(?:-[a-z0-9]+)*(?![\w-])")
PARTS = ("docs", "notebooks", "qa_lab", "mkdocs.yml", "mkdocs.zh.yml")


def grown_guide(root: Path, times: int) -> None:
    """Copy this repository's guide into an empty folder, with each page there so many times."""
    for part in PARTS:
        copy = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        copy(ROOT / part, root / part)
    library = Library(root)
    ids = {
        *library.evidence.claims,
        *library.evidence.figures,
        *(statement.id for statement in library.audit.statements),
        *(question.slug for question in library.manifest.published),
    }
    for number in range(2, times + 1):
        rename = _renaming(ids, number)
        for question in library.manifest.published:
            _copy_pages(root, question, rename)
    for name, more in (("questions.yaml", _questions), ("statements.yaml", _statements)):
        path = root / "docs" / name
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
        more(raw, ids, times)
        path.write_text(yaml.safe_dump(raw, allow_unicode=True), encoding="utf-8")
    path = root / "docs" / "falsify.json"
    edits = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(_edits(edits, ids, times)), encoding="utf-8")


def _renaming(ids: set[str], number: int) -> Callable[[str], str]:
    """A function that gives every id in a text the number of the copy."""

    def renamed(word: re.Match) -> str:
        id = re.sub("^(claim|statement)-", "", word[0])
        return f"{word[0]}-{number}" if {id, word[0]} & ids else word[0]

    return lambda text: _WORD.sub(renamed, text)


def _copy_pages(root: Path, question: Question, rename: Callable[[str], str]) -> None:
    copy = rename(question.slug)
    pages = [f"docs/{language}/{question.path}.md" for language in LANGUAGES]
    for name in (*pages, f"notebooks/{question.path}.py"):
        path = root / name
        text = rename(path.read_text(encoding="utf-8"))
        path.with_stem(copy).write_text(text, encoding="utf-8")
    path = root / f"notebooks/{question.path}.ipynb"
    notebook = json.loads(rename(path.read_text(encoding="utf-8")))
    for cell in notebook["cells"]:
        cell["id"] = cell["id"].replace(question.slug, copy, 1)
    path.with_stem(copy).write_text(json.dumps(notebook), encoding="utf-8")


def _questions(raw: dict[str, Any], ids: set[str], times: int) -> None:
    raw["questions"] += [
        question | {"id": question["id"] + 1000 * number, "slug": f"{question['slug']}-{number}"}
        for number in range(2, times + 1)
        for question in raw["questions"]
        if question["slug"] in ids
    ]


def _statements(raw: list[dict[str, Any]], ids: set[str], times: int) -> None:
    raw += [
        json.loads(_renaming(ids, number)(json.dumps(statement, ensure_ascii=False)))
        for number in range(2, times + 1)
        for statement in raw
        if statement["page"] in ids
    ]


def _edits(edits: dict[str, dict], ids: set[str], times: int) -> dict[str, dict]:
    more = {}
    for number in range(2, times + 1):
        rename = _renaming(ids, number)
        for id, edit in edits.items():
            renamed = {
                "notebook": rename(edit["notebook"]),
                "claims": [rename(claim) for claim in edit["claims"]],
            }
            more[f"{id}-{number}"] = edit | renamed
    return edits | more
