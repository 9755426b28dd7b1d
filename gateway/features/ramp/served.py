"""Reads what a ramp's arms served: step by step, as values of units, and over the holdout after the promotion.

While the holdout lasts, the units that kept the control are compared with all others, which shows the effect of the
switch. Both arms are drawn from the same traffic for the whole time, so no day is compared with another. The intervals
are asymptotic confidence sequences, valid at every look.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gateway.core.exchange import Target
from gateway.core.plan import CONTROL, CONVERSATION_QUIET_S, FEEDBACK, Plan, StoredPlan
from gateway.core.request_refusals import REFUSALS_APART_RULES
from gateway.core.served_answer import ServedAnswer
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.blocks import BLOCK_S, BlockClock, BlockRows, ServedBlocks
from gateway.ramps.callers import foe_of, friend_of, majority_of, without_speaker
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.periods import SETTLES_S, WATCHED_S, StepPeriod
from gateway.ramps.plan_proofs import HOURS_RULES, ServedValues
from gateway.ramps.step_values import CallerSums, ServedSums, StepValues, by_unit, of_callers, values_by_caller
from gateway.reports.model import margin_finding
from gateway.reports.number_format import with_sign
from gateway.statistics.asymptotic import Tuning
from gateway.store.query import Reading
from gateway.store.served_answers import answer_scores, feedback_given, served_answers
from gateway.store.served_sums import ServedCalls, SwitchSums, caller_failures, exposure_of, unit_failures, unit_sums
from gateway.verdict.gates.client_left import LEFT
from gateway.verdict.price.terms import ERRORS
from gateway.verdict.sequences.difference import BURN_IN
from gateway.verdict.sequences.latency import P95, ArmSeconds, p95_of, slow_share
from gateway.verdict.split.answers import feedback_values, terms_of
from gateway.verdict.split.callers import may_be_left_out
from gateway.verdict.split.comparison import difference_of
from gateway.verdict.split.outcomes import (
    ArmOutcomes,
    has_failed,
    outcomes,
    refusals_apart,
    refuses,
    with_left,
    without_cut,
)

CALLERS_RULES = 2  # the first rules of a plan whose evidence is weighed by caller


def watched_s(plan: Plan) -> float:
    """Seconds during which alarms still take a promoted candidate back."""
    return math.inf if plan.ramp is not None and plan.ramp.holdout else WATCHED_S


def served_values(
    connection: Reading, plan: StoredPlan, periods: Sequence[StepPeriod], terms: AlarmTerms, now: float
) -> ServedValues:
    """Collects the values of the candidate's served answers. now: Unix seconds: feedback counts until then."""
    arm = plan.plan.candidates[0][0]
    exposed = exposure_of(connection, plan.hash, arm)
    if not periods:
        return ServedValues(requests=exposed.requests, usd=exposed.usd, newest=exposed.newest)
    if plan.plan.rules >= 2 and now - periods[-1].start > WATCHED_S and shared_by_all(plan.plan, periods[-1]):
        found = failures_now(connection, plan, periods, now)  # a month of a holdout is too much to read
        return ServedValues((found,) if found else (), 0, exposed.requests, exposed.usd, exposed.newest)
    rows = _rows(connection, plan, arm, periods)
    values = [each for i, period in enumerate(periods) for each in _values(connection, plan.plan, rows, i, period, now)]
    proved = plan.plan.rules >= 2 and not shared_by_all(plan.plan, periods[-1])
    gone = _rows(connection, plan, arm, periods, left=True) if proved else []
    if any(gone):
        values += [_left_by_caller(*each) for each in zip(periods, rows, gone, strict=True)]
    p95: Iterable[ServedFinding] = ()
    if proved and P95 in terms.margins:
        p95 = _slower(periods[-1], rows[-1], terms.margins[P95], plan.plan.verdict_alpha / 2)
    here = rows[-1] if math.isinf(periods[-1].end) else []
    return ServedValues(
        tuple(values),
        len({row.unit for row in here if row.arm == arm}),
        exposed.requests,
        exposed.usd,
        exposed.newest,
        tuple(_p95(plan.plan, rows, periods, terms)) if P95 in terms.margins else (),
        served_blocks(connection, plan.plan, rows, periods, now, values, gone) if proved else (),
        tuple(replace(each, step=None) for each in p95),
    )


