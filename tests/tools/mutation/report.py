"""What is kept of the trials: a journal to go on from, the list of survivors, the report."""

import hashlib
import json
from collections import Counter
from collections.abc import Container
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from tests.tools.mutation.source import Mutant
from tests.tools.mutation.trial import Verdict

GOAL = 0.9  # of all mutants, killed


class Journal:
    """Every verdict so far. One counts as long as nothing it rests on has changed.

    A kill rests on the mutated file and on the file of the test that noticed; a survival rests on
    everything, since any new test might notice.
    """

    def __init__(self, path: Path, everything: str, texts: dict[str, bytes], *, fresh: bool):
        self.path, self.everything = path, everything
        self.digests = {file: digest(text) for file, text in texts.items()}
        known = path.exists() and not fresh
        lines = path.read_text(encoding="utf-8").splitlines() if known else []
        self.entries = dict(json.loads(line) for line in lines)

    def verdict(self, mutant: Mutant) -> Verdict | None:
        """What became of this mutant, if it still holds."""
        entry = self.entries.get(self._key(mutant))
        if entry and entry["rests_on"] == self._rests_on(Verdict(**entry["verdict"])):
            return Verdict(**entry["verdict"])
        return None

    def add(self, mutant: Mutant, verdict: Verdict) -> None:
        """Write it down at once: a run may be stopped at any time."""
        entry = {"verdict": asdict(verdict), "rests_on": self._rests_on(verdict)}
        with self.path.open("a", encoding="utf-8") as journal:
            print(json.dumps([self._key(mutant), entry]), file=journal)

    def _key(self, mutant: Mutant) -> str:
        edit = f"{mutant.start} {mutant.end} {mutant.new.decode()}"
        return f"{mutant.file} {self.digests[mutant.file]} {edit}"

    def _rests_on(self, verdict: Verdict) -> str | None:
        if verdict.by is None:
            return self.everything
        return self.digests.get(verdict.by.split("::")[0])


@dataclass(frozen=True)
class Survivors:
    """The mutants that may survive, each with the reason: `tests/mutation_survivors.yaml`."""

    because: dict[tuple[str, str, str], str]  # (file, before, after) → reason

    @classmethod
    def load(cls, path: Path) -> "Survivors":
        """Read the list; no file is an empty list."""
        raw = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else None
        return cls(
            {
                (entry["file"], entry["line"], mutant): entry["because"]
                for entry in raw or ()
                for mutant in entry["mutants"]
            }
        )

    def reason(self, mutant: Mutant) -> str | None:
        """Why this one may survive."""
        return self.because.get((mutant.file, mutant.before, mutant.after))

    def stale(self, mutants: list[Mutant], files: Container[str]) -> list[str]:
        """Entries that speak of no mutant there is, a sentence each: a file was edited or is gone.

        What stands in other files than these is not judged.
        """
        there_are = {(m.file, m.before, m.after) for m in mutants}
        return [
            f"The survivors' list is out of date: {file} has no mutant “{before}” → “{after}”."
            for file, before, after in self.because
            if (file, before, after) not in there_are and (file in files or not Path(file).exists())
        ]

    def needless(self, verdicts: dict[Mutant, Verdict]) -> list[str]:
        """Entries whose mutants are killed by now, a sentence each."""
        alive = {(m.file, m.before, m.after) for m, v in verdicts.items() if not killed(v)}
        dead = {(m.file, m.before, m.after) for m in verdicts} - alive
        return [
            f"A test kills it, so the survivors' list need not: {file}: “{before}” → “{after}”."
            for file, before, after in self.because
            if (file, before, after) in dead
        ]


def killed(verdict: Verdict) -> bool:
    """An endless loop is noticed too."""
    return verdict.outcome != "survived"


def summary(verdicts: dict[Mutant, Verdict], survivors: Survivors, sampled: dict | None) -> dict:
    """The report, in the order of the files and their text."""
    ordered = sorted(verdicts)
    files = dict.fromkeys(mutant.file for mutant in ordered)
    return {
        **_counts(verdicts.values()),
        "goal": GOAL,
        "sampled": sampled,
        "by_file": {f: _counts(v for m, v in verdicts.items() if m.file == f) for f in files},
        "survivors": [
            {
                "file": mutant.file,
                "line": mutant.line,
                "before": mutant.before,
                "after": mutant.after,
                "tests": verdicts[mutant].asked,  # 0: no test runs the line
                "justified": survivors.reason(mutant),
            }
            for mutant in ordered
            if not killed(verdicts[mutant])
        ],
    }


def _counts(verdicts) -> dict[str, float]:
    outcomes = Counter(verdict.outcome for verdict in verdicts)
    dead, alive = outcomes["killed"] + outcomes["timeout"], outcomes["survived"]
    return {
        "killed": dead,
        "survived": alive,
        "timeout": outcomes["timeout"],  # counted among the killed
        "score": round(dead / (dead + alive), 4),
    }


def write(report: dict, path: Path) -> None:
    """Write the report as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def digest(*texts: bytes) -> str:
    """A short name for what these texts say."""
    state = hashlib.sha256()
    for text in texts:
        state.update(hashlib.sha256(text).digest())
    return state.hexdigest()[:16]
