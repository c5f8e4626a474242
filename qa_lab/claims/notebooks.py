"""Notebooks as pairs: `slug.py` is the source, `slug.ipynb` the run of it that was recorded."""

from pathlib import Path

import jupytext
import nbformat
from jupytext.config import load_jupytext_config
from nbclient import NotebookClient
from nbformat import NotebookNode

ROOT = Path(__file__).parents[2]
NOTEBOOKS = ROOT / "notebooks"
CELL_SECONDS = 120  # a dead kernel is noticed this late, so keep it short


def sources() -> list[Path]:
    """Every notebook's source, found on the disk and never listed by hand."""
    return sorted(NOTEBOOKS.glob("*/*.py"))


def recordings() -> list[Path]:
    """Every recorded notebook."""
    return sorted(p for p in NOTEBOOKS.glob("*/*.ipynb") if "checkpoints" not in str(p))


def read_source(path: Path) -> NotebookNode:
    """The notebook that a percent script describes: fresh, unexecuted, with fixed cell ids."""
    config = load_jupytext_config(str(ROOT / "pyproject.toml"))
    notebook = jupytext.read(path, config=config)
    for number, cell in enumerate(notebook.cells):
        cell.id = f"{path.stem}-{number:02d}"
    notebook.metadata = NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"}
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def read_recording(path: Path) -> NotebookNode:
    """The recorded notebook as it lies on the disk."""
    return nbformat.read(path, as_version=4)


def same_source(a: NotebookNode, b: NotebookNode) -> bool:
    """Whether two notebooks hold the same cells: kinds, sources, tags and ids, outputs aside."""

    def cells(notebook):
        return [
            (c.cell_type, c.source.strip(), tuple(c.metadata.get("tags", ())), c.get("id"))
            for c in notebook.cells
        ]

    return cells(a) == cells(b)


def is_recorded(source: Path) -> bool:
    """Whether the recording beside `source` is a recording of this very source."""
    recording = source.with_suffix(".ipynb")
    if not recording.exists():
        return False
    return same_source(read_source(source), read_recording(recording))


def record(source: Path) -> Path:
    """Execute the source in a fresh kernel and write the recording. Twice gives the same bytes.

    Nothing is written when a cell raises, so a failed claim leaves the old recording untouched.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell raised: a claim failed, say.
    """
    notebook = read_source(source)
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40"],  # its remarks on TCP are not our reader's
        resources={"metadata": {"path": str(ROOT)}},
    ).execute()
    # What the kernel says of itself (its Python's version) is not part of the record.
    notebook.metadata.pop("language_info", None)
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
    nbformat.validate(notebook)
    recording = source.with_suffix(".ipynb")
    nbformat.write(notebook, recording)
    return recording
