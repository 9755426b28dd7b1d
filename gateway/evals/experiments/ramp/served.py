"""Reads what a ramp's arms served, step by step, as values of units."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gateway.core.plan import CONTROL, FEEDBACK, Plan
from gateway.core.ramp import RampEvent
from gateway.core.request_refusals import REFUSALS_APART_RULES
from gateway.evals.experiments.feedback_outcomes import feedback_values, terms_of
from gateway.evals.experiments.latency_difference import P95, p95_of
from gateway.evals.experiments.ramp.evidence import (
    ERRORS,
    AlarmTerms,
    CallerSums,
    ServedFinding,
    ServedSums,
    ServedValues,
    StepValues,
    of_callers,
)
from gateway.evals.experiments.split import ArmOutcomes, has_failed, outcomes, refusals_apart, refuses
from gateway.evals.statistics.domains import Floats
from gateway.evals.store.experiments.caller_failures import ArmInTime, caller_failures
from gateway.evals.store.experiments.feedback_given import feedback_given
from gateway.evals.store.experiments.plans import StoredPlan
from gateway.evals.store.experiments.queries import ServedAnswer, served_answers
from gateway.evals.store.experiments.ramp import exposure_of, unit_failures
from gateway.evals.store.query import Reading

WATCHED_S = 86_400.0  # after the promotion, in which alarms still take the candidate back
CALLERS_RULES = 2  # the first rules of a plan whose evidence is weighed by caller
SETTLES_S = 1.0  # until every gateway applies a new share


@dataclass(frozen=True, slots=True)
class StepPeriod:
    """The time in which a ramp was at one step."""

    step: int
    start: float  # Unix seconds
    end: float  # infinite: it still is


def periods_of(events: Sequence[RampEvent]) -> list[StepPeriod]:
    """The steps of the present run, in order. events: of one plan, oldest first.

    A run begins anew after the shadow phase, and with an override: nothing from before it raises an alarm then. What a
    promoted candidate serves is watched for WATCHED_S more.
    """
    found: list[StepPeriod] = []
    for event in events:
        if not event.moved:
            continue
        at = event.record.since
        if found and found[-1].end > at:
            found[-1] = replace(found[-1], end=at)
        if event.override or event.record.state == "shadow":
            found = []
        if found and (found[-1].step, found[-1].start) == (event.record.step, at):
            found.pop()  # the record was put back
        if event.record.state == "promoted" and found and found[-1].step == event.record.step:
            found[-1] = replace(found[-1], end=at + WATCHED_S)
        elif event.record.state in ("ramp", "promoted"):
            end = math.inf if event.record.state == "ramp" else at + WATCHED_S
            found.append(StepPeriod(event.record.step, at, end))
    return found


def served_values(
    connection: Reading, plan: StoredPlan, periods: Sequence[StepPeriod], terms: AlarmTerms, now: float
) -> ServedValues:
    """Everything that is known of the candidate's served answers. now: Unix seconds: feedback counts until then."""
    arm = plan.plan.candidates[0][0]
    exposed = exposure_of(connection, plan.hash, arm)
    if not periods:
        return ServedValues(requests=exposed.requests, usd=exposed.usd, newest=exposed.newest)
    rows = _rows(connection, plan, arm, periods)
    values = [each for i, period in enumerate(periods) for each in _values(connection, plan.plan, rows, i, period, now)]
    here = rows[-1] if math.isinf(periods[-1].end) else []
    return ServedValues(
        tuple(values),
        len({row.unit for row in here if row.arm == arm}),
        exposed.requests,
        exposed.usd,
        exposed.newest,
        tuple(_p95(rows, periods, terms)) if P95 in terms.margins else (),
    )


def failures_now(connection: Reading, plan: StoredPlan, periods: Sequence[StepPeriod], now: float) -> StepValues | None:
    """The failures of both arms at the present step: what a frequent look can afford. None: it is at no step."""
    if not periods or periods[-1].end <= now:
        return None
    here = periods[-1]
    everything = plan.plan.ramp is not None and plan.plan.ramp.steps[here.step] == 1.0
    control = periods[-2] if everything and len(periods) > 1 else here
    arms = (CONTROL, control), (plan.plan.candidates[0][0], here)
    if plan.plan.rules >= CALLERS_RULES:
        return _with_callers(here.step, *(_caller_failures(connection, plan, *each) for each in arms))
    a, b = (_failures(connection, plan, *each) for each in arms)
    return StepValues(ERRORS, here.step, -1.0, True, a, b)


def _caller_failures(
    connection: Reading, plan: StoredPlan, arm: str, period: StepPeriod
) -> dict[str, tuple[int, ServedSums]]:
    """caller → (calls, sums of its units) of one arm."""
    span, target = (period.start + SETTLES_S, period.end), str(plan.plan.target(arm))
    of, fails = ArmInTime(arm, target, *span, drawn_stratum(plan.plan)), plan.plan.empty == "failed"
    found = caller_failures(connection, plan.hash, of, keyed=_keyed(plan.plan), empty_fails=fails)
    return {caller: (calls, ServedSums(*sums)) for caller, (calls, *sums) in found.items()}


