"""The audit: every checkable statement of the sources, and what became of it."""

from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from qa_lab.claims.manifest import BadEntry, Bilingual, Manifest, bilingual, read_yaml
from qa_lab.claims.notebooks import ROOT

STATEMENTS = ROOT / "docs" / "statements.yaml"
VERDICTS = ("holds", "conditional", "refuted", "untestable", "open")

_REQUIRED = {"id", "page", "said", "en", "zh", "verdict"}
_OPTIONAL = {"also", "because", "reference", "claims"}


@dataclass(frozen=True)
class Said:
    """Who says it: a source, and where in it."""

    source: str
    where: str


@dataclass(frozen=True)
class Statement:
    """One statement, restated in our words."""

    id: str
    page: str  # slug of the question that settles it
    text: Bilingual
    verdict: str
    said: tuple[Said, ...]
    also: tuple[str, ...] = ()
    because: Bilingual | None = None
    reference: str | None = None
    claims: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """Every statement, in the order of the pages."""

    statements: tuple[Statement, ...]

    @cached_property
    def _by_id(self) -> dict[str, Statement]:
        return {statement.id: statement for statement in self.statements}

    def statement(self, id: str) -> Statement:
        """The statement of this id, or an error that says it is unknown."""
        if id not in self._by_id:
            raise BadEntry(f"The audit has no statement “{id}”.")
        return self._by_id[id]

    def of(self, slug: str) -> list[Statement]:
        """The statements that one page settles."""
        return [statement for statement in self.statements if statement.page == slug]

    def said_in(self, source: str) -> list[Statement]:
        """The statements that one source makes."""
        return [s for s in self.statements if source in {said.source for said in s.said}]

    def verdicts(self, source: str | None = None) -> dict[str, int]:
        """How many statements, of one source or of all, have each verdict; in `VERDICTS`' order."""
        chosen = self.statements if source is None else self.said_in(source)
        counts = Counter(statement.verdict for statement in chosen)
        return {verdict: counts[verdict] for verdict in VERDICTS}


def load_audit(manifest: Manifest, path: Path = STATEMENTS) -> Audit:
    """Read and check `statements.yaml`.

    Raises:
        BadEntry: An entry lacks something, names an unknown page, source or verdict, or is
            settled without saying why or by what.
    """
    raw = read_yaml(path) or []
    audit = Audit(tuple(_statement(entry, manifest) for entry in raw))
    ids = Counter(statement.id for statement in audit.statements)
    if twice := [id for id, count in ids.items() if count > 1]:
        raise BadEntry(f"Two statements have the id {twice[0]!r}.")
    return audit


def _statement(entry: dict[str, Any], manifest: Manifest) -> Statement:
    where = f"statement {entry.get('id', entry)}"
    if missing := _REQUIRED - set(entry):
        raise BadEntry(f"{where}: {sorted(missing)[0]!r} is missing.")
    if unknown := set(entry) - _REQUIRED - _OPTIONAL:
        raise BadEntry(f"{where}: unknown key {sorted(unknown)[0]!r}.")
    for slug in (entry["page"], *entry.get("also", ())):
        try:
            manifest.question(slug)
        except BadEntry as problem:
            raise BadEntry(f"{where}: {problem}") from None
    said = tuple(Said(place["source"], place["where"]) for place in entry["said"])
    if strangers := [place.source for place in said if place.source not in manifest.sources]:
        raise BadEntry(f"{where}: said in source {strangers[0]!r}, which is not listed.")
    because = entry.get("because")
    statement = Statement(
        id=entry["id"],
        page=entry["page"],
        text=bilingual({"en": entry["en"], "zh": entry["zh"]}, where),
        verdict=entry["verdict"],
        said=said,
        also=tuple(entry.get("also", ())),
        because=bilingual(because, f"{where}, because") if because else None,
        reference=entry.get("reference"),
        claims=tuple(entry.get("claims", ())),
    )
    _check_settled(statement, where)
    return statement


def _check_settled(statement: Statement, where: str) -> None:
    """A verdict needs what backs it: a claim, or for the untestable a reason and a paper."""
    verdict = statement.verdict
    if verdict not in VERDICTS:
        raise BadEntry(f"{where}: a verdict is one of {', '.join(VERDICTS)}, not {verdict!r}.")
    if verdict in ("conditional", "refuted", "untestable") and not statement.because:
        raise BadEntry(f"{where}: {verdict!r} needs `because`, the condition or the reason.")
    if verdict == "untestable" and not statement.reference:
        raise BadEntry(f"{where}: 'untestable' needs a `reference`, the paper that discusses it.")
    if verdict in ("holds", "conditional", "refuted") and not statement.claims:
        raise BadEntry(f"{where}: {verdict!r} needs the `claims` that settle it.")
