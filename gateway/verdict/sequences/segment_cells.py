"""Sums of the metrics that decide, by cell: the part of the traffic with one value of each declared property.

The traffic without some segments is a union of cells, so its means follow from these sums, whichever segments a verdict
excepts. Only pairs of the draw of all calls are in them.

With a planned end, the primary takes its last pair once the standard error over all cells is that of the plan's horizon
with an addition for the part that may be excepted: a time that depends on variances only, as the primary's own does.
Guardrails, whose intervals hold at every look, continue.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from gateway.core.horizon import AT_MOST, guarded
from gateway.core.segments import segment_name
from gateway.statistics.moments import Moments
from gateway.statistics.stored_state import State
from gateway.verdict.metrics import PairValue
from gateway.verdict.sequences.difference import SequenceRule
from gateway.verdict.sequences.traffic_time import TrafficTime

CELLS = "segment cells "
"""Begins the name under which a candidate's cells are stored, next to the sequences."""
LEAST_KEPT = 0.8  # share of the pairs that may be left for the planned power
MOST_CELLS = 200
_REST = "…"
_EVERY = 5  # pairs between two looks whether it is the last


@dataclass(slots=True)
class CellMetric:
    """Sums of one metric in one cell."""

    differences: Moments = field(default_factory=Moments)
    a: float = 0.0  # sums of both arms
    b: float = 0.0
    more: int = 0  # differences above 1/2: failures of the control alone
    fewer: int = 0

    def add(self, value: PairValue) -> None:
        self.differences = self.differences.add(value.difference)
        self.a += value.a
        self.b += value.b
        self.more += value.difference > 0.5
        self.fewer += value.difference < -0.5

    def plus(self, other: CellMetric) -> CellMetric:
        """The sums of both."""
        return CellMetric(
            merged(self.differences, other.differences),
            self.a + other.a,
            self.b + other.b,
            self.more + other.more,
            self.fewer + other.fewer,
        )

    def state(self) -> list[float]:
        m = self.differences
        return [m.n, m.mean, m.m2, self.a, self.b, self.more, self.fewer]


def merged(one: Moments, other: Moments) -> Moments:
    """The moments of both samples together. Source: Chan, Golub & LeVeque 1979."""
    n = one.n + other.n
    if not one.n or not other.n:
        return one if one.n else other
    apart = other.mean - one.mean
    return Moments(n, one.mean + apart * other.n / n, one.m2 + other.m2 + apart**2 * one.n * other.n / n)


