"""Small bad notebooks, one for each way in which nbval, left alone, passes what proves nothing."""

from collections.abc import Callable
from pathlib import Path

import jupytext
import nbformat
from nbformat import NotebookNode

from qa_lab.claims.mime import CLAIM, FIGURE
from qa_lab.claims.notebooks import read_source, record

SOURCE = """# %%
from qa_lab.claims import broken, prove, within
from qa_lab.claims.figures import figure

# %%
prove(
    "ten-is-ten",
    en="Ten is ten.",
    zh="十就是十。",
    of=("ten", "十"),
    measure=lambda seed, factor=1.0: 10.0 * factor,
    bound=within(9, 11),
    control=broken("halved", "减半", factor=0.5),
)


# %%
def draw(ax):
    ax.plot([1, 2], [3, 4], label="a", gid="a")
    ax.set_xlabel("x")
    ax.set_ylabel("y")


figure("a-figure", draw)

# %%
print("done")
"""


# The last cell is enough for what is spoilt without touching a claim, and starts much faster; the
# claim alone does without matplotlib.
LIGHT = SOURCE[SOURCE.rindex("# %%") :]
CLAIM_ALONE = SOURCE[: SOURCE.index("\n\n# %%\ndef draw")].replace(
    "from qa_lab.claims.figures import figure\n", ""
)


def good(folder: Path, name: str, source: str = SOURCE) -> NotebookNode:
    """Record the sound notebook under this name and return it for spoiling."""
    path = folder / f"{name}.py"
    path.write_text(source, encoding="utf-8")
    return nbformat.read(record(path), as_version=4)


def write(folder: Path, name: str, notebook: NotebookNode, *, pair: bool = True) -> None:
    """Write the notebook, and beside it the source that it would have been recorded from."""
    nbformat.write(notebook, folder / f"{name}.ipynb")
    if pair:
        source = folder / f"{name}.py"
        source.write_text(jupytext.writes(notebook, fmt="py:percent"), encoding="utf-8")
        for cell, fresh in zip(notebook.cells, read_source(source).cells, strict=True):
            cell.id = fresh.id
        nbformat.write(notebook, folder / f"{name}.ipynb")


def never_executed(notebook):
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.execution_count, cell.outputs = None, []


def executed_out_of_order(notebook):
    notebook.cells[0].execution_count = 7


def tagged_to_be_ignored(notebook):
    notebook.cells[-1].metadata["tags"] = ["nbval-ignore-output"]
    notebook.cells[-1].outputs[0].text = "another text\n"


def marked_to_be_ignored_inside_a_string(notebook):
    notebook.cells[-1].source = 'print("""\n# NBVAL_IGNORE_OUTPUT\n""")'
    notebook.cells[-1].outputs[0].text = "another text\n"


def expected_to_raise(notebook):
    notebook.cells[-1].metadata["tags"] = ["raises-exception"]


def shell_line(notebook):
    notebook.cells[-1].source = "!false"
    notebook.cells[-1].outputs = []


def exception_swallowed(notebook):
    notebook.cells[-1].source = "try:\n    assert False\nexcept AssertionError:\n    pass"
    notebook.cells[-1].outputs = []


def exception_suppressed(notebook):
    notebook.cells[
        -1
    ].source = "import contextlib\n\nwith contextlib.suppress(AssertionError):\n    assert False"
    notebook.cells[-1].outputs = []


def error_recorded(notebook):
    notebook.cells[-1].source = "assert False"
    notebook.cells[-1].metadata["tags"] = ["raises-exception"]
    notebook.cells[-1].outputs = [
        nbformat.v4.new_output("error", ename="AssertionError", evalue="", traceback=[])
    ]


def warning_recorded(notebook):
    notebook.cells[-1].source = 'import sys\n\nprint("careful", file=sys.stderr)'
    notebook.cells[-1].outputs = [nbformat.v4.new_output("stream", name="stderr", text="careful\n")]


def picture_that_is_not_compared(notebook):
    notebook.cells[
        -1
    ].source = 'from IPython.display import display\n\ndisplay({"image/png": "aGVsbG8="}, raw=True)'
    notebook.cells[-1].outputs = [
        nbformat.v4.new_output("display_data", data={"image/png": "Z29vZGJ5ZQ=="})
    ]


def verdict_of_a_print(notebook):
    notebook.cells[-1].source = (
        "from IPython.display import display\n\n"
        f'display({{"{CLAIM}": {{"id": "x", "verdict": "refuted"}}}}, raw=True)'
    )
    notebook.cells[-1].outputs = [
        nbformat.v4.new_output("display_data", data={CLAIM: {"id": "x", "verdict": "refuted"}})
    ]


def _numbers(notebook, mime) -> dict:
    outputs = (output for cell in notebook.cells for output in cell.outputs)
    (found,) = (o.metadata[mime] for o in outputs if mime in o.get("metadata", {}))
    return found


def measured_number_changed(notebook):
    _numbers(notebook, CLAIM)["measured"]["median"] = 10.9


def control_number_changed(notebook):
    _numbers(notebook, CLAIM)["control"]["max"] = 8.9


def measured_nan(notebook):
    _numbers(notebook, CLAIM)["measured"]["median"] = float("nan")


def numbers_missing(notebook):
    for cell in notebook.cells:
        for output in cell.outputs:
            output.get("metadata", {}).pop(CLAIM, None)


def drawn_number_changed(notebook):
    _numbers(notebook, FIGURE)["drawn"][0]["a"]["y"] = [3.0, 5.0]


def two_claims_in_one_cell(notebook):
    first, second = notebook.cells[1].source, notebook.cells[1].source
    notebook.cells[1].source = f"{first}\n{second.replace('ten-is-ten', 'again')}"
    output = notebook.cells[1].outputs[0]
    output.data[CLAIM]["id"] = "again"
    output.data["text/plain"] = output.data["text/plain"].replace("ten-is-ten", "again")


def semicolon_at_the_end(notebook):
    notebook.cells[-1].source = 'print("done");'


# What is spoilt, and what the gates must say of it. nbval, left alone, passes every one.
HYGIENE: dict[Callable[[NotebookNode], None], str] = {
    never_executed: "execution count None",
    executed_out_of_order: "execution count 7",
    tagged_to_be_ignored: "nbval-ignore-output",
    marked_to_be_ignored_inside_a_string: "NBVAL_IGNORE",
    expected_to_raise: "raises-exception",
    shell_line: "not plain Python",
    exception_swallowed: "has a `try`",
    exception_suppressed: "suppresses exceptions",
    error_recorded: "recorded with an error",
    warning_recorded: "recorded with a warning",
    picture_that_is_not_compared: "image/png, which is not compared",
    verdict_of_a_print: "calls prove or figure 0 times and shows 1",
    semicolon_at_the_end: "ends in a semicolon",
}
CLAIMS: dict[Callable[[NotebookNode], None], str] = {
    measured_nan: "are not all finite",
    numbers_missing: "numbers that were measured are missing",
    two_claims_in_one_cell: "calls prove or figure 2 times and shows 1",
}
NUMBERS: dict[Callable[[NotebookNode], None], str] = {
    measured_number_changed: "recorded as 10.9 and came back as 10",
    control_number_changed: "recorded as 8.9 and came back as 5",
    drawn_number_changed: "came back with other numbers",
}
