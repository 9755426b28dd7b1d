"""New values of what answers say of their origin: the `model` that they name, and `system_fingerprint`. Pure.

A balanced provider rotates several values, so a value counts as new only if it was unseen for UNSEEN_H before its first
sighting, and if that was not among the first BASELINE_H of its series: those values are the baseline.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, NamedTuple

OriginKind = Literal["model", "fingerprint"]
DAY_H = 24
BASELINE_H = 7 * DAY_H
UNSEEN_H = 30 * DAY_H
KEPT_H = 45 * DAY_H
"""Hours of history: a value that takes longer from its first call to LEAST_SHARE is part of the baseline."""
LEAST_CALLS = 20
LEAST_SHARE = 0.05
MOST_VALUES = 40
"""Values of a series and hour that are kept; a server that invents one for each call has no fingerprint."""


class Series(NamedTuple):
    """The answers of one target of one alias, by one of the members that say where they come from."""

    alias: str
    upstream: str
    model: str
    kind: OriginKind

    @property
    def target(self) -> str:
        return f"{self.upstream}/{self.model}"


@dataclass(slots=True)
class ValueCounts:
    """The answers of a series in one hour."""

    weight: float = 0.0
    """Σ 1/π over all answers, those without a value included."""
    values: dict[str, tuple[int, float]] = field(default_factory=dict)
    """Recorded answers and Σ 1/π, by value."""

    def add(self, value: str | None, calls: int, weight: float) -> None:
        self.weight += weight
        if value:
            n, w = self.values.get(value, (0, 0.0))
            self.values[value] = (n + calls, w + weight)

    def plus(self, other: ValueCounts) -> None:
        self.weight += other.weight - sum(w for _, w in other.values.values())
        for value, (n, w) in other.values.items():
            self.add(value, n, w)

    @property
    def most_frequent(self) -> str | None:
        return max(self.values, key=lambda value: self.values[value][1], default=None)

    def bounded(self) -> ValueCounts:
        """The same with the MOST_VALUES most frequent values."""
        ordered = sorted(self.values.items(), key=lambda item: (-item[1][1], item[0]))
        return ValueCounts(self.weight, dict(ordered[:MOST_VALUES]))


History = Mapping[int, Mapping[Series, ValueCounts]]
"""Counts by hour, numbered from 1970."""


@dataclass(frozen=True, slots=True)
class NewValue:
    """A value that was unseen, and now has a share of the answers that matters."""

    series: Series
    value: str
    before: str | None
    """The most frequent value of the day before the first sighting."""
    first_hour: int
    share: float
    """Share of the answers of the day until `hour`."""
    hour: int
    """The last hour of that day."""


def new_values(history: History, hour: int) -> Iterator[NewValue]:
    """Yields the values that are new in the day that ends with an hour. The same value has the same `first_hour` at
    every hour at which it is found."""
    for series, hours in _by_series(history, hour).items():
        day = _sum([counts for at, counts in hours.items() if at > hour - DAY_H])
        sighted = [at for at, counts in hours.items() if counts.values]
        for value, (calls, weight) in sorted(day.values.items()):
            share = weight / day.weight
            if calls < LEAST_CALLS or share < LEAST_SHARE:
                continue
            first = _first_sighting(hours, value)
            if first >= min(sighted) + BASELINE_H:
                yield NewValue(series, value, _before(hours, first), first, share, hour)


def latest_values(history: History, hour: int) -> dict[Series, ValueCounts]:
    """The answers of each series in the day that ends with an hour."""
    recent = {at: counts for at, counts in history.items() if at > hour - DAY_H}
    return {series: _sum(list(hours.values())) for series, hours in _by_series(recent, hour).items()}


def _by_series(history: History, until: int) -> dict[Series, dict[int, ValueCounts]]:
    hours: dict[Series, dict[int, ValueCounts]] = {}
    for at in sorted(at for at in history if at <= until):
        for series, counts in history[at].items():
            hours.setdefault(series, {})[at] = counts
    return hours


def _sum(parts: Sequence[ValueCounts]) -> ValueCounts:
    total = ValueCounts()
    for part in parts:
        total.plus(part)
    return total


def _first_sighting(hours: Mapping[int, ValueCounts], value: str) -> int:
    """The first hour with the value after it was last unseen for UNSEEN_H. hours: in order."""
    sighted = [at for at, counts in hours.items() if value in counts.values]
    first = sighted[0]
    for earlier, later in pairwise(sighted):
        first = later if later - earlier > UNSEEN_H else first
    return first


def _before(hours: Mapping[int, ValueCounts], first: int) -> str | None:
    earlier = [at for at in hours if at < first and hours[at].values]
    return _sum([hours[at] for at in earlier if at > earlier[-1] - DAY_H]).most_frequent if earlier else None
