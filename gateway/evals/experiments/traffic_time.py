"""How much time the pairs of a sequence cover, and whether the difference moves from day to day.

Everything is in Unix seconds and Unix days (UTC), which no change of a clock makes longer or shorter.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from typing import Any

from gateway.evals.statistics.moments import Moments
from gateway.evals.statistics.state import State

LONGEST_GAP_S = 43_200.0  # of the time between two pairs, at most this much counts: a night does, an outage does not
DAY_S = 86_400.0
FEWEST_DAYS = 3  # with enough pairs each, before a slope is tested
FEWEST_A_DAY = 20
SLOPE_ALPHA = 0.01  # of one look


@dataclass(slots=True)
class TrafficTime:
    """Seconds of traffic that pairs cover: from the first to the last, less what is too long for a pause of a night."""

    covered_s: float = 0.0
    last: float | None = None

    def add(self, at: float) -> None:
        """The next pair, at this Unix time. One from before the last covers nothing."""
        if self.last is not None:
            self.covered_s += min(max(at - self.last, 0.0), LONGEST_GAP_S)
        self.last = at if self.last is None else max(at, self.last)


@dataclass(frozen=True, slots=True)
class Slope:
    """How much the difference changes with each day."""

    per_day: float
    p: float
    """Slope of the days' own means, at one look: an alarm, which decides nothing."""


@dataclass(slots=True)
class DayEffects:
    """The difference by day. days: Unix day → its moments."""

    days: dict[int, Moments] = field(default_factory=dict)

    def add(self, difference: float, at: float) -> None:
        """The difference of a pair at this Unix time."""
        day = int(at // DAY_S)
        self.days[day] = self.days.get(day, Moments()).add(difference)

    def slope(self, inflation: float = 1.0) -> Slope | None:
        """The weighted regression of the days' means on the day. None: there are too few days.

        inflation: of the variance, by what the pairs depend on each other.
        """
        rows = [(day, m) for day, m in sorted(self.days.items()) if m.n >= FEWEST_A_DAY and m.m2 > 0]
        if len(rows) < FEWEST_DAYS:
            return None
        weights = [m.n / (m.variance(1) * inflation) for _, m in rows]
        total = sum(weights)
        day = sum(w * d for w, (d, _) in zip(weights, rows, strict=True)) / total
        mean = sum(w * m.mean for w, (_, m) in zip(weights, rows, strict=True)) / total
        spread = sum(w * (d - day) ** 2 for w, (d, _) in zip(weights, rows, strict=True))
        per_day = sum(w * (d - day) * (m.mean - mean) for w, (d, m) in zip(weights, rows, strict=True)) / spread
        return Slope(per_day, 2.0 * (1.0 - NormalDist().cdf(abs(per_day) * math.sqrt(spread))))

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        return {str(day): [m.n, m.mean, m.m2] for day, m in self.days.items()}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> DayEffects:
        """Raises ValueError for a day that is no number."""
        return cls({int(day): Moments(*of) for day, of in state.items()})
