"""Break the lab on purpose and see which claim notices: what `make falsify` calls.

A claim is believed because it can fail. For every single edit in `tests/mutants.yaml` this runs
the notebook that should notice against a copy of the lab with that edit, and requires that one of
its claims fails. A whole run writes `build/falsify.json` and the table in CONTRIBUTING.md.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import yaml

from qa_lab.claims.notebooks import ROOT, sources

MUTANTS = ROOT / "tests" / "mutants.yaml"
CONTRIBUTING = ROOT / "CONTRIBUTING.md"
REPORT = ROOT / "build" / "falsify.json"


@dataclass(frozen=True)
class Mutant:
    """One edit to one file of `qa_lab/transformer`, and the notebook that must notice."""

    breaks: str
    file: str
    old: str
    new: str
    notebook: str

    def apply(self, lab: Path) -> None:
        """Edit the copy of the package at `lab`."""
        path = lab / "transformer" / self.file
        text = path.read_text(encoding="utf-8")
        if (found := text.count(self.old)) != 1:
            raise ValueError(
                f"“{self.breaks}”: {self.old!r} occurs {found} times in {self.file}, not once."
            )
        path.write_text(text.replace(self.old, self.new), encoding="utf-8")


def load_mutants(path: Path = MUTANTS) -> list[Mutant]:
    """Every mutant of the list."""
    return [Mutant(**entry) for entry in yaml.safe_load(path.read_text(encoding="utf-8"))]


def caught_by(mutant: Mutant) -> str | None:
    """The claim that fails under this edit, or None if the whole notebook still holds.

    Raises:
        RuntimeError: The notebook broke outside any claim, which proves nothing.
    """
    (notebook,) = (path for path in sources() if path.stem == mutant.notebook)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(ROOT / "qa_lab", lab := Path(folder) / "qa_lab")
        mutant.apply(lab)
        done = subprocess.run(
            [sys.executable, str(notebook)],
            env=os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
        )
    if done.returncode == 0:
        return None
    # The claim that failed says so itself; one whose measurement broke down has a note with its id.
    pattern = r"^while measuring the claim ([a-z0-9-]+)|^qa_lab\.claims\.\S+: ([a-z0-9-]+): "
    if claim := re.search(pattern, done.stderr, re.MULTILINE):
        return claim[1] or claim[2]
    raise RuntimeError(f"“{mutant.breaks}” broke the notebook outside a claim:\n{done.stderr}")


def main() -> int:
    """Try the mutants of one notebook, or all; exit code 1 if any survives."""
    parser = argparse.ArgumentParser(prog="qa_lab.claims.falsify", description=__doc__)
    parser.add_argument("slug", nargs="?", help="only the mutants that this notebook must notice")
    slug = parser.parse_args().slug
    rows = []
    for mutant in load_mutants():
        if slug not in (None, mutant.notebook):
            continue
        started = time.monotonic()
        claim = caught_by(mutant)
        seconds = round(time.monotonic() - started)
        rows.append(asdict(mutant) | {"caught_by": claim, "seconds": seconds})
        print(f"{mutant.breaks:60} {claim or 'SURVIVED':55} {seconds} s", flush=True)
    survived = [row["breaks"] for row in rows if row["caught_by"] is None]
    print(f"{len(rows) - len(survived)} caught, {len(survived)} survived")
    if slug is None:
        report(rows, survived)
    return 1 if survived or not rows else 0


def report(rows: list[dict], survived: list[str]) -> None:
    """Write the result of a whole run: as JSON, and as the table in CONTRIBUTING.md."""
    result = {"caught": len(rows) - len(survived), "survived": survived, "mutants": rows}
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(result, ensure_ascii=False, indent=1), encoding="utf-8")
    lines = [
        "| broken in `qa_lab/transformer` | file | the first claim that fails |",
        "|---|---|---|",
    ]
    lines += (
        f"| {row['breaks']} | `{row['file']}` | {row['caught_by'] or '**none**'} |" for row in rows
    )
    before, after = "<!-- falsify -->\n", "<!-- /falsify -->"
    text = CONTRIBUTING.read_text(encoding="utf-8")
    head, tail = text.split(before)[0], text.split(after)[1]
    CONTRIBUTING.write_text(
        head + before + "\n".join(lines) + "\n" + after + tail, encoding="utf-8"
    )


if __name__ == "__main__":
    sys.exit(main())
