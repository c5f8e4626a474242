"""Claims and figures read back from recorded notebooks: all that a page may refer to."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from nbformat import NotebookNode

from qa_lab.claims.bounds import Bound
from qa_lab.claims.mime import CLAIM, FIGURE
from qa_lab.claims.notebooks import read_recording, recordings


class UnknownEvidence(KeyError):
    """A page refers to a claim or a figure that no recorded notebook holds."""

    def __str__(self) -> str:
        return str(self.args[0])


@dataclass(frozen=True)
class RecordedClaim:
    """One claim as it was recorded: `data` and `numbers` as `Claim` wrote them."""

    notebook: str  # the question's slug
    source: str  # the cell's code
    cell: str  # the cell's id
    data: dict[str, Any] = field(repr=False)
    numbers: dict[str, Any] = field(repr=False)

    @property
    def id(self) -> str:
        return self.data["id"]

    @property
    def settles(self) -> dict[str, str]:
        return self.data["settles"]

    @property
    def bound(self) -> Bound:
        return Bound.read(self.data["bound"])


@dataclass(frozen=True)
class RecordedFigure:
    """One figure as it was recorded."""

    notebook: str
    source: str
    cell: str
    id: str
    svg: str = field(repr=False)
    drawn: list[dict[str, dict[str, list[float]]]] = field(repr=False)  # panel → key → axis


class Evidence:
    """Every claim and figure of a set of recorded notebooks, by id."""

    def __init__(self, notebooks: Iterable[Path] | None = None):
        self._notebooks = list(recordings() if notebooks is None else notebooks)

    @cached_property
    def recordings(self) -> dict[str, NotebookNode]:
        """The notebooks themselves, by the question's slug."""
        return {path.stem: read_recording(path) for path in self._notebooks}

    @cached_property
    def claims(self) -> dict[str, RecordedClaim]:
        """Claims by id, in the order of the notebooks."""
        return _by_id(
            RecordedClaim(slug, source, cell, output.data[CLAIM], output.metadata[CLAIM])
            for slug, source, cell, output in self._outputs(CLAIM)
        )

    @cached_property
    def figures(self) -> dict[str, RecordedFigure]:
        """Figures by id, in the order of the notebooks."""
        return _by_id(
            RecordedFigure(
                slug,
                source,
                cell,
                output.data[FIGURE]["id"],
                output.data["image/svg+xml"],
                output.metadata[FIGURE]["drawn"],
            )
            for slug, source, cell, output in self._outputs(FIGURE)
        )

    def claim(self, id: str) -> RecordedClaim:
        """The claim of this id, or an error that says which ids there are."""
        return _find(self.claims, id, "claim")

    def figure(self, id: str) -> RecordedFigure:
        """The figure of this id, or an error that says which ids there are."""
        return _find(self.figures, id, "figure")

    def of(self, slug: str) -> list[RecordedClaim]:
        """The claims of one question."""
        return [claim for claim in self.claims.values() if claim.notebook == slug]

    def _outputs(self, mime: str) -> Iterator[tuple[str, str, str, Any]]:
        for slug, notebook in self.recordings.items():
            for cell in notebook.cells:
                for output in cell.get("outputs", ()):
                    if mime in output.get("data", {}):
                        yield slug, cell.source, cell.id, output


def drift(recorded: Iterable[Any], rerun: Iterable[Any]) -> list[str]:
    """What a re-run of one cell did not reproduce, a sentence each. Empty when all came back.

    The two are lists of notebook outputs. Sentences, bounds and verdicts are compared by nbval;
    this compares the numbers that stand in the outputs' metadata, which nbval passes over.
    """
    problems: list[str] = []
    for mime, compare in ((CLAIM, _claim_drift), (FIGURE, _figure_drift)):
        old = {o.data[mime]["id"]: o.metadata.get(mime, {}) for o in _with(recorded, mime)}
        new = {o.data[mime]["id"]: o.metadata.get(mime, {}) for o in _with(rerun, mime)}
        for id in old.keys() | new.keys():
            if id not in old or id not in new:
                problems.append(f"{id} was {'not recorded' if id in new else 'not run again'}.")
            else:
                problems += (f"{id}: {problem}" for problem in compare(old[id], new[id]))
    return problems


def _claim_drift(old: dict, new: dict) -> Iterator[str]:
    tolerance = old["tolerance"]
    if tolerance != new["tolerance"]:
        yield f"recorded with tolerance {tolerance:g}, run again with {new['tolerance']:g}."
    for which in ("measured", "control"):
        for statistic in ("min", "median", "max"):
            a, b = old[which][statistic], new[which][statistic]
            if not abs(a - b) <= tolerance * max(abs(a), old["scale"]):
                yield (
                    f"the {which} {statistic} was recorded as {a:g} and came back as {b:g}, "
                    f"further apart than the tolerance of {tolerance:.0%}."
                )


def _figure_drift(old: dict, new: dict) -> Iterator[str]:
    before, after = dict(_series(old["drawn"])), dict(_series(new["drawn"]))
    if before.keys() != after.keys():
        yield "the figure draws other series than were recorded."
        return
    for name, recorded in before.items():
        rerun = after[name]
        largest = max(map(abs, recorded), default=0.0)
        if len(recorded) != len(rerun) or any(
            not abs(a - b) <= old["tolerance"] * largest
            for a, b in zip(recorded, rerun, strict=True)
        ):
            yield f"{name} came back with other numbers than were recorded."


def _series(drawn: list[dict[str, dict[str, list[float]]]]) -> Iterator[tuple[str, list[float]]]:
    """Every row of numbers of a figure, with a name for people."""
    for number, panel in enumerate(drawn):
        for key, axes in panel.items():
            for axis, numbers in axes.items():
                yield f"{axis} of “{key}” in panel {number}", numbers


def _with(outputs: Iterable[Any], mime: str) -> list[Any]:
    return [output for output in outputs if mime in output.get("data", {})]


def _by_id(found: Iterable[Any]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for item in found:
        if item.id in result:
            raise ValueError(
                f"Two cells prove “{item.id}”: in {result[item.id].notebook} and in "
                f"{item.notebook}. An id is used once in the whole guide."
            )
        result[item.id] = item
    return result


def _find(known: dict[str, Any], id: str, kind: str) -> Any:
    if id not in known:
        raise UnknownEvidence(
            f"No recorded notebook holds the {kind} “{id}”. There are: {', '.join(known)}."
        )
    return known[id]
