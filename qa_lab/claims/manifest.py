"""The manifest: chapters, sources and the 47 questions, as `docs/questions.yaml` lists them."""

import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml

from qa_lab.claims.notebooks import ROOT

MANIFEST = ROOT / "docs" / "questions.yaml"
LANGUAGES = ("en", "zh")


class BadEntry(ValueError):
    """An entry of the manifest or of the audit is not well formed, or is unknown."""


@dataclass(frozen=True)
class Bilingual:
    """The same text in both languages: `text["zh"]`."""

    en: str
    zh: str

    def __getitem__(self, language: str) -> str:
        if language not in LANGUAGES:
            raise KeyError(f"The guide speaks {LANGUAGES}, not {language!r}.")
        return getattr(self, language)


@dataclass(frozen=True)
class Chapter:
    """A chapter; its key is the folder of its pages and notebooks."""

    key: str
    title: Bilingual


@dataclass(frozen=True)
class Source:
    """One of the documents whose statements are audited."""

    number: str
    title: Bilingual
    original: str | None = None
    draws_on: tuple[str, ...] = ()


@dataclass(frozen=True)
class Asked:
    """Where a question is asked: source 003, number 2 or section 1.1."""

    source: str
    number: str


@dataclass(frozen=True)
class Question:
    """One question: one page in each language, one notebook."""

    id: int
    chapter: str
    slug: str
    difficulty: int
    title: Bilingual
    short: Bilingual
    asked_in: tuple[Asked, ...]
    folds: tuple[str, ...] = ()
    mechanisms: tuple[str, ...] = ()
    reprove_seconds: int | None = None
    published: bool = False

    @property
    def path(self) -> str:
        """Where page and notebook live, without a suffix: `attention/why-scale`."""
        return f"{self.chapter}/{self.slug}"


@dataclass(frozen=True)
class Manifest:
    """Everything in `questions.yaml`, in its order, which is the order of reading."""

    chapters: dict[str, Chapter]
    sources: dict[str, Source]
    questions: tuple[Question, ...]

    @cached_property
    def _by_slug(self) -> dict[str, Question]:
        return {question.slug: question for question in self.questions}

    @cached_property
    def published(self) -> tuple[Question, ...]:
        """The questions that are answered: page, notebook and audit are complete."""
        return tuple(question for question in self.questions if question.published)

    def question(self, slug: str) -> Question:
        """The question of this slug, or an error that names the slugs there are."""
        if slug not in self._by_slug:
            raise BadEntry(f"No question is called “{slug}”. There are: {', '.join(self._by_slug)}")
        return self._by_slug[slug]

    def of(self, chapter: str) -> list[Question]:
        """The questions of one chapter."""
        return [question for question in self.questions if question.chapter == chapter]


def load_manifest(path: Path = MANIFEST) -> Manifest:
    """Read and check `questions.yaml`.

    Raises:
        BadEntry: An entry lacks something, has something unknown, or repeats a slug or an id.
    """
    raw = read_yaml(path)
    chapters = {
        key: Chapter(key, bilingual(title, f"chapter {key}"))
        for key, title in raw["chapters"].items()
    }
    sources = {number: _source(number, entry) for number, entry in raw["sources"].items()}
    questions = tuple(_question(entry, chapters, sources) for entry in raw["questions"])
    for what in ("id", "slug"):
        seen = [getattr(question, what) for question in questions]
        if twice := {value for value in seen if seen.count(value) > 1}:
            raise BadEntry(f"Two questions have the {what} {twice.pop()!r}.")
    return Manifest(chapters, sources, questions)


def read_yaml(path: Path) -> Any:
    """Read plain data. By libyaml, which takes a tenth of the time, where PyYAML has it."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    return yaml.load(path.read_text(encoding="utf-8"), Loader=loader)


def bilingual(value: Any, where: str) -> Bilingual:
    """`{en: …, zh: …}` as a `Bilingual`; `where` names the entry in the error."""
    if not isinstance(value, dict) or set(value) != set(LANGUAGES) or not all(value.values()):
        raise BadEntry(f"{where}: expected text as {{en: …, zh: …}}, not {value!r}.")
    return Bilingual(en=value["en"].strip(), zh=unfold_chinese(value["zh"].strip()))


def unfold_chinese(text: str) -> str:
    """Chinese is written without spaces: take out those that a folded line leaves behind."""
    return _FOLD.sub(r"\1", text)


_CHINESE = r"[\u3000-\u303f\u3400-\u9fff\uff00-\uffef“”‘’…—]"
_FOLD = re.compile(rf"({_CHINESE}[*_\])]*)[ \n]+(?=[*_\[]*{_CHINESE})")


def _source(number: str, entry: dict[str, Any]) -> Source:
    return Source(
        number=number,
        title=bilingual(entry.get("title"), f"source {number}"),
        original=entry.get("original"),
        draws_on=tuple(entry.get("draws_on", ())),
    )


def _question(entry: dict[str, Any], chapters: dict, sources: dict) -> Question:
    where = f"question {entry.get('slug', entry)}"
    if unknown := set(entry) - set(Question.__dataclass_fields__):
        raise BadEntry(f"{where}: unknown key {unknown.pop()!r}.")
    if missing := {"id", "chapter", "slug", "difficulty", "title", "short", "asked_in"} - set(
        entry
    ):
        raise BadEntry(f"{where}: {missing.pop()!r} is missing.")
    if entry["chapter"] not in chapters:
        raise BadEntry(f"{where}: there is no chapter {entry['chapter']!r}.")
    if entry["difficulty"] not in (1, 2, 3):
        raise BadEntry(f"{where}: difficulty is 1, 2 or 3, not {entry['difficulty']!r}.")
    asked = tuple(Asked(*str(place).split("#", 1)) for place in entry["asked_in"])
    if strangers := [place.source for place in asked if place.source not in sources]:
        raise BadEntry(f"{where}: asked in source {strangers[0]!r}, which is not listed.")
    texts = {what: bilingual(entry[what], f"{where}, {what}") for what in ("title", "short")}
    lists = {what: tuple(entry.get(what, ())) for what in ("folds", "mechanisms")}
    return Question(**{**entry, **texts, **lists, "asked_in": asked})