def failures_now(connection: Reading, plan: StoredPlan, periods: Sequence[StepPeriod], now: float) -> StepValues | None:
    """The failures of both arms at the present step: a query that is cheap enough for frequent looks. None if it is at
    no step.
    """
    if not periods or periods[-1].end <= now:
        return None
    here = periods[-1]
    alone = without_control(plan.plan, here) and len(periods) > 1
    arms = (CONTROL, periods[-2] if alone else here), (plan.plan.candidates[0][0], here)
    if plan.plan.rules >= CALLERS_RULES:
        a, b = (_caller_failures(connection, plan, *each) for each in arms)
        none = (0, ServedSums())
        of = [(name, a.get(name, none), b.get(name, none)) for name in sorted({*a, *b})]
        callers = tuple(CallerSums(name, x[0] + y[0], x[1], y[1]) for name, x, y in of)
        found = StepValues(ERRORS, here.step, -1.0, True, ServedSums(), ServedSums(), callers, paired=not alone)
        return of_callers(found)
    control, candidate = (_failures(connection, plan, *each) for each in arms)
    return StepValues(ERRORS, here.step, -1.0, True, control, candidate)


def shared_by_all(plan: Plan, period: StepPeriod) -> bool:
    """Whether it is a period in which the candidate serves everything but the holdout."""
    return plan.ramp is not None and (period.step >= len(plan.ramp.steps) or plan.ramp.steps[period.step] == 1.0)


def without_control(plan: Plan, period: StepPeriod) -> bool:
    """Whether no unit had the control then: its answers of the period before are compared."""
    ramp = plan.ramp
    ended = ramp is not None and period.step >= len(ramp.steps)
    return ramp is not None and (ended or (not ramp.holdout and shared_by_all(plan, period)))


def _caller_failures(
    connection: Reading, plan: StoredPlan, arm: str, period: StepPeriod
) -> dict[str, tuple[int, ServedSums]]:
    """caller → (calls, sums of its units) of one arm."""
    served = served_calls(plan, (arm,), period.start, period.end)
    found = caller_failures(connection, served, empty_fails=plan.plan.empty == "failed")
    return {caller: (calls, ServedSums(*sums)) for caller, (calls, *sums) in found.items()}


def _failures(connection: Reading, plan: StoredPlan, arm: str, period: StepPeriod) -> ServedSums:
    served = served_calls(plan, (arm,), period.start, period.end)
    found = unit_failures(connection, served, empty_fails=plan.plan.empty == "failed")
    return ServedSums(*found.get(arm, ()))


def served_calls(plan: StoredPlan, arms: Sequence[str], start: float, end: float) -> ServedCalls:
    """The calls that count of these arms, from SETTLES_S after the start of a step. start, end: Unix seconds."""
    targets = {arm: plan.plan.target(arm) for arm in arms}
    keyed = keyed_units(plan.plan)
    return ServedCalls(plan.hash, targets, start + SETTLES_S, end, drawn_stratum(plan.plan), keyed)


def drawn_stratum(plan: Plan) -> str | None:
    """The stratum of the calls whose arm was drawn: while a candidate's circuit breaker is open, everybody gets the
    control, which says nothing about either arm. None: by the first rules every call counts."""
    return f"split:{plan.name}" if plan.rules >= 2 else None


def keyed_units(plan: Plan) -> bool:
    """Whether a call without a conversation or run belongs to the unit of its key."""
    return plan.unit in ("conversation", "run", "key")


def _left_by_caller(period: StepPeriod, here: Sequence[ServedAnswer], gone: Sequence[ServedAnswer]) -> StepValues:
    """The shares of calls of one period whose client did not wait for the answer."""
    everybody, of = with_left(here, gone)
    return values_by_caller(everybody, of, period.step)


def _rows(
    connection: Reading, plan: StoredPlan, arm: str, periods: Sequence[StepPeriod], *, left: bool = False
) -> list[list[ServedAnswer]]:
    """The answers of each period. Earlier periods count while feedback on their answers may still come. left: as
    served_answers takes it."""
    proved = plan.plan.rules >= 2 and not shared_by_all(plan.plan, periods[-1])
    late = proved or any(name.startswith(FEEDBACK) for name in plan.plan.decides)
    since = periods[0 if late else max(len(periods) - 2, 0)].start
    fails, drawn = plan.plan.empty == "failed", drawn_stratum(plan.plan)
    arms, keyed = (CONTROL, arm), keyed_units(plan.plan)
    read = served_answers(connection, plan.hash, arms, since, keyed=keyed, empty_fails=fails, left=left)
    read = [row for row in read if drawn is None or row.cell[3] == drawn]
    return [[row for row in read if p.start + SETTLES_S <= row.received < p.end] for p in periods]


