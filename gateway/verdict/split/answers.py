"""The answers of both arms of a split, the hours they cover, and people's feedback on them. Pure.

An answer's feedback counts when its window has closed: the mean of what was given within the window, or nonresponse.
Feedback that comes later changes nothing, so an answer's value is final, and frequent looks remain valid. An answer
whose window is open counts neither way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import overload

import numpy as np
from numpy.typing import NDArray

from gateway.core.exchange import cluster_digest
from gateway.core.plan import CONTROL, DEFAULT_WINDOW_S, Missing, Plan
from gateway.core.served_answer import GivenFeedback, ServedAnswer
from gateway.reports.model import DayDifference, GateResult, Independence, TrafficFacts
from gateway.statistics.domains import Floats
from gateway.verdict.sequences.traffic_time import DAY_S, FEWEST_A_DAY, LONGEST_GAP_S, DayMean, Slope, slope_of
from gateway.verdict.split.covariates import (
    TIMES,
    ArmTerms,
    History,
    UnitCovariates,
    arm_terms,
    covariates_of,
    unit_covariates,
)
from gateway.verdict.traffic_facts import HOURS, hours_needed

Covariates = tuple[UnitCovariates, UnitCovariates]


@dataclass(frozen=True, slots=True)
class ArmRows:
    """One arm's answers."""

    at: NDArray[np.intp]  # shape (n,): their places among the answers of both arms
    unit: NDArray[np.intp]  # shape (n,): the place of each one's unit in `names`
    names: Sequence[str]  # all units of the arm, in order of arrival
    weights: Floats  # shape (units,): 1 / pi of the first answer of each


class SplitRows(Sequence[ServedAnswer]):
    """Answers in order of arrival: of the control, and of one candidate."""

    def __init__(self, rows: Sequence[ServedAnswer]) -> None:
        self._rows = rows
        self._known: dict[tuple[bool, int], Covariates | None] = {}

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> ServedAnswer: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[ServedAnswer]: ...
    def __getitem__(self, at: int | slice) -> ServedAnswer | Sequence[ServedAnswer]:
        return self._rows[at]

    @cached_property
    def arms(self) -> tuple[ArmRows, ArmRows]:
        """(control, candidate)."""
        return self._arm(True), self._arm(False)

    def _arm(self, control: bool) -> ArmRows:
        at = [i for i, row in enumerate(self._rows) if (row.arm == CONTROL) == control]
        places: dict[str, int] = {}
        unit = [places.setdefault(self._rows[i].unit, len(places)) for i in at]
        weights = np.ones(len(places))
        pi = np.array([self._rows[i].pi for i in reversed(at)], dtype=np.float64)
        weights[unit[::-1]] = 1.0 / pi  # of several assignments to one place, the last one stays: the first answer's
        return ArmRows(np.array(at, dtype=np.intp), np.array(unit, dtype=np.intp), list(places), weights)

    def compared(self, values: Floats, weights: Floats) -> tuple[ArmTerms, ArmTerms] | None:
        """(control, candidate), each of the answers that have a value; None if one of them has no value.

        values, weights: shape (n,); NaN: none.
        """
        if any(np.isnan(values[arm.at]).all() for arm in self.arms):
            return None
        a, b = (arm_terms(values[arm.at], weights[arm.at], arm.unit, len(arm.names)) for arm in self.arms)
        return a, b

    def covariates(self, metric: str, known: History, plan: Plan) -> Covariates | None:
        """Covariates of the units of both arms; None if there are none. known: the same object for all metrics, or
        {}.
        """
        key = (metric in TIMES, len(known))
        if key not in self._known:
            found = covariates_of(self._rows, metric, known, plan)
            self._known[key] = self._of_units(found, plan) if found else None
        return self._known[key]

    def _of_units(self, found: dict[str, list[float]], plan: Plan) -> Covariates:
        """Observations of units: calls weighted by how often they are recorded; other units only if all of their calls
        are.
        """
        by_call = plan.unit == "request"
        a, b = (unit_covariates(found, s.names, s.weights if by_call else np.ones(len(s.names))) for s in self.arms)
        return a, b


@dataclass(frozen=True, slots=True)
class SplitDays:
    """Differences between the days of a split."""

    days: tuple[DayDifference, ...] = ()
    """Days on which both arms have a value; `pairs` are units."""
    slope: Slope | None = None
    """Change from day to day; None if fewer than three days have 20 units on both arms."""


def split_days(rows: SplitRows, values: Floats, weights: Floats, sign: float) -> SplitDays:
    """values: shape (n,), of the primary; NaN: none. weights: shape (n,). sign: −1 where less is better."""
    known = ~np.isnan(values)
    received = np.array([row.received for row in rows], dtype=np.float64)
    day_of = np.floor_divide(received, DAY_S)
    shown, tested = [], []
    for day in np.unique(day_of[known]).astype(int).tolist():
        arms = rows.compared(np.where(day_of == day, values, np.nan), weights)
        if arms is None:
            continue
        a, b = arms
        difference = sign * (b.mean - a.mean)
        shown.append(DayDifference(day, a.units + b.units, difference))
        if min(a.units, b.units) >= FEWEST_A_DAY:
            tested.append(DayMean(day, difference, float((a.terms**2).sum() + (b.terms**2).sum())))
    return SplitDays(tuple(shown), slope_of(tested))


