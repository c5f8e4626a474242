"""Break the lab on purpose and see which claims notice: what `make falsify` calls.

A claim is believed because it can fail. For every single edit in `tests/mutants.yaml` this runs
the notebook that should notice against a copy of the lab with that edit, and requires that one of
its claims fails. The result goes to `build/falsify.json`, and to `docs/falsify.json`, from which
the site says of each claim what would have to be broken for it to fail.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qa_lab.claims.mutants import Mutant, load_mutants
from qa_lab.claims.notebooks import ROOT, sources

REPORT = ROOT / "build" / "falsify.json"
RECORD = ROOT / "docs" / "falsify.json"
MINUTES = 10  # after which an edit has made the notebook run for ever


@dataclass(frozen=True)
class Trial:
    """What became of one mutant: the claims that fail, none if it survived."""

    mutant: Mutant
    claims: tuple[str, ...]
    seconds: int

    def entry(self) -> dict[str, Any]:
        """The trial as it is recorded. The words stay in the list, where they can be mended."""
        return self.mutant.edit | {"claims": list(self.claims), "seconds": self.seconds}


def caught_by(mutant: Mutant) -> tuple[str, ...]:
    """The claims that fail under this edit, in their order; none if the whole notebook holds.

    Raises:
        RuntimeError: The notebook broke outside any claim, which proves nothing.
    """
    (notebook,) = (path for path in sources() if path.stem == mutant.notebook)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "qa_lab", lab := Path(folder) / "qa_lab")
        shutil.copy(ROOT / "pyproject.toml", folder)
        mutant.apply(lab)
        done = subprocess.run(
            [sys.executable, "-m", "qa_lab.claims.failing", str(notebook)],
            cwd=folder,  # `-m` looks here first, and so finds the broken copy
            env=os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60 * MINUTES,
        )
    if done.returncode:
        raise RuntimeError(f"“{mutant.en}” broke the run itself:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["stopped"] and not found["claims"]:
        raise RuntimeError(f"“{mutant.en}” broke the notebook outside a claim:\n{found['stopped']}")
    return tuple(found["claims"])


def attempt(mutant: Mutant) -> Trial:
    """Try one mutant and print what became of it."""
    started = time.monotonic()
    claims = caught_by(mutant)
    trial = Trial(mutant, claims, round(time.monotonic() - started))
    more = f" and {len(claims) - 1} more" if len(claims) > 1 else ""
    by = f"{claims[0]}{more}" if claims else "SURVIVED"
    print(f"{mutant.en:60} {by:65} {trial.seconds} s", flush=True)
    return trial


def main() -> int:
    """Try the mutants of one notebook, or all; exit code 1 if any survives."""
    parser = argparse.ArgumentParser(prog="qa_lab.claims.falsify", description=__doc__)
    parser.add_argument("slug", nargs="?", help="only the mutants that this notebook must notice")
    parser.add_argument("--jobs", type=int, default=1, help="how many to try at once")
    given = parser.parse_args()
    chosen = [mutant for mutant in load_mutants() if given.slug in (None, mutant.notebook)]
    with ThreadPoolExecutor(given.jobs) as pool:
        trials = list(pool.map(attempt, chosen))
    survived = [trial.mutant.en for trial in trials if not trial.claims]
    print(f"{len(trials) - len(survived)} caught, {len(survived)} survived")
    report(trials)
    return 1 if survived or not trials else 0


def report(trials: list[Trial]) -> None:
    """Write what became of every mutant: of those tried now, and of the others as recorded."""
    mutants = load_mutants()
    known = {trial.mutant: trial for trial in [*recorded_trials(RECORD, mutants), *trials]}
    listed = [known[mutant] for mutant in mutants if mutant in known]
    survived = [trial.mutant.en for trial in listed if not trial.claims]
    result = {
        "caught": len(listed) - len(survived),
        "survived": survived,
        "mutants": [{"breaks": trial.mutant.en} | trial.entry() for trial in listed],
    }
    REPORT.parent.mkdir(exist_ok=True)
    _write(REPORT, result)
    _write(RECORD, [trial.entry() for trial in listed])


def recorded_trials(record: Path, mutants: list[Mutant]) -> list[Trial]:
    """What the record says of these mutants, in their order; nothing of those it does not know."""
    if not record.exists():
        return []
    entries = json.loads(record.read_text(encoding="utf-8"))
    return [
        Trial(mutant, tuple(entry["claims"]), entry["seconds"])
        for mutant in mutants
        for entry in entries
        if mutant.edit.items() <= entry.items()
    ]


def _write(path: Path, result: Any) -> None:
    text = json.dumps(result, ensure_ascii=False, indent=1)
    path.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
