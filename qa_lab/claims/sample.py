"""The numbers that a measurement gave, seed by seed."""

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass


class NotFinite(ValueError):
    """A measurement gave NaN, an infinity, or nothing: it can support no verdict."""


@dataclass(frozen=True)
class Sample:
    """All values of one measurement, in the order they came. Never empty, always finite."""

    values: tuple[float, ...]

    def __post_init__(self):
        if not self.values:
            raise NotFinite("The measurement gave no numbers at all.")
        if bad := [v for v in self.values if not math.isfinite(v)]:
            raise NotFinite(f"The measurement gave {bad[0]} ({len(bad)} of {len(self.values)}).")

    def summary(self) -> dict[str, float]:
        """What is stored and shown: extremes, median and count, to six significant digits."""
        return {
            "min": six_digits(min(self.values)),
            "median": six_digits(statistics.median(self.values)),
            "max": six_digits(max(self.values)),
            "n": len(self.values),
        }


def six_digits(value: float) -> float:
    """`value` to six significant digits, to promise no more than it can; counts are kept exact."""
    return value if value.is_integer() else float(f"{value:.6g}")


def flatten(values) -> Iterable[float]:
    """Every number in a float, a tensor, or any nesting of lists and tuples of them."""
    if hasattr(values, "tolist"):
        values = values.tolist()
    if isinstance(values, (list, tuple)):
        for value in values:
            yield from flatten(value)
    else:
        yield float(values)