def _values(
    connection: Reading, plan: Plan, rows: Sequence[Sequence[ServedAnswer]], i: int, period: StepPeriod, now: float
) -> Iterator[StepValues]:
    """Computes each metric of one period; with the control of the period before where nobody had the control."""
    here = list(rows[i])
    alone = bool(i) and without_control(plan, period)
    if alone:
        here = [row for row in here if row.arm != CONTROL] + [row for row in rows[i - 1] if row.arm == CONTROL]
    if not here:
        return
    made = served_outcomes(connection, plan, here)
    given = feedback_given(connection, [row.id for row in here])
    for name in sorted({name for name in plan.decides if name.startswith(FEEDBACK)}):
        found = feedback_values(here, given.get(name, {}), terms_of(plan, now))
        made.append(ArmOutcomes(name, found.values, 1.0, found.bounded))
    by, paired = values_by_caller if plan.rules >= CALLERS_RULES else by_unit, not alone or plan.rules < CALLERS_RULES
    yield from (replace(by(here, each, period.step), paired=paired) for each in made)
    if i and plan.rules >= CALLERS_RULES and not alone and shared_by_all(plan, period):
        # A holdout may have few units, so the control's last answers stand in for it, for failures alone.
        here = [row for row in rows[i] if row.arm != CONTROL] + [row for row in rows[i - 1] if row.arm == CONTROL]
        yield replace(by(here, served_outcomes(connection, plan, here)[0], period.step), paired=False)


def served_outcomes(connection: Reading, plan: Plan, here: Sequence[ServedAnswer]) -> list[ArmOutcomes]:
    """Errors, and everything else that is known of these answers but feedback."""
    own = {arm: plan.target(arm) for arm in {row.arm for row in here}}
    scores = answer_scores(connection, [row.id for row in here])
    made = [_errors(here, own), *(each for each in outcomes(here, scores) if each.metric != ERRORS)]
    if plan.rules >= REFUSALS_APART_RULES:
        made = [without_cut(here, each) for each in made]
        made = refusals_apart(made, [refuses(row) and row.is_own(own[row.arm]) for row in here])
    return made


def served_failures(plan: Plan, here: Sequence[ServedAnswer]) -> ArmOutcomes:
    """The failures alone, as `served_outcomes` has them."""
    own = {arm: plan.target(arm) for arm in {row.arm for row in here}}
    found = _errors(here, own)
    if plan.rules < REFUSALS_APART_RULES:
        return found
    return refusals_apart([found], [refuses(row) and row.is_own(own[row.arm]) for row in here])[0]


def _errors(rows: Sequence[ServedAnswer], own: Mapping[str, Target]) -> ArmOutcomes:
    """An arm fails with an answer that failed, and with one that a fallback had to give. own: target by arm."""
    failed = np.array([float(has_failed(row) or not row.is_own(own[row.arm])) for row in rows])
    return ArmOutcomes(ERRORS, failed, -1.0, True)


def _p95(
    plan: Plan, rows: Sequence[Sequence[ServedAnswer]], periods: Sequence[StepPeriod], terms: AlarmTerms
) -> Iterator[ServedFinding]:
    """The alarm on the p95: by the share of slower answers; by the first rules from order statistics, which know no
    units, so that every unit must have one answer."""
    margin = terms.margins[P95]
    for period, here in zip(periods, rows, strict=True):
        if plan.rules >= 2:
            yield from _slower(period, here, margin, terms.alpha)
            continue
        a, b = ([r.total_s for r in here if (r.arm == CONTROL) == control and not has_failed(r)] for control in (1, 0))
        if not a or not b or len({row.unit for row in here}) < len(here):
            continue
        found = p95_of(a, b, min(2 * terms.alpha, 0.5), margin)
        yield ServedFinding(P95, period.step, found.difference, margin, found.margin_found, (len(a), len(b)))


def _slower(period: StepPeriod, here: Sequence[ServedAnswer], margin: float, alpha: float) -> Iterator[ServedFinding]:
    whole = [row for row in here if not has_failed(row)]
    found = _slower_of(period, whole, margin, alpha)
    if found is not None and found.raised:
        for caller in may_be_left_out(Counter(row.caller for row in whole)):
            again = _slower_of(period, [row for row in whole if row.caller != caller], margin, alpha)
            found = without_speaker(found, again, caller)
            if not found.raised:
                break
    if found is not None:
        yield found


