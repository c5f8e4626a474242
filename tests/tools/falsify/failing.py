"""Run a notebook to its end, whatever fails, and say which of its claims do.

python tests/tools/falsify/failing.py notebook.py     prints {"claims": [ids], "stopped": null}

`trial` runs this beside a broken copy of the lab, and that is the one it imports. A claim fails by
missing its bound, by a control that meets it, or by a measurement that breaks down. Figures prove
nothing and may break. A cell that prepares what later cells need must not: there the run stops, and
says so.
"""

import ast
import json
import sys
import traceback
from pathlib import Path
from typing import Any

from qa_lab.claims.notebooks import read_source


def failing_claims(notebook: Path) -> dict[str, Any]:
    """Execute every cell of the source.

    Returns:
        `claims`: the ids of those that failed, in order; `stopped`: the traceback of a cell that
        is no claim and no figure, or None.
    """
    failed: list[str] = []
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(read_source(notebook).cells):
        if cell.cell_type != "code":
            continue
        shows, id = _shows(cell.source)
        try:
            exec(compile(cell.source, f"{notebook.name}, cell {number}", "exec"), names)
        except Exception:
            if shows is None:
                return {"claims": failed, "stopped": traceback.format_exc()}
            if shows == "prove":
                failed.append(id)
    return {"claims": failed, "stopped": None}


def _shows(source: str) -> tuple[str, str] | tuple[None, None]:
    """What a cell ends in, `prove` or `figure`, with the id it gives, or nothing of the kind."""
    match ast.parse(source).body:
        case [*_, ast.Expr(ast.Call(ast.Name("prove" | "figure" as name), [ast.Constant(id), *_]))]:
            return name, id
    return None, None


if __name__ == "__main__":
    json.dump(failing_claims(Path(sys.argv[1])), sys.stdout)
