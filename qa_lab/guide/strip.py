"""The strip on a claim card: a number line with the bound, what was measured, and the control.

Positions are percentages, so that the line stretches with the card while text and markers keep
their size. It repeats what the card says in words, and is therefore hidden from screen readers.
"""

import math
from collections.abc import Callable

from markupsafe import Markup

from qa_lab.claims.bounds import Bound
from qa_lab.guide.numbers import plain

ROOM = 0.06  # the least share of the line that bound and measurement should have
LEFT, RIGHT = 3.0, 97.0  # per cent; where the line begins and ends

Position = Callable[[float], float]


def strip(bound: Bound, measured: dict, control: dict, log_note: str) -> Markup:
    """An inline SVG; `measured` and `control` have min, median and max.

    `log_note` says that the scale is logarithmic, in the language of the page.
    """
    place, logarithmic = _scale(bound, measured, control)
    parts = [
        f'<line class="qa-strip__line" x1="0" x2="100%" y1="{_Y}" y2="{_Y}"/>',
        _bound(bound, place),
        _control(control, place),
        _measured(measured, place),
        *_ticks(bound, place),
    ]
    if logarithmic:
        parts.append(_note(log_note, bound, place))
    return Markup(
        # Excluded by an element of its own: see `maths.render`.
        f'<qa-strip aria-hidden="true" data-search-exclude>'
        f'<svg class="qa-strip" width="100%" height="{_HEIGHT}">{"".join(parts)}</svg></qa-strip>'
    )


_Y, _HEIGHT = 15, 44


def _scale(bound: Bound, measured: dict, control: dict) -> tuple[Position, bool]:
    """Where a number stands, in per cent, and whether the scale is logarithmic.

    Bound and measurement are what must be seen well. Of a linear and a logarithmic scale that
    hold everything, the plain one is taken unless the other gives these two twice the room.
    Where neither gives them enough, the scale is theirs alone, and the control an arrow.
    """
    core = [measured["min"], measured["max"]]
    core += [end for end in (bound.low, bound.high) if math.isfinite(end)]
    everything = [*core, control["min"], control["max"]]
    linear = _span(core) / _span(everything)
    logarithmic = _span(_logarithms(core)) / (_span(_logarithms(everything)) or 1.0)
    if min(everything) >= 0 and logarithmic > max(2 * linear, ROOM):
        powers = _logarithms(everything)
        place = _linear(min(powers), max(powers), margin=0.06)
        # A zero has no place on a logarithmic scale; it is drawn at the very left.
        return (lambda value: place(math.log10(value)) if value > 0 else LEFT), True
    shown = everything if linear > ROOM or not _span(core) else core
    return _linear(min(shown), max(shown), margin=0.15), False


def _span(values: list[float]) -> float:
    return max(values) - min(values) if values else 0.0


def _logarithms(values: list[float]) -> list[float]:
    return [math.log10(value) for value in values if value > 0]


def _linear(low: float, high: float, margin: float) -> Position:
    low, high = low - margin * (high - low), high + margin * (high - low)

    def place(value: float) -> float:
        share = (value - low) / (high - low)
        return round(LEFT + (RIGHT - LEFT) * share, 2)

    return place


def _bound(bound: Bound, place: Position) -> str:
    left = place(bound.low) if math.isfinite(bound.low) else 0.0
    right = place(bound.high) if math.isfinite(bound.high) else 100.0
    if right - left < 1:  # a single number is still to be seen
        left, right = left - 0.5, right + 0.5
    return (
        f'<rect class="qa-strip__bound" x="{left}%" width="{round(right - left, 2)}%" '
        f'y="{_Y - 10}" height="20" rx="3"/>'
    )


def _measured(measured: dict, place: Position) -> str:
    left, middle, right = (place(measured[which]) for which in ("min", "median", "max"))
    return (
        f'<line class="qa-strip__measured" x1="{left}%" x2="{right}%" y1="{_Y}" y2="{_Y}"/>'
        f'<circle class="qa-strip__median" cx="{middle}%" cy="{_Y}" r="4.5"/>'
    )


def _control(control: dict, place: Position) -> str:
    left, middle, right = (place(control[which]) for which in ("min", "median", "max"))
    if middle > 100 or middle < 0:  # too far: an arrow that points there
        tip, back = ("100%", -9) if middle > 100 else ("0%", 9)
        return (
            f'<svg class="qa-strip__control" x="{tip}" y="{_Y}" overflow="visible">'
            f'<path d="M{back} -6 L0 0 L{back} 6"/></svg>'
        )
    return (
        f'<svg class="qa-strip__control" overflow="visible">'
        f'<line x1="{max(left, 0)}%" x2="{min(right, 100)}%" y1="{_Y}" y2="{_Y}"/></svg>'
        f'<svg class="qa-strip__control" x="{middle}%" y="{_Y}" overflow="visible">'
        f'<path d="M-4.5 -4.5 L4.5 4.5 M-4.5 4.5 L4.5 -4.5"/></svg>'
    )


def _note(text: str, bound: Bound, place: Position) -> str:
    """At the right end, or at the left where a tick is in the way."""
    crowded = any(math.isfinite(end) and place(end) > 70 for end in (bound.low, bound.high))
    at, anchor = ("0", "start") if crowded else ("100%", "end")
    return (
        f'<text class="qa-strip__tick" x="{at}" y="{_HEIGHT - 4}" '
        f'text-anchor="{anchor}">{text}</text>'
    )


def _ticks(bound: Bound, place: Position) -> list[str]:
    """The ends of the bound, written so that the two cannot run into each other."""
    ends = [end for end in dict.fromkeys((bound.low, bound.high)) if math.isfinite(end)]
    anchors = ["end", "start"] if len(ends) == 2 else ["middle"]
    if len(ends) == 2 and place(ends[1]) - place(ends[0]) > 30:
        anchors = ["middle", "middle"]
    ticks = []
    for end, anchor in zip(ends, anchors, strict=True):
        at = place(end)
        if at < 8 or at > 92:
            anchor = "start" if at < 8 else "end"
        ticks.append(
            f'<text class="qa-strip__tick" x="{at}%" y="{_HEIGHT - 4}" '
            f'text-anchor="{anchor}">{plain(end, "g")}</text>'
        )
    return ticks
