"""How fast the lab is, beside the libraries that everybody uses: what `make bench` runs.

python -m tests.tools.bench                print the table, write build/bench.json
python -m tests.tools.bench --record       docs/bench.json too, with date and machine, for the site

A benchmark and no test: clocks differ from machine to machine, and nothing fails here.
"""

import argparse
import json
import os
import platform
from datetime import date
from pathlib import Path
from typing import Any

import torch

from qa_lab.claims.notebooks import ROOT
from tests.tools.bench.comparisons import benchmarks

REPORT = ROOT / "build" / "bench.json"
RECORD = ROOT / "docs" / "bench.json"


def main() -> None:
    """Run the benchmarks, print the table and write it down."""
    first, *more = __doc__.split("\n", 1)
    parser = argparse.ArgumentParser(
        "tests.tools.bench",
        description=first,
        epilog="".join(more),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=15, help="how often each is timed")
    parser.add_argument("--record", action="store_true", help="write docs/bench.json too")
    options = parser.parse_args()
    results = benchmarks(options.rounds)
    for name, result in results.items():
        print(
            f"{name:24} {result.ours:10.4g} {result.theirs:10.4g} {result.unit:9} ratio "
            f"{result.ratio:7.3f}  goal {result.goal!s:7} {'met' if result.met else 'MISSED'}"
        )
    table = {name: result.as_json() for name, result in results.items()}
    _write(REPORT, table)
    if options.record:
        today = date.today().isoformat()
        _write(RECORD, {"date": today, "machine": machine(), "results": table})


def machine() -> str:
    """Say on what kind of machine this runs."""
    return (
        f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}, "
        f"{torch.get_num_threads()} threads of {os.cpu_count()} cores, "
        f"Python {platform.python_version()}, torch {torch.__version__.split('+')[0]}"
    )


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