def _slower_of(period: StepPeriod, whole: Sequence[ServedAnswer], margin: float, alpha: float) -> ServedFinding | None:
    arms = [[row for row in whole if (row.arm == CONTROL) == control] for control in (True, False)]
    if not all(arms):
        return None
    a, b = (ArmSeconds(np.array([r.total_s for r in rows]), [r.unit for r in rows]) for rows in arms)
    found = slow_share(a, b, min(2 * alpha, 0.5))
    raised = margin_finding(found.difference, margin)
    return ServedFinding(P95, period.step, found.difference, margin, raised, found.units)


def served_blocks(
    connection: Reading,
    plan: Plan,
    rows: Sequence[Sequence[ServedAnswer]],
    periods: Sequence[StepPeriod],
    now: float,
    values: Sequence[StepValues] = (),
    gone: Sequence[Sequence[ServedAnswer]] = (),
) -> tuple[ServedBlocks, ...]:
    """Errors and scores of each step by blocks of time. rows: the answers of each period. values: the same by caller,
    to see who speaks most for the candidate. gone: the calls of each period whose client left; empty: none did."""
    block_s = BLOCK_S if plan.ramp is None else min(BLOCK_S, max(plan.ramp.soak_s / 4, 1.0))
    found: dict[str, BlockRows] = {}
    worst: dict[str, BlockRows] = {}
    clock = BlockClock(block_s, now, by_clock=plan.rules >= HOURS_RULES)
    for period, here in zip(periods, rows, strict=True):
        if not here:
            continue
        of_calls, of_runs = clock.places(period, here), clock.places(period, here, CONVERSATION_QUIET_S)
        for of in served_outcomes(connection, plan, here):
            places = of_runs if of.of_runs else of_calls
            found.setdefault(of.metric, BlockRows(of.metric, of.sign, of.bounded)).add(places, here, of.values)
            at_worst = worst.setdefault(of.metric, BlockRows(of.metric, of.sign, of.bounded))
            at_worst.add(places, here, at_worst.count_missing(here, of))
    if any(gone):
        found[LEFT] = _left_blocks(clock, periods, rows, gone)
    by_caller = {name: [v for v in values if v.metric == name and v.callers] for name in found}
    most = {name: majority_of(of) if plan.rules >= HOURS_RULES else None for name, of in by_caller.items()}
    made = [each.of(friend_of(by_caller[name]), foe_of(by_caller[name]), most[name]) for name, each in found.items()]
    missing = {name: each.missing for name, each in worst.items()}
    return tuple(replace(each, missing=missing.get(each.metric)) for each in made)


def _left_blocks(
    clock: BlockClock,
    periods: Sequence[StepPeriod],
    rows: Sequence[Sequence[ServedAnswer]],
    gone: Sequence[Sequence[ServedAnswer]],
) -> BlockRows:
    """The shares of calls whose client did not wait for the answer."""
    made = BlockRows(LEFT, -1.0, True)
    for period, here, left in zip(periods, rows, gone, strict=True):
        everybody, of = with_left(here, left)
        made.add(clock.places(period, everybody), everybody, of.values)
    return made


EVERY_S = 3_600.0  # a month of answers is summed no more often


def switch_of(connection: Reading, plan: StoredPlan, period: StepPeriod) -> list[dict[str, Any]]:
    """The difference of each metric since the promotion, JSON-able. period: of the promoted candidate."""
    arm = plan.plan.candidates[0][0]
    found = unit_sums(connection, served_calls(plan, (CONTROL, arm), period.start, period.end))
    tuning = Tuning(plan.plan.alpha, burn_in=BURN_IN)
    return [made for each in found if (made := _difference(each, arm, tuning)) is not None]


def _difference(of: SwitchSums, arm: str, tuning: Tuning) -> dict[str, Any] | None:
    a, b = (ServedSums(*of.arms.get(each, ())) for each in (CONTROL, arm))
    if not a.n or not b.n:
        return None
    made, _, _ = difference_of(a.arm_mean(of.bounded, tuning), b.arm_mean(of.bounded, tuning), 1.0, tuning)
    difference = {"difference": made.value, "low": made.low, "high": made.high}
    return {"metric": of.metric, "control": a.mean, "candidate": b.mean, **difference, "units": [a.n, b.n]}


def switch_line(of: Mapping[str, Any]) -> str:
    """One metric in one line."""
    low, high = of.get("low"), of.get("high")
    interval = (
        "too few units for an interval" if low is None or high is None else f"{with_sign(low)} to {with_sign(high)}"
    )
    a, b = of["units"]
    return (
        f"{of['metric']}: {of['control']:.4g} with the control, {of['candidate']:.4g} with the candidate, difference "
        f"{with_sign(of['difference'])} ({interval}; {a} and {b} units)"
    )