@dataclass(slots=True)
class SegmentCells:
    """The cells of one candidate. by: the properties, whose values make the key of a cell. primary: its metric."""

    by: tuple[str, ...]
    primary: str
    pairs: dict[str, int] = field(default_factory=dict)
    metrics: dict[str, dict[str, CellMetric]] = field(default_factory=dict)  # cell → metric → its sums
    segments: dict[str, dict[str, Moments]] = field(default_factory=dict)
    """Segment → cell → the primary's differences there, of all pairs that count in the segment."""
    closed: bool = False
    n: int = 0  # pairs in all cells
    time: TrafficTime = field(default_factory=TrafficTime)

    def key(self, values: Mapping[str, str]) -> str:
        """The name of a request's cell. values: property → declared value."""
        key = "\0".join(values.get(prop, "") for prop in self.by)
        return key if key in self.pairs or len(self.pairs) < MOST_CELLS else "\0".join(_REST for _ in self.by)

    def add(self, values: Mapping[str, str], taken: Mapping[str, PairValue], at: float | None) -> None:
        """Takes the next pair. taken: metric → its value on the pair. at: Unix seconds."""
        self.n += 1
        key = self.key(values)
        self.pairs[key] = self.pairs.get(key, 0) + 1
        cell = self.metrics.setdefault(key, {})
        for metric, value in taken.items():
            if not (self.closed and metric == self.primary):
                cell.setdefault(metric, CellMetric()).add(value)
        if at is not None:
            self.time.add(at)

    def add_to(self, segment: str, values: Mapping[str, str], difference: float) -> None:
        """Takes the next pair of one segment, by its name."""
        cells, key = self.segments.setdefault(segment, {}), self.key(values)
        cells[key] = cells.get(key, Moments()).add(difference)

    def within(self, segment: tuple[str, str], excepted: Collection[tuple[str, str]]) -> Moments:
        """The primary's differences in a segment, without the requests of other segments."""
        cells = self.segments.get(segment_name(*segment), {})
        found = Moments()
        for key in sorted(cells):
            found = found if self._in_any(key, excepted) else merged(found, cells[key])
        return found

    def touches(self, segment: tuple[str, str], excepted: Collection[tuple[str, str]]) -> bool:
        """Whether requests of a segment are in one of others, too."""
        return any(self._in_any(key, excepted) for key in self.segments.get(segment_name(*segment), ()))

    def _in_any(self, key: str, segments: Collection[tuple[str, str]]) -> bool:
        values = dict(zip(self.by, key.split("\0"), strict=True))
        return any(values.get(prop) == value for prop, value in segments)

    def close(self, rule: SequenceRule, inflation: float) -> None:
        """Takes the primary's last pair when it is due, which is checked after every few pairs.

        rule: the primary's. inflation: of its variance, by dependence.
        """
        if self.closed or rule.method != "hybrid" or self.n % _EVERY:
            return
        total = self.sums(self.primary)
        n = total.differences.n
        if self.time.last is not None and self.time.covered_s < rule.min_s:
            return
        if not rule.close_from:
            self.closed = n >= rule.horizon / LEAST_KEPT
        elif n >= rule.close_from:
            m2 = total.differences.m2 * inflation
            error = math.sqrt(guarded(m2, rule.largest) if rule.largest else m2) / n
            precise = not rule.close_at or error <= rule.close_at * math.sqrt(LEAST_KEPT)
            self.closed = precise or n >= AT_MOST * rule.horizon / LEAST_KEPT

    def without(self, excepted: Collection[tuple[str, str]]) -> list[str]:
        """The cells without a request of these segments."""
        return [key for key in self.pairs if not self._in_any(key, excepted)]

    def of_segment(self, prop: str, value: str) -> list[str]:
        """The cells of one segment."""
        return sorted(self.pairs.keys() - set(self.without([(prop, value)])))

    def sums(self, metric: str, cells: Iterable[str] | None = None) -> CellMetric:
        """The sums of one metric. cells: None: all."""
        found = CellMetric()
        for key in sorted(self.pairs) if cells is None else cells:
            one = self.metrics.get(key, {}).get(metric)
            found = found if one is None else found.plus(one)
        return found

    def count(self, cells: Iterable[str] | None = None) -> int:
        """Pairs in these cells. cells: None: all."""
        return self.n if cells is None else sum(self.pairs[key] for key in cells)

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically."""
        metrics = {key: {name: m.state() for name, m in cell.items()} for key, cell in self.metrics.items()}
        time = [self.time.covered_s, self.time.last]
        own = {"by": list(self.by), "primary": self.primary, "pairs": self.pairs, "closed": self.closed, "n": self.n}
        segments = {
            name: {key: [m.n, m.mean, m.m2] for key, m in cells.items()} for name, cells in self.segments.items()
        }
        return {**own, "metrics": metrics, "segments": segments, "time": time}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> SegmentCells:
        """Raises KeyError, TypeError or ValueError if a field is missing or of another kind."""
        metrics = {
            key: {
                name: CellMetric(Moments(int(s[0]), s[1], s[2]), s[3], s[4], int(s[5]), int(s[6]))
                for name, s in cell.items()
            }
            for key, cell in state["metrics"].items()
        }
        segments = {
            name: {key: Moments(int(m[0]), m[1], m[2]) for key, m in cells.items()}
            for name, cells in state["segments"].items()
        }
        known = (dict(state["pairs"]), metrics, segments, state["closed"], state["n"])
        return cls(tuple(state["by"]), state["primary"], *known, TrafficTime(*state["time"]))
