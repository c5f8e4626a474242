"""What a measurement must meet. A bound is a closed interval."""

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Bound:
    """A closed interval; dimensionless unless the claim's `of` says otherwise."""

    low: float
    high: float

    def __post_init__(self):
        if math.isnan(self.low) or math.isnan(self.high) or self.low > self.high:
            raise ValueError(f"[{self.low}, {self.high}] is no interval: low must be ≤ high.")
        if self.low == -math.inf and self.high == math.inf:
            raise ValueError("A bound that every number meets proves nothing.")

    def met_by(self, value: float) -> bool:
        """Whether `value` lies in the interval. NaN never does."""
        return self.low <= value <= self.high

    @property
    def scale(self) -> float:
        """The size of the numbers that the bound speaks of: its largest finite endpoint."""
        return max(abs(end) for end in (self.low, self.high) if math.isfinite(end))

    def __str__(self) -> str:
        if self.low == self.high:
            return f"= {self.low:.12g}"
        if self.high == math.inf:
            return f"≥ {self.low:.12g}"
        if self.low == -math.inf:
            return f"≤ {self.high:.12g}"
        return f"in [{self.low:.12g}, {self.high:.12g}]"


def within(low: float, high: float) -> Bound:
    """Between `low` and `high`, both included."""
    return Bound(low, high)


def at_least(low: float) -> Bound:
    """`low` or more."""
    return Bound(low, math.inf)


def at_most(high: float) -> Bound:
    """`high` or less."""
    return Bound(-math.inf, high)


def exactly(value: float) -> Bound:
    """This number and no other: for counts, and for zeros that a mask or a missing path makes."""
    return Bound(value, value)
