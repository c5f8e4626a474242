"""Single edits to the lab, each of which must make a claim fail: `tests/mutants.yaml`."""

from dataclasses import asdict, dataclass
from pathlib import Path

from qa_lab.claims.manifest import read_yaml
from qa_lab.claims.notebooks import ROOT

MUTANTS = ROOT / "tests" / "mutants.yaml"
EDIT = ("file", "old", "new", "notebook")


@dataclass(frozen=True)
class Mutant:
    """One edit to one file of `qa_lab/transformer`, and the notebook that must notice."""

    id: str
    en: str  # what is broken, in words
    zh: str
    file: str
    old: str
    new: str
    notebook: str

    @property
    def edit(self) -> dict[str, str]:
        """What is edited, and whose claims must notice: all on which a trial rests."""
        return {name: getattr(self, name) for name in EDIT}

    def entry(self) -> dict[str, str]:
        """The mutant as it stands in the record, under its id."""
        return {name: value for name, value in asdict(self).items() if name != "id"}

    def apply(self, lab: Path) -> None:
        """Edit the copy of the package at `lab`.

        Raises:
            ValueError: What is to be edited does not occur exactly once.
        """
        path = lab / "transformer" / self.file
        text = path.read_text(encoding="utf-8")
        if (found := text.count(self.old)) != 1:
            raise ValueError(
                f"{self.id}: {self.old!r} occurs {found} times in {self.file}, not once."
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def load_mutants(path: Path = MUTANTS) -> list[Mutant]:
    """Every mutant of the list."""
    return [Mutant(**entry) for entry in read_yaml(path)]
