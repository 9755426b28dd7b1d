"""Sums of what a guard decided within an hour, over its calls and without any text. Pure.

Sums of hours add up to what reports and pages show, so that none of them reads every decision. Each call stands for
1 / π calls.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from typing import Any, NamedTuple

import orjson

from gateway.core.guards import GuardAction, GuardFailure, GuardResult, GuardSide
from gateway.statistics.detection import ClusterSums, WeightSums

DAY_S = 86_400.0
HOUR_S = 3_600.0
QUARTER_S = 900.0
QUARTERS = 4
JUDGED: tuple[GuardResult, ...] = ("hit", "near", "pass")
BY_GUARDS = "guard:"
"""Begins the strata of calls that were recorded since a guard had a hit, or nearly one."""
_STEP = math.log(1.25)  # of the times of decisions


class DecisionRow(NamedTuple):
    """One decision on a recorded call."""

    caller: str
    unit: str
    """The call's conversation, or its own id."""
    on: GuardSide
    config_hash: str
    action: GuardAction
    result: GuardResult
    failure: GuardFailure | None
    score: float | None
    acted: bool
    seconds: float
    pi: float
    stratum: str
    received: float
    """Unix seconds."""


@dataclass(slots=True)
class ResultSums:
    """Decisions with one result."""

    n: int = 0
    """Recorded calls."""
    sampled: int = 0
    """Decisions that sampling has drawn; the others were recorded since a guard had a hit, or nearly one."""
    weight: float = 0.0
    squares: float = 0.0
    """Sum of the squared weights."""

    def plus(self, other: ResultSums) -> None:
        self.n += other.n
        self.sampled += other.sampled
        self.weight += other.weight
        self.squares += other.squares

    @property
    def sums(self) -> WeightSums:
        return WeightSums(self.weight, self.squares)


@dataclass(slots=True)
class CallerHour:
    """Decisions on the calls of one key."""

    results: dict[GuardResult, ResultSums] = field(default_factory=dict)
    units: ClusterSums = field(default_factory=ClusterSums)
    """Sums of hits among the judged calls, by conversation."""


@dataclass(slots=True)
class Quarter:
    """The judged calls of a quarter of an hour."""

    n: int = 0
    """Recorded calls."""
    judged: float = 0.0
    hits: float = 0.0
    scores: float = 0.0
    """Sum of the weighted scores, each kept in [0, 1]."""


@dataclass(slots=True)
class DecisionHour:
    """Decisions within one hour with one config."""

    on: GuardSide
    config_hash: str
    action: GuardAction = "observe"
    """Action in force for the newest call."""
    first: float = math.inf
    """Arrival of the oldest call, Unix seconds."""
    last: float = -math.inf
    acted: float = 0.0
    """Weight of the calls that got a flag, a mark or a refusal."""
    callers: dict[str, CallerHour] = field(default_factory=dict)
    quarters: list[Quarter] = field(default_factory=lambda: [Quarter() for _ in range(QUARTERS)])
    failures: dict[GuardFailure, float] = field(default_factory=dict)
    seconds: dict[int, float] = field(default_factory=dict)
    """Weight by the time of the decision, in steps of a quarter more."""

    def weight(self, *results: GuardResult) -> float:
        return sum(of.weight for caller in self.callers.values() for r, of in caller.results.items() if r in results)

    def same_config(self, on: GuardSide | str, config_hash: str) -> bool:
        return (self.on, self.config_hash) == (on, config_hash)


Hours = Mapping[float, Sequence[DecisionHour]]
"""Sums by the beginning of the hour, in Unix seconds."""


def summed(rows: Iterable[DecisionRow]) -> dict[float, list[DecisionHour]]:
    """The hours of decisions, in any order."""
    hours: dict[float, dict[tuple[str, str], DecisionHour]] = {}
    units: dict[tuple[float, str, str, str, str], list[float]] = {}
    for row in rows:
        begin = row.received // HOUR_S * HOUR_S
        by_config = hours.setdefault(begin, {})
        hour = by_config.setdefault((row.on, row.config_hash), DecisionHour(row.on, row.config_hash))
        _add(hour, begin, row)
        if row.result != "failed":
            key = (begin, row.on, row.config_hash, row.caller, row.unit)
            unit, w = units.setdefault(key, [0.0, 0.0]), 1.0 / row.pi
            unit[0] += w if row.result == "hit" else 0.0
            unit[1] += w
    for (begin, on, config_hash, caller, _), (hits, judged) in units.items():
        of = hours[begin][on, config_hash].callers[caller]
        of.units = of.units.with_cluster(hits, judged)
    return {begin: list(by_config.values()) for begin, by_config in hours.items()}


def _add(hour: DecisionHour, begin: float, row: DecisionRow) -> None:
    w = 1.0 / row.pi
    if row.received >= hour.last:
        hour.last, hour.action = row.received, row.action
    hour.first = min(hour.first, row.received)
    hour.acted += w if row.acted else 0.0
    of = hour.callers.setdefault(row.caller, CallerHour()).results.setdefault(row.result, ResultSums())
    of.plus(ResultSums(1, int(not row.stratum.startswith(BY_GUARDS)), w, w * w))
    step = bucket_of(row.seconds)
    hour.seconds[step] = hour.seconds.get(step, 0.0) + w
    if row.failure is not None:
        hour.failures[row.failure] = hour.failures.get(row.failure, 0.0) + w
    if row.result != "failed":
        quarter = hour.quarters[min(QUARTERS - 1, int((row.received - begin) // QUARTER_S))]
        quarter.n += 1
        quarter.judged += w
        quarter.hits += w if row.result == "hit" else 0.0
        quarter.scores += w * min(1.0, max(0.0, row.score or 0.0))


def bucket_of(seconds: float) -> int:
    return math.floor(math.log(max(seconds, 1e-7)) / _STEP)


def seconds_at(share: float, weights: Mapping[int, float]) -> float | None:
    """The time that a share of the decisions does not exceed, to within a quarter; None if there are none."""
    total, below = sum(weights.values()), 0.0
    for step in sorted(weights):
        below += weights[step]
        if below >= share * total:
            return math.exp((step + 1) * _STEP)
    return None


def hours_to_json(of: Sequence[DecisionHour]) -> str:
    return orjson.dumps([_plain(hour) for hour in of]).decode()


def _plain(hour: DecisionHour) -> dict[str, Any]:
    callers = {
        name: [{result: astuple(sums) for result, sums in of.results.items()}, astuple(of.units)]
        for name, of in hour.callers.items()
    }
    return {
        "on": hour.on,
        "config_hash": hour.config_hash,
        "action": hour.action,
        "first": hour.first,
        "last": hour.last,
        "acted": hour.acted,
        "callers": callers,
        "quarters": [astuple(quarter) for quarter in hour.quarters],
        "failures": hour.failures,
        "seconds": list(hour.seconds.items()),
    }


def hours_from_json(text: str) -> list[DecisionHour]:
    return [_hour(row) for row in orjson.loads(text)]


def _hour(row: dict[str, Any]) -> DecisionHour:
    callers = {
        name: CallerHour({result: ResultSums(*sums) for result, sums in results.items()}, ClusterSums(*units))
        for name, (results, units) in row["callers"].items()
    }
    quarters = [Quarter(*quarter) for quarter in row["quarters"]]
    return DecisionHour(
        **{**row, "callers": callers, "quarters": quarters, "seconds": {step: w for step, w in row["seconds"]}}
    )
