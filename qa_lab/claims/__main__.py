"""Record notebooks and prove them again: what `make record` and `make prove` call.

python -m qa_lab.claims record [slug]    execute the source and store its run; without a slug,
                                         every notebook whose source is not what was recorded
python -m qa_lab.claims prove slug       run a recorded notebook again and compare everything
"""

import argparse
import sys
import time
from pathlib import Path

from nbclient.exceptions import CellExecutionError

from qa_lab.claims.notebooks import is_recorded, record, sources


def main() -> int:
    """Do what the command line asks; errors are one sentence on stderr and exit code 1."""
    parser = argparse.ArgumentParser(prog="qa_lab.claims", description=__doc__.split("\n")[0])
    parser.add_argument("command", choices=("record", "prove"))
    parser.add_argument("slug", nargs="?", help="a question's slug, why-scale for instance")
    arguments = parser.parse_args()
    try:
        if arguments.command == "record":
            chosen = [find(arguments.slug)] if arguments.slug else changed()
            return record_all(chosen)
        return prove_again(find(arguments.slug))
    except UnknownQuestion as problem:
        print(problem, file=sys.stderr)
        return 1


class UnknownQuestion(LookupError):
    """There is no notebook of this slug."""


def find(slug: str | None) -> Path:
    """The source of this question's notebook."""
    known = {path.stem: path for path in sources()}
    if slug not in known:
        asked = f"No notebook is called “{slug}”." if slug else "Say which: make prove Q=<slug>."
        raise UnknownQuestion(f"{asked} There are: {', '.join(known)}.")
    return known[slug]


def changed() -> list[Path]:
    """The sources that are not what was recorded beside them."""
    stale = [path for path in sources() if not is_recorded(path)]
    if not stale:
        print("Every notebook is recorded as its source stands. To record one anew, name it: Q=…")
    return stale


def record_all(chosen: list[Path]) -> int:
    """Record each, saying how long it took; stop at the first that does not hold."""
    for source in chosen:
        print(f"recording {source.stem} … ", end="", flush=True)
        started = time.monotonic()
        try:
            record(source)
        except CellExecutionError as problem:
            print(f"failed\n{problem.ename}: {problem.evalue}", file=sys.stderr)
            return 1
        print(f"{time.monotonic() - started:.0f} s")
    return 0


def prove_again(source: Path) -> int:
    """Run the recorded notebook under strict nbval."""
    if not is_recorded(source):
        print(f"{source.name} is not what was recorded. Run: make record Q={source.stem}")
        return 1
    import pytest  # needed for nothing else here

    options = ("--nbval", "--nbval-current-env", "--nbval-cell-timeout", "120", "-q")
    return int(pytest.main([*options, str(source.with_suffix(".ipynb"))]))


if __name__ == "__main__":
    sys.exit(main())
