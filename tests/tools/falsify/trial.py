"""Try a mutant: run the notebook that should notice against a copy of the lab with that edit."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qa_lab.claims.notebooks import ROOT, sources
from tests.tools.falsify.mutants import Mutant

FAILING = Path(__file__).with_name("failing.py")
MINUTES = 10  # after which an edit has made the notebook run for ever


@dataclass(frozen=True)
class Trial:
    """What became of one mutant: the claims that fail, none if it survived."""

    mutant: Mutant
    claims: tuple[str, ...]
    seconds: int

    def entry(self) -> dict[str, Any]:
        """The trial as it stands in the record, under the mutant's id."""
        return self.mutant.entry() | {"claims": list(self.claims), "seconds": self.seconds}


def attempt(mutant: Mutant) -> Trial:
    """Try one mutant and print what became of it."""
    started = time.monotonic()
    claims = caught_by(mutant)
    trial = Trial(mutant, claims, round(time.monotonic() - started))
    more = f" and {len(claims) - 1} more" if len(claims) > 1 else ""
    by = f"{claims[0]}{more}" if claims else "SURVIVED"
    print(f"{mutant.id:52} {by:65} {trial.seconds} s", flush=True)
    return trial


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
            # -P, for else Python looks beside the program before it looks into the broken copy
            [sys.executable, "-P", str(FAILING), str(notebook)],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60 * MINUTES,
        )
    if done.returncode:
        raise RuntimeError(f"{mutant.id} broke the run itself:\n{done.stderr}")
    found = json.loads(done.stdout.splitlines()[-1])
    if found["stopped"] and not found["claims"]:
        raise RuntimeError(f"{mutant.id} broke the notebook outside a claim:\n{found['stopped']}")
    return tuple(found["claims"])
