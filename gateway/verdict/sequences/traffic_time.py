"""The time that the pairs of a sequence cover, and whether the difference moves from day to day.

All times are Unix seconds and Unix days (UTC), which no clock change makes longer or shorter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from gateway.statistics.moments import Moments
from gateway.statistics.stored_state import State

LONGEST_GAP_S = 43_200.0  # of the time between two pairs, at most this much counts: a night does, an outage does not
DAY_S = 86_400.0
FEWEST_DAYS = 3  # with enough pairs each, before a slope is tested
FEWEST_A_DAY = 20
SLOPE_ALPHA = 0.01  # of one look


@dataclass(slots=True)
class TrafficTime:
    """Seconds of traffic that pairs cover: from the first to the last, without pauses longer than a night."""

    covered_s: float = 0.0
    last: float | None = None

    def add(self, at: float) -> None:
        """Takes the next pair, at this Unix time. A time before the last one covers nothing."""
        if self.last is not None:
            self.covered_s += min(max(at - self.last, 0.0), LONGEST_GAP_S)
        self.last = at if self.last is None else max(at, self.last)


@dataclass(frozen=True, slots=True)
class Slope:
    """Change of the difference with each day."""

    per_day: float
    p: float
    """Slope of the days' own means, at one look: an alarm, which decides nothing."""


@dataclass(frozen=True, slots=True)
class DayMean:
    """The mean difference of one Unix day, with its variance."""

    day: int
    mean: float
    variance: float


def slope_of(days: Sequence[DayMean]) -> Slope | None:
    """The weighted regression of the days' means on the day; a day without variance has no weight. None if there are
    too few.
    """
    rows = [each for each in days if each.variance > 0]
    if len(rows) < FEWEST_DAYS:
        return None
    weights = [1.0 / each.variance for each in rows]
    total = sum(weights)
    day = sum(w * each.day for w, each in zip(weights, rows, strict=True)) / total
    mean = sum(w * each.mean for w, each in zip(weights, rows, strict=True)) / total
    spread = sum(w * (each.day - day) ** 2 for w, each in zip(weights, rows, strict=True))
    per_day = sum(w * (each.day - day) * (each.mean - mean) for w, each in zip(weights, rows, strict=True)) / spread
    return Slope(per_day, 2.0 * (1.0 - NormalDist().cdf(abs(per_day) * math.sqrt(spread))))


@dataclass(slots=True)
class DayEffects:
    """The difference by day. days: Unix day → its moments."""

    days: dict[int, Moments] = field(default_factory=dict)

    def add(self, difference: float, at: float) -> None:
        """Takes the difference of a pair at this Unix time."""
        day = int(at // DAY_S)
        self.days[day] = self.days.get(day, Moments()).add(difference)

    def slope(self, inflation: float = 1.0) -> Slope | None:
        """The weighted regression of the days' means on the day. None if there are too few days.

        inflation: of the variance, by the dependence of the pairs on each other.
        """
        return slope_of(
            [
                DayMean(day, m.mean, m.variance(1) * inflation / m.n)
                for day, m in sorted(self.days.items())
                if m.n >= FEWEST_A_DAY
            ]
        )

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        return {str(day): [m.n, m.mean, m.m2] for day, m in self.days.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DayEffects:
        """Raises ValueError for a day that is no number."""
        return cls({int(day): Moments(*of) for day, of in state.items()})
