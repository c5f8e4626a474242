"""Whether building the site takes twice as long when there is twice as much of it.

python -m tests.tools.growth

Every published page is copied, with its notebook, claims, statements and edits, into a guide of
its own; the site is built from one, two and four copies, and what more pages cost is compared.
Measured in the processor's seconds, which other programs disturb less than a clock's.
"""

import os
import resource
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from qa_lab.claims.manifest import load_manifest
from tests.tools.growth.copies import grown_guide

COPIES = (1, 2, 4)
TOO_MUCH = 3.0  # two more copies against one more: 2 if time is linear in pages, 4 if quadratic


def main() -> int:
    """Build three guides; exit code 1 if time grows faster than the number of pages."""
    seconds = [_build(times) for times in COPIES]
    one, two = seconds[1] - seconds[0], seconds[2] - seconds[1]
    print(f"One more copy took {one:.1f} s, two more {two:.1f} s: {two / one:.1f} times as much.")
    return 1 if two > TOO_MUCH * one else 0


def _build(times: int) -> float:
    """The processor's seconds for both languages of a guide with so many copies of each page."""
    with TemporaryDirectory() as folder:
        root = Path(folder)
        grown_guide(root, times)
        before = _spent()
        subprocess.run(
            [sys.executable, "-m", "qa_lab.guide.build", "--site", str(root / "site")],
            cwd=root,
            env=os.environ | {"PYTHONPATH": folder},
            stderr=subprocess.DEVNULL,
            check=True,
        )
        spent = _spent() - before
        pages = times * len(load_manifest().published)
        size = sum(path.stat().st_size for path in root.glob("site/**/*.html"))
    print(f"{pages:4} questions: {spent:5.1f} s, {size / 1e6:.0f} MB of HTML", flush=True)
    return spent


def _spent() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    sys.exit(main())
