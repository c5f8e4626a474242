"""How often does a claim miss on seeds that nobody has looked at: `make pilot`.

python -m tests.tools.replicate                      every notebook, seeds 1000 to 1099
python -m tests.tools.replicate head-subspaces       one notebook
python -m tests.tools.replicate --first 5000 --runs 50

A run is one seed: the claim's values against the bound, and its control's. It misses if a value
misses the bound, if a control value meets it, or if either breaks down. At most one run in a
hundred may miss. `build/replicate.json` says for each claim how often, and how near the nearest
run came to the bound, in standard deviations over the runs. It is written after every notebook
and keeps what it knows of the others. A claim that draws nothing at random is counted, not run.
"""

import argparse
import gc
import inspect
import json
import re
import statistics
import sys
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Executor, ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from qa_lab.claims.notebooks import ROOT, read_source, sources
from qa_lab.claims.seeded import sample

REPORT = ROOT / "build" / "replicate.json"
MAY_MISS = 0.01  # of the runs
SHOWN = 10  # claims in the table


@dataclass(frozen=True)
class Run:
    """One seed of one claim.

    Args:
        measured: How far inside the bound the value lies that is nearest to its end, in the unit of
            what is measured; negative outside, None if the measurement broke down.
        control: The same of the control's values, and how far outside they lie.
    """

    measured: float | None
    control: float | None

    @property
    def claim_misses(self) -> bool:
        """Whether a value misses the bound."""
        return self.measured is None or self.measured < 0

    @property
    def control_misses(self) -> bool:
        """Whether a control value meets it; the ends of a bound belong to it."""
        return self.control is None or self.control <= 0


def runs_of(source: Path, seed: int) -> dict[str, Run | None]:
    """Execute a notebook with one seed: the run of each claim, None for one that draws nothing.

    A whole execution for each seed costs little, and what the notebook caches cannot pile up.
    Figures are not drawn. An error outside of a measurement is no miss, and stops everything.
    """
    gc.collect()  # of the notebook before: functions and their globals hold on to each other
    runs: dict[str, Run | None] = {}
    names: dict[str, Any] = {"__name__": "__main__"}
    stand_in = {"prove": partial(_note, runs, seed), "figure": lambda *_, **__: None}
    for number, cell in enumerate(read_source(source).cells):
        if cell.cell_type == "code":
            names |= stand_in  # again for each cell, since one of them imports the real ones
            exec(compile(cell.source, f"{source.name}, cell {number}", "exec"), names)
    claims = len(re.findall(r"^prove\(", source.read_text(encoding="utf-8"), re.MULTILINE))
    if len(runs) != claims:
        raise RuntimeError(f"{source.name} has {claims} claims, and {len(runs)} could be tried.")
    return runs


def _note(runs: dict, seed: int, id: str, *, measure, bound, control, **_: Any) -> None:
    """Stand in for `prove`: note how the claim does on this seed, and never raise."""
    if "seed" not in inspect.signature(measure).parameters:
        runs[id] = None
        return
    inside = _values(measure, seed, {})
    outside = _values(measure, seed, control.changes)
    runs[id] = Run(
        inside and min(min(value - bound.low, bound.high - value) for value in inside),
        outside and min(max(bound.low - value, value - bound.high) for value in outside),
    )


def _values(measure, seed: int, changes) -> tuple[float, ...] | None:
    """The values that `prove` would judge, or None if there are none to judge."""
    try:
        return sample(measure, (seed,), changes).values
    except Exception as problem:
        print(f"seed {seed}: {type(problem).__name__}: {problem}", file=sys.stderr)
        return None


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """What is reported of a claim's runs, measured and control apart."""
    return {
        "runs": len(runs),
        "misses": sum(run.claim_misses for run in runs),
        "margin": in_spreads(run.measured for run in runs),
        "control": {
            "misses": sum(run.control_misses for run in runs),
            "margin": in_spreads(run.control for run in runs),
        },
    }


