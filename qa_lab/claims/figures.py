"""Figures that carry their own numbers.

`figure` hands an axes to a drawing function, then reads back from the axes what was drawn. The
numbers stored beside the picture are therefore what the reader sees, whoever drew it, and a re-run
compares them. Each series stands under the key that the notebook gives it, matplotlib's `gid`, so
that its label may be reworded.

The picture itself is SVG in the page's own ink (`currentColor`) and in a palette that survives
colour blindness (Okabe and Ito 2008), so that one file serves light and dark.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection, QuadMesh
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure as Canvas

from qa_lab.claims.mime import FIGURE

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


# One panel's numbers, to four significant digits: key of the series → axis (x, y, value) → numbers.
Panel = dict[str, dict[str, list[float]]]


@dataclass(frozen=True)
class Figure:
    """A drawn figure: its SVG, and the numbers in it, panel by panel."""

    id: str
    svg: str
    drawn: list[Panel]
    tolerance: float

    def _repr_mimebundle_(self, include=None, exclude=None):
        data = {
            "text/plain": f"figure {self.id}",
            "image/svg+xml": self.svg,
            FIGURE: {"id": self.id},
        }
        return data, {FIGURE: {"drawn": self.drawn, "tolerance": self.tolerance}}


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
            its unit, every line a label, and everything drawn its key: `gid="kebab-case"`, once
            in a panel. The bars of one call are one series.
        panels: How many axes, side by side.
        size: Width and height, inches.
        tolerance: How closely a re-run must reproduce each number, relative to the largest of
            its series. Dimensionless.

    Raises:
        ValueError: Nothing was drawn, something drawn is not finite or has no key of its own, or an
            axis has no label.
    """
    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": id}):
        canvas = Canvas(figsize=size, layout="constrained")
        axes = np.atleast_1d(canvas.subplots(1, panels))
        draw(*axes)
        drawn = [_panel(ax, f"{id}, panel {number}") for number, ax in enumerate(axes)]
        if not any(drawn):
            raise ValueError(f"{id}: nothing was drawn.")
        buffer = io.StringIO()
        canvas.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Figure(id, _themed(buffer.getvalue(), id), drawn, tolerance)


def spread(ax: Axes, x, runs, *, gid: str, label: str, **style: Any) -> None:
    """A line through the medians of `runs` [seed, point], with a band from minimum to maximum.

    The line's key is `gid`, the band's `gid` and `-band`.
    """
    runs = np.asarray(runs, dtype=float)
    (line,) = ax.plot(x, np.median(runs, axis=0), gid=gid, label=label, **style)
    low, high = runs.min(axis=0), runs.max(axis=0)
    shade = {"color": line.get_color(), "alpha": 0.2, "linewidth": 0}
    ax.fill_between(x, low, high, gid=f"{gid}-band", **shade)


def matrix(ax: Axes, values, *, rows, columns, low: float = 0.0, high: float = 1.0, fmt="{:.2f}"):
    """A heat map with the number written in each cell. Its key is `matrix`.

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
    shades = {"cmap": SHADES, "vmin": low, "vmax": high, "edgecolors": PAPER, "linewidth": 2}
    ax.pcolormesh(values, gid="matrix", **shades)
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


def _panel(ax: Axes, where: str) -> Panel:
    """Every series on the axes by its key; logarithms on log axes."""
    if not (ax.get_xlabel() and ax.get_ylabel()):
        raise ValueError(f"{where} needs a name and unit on both axes.")
    logs = {axis for axis in "xy" if getattr(ax, f"get_{axis}scale")() == "log"}
    panel: Panel = {}
    for key, coordinates in _series(ax):
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", key or ""):
            raise ValueError(f"{where}: a series needs a kebab-case key, gid=…; one has {key!r}.")
        if key in panel:
            raise ValueError(f"{where}: two series have the key {key}.")
        panel[key] = {
            axis: _four_digits(np.log10(values) if axis in logs else values)
            for axis, values in coordinates.items()
        }
        if not np.isfinite(list(panel[key].values())).all():
            raise ValueError(f"{where}: {key} holds numbers that are not finite.")
    for artist in ax.get_children():
        artist.set_gid(None)  # which would become an id of the page
    return panel


def _series(ax: Axes) -> Iterator[tuple[str | None, dict[str, np.ndarray]]]:
    """The key of everything drawn, and its numbers along each axis."""
    for line in ax.lines:
        x, y = line.get_xydata().T
        if line.get_transform() == ax.transData:
            yield line.get_gid(), {"x": x, "y": y}
        elif len(set(y)) == 1:  # axhline: its x runs over the axes, not the data
            yield line.get_gid(), {"y": y[:1]}
        else:
            yield line.get_gid(), {"x": x[:1]}
    for key, patches in groupby(ax.patches, key=Artist.get_gid):
        corners = [p.get_transform().transform_path(p.get_path()).vertices for p in patches]
        yield key, _points(ax.transData.inverted().transform(np.concatenate(corners)))
    for collection in ax.collections:
        key = collection.get_gid()
        if isinstance(collection, QuadMesh):
            yield key, {"value": np.asarray(collection.get_array()).ravel()}
        elif isinstance(collection, PolyCollection):
            yield key, _points(collection.get_paths()[0].vertices)
        else:
            yield key, _points(np.asarray(collection.get_offsets()))


def _points(points: np.ndarray) -> dict[str, np.ndarray]:
    return {"x": points[:, 0], "y": points[:, 1]}


def _four_digits(values: np.ndarray) -> list[float]:
    return [float(f"{value:.4g}") for value in values]


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