@dataclass(frozen=True, slots=True)
class SplitTraffic:
    """Hours, units and days of the answers of both arms."""

    hours: float
    """Covered by the answers with a value of the primary, of the arm where these are fewer."""
    named: bool
    """A call named its unit; otherwise each is a unit of its own."""
    by_day: SplitDays = field(default_factory=SplitDays)
    """The primary's differences."""


def split_traffic(rows: SplitRows, counted: NDArray[np.bool_]) -> SplitTraffic:
    """counted: shape (n,): which of the n answers have a value of the primary."""
    named = any(row.unit != cluster_digest(row.id) and row.unit != row.id for row in rows)
    return SplitTraffic(_hours(rows, _received(rows), counted), named)


def hours_by_metric(rows: SplitRows, counted: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
    """metric → hours covered by the answers with a value of it, of the arm where these are fewer.

    counted: metric → which of the n answers have one, shape (n,).
    """
    received = _received(rows)
    return {metric: _hours(rows, received, which) for metric, which in counted.items()}


def _received(rows: SplitRows) -> Floats:
    return np.array([row.received for row in rows], dtype=np.float64)


def _hours(rows: SplitRows, received: Floats, counted: NDArray[np.bool_]) -> float:
    return min(covered_s(received[arm.at][counted[arm.at]]) for arm in rows.arms) / 3600.0


def covered_s(times: Floats) -> float:
    """Seconds of traffic from the first to the last of these times, as TrafficTime counts them. times: ascending."""
    return float(np.minimum(np.diff(times), LONGEST_GAP_S).sum()) if times.size else 0.0


def split_hours_gate(plan: Plan, traffic: SplitTraffic | None) -> GateResult | None:
    """Whether both arms cover enough hours of traffic for `ship`. None if the plan asks for none."""
    if traffic is None or not plan.min_hours:
        return None
    if traffic.hours >= plan.min_hours:
        says = f"the answers of both arms cover {traffic.hours:.3g} hours of traffic"
        return GateResult(HOURS, 1, says, traffic.hours)
    return GateResult(HOURS, 0, hours_needed(plan, traffic.hours), traffic.hours)


def split_facts(plan: Plan, traffic: SplitTraffic | None) -> TrafficFacts | None:
    """The facts of a split. None if the plan's rules do not ask for them."""
    if traffic is None:
        return None
    independence: Independence = "declared" if plan.independent else "assumed"
    if plan.unit != "request" and traffic.named:
        independence = "units"
    estimand = "that of the arms' means over answers, each weighted by how often such answers are recorded"
    facts = TrafficFacts(independence, (), traffic.hours, plan.min_hours, estimand, source="served")
    facts, slope = replace(facts, days=traffic.by_day.days), traffic.by_day.slope
    return facts if slope is None else replace(facts, slope=slope.per_day, slope_p=slope.p)


FENCE = 10.0
Flags = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class FeedbackTerms:
    """Window in which feedback counts, and the value of an answer without it."""

    window_s: float
    missing: Missing
    now: float
    """Unix seconds."""
    winsorised: bool = False
    """Values far outside those of the others count as the fence that they are beyond."""


def terms_of(plan: Plan, now: float) -> FeedbackTerms:
    window_s = plan.feedback_window_s or DEFAULT_WINDOW_S
    return FeedbackTerms(window_s, plan.feedback_missing, now, winsorised=plan.rules >= 2)


@dataclass(frozen=True, slots=True)
class FeedbackValues:
    """One kind of feedback on n answers."""

    values: Floats
    """Shape (n,). NaN: the answer has none, or its window is open."""
    closed: Flags
    """Shape (n,): the window has closed."""
    answered: Flags
    """Shape (n,): it has closed, and there was feedback in time."""
    fenced: int = 0
    """Values that were beyond a fence."""

    @property
    def bounded(self) -> bool:
        """Whether every value is in [0, 1], as those of thumbs."""
        known = self.values[~np.isnan(self.values)]
        return bool(known.size == 0 or (known.min() >= 0.0 and known.max() <= 1.0))


def feedback_values(rows: Sequence[ServedAnswer], given: GivenFeedback, terms: FeedbackTerms) -> FeedbackValues:
    """The value of each answer: the mean over the people who gave feedback in time."""
    closed = np.array([row.received + terms.window_s <= terms.now for row in rows], dtype=np.bool_)
    in_time = np.array([_in_time(row, given, terms.window_s) for row in rows], dtype=np.float64)
    answered = closed & ~np.isnan(in_time)
    values, fenced = np.where(answered, in_time, np.nan), 0
    if terms.winsorised and answered.any():
        inside = _within_fences(values, answered)
        values, fenced = inside, int((inside[answered] != values[answered]).sum())
    if terms.missing == "zero":
        values = np.where(closed & ~answered, 0.0, values)
    return FeedbackValues(values, closed, answered, fenced)


def _within_fences(values: Floats, answered: Flags) -> Floats:
    """The values, with those beyond a fence moved to it, so that one vote of -1e15 does not decide.

    The fences lie FENCE times as far from the median as 98 % of the values of both arms are apart. Of log-normal
    amounts with a deviation of 1 they hold all but one in a hundred thousand.
    """
    given = values[answered]
    low, median, high = np.quantile(given, (0.01, 0.5, 0.99))
    reach = FENCE * (float(high - low) or max(abs(float(median)), 1.0))
    return np.clip(values, median - reach, median + reach)


def _in_time(row: ServedAnswer, given: GivenFeedback, window_s: float) -> float:
    values = [value for at, value in given.get(row.id, ()) if at <= row.received + window_s]
    return math.fsum(values) / len(values) if values else math.nan
