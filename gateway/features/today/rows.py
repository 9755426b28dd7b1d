"""Hours of served calls by model name and target: sums weighted by 1/π, which stand for unrecorded calls, too.

An hour takes two queries, the first of which reads an index only. Sums of past hours are kept longer than exchanges:
the usual level takes weeks to learn.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from typing import Any

import orjson
from sqlalchemy import Connection, Double, cast, delete, func, select

from gateway.core.exchange import CLIENT_ENDED
from gateway.store.engine import insert
from gateway.store.query import Reading
from gateway.store.tables import TARGET, exchanges, hour_history, scores

HOUR_S = 3600
_BUCKET = math.log(1.05)
FAILED = ("upstream_error", "timeout", "cut")
GroupKey = tuple[str, str]
"""A model name and a target."""


@dataclass(slots=True)
class WeightedSums:
    """Sums of values v with weights w."""

    n: int = 0
    w: float = 0.0
    ww: float = 0.0
    wv: float = 0.0
    wvv: float = 0.0
    wwv: float = 0.0
    wwvv: float = 0.0

    def add(self, value: float, weight: float) -> None:
        w, ww = weight, weight * weight
        self.plus(WeightedSums(1, w, ww, w * value, w * value * value, ww * value, ww * value * value))

    def plus(self, other: WeightedSums) -> None:
        self.n += other.n
        self.w += other.w
        self.ww += other.ww
        self.wv += other.wv
        self.wvv += other.wvv
        self.wwv += other.wwv
        self.wwvv += other.wwvv

    @property
    def mean(self) -> float | None:
        return self.wv / self.w if self.w else None

    @property
    def effective(self) -> float:
        """The number of equally weighted values that would say as much (Kish)."""
        return self.w * self.w / self.ww if self.ww else 0.0

    @property
    def variance(self) -> float:
        """Variance of one value."""
        return max(0.0, self.wvv / self.w - (self.wv / self.w) ** 2) if self.w else 0.0

    @property
    def squared_error(self) -> float:
        """Squared error of the mean, Σ w² (v − mean)² / (Σ w)²: also where a predictor gives values that vary more a
        higher π."""
        mean = self.wv / self.w if self.w else 0.0
        spread = self.wwvv - 2.0 * mean * self.wwv + mean * mean * self.ww
        return max(0.0, spread) / (self.w * self.w) if self.w else 0.0


@dataclass(slots=True)
class HourSums:
    """The calls of one group in one hour, or in several."""

    errors: WeightedSums = field(default_factory=WeightedSums)
    """Sums of failures, 1 if the call failed. Its n and w are those of the calls."""
    cost: WeightedSums = field(default_factory=WeightedSums)
    """Sums of USD, over calls whose cost is known."""
    latency: dict[int, float] = field(default_factory=dict)
    """Weight of the successful calls by bucket, each 5 % wide; see bucket_of."""
    slow: WeightedSums = field(default_factory=WeightedSums)
    """Weights of those calls only."""
    scores: dict[str, WeightedSums] = field(default_factory=dict)
    """The scorers' own values, as everywhere else, by scorer; of those with two bounds."""
    minimised: set[str] = field(default_factory=set)
    """Scorers of which a lower value is better."""

    def plus(self, other: HourSums) -> None:
        self.errors.plus(other.errors)
        self.cost.plus(other.cost)
        self.slow.plus(other.slow)
        for bucket, weight in other.latency.items():
            self.latency[bucket] = self.latency.get(bucket, 0.0) + weight
        self.minimised |= other.minimised
        for scorer, sums in other.scores.items():
            self.scores.setdefault(scorer, WeightedSums()).plus(sums)

    def quantile(self, q: float) -> float | None:
        """Seconds, to within 2.5 %."""
        total, below = sum(self.latency.values()), 0.0
        for bucket in sorted(self.latency):
            below += self.latency[bucket]
            if below >= q * total:
                return math.exp((bucket + 0.5) * _BUCKET)
        return None

    def slower(self, seconds: float) -> float | None:
        """The share of the successful calls that took longer than this, by whole buckets."""
        total, limit = sum(self.latency.values()), bucket_of(seconds)
        return sum(w for bucket, w in self.latency.items() if bucket > limit) / total if total else None


def bucket_of(seconds: float) -> int:
    return math.floor(math.log(max(seconds, 1e-4)) / _BUCKET)


