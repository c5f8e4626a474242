"""Break the lab on purpose and see which claims notice: what `make falsify` calls.

python -m tests.tools.falsify                  every edit of tests/mutants.yaml
python -m tests.tools.falsify why-scale        those that this notebook must notice
python -m tests.tools.falsify eps-ignored      this one
python -m tests.tools.falsify --new            those that are new, or edited since they were tried
python -m tests.tools.falsify --words          none: take words and order from the list

A claim is believed because it can fail. For every single edit this runs the notebook that should
notice against a copy of the lab with that edit, and requires that one of its claims fails. The
result goes to `build/falsify.json`, and to `docs/falsify.json`, from which the site says of each
claim what would have to be broken for it to fail.
"""

import argparse
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from qa_lab.claims.notebooks import ROOT
from tests.tools.falsify.mutants import Mutant, load_mutants
from tests.tools.falsify.trial import Trial, attempt

REPORT = ROOT / "build" / "falsify.json"
RECORD = ROOT / "docs" / "falsify.json"


def main() -> int:
    """Try the mutants that are asked for; exit code 1 if any survives."""
    given = _options()
    if given.words:
        report([])
        return 0
    mutants = load_mutants()
    tried = {trial.mutant.id for trial in recorded(mutants)} if given.new else set()
    chosen = [m for m in mutants if given.which in (None, m.notebook, m.id) and m.id not in tried]
    trials: list[Trial] = []
    with ThreadPoolExecutor(given.jobs) as pool:
        for trial in pool.map(attempt, chosen):
            trials.append(trial)
            report(trials)  # after each, so that an hour's work survives an interruption
    survived = [trial.mutant.id for trial in trials if not trial.claims]
    print(f"{len(trials) - len(survived)} caught, {len(survived)} survived")
    return 1 if survived or not trials else 0


def _options() -> argparse.Namespace:
    first, *more = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        "tests.tools.falsify",
        description=first,
        epilog="".join(more),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("which", nargs="?", help="a notebook's slug, or a mutant's id")
    parser.add_argument("--jobs", type=int, default=1, help="how many to try at once")
    parser.add_argument("--new", action="store_true", help="only what is not on record")
    parser.add_argument("--words", action="store_true", help="try nothing, write the record anew")
    return parser.parse_args()


def report(trials: list[Trial]) -> None:
    """Write what became of every mutant: of those tried now, and of the others as recorded."""
    mutants = load_mutants()
    known = {trial.mutant.id: trial for trial in [*recorded(mutants), *trials]}
    listed = [known[mutant.id] for mutant in mutants if mutant.id in known]
    entries = {trial.mutant.id: trial.entry() for trial in listed}
    survived = [trial.mutant.id for trial in listed if not trial.claims]
    result = {"caught": len(listed) - len(survived), "survived": survived, "mutants": entries}
    REPORT.parent.mkdir(exist_ok=True)
    _write(REPORT, result)
    _write(RECORD, entries)


def recorded(mutants: list[Mutant]) -> list[Trial]:
    """What the record says of these mutants. One that was edited since has not been tried."""
    entries = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    return [
        Trial(mutant, tuple(entry["claims"]), entry["seconds"])
        for mutant in mutants
        if (entry := entries.get(mutant.id)) and mutant.edit.items() <= entry.items()
    ]


def _write(path: Path, result: Any) -> None:
    text = json.dumps(result, ensure_ascii=False, indent=1)
    path.write_text(f"{text}\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
