"""The bounds of the score histogram. Pure."""

from __future__ import annotations

from bisect import bisect_left

UNIT = tuple(i / 10 for i in range(11))  # for scores in [0, 1]
WIDE = (-100.0, -10.0, -1.0, -0.1, 0.0, 0.1, 1.0, 10.0, 100.0, 1000.0, 10_000.0)  # for all others
COUNT = len(UNIT) + 1  # one more for +Inf


def bounds_of(low: float | None, high: float | None) -> tuple[float, ...]:
    """The upper bounds for a scorer with these bounds of its own; changing them would falsify stored counts."""
    return UNIT if (low, high) == (0.0, 1.0) else WIDE


def bucket_of(value: float, bounds: tuple[float, ...]) -> int:
    """The first bucket whose upper bound holds value; len(bounds) for none (+Inf)."""
    return bisect_left(bounds, value)
