"""What was broken on purpose, and which claims noticed: `docs/falsify.json`, by `make falsify`."""

import json
from dataclasses import dataclass
from pathlib import Path

from qa_lab.claims.manifest import Bilingual


@dataclass(frozen=True)
class Edit:
    """One edit to the lab, and the claims that fail under it, first to last."""

    breaks: Bilingual
    file: str
    old: str
    new: str
    notebook: str
    claims: tuple[str, ...]

    @property
    def module(self) -> str:
        """The module that is edited, `attention` for instance."""
        return self.file.removesuffix(".py")


@dataclass(frozen=True)
class Broken:
    """Every edit that was tried, in the order of the list."""

    edits: tuple[Edit, ...]

    @property
    def survived(self) -> int:
        """How many edits no claim noticed."""
        return sum(not edit.claims for edit in self.edits)

    def of(self, claim: str) -> tuple[Edit, ...]:
        """The edits that make this claim fail."""
        return tuple(edit for edit in self.edits if claim in edit.claims)


def load_broken(path: Path) -> Broken:
    """Read the record; without one, nothing was tried."""
    if not path.exists():
        return Broken(())
    return Broken(
        tuple(
            Edit(
                Bilingual(entry["en"], entry["zh"]),
                *(entry[key] for key in ("file", "old", "new", "notebook")),
                tuple(entry["claims"]),
            )
            for entry in json.loads(path.read_text(encoding="utf-8"))
        )
    )
