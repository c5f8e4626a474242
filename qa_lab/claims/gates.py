"""What must be true of a recorded notebook before nbval's word is worth anything.

nbval re-runs a notebook and compares outputs, and that is all it does. By itself it passes a cell
that was never executed, an ignored cell, a swallowed exception, a stored failure, an edited
source. Each gate here closes one such hole: it takes a notebook and yields the problems it finds,
a sentence each. `strict.py` puts them, and the comparison of numbers, into every nbval run.
"""

import ast
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from qa_lab.claims.mime import CLAIM, FIGURE
from qa_lab.claims.notebooks import read_recording, read_source, same_source

ALLOWED_OUTPUT = {"text/plain", "text/html", "image/svg+xml", CLAIM, FIGURE}


def problems(path: Path) -> list[str]:
    """Every problem of the recorded notebook at `path` and of its source beside it."""
    notebook = read_recording(path)
    found = [f"{path.name}: {p}" for gate in GATES for p in gate(notebook)]
    return found + [f"{path.name}: {p}" for p in source_is_recorded(path, notebook)]


def executed_in_order(notebook: NotebookNode) -> Iterator[str]:
    """A cell that was never executed has no output, so any output of its re-run passes."""
    for expected, cell in enumerate(_code(notebook), start=1):
        if cell.execution_count != expected:
            yield (
                f"code cell {expected} has execution count {cell.execution_count}. "
                f"Record the notebook: make record."
            )


def nothing_ignored(notebook: NotebookNode) -> Iterator[str]:
    """Tags and comments can tell nbval not to look. nbval heeds them even inside a string."""
    marker = re.compile(r"nbval[-_](skip|ignore|check|raises|test)", re.IGNORECASE)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if bad := [tag for tag in tags if marker.search(tag) or tag == "raises-exception"]:
            yield f"the tag {bad[0]!r} hides a cell from the re-run; remove it."
        if found := marker.search(cell.source):
            yield f"the marker {found[0]!r} hides a cell from the re-run; remove it."


def plain_python(notebook: NotebookNode) -> Iterator[str]:
    """Magics and shell lines can fail in silence, and are no Python that a linter can read."""
    for tree, source in _parsed(notebook):
        if tree is None:
            yield f"a cell is not plain Python (a magic or a shell line?): {source[:60]!r}"
        elif "get_ipython" in source:
            yield "a cell calls get_ipython; use plain Python."


def nothing_swallowed(notebook: NotebookNode) -> Iterator[str]:
    """A claim that fails must stop the notebook, so no cell may catch what it raises."""
    for tree, _ in _parsed(notebook):
        for node in ast.walk(tree) if tree else ():
            if isinstance(node, (ast.Try, ast.TryStar)):
                yield f"line {node.lineno} of a cell has a `try`: a failing claim could be caught."
            elif isinstance(node, (ast.Name, ast.Attribute)) and _called(node) == "suppress":
                yield f"line {node.lineno} of a cell suppresses exceptions."


def clean_outputs(notebook: NotebookNode) -> Iterator[str]:
    """Errors and warnings in the record, and pictures that cannot be compared."""
    for number, cell in enumerate(_code(notebook), start=1):
        for output in cell.outputs:
            if output.output_type == "error":
                yield f"code cell {number} was recorded with an error: {output.ename}."
            elif output.output_type == "stream" and output.name == "stderr":
                yield f"code cell {number} was recorded with a warning: {output.text[:80]!r}"
            elif extra := set(output.get("data", {})) - ALLOWED_OUTPUT:
                yield f"code cell {number} shows {', '.join(sorted(extra))}, which is not compared."
        if cell.source.rstrip().endswith(";"):
            yield f"code cell {number} ends in a semicolon, which a re-run does not honour."


def claims_are_proved(notebook: NotebookNode) -> Iterator[str]:
    """One claim or figure, one cell, one output; the record holds verdicts and finite numbers."""
    for number, (cell, (tree, _)) in enumerate(
        zip(_code(notebook), _parsed(notebook), strict=True), start=1
    ):
        shown = [out for out in cell.outputs if {CLAIM, FIGURE} & set(out.get("data", {}))]
        calls = 0 if tree is None else _count_calls(tree, {"prove", "figure"})
        if calls > 1 or len(shown) != calls:
            yield (
                f"code cell {number} calls prove or figure {calls} times and shows {len(shown)}; "
                f"each has a cell of its own and is its last expression."
            )
        for output in shown:
            if CLAIM in output.data:
                yield from _claim_problems(output.data[CLAIM], output.metadata.get(CLAIM))


def _claim_problems(data: dict[str, Any], numbers: dict[str, Any] | None) -> Iterator[str]:
    if (data.get("verdict"), data.get("control_verdict")) != ("holds", "missed"):
        yield f"{data.get('id')}: the record does not say that it holds and its control misses."
    if not numbers:
        yield f"{data.get('id')}: the numbers that were measured are missing from the record."
        return
    for which in ("measured", "control"):
        values = [numbers.get(which, {}).get(s, math.nan) for s in ("min", "median", "max")]
        if not all(isinstance(v, (int, float)) and math.isfinite(v) for v in values):
            yield f"{data.get('id')}: the {which} numbers {values} are not all finite."


def source_is_recorded(path: Path, notebook: NotebookNode) -> Iterator[str]:
    """The .py is what people read and edit; nbval runs the .ipynb. They must be the same."""
    source = path.with_suffix(".py")
    if not source.exists():
        yield f"its source {source.name} is missing."
    elif not same_source(read_source(source), notebook):
        yield f"{source.name} is not what was recorded. Run: make record Q={path.stem}"


GATES = (
    executed_in_order,
    nothing_ignored,
    plain_python,
    nothing_swallowed,
    clean_outputs,
    claims_are_proved,
)


def _code(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _parsed(notebook: NotebookNode) -> Iterator[tuple[ast.Module | None, str]]:
    for cell in _code(notebook):
        try:
            yield ast.parse(cell.source), cell.source
        except SyntaxError:
            yield None, cell.source


def _count_calls(tree: ast.Module, names: set[str]) -> int:
    return sum(isinstance(n, ast.Call) and _called(n.func) in names for n in ast.walk(tree))


def _called(node: ast.expr) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))