def in_spreads(margins: Iterable[float | None]) -> float | None:
    """The smallest margin over the standard deviation of all; None where they do not spread."""
    there = [margin for margin in margins if margin is not None]
    spread = statistics.stdev(there) if len(there) > 1 else 0.0
    return float(f"{min(there) / spread:.3g}") if spread else None


def pilot(source: Path, seeds: range, pool: Executor) -> tuple[dict[str, Any], list[str]]:
    """Try a notebook on the seeds: entries for the report, and the claims that draw nothing."""
    by_seed = list(pool.map(runs_of, repeat(source), seeds))
    entries, still = {}, []
    for id in by_seed[0]:
        runs = [run for found in by_seed if (run := found[id])]
        if runs:
            entries[id] = {"notebook": source.stem, "first": seeds.start, **summary(runs)}
        else:
            still.append(id)
    return entries, still


def misses_too_often(entry: dict[str, Any]) -> bool:
    """Whether the claim, or its control, misses more often than it may."""
    return max(entry["misses"], entry["control"]["misses"]) > MAY_MISS * entry["runs"]


def write(report: dict[str, Any], source: Path, entries: dict, still: list[str]) -> None:
    """Put a notebook's results in the place of what the report knew of it."""
    claims, draw_nothing = report["claims"], report["draw_nothing"]
    report["claims"] = {
        id: entry for id, entry in claims.items() if entry["notebook"] != source.stem
    } | entries
    draw_nothing[source.stem] = still
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def table(entries: dict[str, Any]) -> Iterator[str]:
    """The claims that came nearest to their bounds, and all that miss too often, a line each."""

    def nearest(id: str) -> float:
        margins = (entries[id]["margin"], entries[id]["control"]["margin"])
        return min((m for m in margins if m is not None), default=float("inf"))

    yield f"{'':2}{'claim':58} {'misses':>13} {'margin':>8} {'control':>8}"
    for place, id in enumerate(sorted(entries, key=nearest)):
        entry = entries[id]
        often = misses_too_often(entry)
        if place < SHOWN or often:
            misses = f"{entry['misses']}, {entry['control']['misses']} of {entry['runs']}"
            margins = (entry["margin"], entry["control"]["margin"])
            shown = " ".join(f"{'none' if m is None else f'{m:.3g}':>8}" for m in margins)
            yield f"{'!' if often else '':2}{id:58} {misses:>13} {shown}"


def main() -> int:
    """Exit code 1 if a claim misses more often than it may."""
    given = _options()
    chosen = [source for source in sources() if given.slug in (None, source.stem)]
    if not chosen:
        print(f"No notebook is called “{given.slug}”.", file=sys.stderr)
        return 1
    report = {"claims": {}, "draw_nothing": {}}
    if REPORT.exists():
        report = json.loads(REPORT.read_text(encoding="utf-8"))
    tried: dict[str, Any] = {}
    with ProcessPoolExecutor(given.jobs, get_context("spawn")) as pool:
        for source in chosen:
            entries, still = pilot(source, range(given.first, given.first + given.runs), pool)
            write(report, source, entries, still)
            tried |= entries
            bad = sum(map(misses_too_often, entries.values()))
            print(f"{source.stem}: {len(entries)} claims tried, {bad} miss too often; ", end="")
            print(f"{len(still)} draw nothing", flush=True)
    print("\n".join(table(tried)))
    return 1 if any(map(misses_too_often, tried.values())) else 0


def _options() -> argparse.Namespace:
    first, _, more = __doc__.partition("\n")
    parser = argparse.ArgumentParser(
        "tests.tools.replicate",
        description=first,
        epilog=more,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("slug", nargs="?", help="only the claims of this notebook")
    parser.add_argument("--first", type=int, default=1000, help="the first seed")
    parser.add_argument("--runs", type=int, default=100, help="how many seeds")
    parser.add_argument("--jobs", type=int, default=1, help="how many runs at a time")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
