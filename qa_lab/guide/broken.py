"""What was broken on purpose, and which claims noticed, as `make falsify` recorded it."""

from dataclasses import dataclass
from pathlib import Path

from qa_lab.claims.falsify import Trial, recorded_trials
from qa_lab.claims.mutants import load_mutants


@dataclass(frozen=True)
class Broken:
    """Every edit to the lab that was tried, in the order of the list."""

    trials: tuple[Trial, ...]

    @property
    def survived(self) -> int:
        """How many edits no claim noticed."""
        return sum(not trial.claims for trial in self.trials)

    def of(self, claim: str) -> tuple[Trial, ...]:
        """The edits that make this claim fail."""
        return tuple(trial for trial in self.trials if claim in trial.claims)


def load_broken(mutants: Path, record: Path) -> Broken:
    """Read the list and the record; without a list, nothing was tried."""
    return Broken(tuple(recorded_trials(record, load_mutants(mutants))) if mutants.exists() else ())
