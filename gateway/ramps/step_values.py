"""The values of both arms during one step of a ramp: each unit counts once, with its mean. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.core.plan import CONTROL
from gateway.core.served_answer import ServedAnswer
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.domains import Floats
from gateway.verdict.split.comparison import ArmMean
from gateway.verdict.split.outcomes import ArmOutcomes


@dataclass(frozen=True, slots=True)
class ServedSums:
    """The values of one arm's units: each unit counts once, with its mean."""

    n: float = 0  # a sum of weights where callers are thinned
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> ServedSums:
        """values: shape (n,), without NaN."""
        return cls(values.size, float(values.sum()), float(values @ values))

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0

    def arm_mean(self, bounded: bool, tuning: Tuning) -> ArmMean:
        """n must be above 0. bounded: the variance gains what a run of equal values leaves open."""
        variance = max(self.squares / self.n - self.mean**2, 0.0)
        if bounded and self.n >= tuning.burn_in:
            variance += (half_width(1.0, self.n, tuning) / 2.0) ** 2
        return ArmMean(self.mean, variance, float(self.n), round(self.n))

    def plus(self, other: ServedSums) -> ServedSums:
        return ServedSums(self.n + other.n, self.total + other.total, self.squares + other.squares)


@dataclass(frozen=True, slots=True)
class CallerSums:
    """One metric of one caller's units during one step."""

    caller: str  # the name of a key, or the subject of a token
    calls: int  # of both arms
    a: ServedSums  # of the control
    b: ServedSums  # of the candidate


@dataclass(frozen=True, slots=True)
class StepValues:
    """One metric of both arms during one step."""

    metric: str
    step: int
    sign: float  # 1: more is better; -1 means that less is better
    bounded: bool  # values are in [0, 1]
    a: ServedSums  # of the control
    b: ServedSums  # of the candidate
    callers: tuple[CallerSums, ...] = ()  # the same by caller; empty: not known, as by the first rules of plans
    paired: bool = True  # both arms served at the same time
    exact: bool = False  # of bounded values: its bounds hold from the first unit on, as those of failures do


def of_callers(v: StepValues) -> StepValues:
    """The values with the sums of its callers as those of its arms."""
    return replace(v, a=_added([each.a for each in v.callers]), b=_added([each.b for each in v.callers]))


def _added(sums: Sequence[ServedSums]) -> ServedSums:
    return ServedSums(sum(s.n for s in sums), math.fsum(s.total for s in sums), math.fsum(s.squares for s in sums))


def by_unit(rows: Sequence[ServedAnswer], of: ArmOutcomes, step: int) -> StepValues:
    a, b = (
        _sums([row.unit if (row.arm == CONTROL) == control else None for row in rows], of.values)
        for control in (True, False)
    )
    return StepValues(of.metric, step, of.sign, of.bounded, a, b)


def values_by_caller(rows: Sequence[ServedAnswer], of: ArmOutcomes, step: int) -> StepValues:
    """Values by caller: a conversation that two callers name is a unit of each."""
    at: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        at.setdefault(row.caller, []).append(i)
    found = []
    for caller, places in sorted(at.items()):
        mine = by_unit([rows[i] for i in places], replace(of, values=of.values[places]), step)
        if mine.a.n or mine.b.n:
            found.append(CallerSums(caller, len(places), mine.a, mine.b))
    return of_callers(StepValues(of.metric, step, of.sign, of.bounded, ServedSums(), ServedSums(), tuple(found)))


def _sums(units: Sequence[str | None], values: Floats) -> ServedSums:
    """units: shape (n,), None where the answer is of the other arm. values: shape (n,), NaN where there is none."""
    by_unit: dict[str, list[float]] = {}
    for unit, value in zip(units, values.tolist(), strict=True):
        if unit is not None and not math.isnan(value):
            by_unit.setdefault(unit, []).append(value)
    return ServedSums.of(np.array([math.fsum(each) / len(each) for each in by_unit.values()]))
