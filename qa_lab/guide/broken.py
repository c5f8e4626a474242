"""What was broken on purpose, and which claims noticed: `docs/falsify.json`, by `make falsify`."""

import json
from dataclasses import dataclass
from pathlib import Path

from qa_lab.claims.manifest import BadEntry, Bilingual


@dataclass(frozen=True)
class Edit:
    """One edit to one file of `qa_lab/transformer`, and the claims that fail under it."""

    id: str
    text: Bilingual  # what is broken, in words
    file: str
    old: str
    new: str
    notebook: str  # slug of the question whose claims must notice
    claims: tuple[str, ...]


@dataclass(frozen=True)
class Broken:
    """Every edit to the lab that was tried, in the order of the list."""

    edits: tuple[Edit, ...]

    @property
    def survived(self) -> int:
        """How many edits no claim noticed."""
        return sum(not edit.claims for edit in self.edits)

    def of(self, claim: str) -> tuple[Edit, ...]:
        """The edits that make this claim fail."""
        return tuple(edit for edit in self.edits if claim in edit.claims)


def load_broken(path: Path) -> Broken:
    """Read the record; without one, nothing was tried.

    Raises:
        BadEntry: An edit lacks something.
    """
    if not path.exists():
        return Broken(())
    entries = json.loads(path.read_text(encoding="utf-8"))
    return Broken(tuple(_edit(id, entry) for id, entry in entries.items()))


def _edit(id: str, entry: dict) -> Edit:
    try:
        return Edit(
            id=id,
            text=Bilingual(entry["en"], entry["zh"]),
            claims=tuple(entry["claims"]),
            **{name: entry[name] for name in ("file", "old", "new", "notebook")},
        )
    except KeyError as missing:
        raise BadEntry(f"falsify.json, {id}: {missing} is missing.") from None