def _with_callers(
    step: int, a: Mapping[str, tuple[int, ServedSums]], b: Mapping[str, tuple[int, ServedSums]]
) -> StepValues:
    none = (0, ServedSums())
    of = [(name, a.get(name, none), b.get(name, none)) for name in sorted({*a, *b})]
    callers = tuple(CallerSums(name, x[0] + y[0], x[1], y[1]) for name, x, y in of)
    return of_callers(StepValues(ERRORS, step, -1.0, True, ServedSums(), ServedSums(), callers))


def _failures(connection: Reading, plan: StoredPlan, arm: str, period: StepPeriod) -> ServedSums:
    span, own = (period.start + SETTLES_S, period.end), {arm: str(plan.plan.target(arm))}
    drawn, keyed, fails = drawn_stratum(plan.plan), _keyed(plan.plan), plan.plan.empty == "failed"
    found = unit_failures(connection, plan.hash, own, span, drawn, keyed=keyed, empty_fails=fails)
    return ServedSums(*found.get(arm, ()))


def drawn_stratum(plan: Plan) -> str | None:
    """The stratum of the calls whose arm was drawn: while a candidate's circuit breaker is open, everybody gets the
    control, which says nothing about either arm. None: by the first rules every call counts."""
    return f"split:{plan.name}" if plan.rules >= 2 else None


def _keyed(plan: Plan) -> bool:
    return plan.unit in ("conversation", "key")


def _rows(connection: Reading, plan: StoredPlan, arm: str, periods: Sequence[StepPeriod]) -> list[list[ServedAnswer]]:
    """The answers of each period. Earlier periods count while feedback on their answers may still come."""
    late = any(name.startswith(FEEDBACK) for name in plan.plan.decides)
    since = periods[0 if late else max(len(periods) - 2, 0)].start
    fails, drawn = plan.plan.empty == "failed", drawn_stratum(plan.plan)
    read = served_answers(connection, plan.hash, (CONTROL, arm), since, keyed=_keyed(plan.plan), empty_fails=fails)
    read = [row for row in read if drawn is None or row.cell[3] == drawn]
    return [[row for row in read if p.start + SETTLES_S <= row.received < p.end] for p in periods]


def _values(
    connection: Reading, plan: Plan, rows: Sequence[Sequence[ServedAnswer]], i: int, period: StepPeriod, now: float
) -> Iterator[StepValues]:
    """Each metric of one period; the control of the period before where nobody had the control."""
    here = list(rows[i])
    if i and plan.ramp is not None and plan.ramp.steps[period.step] == 1.0:
        here = [row for row in here if row.arm != CONTROL] + [row for row in rows[i - 1] if row.arm == CONTROL]
    if not here:
        return
    own = {arm: str(plan.target(arm)) for arm in {row.arm for row in here}}
    made = [_errors(here, own), *(each for each in outcomes(connection, here) if each.metric != ERRORS)]
    if plan.rules >= REFUSALS_APART_RULES:
        made = refusals_apart(made, [refuses(row) and row.cell[2] == own[row.arm] for row in here])
    given = feedback_given(connection, [row.id for row in here])
    for name in sorted({name for name in plan.decides if name.startswith(FEEDBACK)}):
        found = feedback_values(here, given.get(name, {}), terms_of(plan, now))
        made.append(ArmOutcomes(name, found.values, 1.0, found.bounded))
    by = _by_caller if plan.rules >= CALLERS_RULES else _by_unit
    yield from (by(here, each, period.step) for each in made)


def _errors(rows: Sequence[ServedAnswer], own: Mapping[str, str]) -> ArmOutcomes:
    """An arm fails with an answer that failed, and with one that a fallback had to give. own: target by arm."""
    failed = np.array([float(has_failed(row) or row.cell[2] != own[row.arm]) for row in rows])
    return ArmOutcomes(ERRORS, failed, -1.0, True)


def _by_unit(rows: Sequence[ServedAnswer], of: ArmOutcomes, step: int) -> StepValues:
    a, b = (_sums([row.unit if (row.arm == CONTROL) == control else None for row in rows], of.values)
            for control in (True, False))  # fmt: skip
    return StepValues(of.metric, step, of.sign, of.bounded, a, b)


def _by_caller(rows: Sequence[ServedAnswer], of: ArmOutcomes, step: int) -> StepValues:
    """The same, each caller's units apart: a conversation that two callers name is a unit of each."""
    at: dict[str, list[int]] = {}
    for i, row in enumerate(rows):
        at.setdefault(row.caller, []).append(i)
    found = []
    for caller, places in sorted(at.items()):
        mine = _by_unit([rows[i] for i in places], replace(of, values=of.values[places]), step)
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


def _p95(
    rows: Sequence[Sequence[ServedAnswer]], periods: Sequence[StepPeriod], terms: AlarmTerms
) -> Iterator[ServedFinding]:
    """The alarm on the p95, where every unit has one answer: quantile sequences know no units."""
    margin = terms.margins[P95]
    for period, here in zip(periods, rows, strict=True):
        a, b = ([r.total_s for r in here if (r.arm == CONTROL) == control and not has_failed(r)] for control in (1, 0))
        if not a or not b or len({row.unit for row in here}) < len(here):
            continue
        found = p95_of(a, b, min(2 * terms.alpha, 0.5), margin)
        yield ServedFinding(P95, period.step, found.difference, margin, found.margin_found, (len(a), len(b)))
