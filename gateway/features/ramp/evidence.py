"""The evidence for a candidate's next step, from the store: the verdict on its pairs, and what it served."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.core.plan import CONTROL, FEEDBACK, Plan, StoredPlan
from gateway.core.ramp import RampEvent, RampRecord
from gateway.features.ramp.alarms.quarter_hours import QuarterHourSums, RampAlarms, whole_week
from gateway.features.ramp.served import (
    EVERY_S,
    drawn_stratum,
    failures_now,
    served_calls,
    served_values,
    switch_of,
    watched_s,
    without_control,
)
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.block_callers import BLOCK_RULES
from gateway.ramps.blocks import ServedBlock, ServedBlocks
from gateway.ramps.breakers import breakers_of, late, lost_gateways
from gateway.ramps.callers import blind_to_callers, caller_alarms, proved_without_any
from gateway.ramps.evidence import RampEvidence, ServedFinding
from gateway.ramps.periods import StepPeriod, periods_of
from gateway.ramps.plan_proofs import HOURS_RULES, ServedValues, proofs_of, served_proofs_of
from gateway.ramps.sample_ratio import UnitCount, ratio_alarm
from gateway.ramps.served_hours import LOOKED_BACK_S, hours_with_calls, served_hours
from gateway.ramps.subject import RampLook
from gateway.reports.model import Verdict
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.query import Reading
from gateway.store.served_sums import ramp_units
from gateway.store.store import Store
from gateway.store.traffic_hours import quarters_with_calls
from gateway.stream import Corridor
from gateway.verdict.decision import HARMLESS, SHIPS, rejects
from gateway.verdict.findings import Finding, finding
from gateway.verdict.outcome import outcome_of
from gateway.verdict.price.terms import ERRORS
from gateway.verdict.sentence import verdict_sentence
from gateway.verdict.states import SequenceStates

_AT_MOST = 0.2  # of the time is spent looking


@dataclass(frozen=True, slots=True)
class LookTiming:
    """Intervals of the looks at one candidate, in seconds."""

    every_s: float = 2.0
    """Between two looks at its failures."""
    full_s: float = 2.0
    """Between two looks at everything, at least; with many answers they are rarer."""


class CandidateLooks:
    """Reads the evidence of candidates: everything at intervals, and their failures in between."""

    def __init__(self, store: Store, corridor: Corridor, timing: LookTiming, clock: Callable[[], float]) -> None:
        self._store, self._corridor = store, corridor
        self._timing, self._clock = timing, clock
        self._due: dict[str, float] = {}  # when a ramp is looked at next
        self._full: dict[str, float] = {}  # when everything is read next; until then, only failures are
        self._switch: dict[str, tuple[float, list[dict[str, Any]]]] = {}  # by plan, and when it was computed
        self._quarters: dict[str, QuarterHourSums] = {}  # by plan
        self._hours: dict[str, tuple[float, tuple[int, ...]]] = {}  # the same: hours of the day with calls

    def is_due(self, name: str) -> bool:
        return self._clock() >= self._due.get(name, 0.0)

    async def evidence(self, plan: StoredPlan, look: RampLook, *, complete: bool) -> RampEvidence | None:
        """Reads what a decision rests on. Returns None if a look at the failures shows nothing.

        complete: everything is read, whenever that was done last.
        """
        name = plan.plan.name
        complete = complete or look.now >= self._full.get(name, 0.0)
        begun = time.monotonic()
        evidence = await (self._everything(plan, look) if complete else self._failures(plan, look))
        rest_s = (time.monotonic() - begun) / _AT_MOST
        if complete:
            self._full[name] = self._clock() + max(self._timing.full_s, rest_s)
        every_s = self._timing.every_s
        self._due[name] = self._clock() + (every_s if complete else max(every_s, rest_s))
        return evidence

    async def _failures(self, plan: StoredPlan, look: RampLook) -> RampEvidence | None:
        """The evidence of an alarm on errors; None if there is none, as far as a quick look shows."""
        terms, periods = AlarmTerms.of(plan.plan), periods_of(look.events, watched_s(plan.plan))
        compared = plan.plan.rules < BLOCK_RULES or (bool(periods) and without_control(plan.plan, periods[-1]))
        values = (
            await self._store.look(lambda connection: failures_now(connection, plan, periods, look.now))
            if compared
            else None
        )
        evidence = RampEvidence(look.now, served=caller_alarms([values] if values else [], terms))
        if plan.plan.rules >= 2:
            beats = (await self._corridor.state.gateways()).values()
            evidence = replace(evidence, breakers=breakers_of(beats, plan.plan.name, plan.hash, look.now))
        return evidence if evidence.alarms or evidence.breakers.broken else None

    async def _everything(self, plan: StoredPlan, look: RampLook) -> RampEvidence:
        lag = await self._corridor.lag(look.now)
        beats = (await self._corridor.state.gateways()).values()
        hours = await self._hours_of(plan.plan, look.now)
        quarters = self._quarters.setdefault(plan.hash, QuarterHourSums())
        evidence = await self._store.look(
            lambda connection: evidence_of(connection, plan, look.events, look.now, hours, quarters)
        )
        evidence = replace(evidence, lag_s=lag.oldest_s, lost_gateways=lost_gateways(beats, look.now))
        if plan.plan.rules < 2 or plan.plan.ramp is None:
            return evidence
        breakers = breakers_of(beats, plan.plan.name, plan.hash, look.now)
        switch = await self._since_promotion(plan, look)
        ratio = await self._store.look(lambda connection: ratio_of(connection, plan, look.record))
        return replace(evidence, breakers=breakers, late=late(lag, plan.plan.ramp), switch=switch, ratio=ratio)

    async def _hours_of(self, plan: Plan, now: float) -> tuple[int, ...] | None:
        """The hours of the day in which the plan's model has had calls, read once an hour; None if the step to all
        traffic waits for none."""
        if plan.rules < HOURS_RULES or not plan.min_hours:
            return None
        at, known = self._hours.get(plan.hash, (-math.inf, ()))
        if now - at >= EVERY_S:
            since = now - LOOKED_BACK_S
            quarters = await self._store.look(lambda c: quarters_with_calls(c, plan.model, since, now))
            known = hours_with_calls(quarters)
            self._hours[plan.hash] = now, known
        return known

    async def _since_promotion(self, plan: StoredPlan, look: RampLook) -> Sequence[Mapping[str, Any]]:
        """The effect of the switch: none before the promotion, and the last figures after the holdout."""
        design, record = plan.plan.ramp, look.record
        if design is None or record.state != "promoted":
            return ()
        if not record.holds_out(design):
            return _last_switch(look.events)
        at, known = self._switch.get(plan.hash, (-math.inf, []))
        if look.now - at >= EVERY_S:
            period = StepPeriod(record.step, record.since, math.inf)
            known = await self._store.look(lambda connection: switch_of(connection, plan, period))
            self._switch[plan.hash] = look.now, known
        return known


def _last_switch(events: Sequence[RampEvent]) -> Sequence[Mapping[str, Any]]:
    return next((e.evidence.get("switch") or () for e in reversed(events) if e.kind == "holdout_ended"), ())


def ratio_of(connection: Reading, plan: StoredPlan, record: RampRecord) -> str | None:
    """The alarm on the sample ratio of the present step; None if it fits."""
    design = plan.plan.ramp
    if design is None or drawn_stratum(plan.plan) is None or record.state != "ramp":
        return None
    share = record.share(design)
    if not 0.0 < share < 1.0:
        return None
    arms = (CONTROL, plan.plan.candidates[0][0])
    totals, kinds = ramp_units(connection, served_calls(plan, arms, record.since, math.inf))
    return ratio_alarm(totals, [UnitCount(*each) for each in kinds], share)


def evidence_of(
    connection: Reading,
    plan: StoredPlan,
    events: Sequence[RampEvent],
    now: float,
    hours: tuple[int, ...] | None = None,
    quarters: QuarterHourSums | None = None,
) -> RampEvidence:
    """The evidence from the store as it is. events: of this plan, oldest first. now: Unix seconds. hours: of the day
    that have to be served before all traffic; None: the plan asks for none. quarters: what earlier looks have read of
    the same plan; None: nothing."""
    candidate, terms = plan.plan.candidates[0][0], AlarmTerms.of(plan.plan)
    evidence = StoredEvidence(connection, plan, now)
    found = finding(evidence, candidate)
    headline = verdict_sentence(outcome_of(found, SequenceStates(evidence))).text
    periods = periods_of(events, watched_s(plan.plan))
    read = served_values(connection, plan, periods, terms, now)
    by_units = served_proofs_of(read.blocks, plan.plan, hours or ())
    proofs = (*proved_without_any(read.values, plan.plan, proofs_of), *by_units, *read.p95)
    served_primary = (plan.plan.primary or "").startswith(FEEDBACK)
    verdict, sentence = _verdict(found, proofs) if served_primary else (found.decision.verdict, found.decision.sentence)
    serves = bool(periods) and periods[-1].step >= 0
    alarms = _alarms_by_step(plan.plan, periods, read)
    if plan.plan.rules >= BLOCK_RULES:
        alarms = alarms.beside((quarters or whole_week()).alarms(connection, plan, periods, now))
    return RampEvidence(
        at=now,
        verdict=verdict,
        sentence=sentence,
        pairs=found.pairs.joined,
        decided=any(event.evidence.get("verdict") in SHIPS for event in events),
        served_primary=served_primary,
        served=(*alarms.found, *(each for each in by_units if each.raised)),
        proofs=proofs,
        units=read.units,
        unit=_UNITS[plan.plan.unit],
        requests=read.requests,
        usd=read.usd,
        blind=serves and alarms.blind,
        newest=read.newest if serves else found.pairs.last,
        independence=found.independence,
        excepted=_excepted(found),
        weak_spot=found.weak_spot,
        headline=sentence if served_primary else headline,
        hours=None if hours is None else served_hours(hours, _blocks_of(read.blocks, ERRORS)),
    )


def _alarms_by_step(plan: Plan, periods: Sequence[StepPeriod], read: ServedValues) -> RampAlarms:
    """The alarms by steps. By rules 3 these are of feedback, which comes days later, and of failures where no unit has
    the control any more; quarter-hours decide all others."""
    terms, step, values = AlarmTerms.of(plan), periods[-1].step if periods else -1, read.values
    if plan.rules < BLOCK_RULES:
        return RampAlarms((*caller_alarms(values, terms), *read.findings), blind_to_callers(values, terms, step))
    alone = bool(periods) and without_control(plan, periods[-1])
    values = tuple(v for v in values if v.metric.startswith(FEEDBACK) or (alone and v.step == step))
    return RampAlarms(caller_alarms(values, terms), not alone or blind_to_callers(values, terms, step))


def _blocks_of(served: Sequence[ServedBlocks], metric: str) -> Sequence[ServedBlock]:
    return next((of.blocks for of in served if of.metric == metric), ())


def _excepted(found: Finding) -> tuple[str, ...]:
    kept = found.segments.kept if found.segments is not None else None
    return kept.excepted if kept is not None and found.decision.verdict == "ship_except" else ()


_UNITS = {
    "conversation": "a conversation, or the key of calls that name none",
    "run": "a run, or the key of calls that name none",
    "user": "a user, or a call that names none",
    "key": "a key",
    "request": "a call",
}


def _verdict(found: Finding, proofs: Sequence[ServedFinding]) -> tuple[Verdict, str]:
    """The verdict where the primary is feedback: pairs decide guardrails on answers, served answers the rest."""
    primary = next(each for each in proofs if each.metric == found.stored_plan.plan.primary)
    worse = [c.metric for c in found.guardrails if rejects(c)]
    if primary.raised or worse:
        return "reject", primary.says() if primary.raised else f"guardrails broken: {', '.join(worse)}"
    open_ = [c.metric for c in found.guardrails if c.margin_found not in HARMLESS]
    harmless = primary.found in HARMLESS
    if harmless and not open_:
        return "ship", f"{primary.metric}: not worse by more than {primary.margin:g} on served answers"
    return "hold", f"undecided: {', '.join([*([] if harmless else [primary.metric]), *open_])}"
