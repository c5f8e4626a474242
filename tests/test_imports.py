"""What may load what: the site is built without torch, and the package without its tests."""

import ast
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from qa_lab.claims.notebooks import ROOT

PROVING = {"seeded", "figures"}  # they measure and draw, in a notebook
HEAVY = {"torch", "numpy", "matplotlib", "transformers", "pandas", "scipy"}


def modules(package: str) -> list[str]:
    """Every module of a package of the lab, by its full name."""
    stems = [path.stem for path in Path(ROOT, "qa_lab", package).glob("*.py")]
    return sorted(f"qa_lab.{package}.{stem}" for stem in stems if stem != "__main__")


READING = [m for m in modules("claims") if m.rsplit(".", 1)[1] not in PROVING] + modules("guide")


def loaded_by(*names: str) -> set[str]:
    """The packages that a fresh Python has loaded after these imports."""
    code = f"import sys, json, {', '.join(names)}; print(json.dumps(list(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return {name.split(".")[0] for name in json.loads(done.stdout)}


def test_the_site_loads_no_library_that_measures_or_draws():
    assert loaded_by(*READING) & HEAVY == set()


def test_maths_load_nothing_of_the_notebooks():
    assert loaded_by("qa_lab.guide.maths") & {"nbformat", "jupytext", "yaml", "jinja2"} == set()


def test_what_proves_does_load_torch():
    assert "torch" in loaded_by("qa_lab.claims.seeded")


def mentions_of_the_tests(text: str) -> Iterator[int]:
    """The lines of code that import from `tests` or name the folder; docstrings may speak of it."""
    tree = ast.parse(text)
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        match node:
            case ast.Import(names):
                named = [alias.name for alias in names]
            case ast.ImportFrom(module):
                named = [module or ""]
            case ast.Constant(str(text)) if id(node) not in prose:
                named = [text]
            case _:
                continue
        if any("tests" in re.split(r"\W+", name) for name in named):
            yield node.lineno


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ('"""As in `tests/a.yaml`."""', []),
        ('x = ROOT / "tests" / "a.yaml"', [1]),
        ('"""Words."""\nx = open("tests/a.yaml")', [2]),
        ("from tests.tools import bench\nimport tests", [1, 2]),
        ('contests = "contests and attests"', []),
    ],
)
def test_a_mention_of_the_tests_is_found(code, lines):
    assert list(mentions_of_the_tests(code)) == lines


def test_no_package_code_reads_the_tests():
    """A wheel has none."""
    files = Path(ROOT, "qa_lab").rglob("*.py")
    found = {
        f: lines for f in files if (lines := list(mentions_of_the_tests(f.read_text("utf-8"))))
    }
    assert found == {}
