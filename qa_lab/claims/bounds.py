"""What a measurement must meet. A bound is a closed interval."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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

    def data(self) -> dict[str, Any]:
        """The bound as it is recorded: in words, and its ends as numbers, null where it is open.

        To twelve digits, as in the words: an end that was computed must not bring its last bits,
        which another processor rounds otherwise.
        """
        low, high = (float(f"{end:.12g}") for end in (self.low, self.high))
        return {
            "text": str(self),
            "low": low if math.isfinite(low) else None,
            "high": high if math.isfinite(high) else None,
            "closed": True,  # the ends belong to it
        }

    @classmethod
    def read(cls, recorded: Mapping[str, Any]) -> "Bound":
        """The bound that `data` wrote down."""
        low, high = recorded["low"], recorded["high"]
        return cls(-math.inf if low is None else low, math.inf if high is None else high)

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