def hour_sums(connection: Reading, begin: float) -> dict[GroupKey, HourSums]:
    """Sums the hour that begins at a time in Unix seconds."""
    found: dict[GroupKey, HourSums] = {}
    for alias, target, outcome, status, total_s, cost_usd, pi in _calls(connection, begin):
        cell, weight = found.setdefault((alias, target), HourSums()), 1 / pi
        failed = outcome in FAILED or (status >= 500 and outcome not in CLIENT_ENDED)
        cell.errors.add(float(failed), weight)
        if cost_usd is not None:
            cell.cost.add(cost_usd, weight)
        if not failed and outcome == "ok":
            bucket = bucket_of(total_s)
            cell.latency[bucket] = cell.latency.get(bucket, 0.0) + weight
            cell.slow.add(0.0, weight)
    for alias, target, scorer, direction, sums in _scores(connection, begin):
        cell = found.setdefault((alias, target), HourSums())
        cell.scores[scorer] = sums
        if direction == "minimise":
            cell.minimised.add(scorer)
    return found


def _calls(connection: Reading, begin: float) -> Iterator[tuple[str, str, str, int, float, float | None, float]]:
    e = exchanges.c
    query = select(e.alias, TARGET, e.outcome, e.status, e.total_s, e.cost_usd, e.pi)
    query = query.where(e.received >= begin, e.received < begin + HOUR_S, e.role == "served")
    yield from (tuple(row) for row in connection.execute(query))


def _scores(connection: Reading, begin: float) -> Iterator[tuple[str, str, str, str, WeightedSums]]:
    e, s = exchanges.c, scores.c
    w = cast(1.0, Double) / s.pi
    terms = (w, w * w, w * s.value, w * s.value * s.value, w * w * s.value, w * w * s.value * s.value)
    query = select(e.alias, TARGET, s.scorer, func.max(s.direction), func.count(), *map(func.sum, terms))
    query = query.join(scores, s.exchange_id == e.id).where(s.repeat == 0, s.value01.is_not(None), s.pi > 0)
    query = query.where(e.received >= begin, e.received < begin + HOUR_S, e.role == "served")
    for alias, target, scorer, direction, *sums in connection.execute(query.group_by(e.alias, TARGET, s.scorer)):
        yield alias, target, scorer, direction, WeightedSums(*sums)


def stored_begins(connection: Reading, since: float) -> set[float]:
    """The hours that are stored, by their beginning in Unix seconds."""
    query = select(hour_history.c.begin).where(hour_history.c.begin >= since)
    return {float(begin) for (begin,) in connection.execute(query)}


def stored_hours(connection: Reading, begins: Collection[float]) -> dict[float, dict[GroupKey, HourSums]]:
    """The stored sums of these hours. At most a few hundred at a time."""
    query = select(hour_history.c.begin, hour_history.c.sums).where(hour_history.c.begin.in_(begins))
    return {float(begin): hour_from_json(sums) for begin, sums in connection.execute(query)}


def store_hour(connection: Connection, begin: float, sums: Mapping[GroupKey, HourSums], oldest: float) -> None:
    """Stores an hour, unless it is stored already, and deletes those that began before `oldest`."""
    statement = insert(connection.dialect, hour_history).values(begin=begin, sums=hour_to_json(sums))
    connection.execute(statement.on_conflict_do_nothing())
    connection.execute(delete(hour_history).where(hour_history.c.begin < oldest))


def hour_to_json(sums: Mapping[GroupKey, HourSums]) -> str:
    return orjson.dumps([[*group, _cell(cell)] for group, cell in sums.items()]).decode()


def _cell(cell: HourSums) -> dict[str, Any]:
    return {
        "errors": astuple(cell.errors),
        "cost": astuple(cell.cost),
        "slow": astuple(cell.slow),
        "latency": list(cell.latency.items()),
        "minimised": sorted(cell.minimised),
        "scores": {scorer: astuple(of) for scorer, of in cell.scores.items()},
    }


def hour_from_json(text: str) -> dict[GroupKey, HourSums]:
    return {(alias, target): _cell_of(cell) for alias, target, cell in orjson.loads(text)}


def _cell_of(cell: Mapping[str, Any]) -> HourSums:
    return HourSums(
        WeightedSums(*cell["errors"]),
        WeightedSums(*cell["cost"]),
        dict(cell["latency"]),
        WeightedSums(*cell["slow"]),
        {scorer: WeightedSums(*of) for scorer, of in cell["scores"].items()},
        set(cell["minimised"]),
    )
