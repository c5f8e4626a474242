"""Figures that carry their own numbers.

`figure` hands an axes to a drawing function, then reads back from the axes what was drawn. The
numbers stored beside the picture are therefore what the reader sees, whoever drew it, and a re-run
compares them. The picture itself is SVG in the page's own ink (`currentColor`) and in a palette
that survives colour blindness (Okabe and Ito 2008), so that one file serves light and dark.
"""

import io
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas

MIME = "application/vnd.qa-lab.figure+json"

# Stand-ins that matplotlib can draw with; `_themed` turns them into the theme's own colours.
INK = "#123456"
PAPER = "#fedcba"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00")
SHADES = LinearSegmentedColormap.from_list("shades", ["#f4f7fa", "#0072b2", "#002339"])

_STYLE = {
    "svg.fonttype": "none",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 11,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.prop_cycle": matplotlib.cycler(color=PALETTE),
    "axes.grid": True,
    "grid.color": INK,
    "grid.alpha": 0.15,
    "grid.linewidth": 0.6,
    "lines.linewidth": 2.0,
    "lines.markersize": 5,
    "legend.frameon": False,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its SVG, and the numbers in it, to four significant digits."""

    id: str
    svg: str
    drawn: dict[str, list[float]]
    tolerance: float

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {
            "text/plain": f"figure {self.id}",
            "image/svg+xml": self.svg,
            MIME: {"id": self.id},
        }
        return data, {MIME: {"drawn": self.drawn, "tolerance": self.tolerance}}


def figure(
    id: str,
    draw: Callable[..., None],
    *,
    panels: int = 1,
    size: tuple[float, float] = (6.4, 3.6),
    tolerance: float = 0.02,
) -> Figure:
    """Draw on fresh axes and keep what was drawn.

    Args:
        id: Kebab-case, unique in the whole guide.
        draw: Called with the axes (as many as there are panels). Give every axis a label with
            its unit, and every line a label.
        panels: How many axes, side by side.
        size: Width and height, inches.
        tolerance: How closely a re-run must reproduce each number, relative to the largest of
            its series. Dimensionless.

    Raises:
        ValueError: Nothing was drawn, something drawn is not finite, or an axis has no label.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": id}):
        canvas = Canvas(figsize=size, layout="constrained")
        axes = np.atleast_1d(canvas.subplots(1, panels))
        draw(*axes)
        drawn: dict[str, list[float]] = {}
        for number, ax in enumerate(axes):
            if not (ax.get_xlabel() and ax.get_ylabel()):
                raise ValueError(f"{id}: panel {number} needs a name and unit on both axes.")
            drawn |= {f"{number}/{name}": values for name, values in _drawn(ax).items()}
        if not drawn:
            raise ValueError(f"{id}: nothing was drawn.")
        if bad := [name for name, values in drawn.items() if not np.isfinite(values).all()]:
            raise ValueError(f"{id}: {bad[0]} holds numbers that are not finite.")
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Figure(id, _themed(buffer.getvalue(), id), drawn, tolerance)


def spread(ax: Axes, x, runs, *, label: str, color: str | None = None, **style: Any) -> None:
    """A line through the medians of `runs` [seed, point], with a band from minimum to maximum."""
    runs = np.asarray(runs, dtype=float)
    (line,) = ax.plot(x, np.median(runs, axis=0), label=label, color=color, **style)
    ax.fill_between(
        x, runs.min(axis=0), runs.max(axis=0), color=line.get_color(), alpha=0.2, linewidth=0
    )


def matrix(ax: Axes, values, *, rows, columns, low: float = 0.0, high: float = 1.0, fmt="{:.2f}"):
    """A heat map with the number written in each cell.

    Args:
        ax: Where to draw.
        values: [row, column], dimensionless.
        rows: A name for each row.
        columns: A name for each column.
        low: The value of the lightest shade.
        high: The value of the darkest shade.
        fmt: How to write a value.
    """
    values = np.asarray(values, dtype=float)
    ax.pcolormesh(values, cmap=SHADES, vmin=low, vmax=high, edgecolors=PAPER, linewidth=2)
    ax.invert_yaxis()
    ax.grid(False)
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.tick_params(length=0)
    for (row, column), value in np.ndenumerate(values):
        dark = (value - low) / (high - low) > 0.35
        ax.text(
            column + 0.5,
            row + 0.5,
            fmt.format(value),
            ha="center",
            va="center",
            fontsize=9,
            color="#ffffff" if dark else "#1a1a1a",
        )


def _drawn(ax: Axes) -> dict[str, list[float]]:
    """Every number on the axes, x and y apart, by what it was drawn as; logarithms on log axes."""
    found: dict[str, list[float]] = {}
    logs = {axis for axis in "xy" if getattr(ax, f"get_{axis}scale")() == "log"}

    def keep(what: str, **coordinates) -> None:
        number = len({name.rsplit(" ", 1)[0] for name in found})
        for axis, values in coordinates.items():
            flat = np.asarray(values, dtype=float).ravel()
            flat = np.log10(flat) if axis in logs else flat
            found[f"{what} {number} {axis}"] = [float(f"{value:.4g}") for value in flat]

    def keep_points(what: str, points) -> None:
        points = np.asarray(points, dtype=float)
        keep(what, x=points[:, 0], y=points[:, 1])

    for line in ax.lines:
        if line.get_transform() == ax.transData:
            keep_points(f"line {line.get_label()}", line.get_xydata())
        elif len(set(line.get_ydata())) == 1:  # axhline: its x runs over the axes, not the data
            keep(f"level {line.get_label()}", y=line.get_ydata()[:1])
        else:
            keep(f"level {line.get_label()}", x=line.get_xdata()[:1])
    for patch in ax.patches:
        corners = patch.get_transform().transform_path(patch.get_path()).vertices
        keep_points("patch", ax.transData.inverted().transform(corners))
    for collection in ax.collections:
        if isinstance(collection, QuadMesh):
            keep("mesh", value=collection.get_array())
        elif isinstance(collection, PolyCollection):
            keep_points("band", collection.get_paths()[0].vertices)
        else:
            keep_points("points", collection.get_offsets())
    return found


def _themed(svg: str, id: str) -> str:
    """Replace the stand-in colours by the theme's, and make element ids unique to this figure."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = svg.replace(INK, "currentColor").replace(PAPER, "var(--qa-paper, #fff)")
    for number, colour in enumerate(PALETTE, start=1):
        svg = svg.replace(colour, f"var(--qa-series-{number}, {colour})")
    svg = re.sub(r"font: ([\d.]+px) [^;\"]+", r"font-size: \1", svg)
    svg = re.sub(r'\bid="', f'id="{id}-', svg)
    svg = re.sub(r'href="#', f'href="#{id}-', svg)
    svg = re.sub(r"url\(#", f"url(#{id}-", svg)
    # A page scales the figure: keep the view box, drop the fixed size.
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return svg.replace("<svg ", '<svg stroke-linejoin="round" ', 1)
