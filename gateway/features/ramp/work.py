"""Moves ramps: reads the evidence, decides, changes the record, and keeps the audit. The leading consumer runs it.

Its only state is the number of its looks: it may be killed at any moment, and another consumer continues. A change is
made by compare-and-swap, so that two controllers, or a person at the same time, cannot both make one.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import orjson

from gateway.config.derive import has_control, paces_of
from gateway.core.plan import CONTROL, FEEDBACK, Plan, StoredPlan, current_plan
from gateway.core.ramp import (
    CONTROLLER,
    DAY_S,
    RampChange,
    RampDecision,
    RampDesign,
    RampEvent,
    RampPace,
    RampRecord,
    RampRefused,
    holdout_ended,
    started,
    stopped,
)
from gateway.features.experiments.work import stop_plan
from gateway.features.isolation import IsolatedWork, Work
from gateway.features.ramp.proofs import proofs_of, served_proofs_of
from gateway.features.ramp.served import (
    EVERY_S,
    drawn_stratum,
    failures_now,
    served_calls,
    served_values,
    switch_of,
    watched_s,
)
from gateway.features.task import AfterStep, TaskContext
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.breakers import FRESH_S, breakers_of, late
from gateway.ramps.callers import blind_to_callers, caller_alarms, proved_without_any
from gateway.ramps.decision import decide_ramp, follow
from gateway.ramps.evidence import RampEvidence, ServedFinding
from gateway.ramps.periods import StepPeriod, periods_of
from gateway.ramps.sample_ratio import UnitCount, ratio_alarm
from gateway.reports.model import Verdict
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.query import Reading
from gateway.store.ramp_events import add_ramp_events, stored_ramp_events
from gateway.store.served_sums import ramp_units
from gateway.store.store import Store
from gateway.stream import Corridor
from gateway.verdict.decision import HARMLESS, SHIPS, rejects
from gateway.verdict.findings import Finding, finding
from gateway.verdict.outcome import outcome_of
from gateway.verdict.sentence import verdict_sentence
from gateway.verdict.states import SequenceStates

log = logging.getLogger(__name__)
GONE_S = 120.0  # a lost gateway that has not reported for this long has ended
_AT_MOST = 0.2  # of the time is spent looking


@dataclass(frozen=True, slots=True)
class RampStanding:
    """One ramp as the controller left it, for the metrics."""

    design: RampDesign
    record: RampRecord
    decision: RampDecision


async def drain_events(store: Store, corridor: Corridor) -> None:
    """Moves events from the stream server into the audit; they are removed there once they are stored."""
    while True:
        waiting = await corridor.ramps.waiting()
        if waiting.events:
            await store.run(lambda c, waiting=waiting: add_ramp_events(c, waiting.events))  # type: ignore[misc]
        await corridor.ramps.remove(waiting.ids)
        if not waiting.ids:
            return


async def replace_record(corridor: Corridor, before: RampRecord | None, after: RampRecord, evidence: bytes) -> bool:
    """Changes the record and logs it. False if somebody else has changed it meanwhile."""
    done = await corridor.ramps.change(before, after, evidence)
    if done:
        level = logging.WARNING if after.state in ("rolled_back", "stopped") else logging.INFO
        extra = {"plan": after.plan, "step": after.step, "version": after.version}
        log.log(level, "ramp of %s: %s: %s", after.experiment, after.state, after.reason, extra=extra)
    return done


def put_back(known: RampRecord | None, stored: RampRecord | None, now: float) -> RampRecord | None:
    """The record that the stream server has lost; None if it has the newest. stored: of the newest event in the
    audit.
    """
    if stored is None or (known is not None and known.version >= stored.version):
        return None
    reason = f"put back, as the stream server had lost it; before: {stored.reason}"
    return replace(stored, version=stored.version + 1, at=now, by=CONTROLLER, reason=reason, raw=b"")


def was_paused(events: Sequence[RampEvent], record: RampRecord) -> bool:
    """Whether the controller has paused this step before, so that a person has resumed it since."""
    return any(e.kind == "paused" and e.record.by == CONTROLLER and e.record.since == record.since for e in events)


def lost_gateways(beats: Iterable[Mapping[str, Any]], now: float) -> int:
    """The number of gateways that stopped reporting a short time ago."""
    return sum(FRESH_S < now - float(beat.get("at", now)) < GONE_S for beat in beats)


def ramps_after_step(context: TaskContext) -> AfterStep:
    """Moves ramps after each step of the experiments, by the paces of the config."""
    config = context.config
    controller = RampController(
        context.store,
        context.corridor,
        paces_of(config),
        has_control=lambda plan: has_control(config, plan),
        isolated=context.isolated,
    )
    return controller.step


class RampController:
    """The ramps of one consumer. clock: Unix time in seconds."""

    def __init__(
        self,
        store: Store,
        corridor: Corridor,
        paces: Mapping[str, RampPace],
        every_s: float = 2.0,
        full_s: float = 2.0,
        clock: Callable[[], float] = time.time,
        has_control: Callable[[Plan], bool] = lambda plan: True,
        isolated: IsolatedWork | None = None,
    ) -> None:
        """paces: of the experiments in the config; others wait for a person. every_s: between two looks at the
        failures of one. full_s: between two looks at everything, at least; with many answers they are rarer.
        has_control: whether the config still has the plan's control; without it a holdout ends. isolated: holds each
        ramp's work apart from that of others."""
        self._isolated = isolated or IsolatedWork()
        self._has_control = has_control
        self._switch: dict[str, tuple[float, list[dict[str, Any]]]] = {}  # by plan, and when it was computed
        self._store, self._corridor = store, corridor
        self._paces = paces
        self._every_s, self._full_s = every_s, full_s
        self._clock = clock
        self._due: dict[str, float] = {}  # when a ramp is looked at next
        self._full: dict[str, float] = {}  # when everything is read next; until then, only failures are
        self.standings: tuple[RampStanding, ...] = ()
        """Empty where there is no ramp."""

    async def step(self, plans: Sequence[StoredPlan]) -> None:
        """Runs one round. plans: all stored ones, oldest first. Raises StreamDown and StoreDown."""
        await drain_events(self._store, self._corridor)
        by_name: dict[str, list[StoredPlan]] = {}
        for plan in plans:
            by_name.setdefault(plan.plan.name, []).append(plan)
        current = {name: found for name, each in by_name.items() if (found := current_plan(each)) and found.plan.ramp}
        records = await self._corridor.ramps.records() if current else {}
        standing = {each.record.experiment: each for each in self.standings}

        async def one(name: str, plan: StoredPlan) -> None:
            record = await self._after_holdout(plan, records.get(name), plans)
            made = await self._one(plan, record, standing.get(name))
            if made is not None:
                standing[name] = made

        await self._isolated.alongside((work_of(plan), partial(one, name, plan)) for name, plan in current.items())
        self.standings = tuple(standing[name] for name in current if name in standing)
        for plan in current.values():
            await self._stop_failing(plan, records.get(plan.plan.name))
        await drain_events(self._store, self._corridor)

    async def _stop_failing(self, plan: StoredPlan, record: RampRecord | None) -> None:
        """Stops a ramp whose work is stopped, and its experiment: a candidate whose alarms nobody reads serves nobody.
        One that is promoted is not touched."""
        of = self._isolated.stopped().get(work_of(plan).name)
        if of is None or record is None or record.plan != plan.hash or record.state not in ("shadow", "ramp"):
            return
        change = RampChange(self._clock(), CONTROLLER, f"its evidence cannot be read: {of.kind}; {of.resume}")
        await stop_plan(self._corridor, plan, of, self._clock())
        await replace_record(self._corridor, record, stopped(record, change), b"{}")

    async def _one(
        self, plan: StoredPlan, known: RampRecord | None, before: RampStanding | None
    ) -> RampStanding | None:
        """The standing after this round; None if it is not this round's turn, or somebody else changed the record."""
        design, name, now = plan.plan.ramp, plan.plan.name, self._clock()
        unchanged = before is not None and known is not None and before.record.version == known.version
        if design is None or (unchanged and now < self._due.get(name, 0.0)):
            return None
        events = await self._store.look(lambda c: stored_ramp_events(c, name))
        record = await self._in_force(plan, known, events[-1].record if events else None, now)
        if record is None:
            return None
        if plan.state != "running":
            return RampStanding(design, record, RampDecision("hold", "the experiment is stopped"))
        ours = [e for e in events if e.record.plan == plan.hash]
        complete = not unchanged or now >= self._full.get(name, 0.0)
        begun = time.monotonic()
        evidence = await (self._evidence(plan, ours, now) if complete else self._failures(plan, ours, now))
        rest_s = (time.monotonic() - begun) / _AT_MOST
        if complete:
            self._full[name] = self._clock() + max(self._full_s, rest_s)
        self._due[name] = self._clock() + (self._every_s if complete else max(self._every_s, rest_s))
        if evidence is None:
            return None
        pace = self._paces.get(name, RampPace())
        decision = decide_ramp(record, design, evidence, now, pace)
        snapshot = orjson.dumps({**evidence.fields(), "decision": decision.fields()})
        await self._corridor.ramps.set_evidence(name, snapshot)
        if decision.action not in ("hold", "ready"):
            try:
                after = follow(record, design, decision, now, pace)
            except RampRefused as refused:
                return RampStanding(design, record, RampDecision("hold", str(refused)))
            if not await replace_record(self._corridor, record, after, snapshot):
                return None
            record = after
        return RampStanding(design, record, decision)

    async def _after_holdout(
        self, plan: StoredPlan, record: RampRecord | None, plans: Sequence[StoredPlan]
    ) -> RampRecord | None:
        """The record, with its holdout ended where that is due."""
        design, now = plan.plan.ramp, self._clock()
        if design is None or record is None or record.plan != plan.hash or plan.state != "running":
            return record
        why = _holdout_over(plan.plan, record, plans, now)
        if why is None and record.holds_out(design) and not self._has_control(plan.plan):
            why = f"the config has no {plan.plan.control} for {plan.plan.model} any more"
        if why is None:
            return record
        after = holdout_ended(record, design, RampChange(now, CONTROLLER, f"the holdout ends: {why}"))
        evidence = await self._corridor.ramps.evidence(plan.plan.name)
        await replace_record(self._corridor, record, after, evidence)
        return (await self._corridor.ramps.records()).get(plan.plan.name)

    async def _in_force(
        self, plan: StoredPlan, known: RampRecord | None, stored: RampRecord | None, now: float
    ) -> RampRecord | None:
        """The record of this plan: made, put back or ended where needed. None if it was changed just now."""
        after = _amended(plan, known, stored, now)
        if after is None:
            return known
        await replace_record(self._corridor, known, after, await self._corridor.ramps.evidence(plan.plan.name))
        return None

    async def _failures(self, plan: StoredPlan, events: Sequence[RampEvent], now: float) -> RampEvidence | None:
        """The evidence of an alarm on errors; None if there is none, as far as a quick look shows."""
        terms, periods = AlarmTerms.of(plan.plan), periods_of(events, watched_s(plan.plan))
        found = await self._store.look(lambda c: failures_now(c, plan, periods, now))
        evidence = RampEvidence(now, served=caller_alarms([found] if found else [], terms))
        if plan.plan.rules >= 2:
            beats = (await self._corridor.state.gateways()).values()
            evidence = replace(evidence, breakers=breakers_of(beats, plan.plan.name, plan.hash, now))
        return evidence if evidence.alarms or evidence.breakers.broken else None

    async def _evidence(self, plan: StoredPlan, events: Sequence[RampEvent], now: float) -> RampEvidence:
        lag = await self._corridor.lag(now)
        beats = (await self._corridor.state.gateways()).values()
        found = await self._store.look(lambda c: evidence_of(c, plan, events, now))
        found = replace(found, lag_s=lag.oldest_s, lost_gateways=lost_gateways(beats, now))
        if plan.plan.rules < 2 or plan.plan.ramp is None:
            return found
        breakers = breakers_of(beats, plan.plan.name, plan.hash, now)
        switch = await self._since_promotion(plan, events, now)
        ratio = await self._store.look(lambda c: _ratio(c, plan, events))
        return replace(found, breakers=breakers, late=late(lag, plan.plan.ramp), switch=switch, ratio=ratio)

    async def _since_promotion(
        self, plan: StoredPlan, events: Sequence[RampEvent], now: float
    ) -> Sequence[Mapping[str, Any]]:
        """The effect of the switch: none before the promotion, and the last figures after the holdout."""
        design, record = plan.plan.ramp, events[-1].record if events else None
        if design is None or record is None or record.state != "promoted":
            return ()
        if not record.holds_out(design):
            return next((e.evidence.get("switch") or () for e in reversed(events) if e.kind == "holdout_ended"), ())
        at, known = self._switch.get(plan.hash, (-math.inf, []))
        if now - at >= EVERY_S:
            period = StepPeriod(record.step, record.since, math.inf)
            known = await self._store.look(lambda c: switch_of(c, plan, period))
            self._switch[plan.hash] = now, known
        return known


def work_of(plan: StoredPlan) -> Work:
    """The work on a ramp. A plan that is started again has another token."""
    name = plan.plan.name
    resume = f"once its cause is mended, `gateway ab start {name}` begins it again"
    return Work(f"ramp of {name}", resume, plan.since if plan.state == "running" else None)


def _holdout_over(plan: Plan, record: RampRecord, plans: Sequence[StoredPlan], now: float) -> str | None:
    """Reason why the holdout of a promoted candidate ends now; None if it continues, or there is none."""
    design = plan.ramp
    if design is None or not record.holds_out(design):
        return None
    if now - record.since >= design.holdout_days * DAY_S:
        return f"its {design.holdout_days:g} days are over"
    newer = (p for p in plans if p.state == "running" and p.since > record.since and p.plan.model == plan.model)
    other = next((p.plan.name for p in newer if p.plan.name != plan.name), None)
    return None if other is None else f"{other} has started on {plan.model}"


def _amended(plan: StoredPlan, known: RampRecord | None, stored: RampRecord | None, now: float) -> RampRecord | None:
    """The record that has to be in force before anything is decided; None if the known one is right.

    stored: of the newest event in the audit.
    """
    name, running = plan.plan.name, plan.state == "running"
    if (lost := put_back(known, stored, now)) is not None:
        return lost
    if known is None:
        change = RampChange(now, CONTROLLER, "the experiment runs; shadows come first")
        return started(name, plan.hash, change) if running else None
    if not running:
        ends = known.plan == plan.hash and known.state in ("shadow", "ramp", "promoted")
        return stopped(known, RampChange(now, CONTROLLER, "the experiment was stopped")) if ends else None
    if known.plan != plan.hash:
        change = RampChange(now, CONTROLLER, f"a new plan runs; before: {known.plan}")
        return started(name, plan.hash, change, known)
    if known.state == "stopped" and plan.since > known.at:
        change = RampChange(now, CONTROLLER, "the experiment was started again; shadows come first")
        return started(name, plan.hash, change, known)
    return None


def _ratio(connection: Reading, plan: StoredPlan, events: Sequence[RampEvent]) -> str | None:
    """The alarm on the sample ratio of the present step; None if it fits, or a person has resumed the step since."""
    design, record = plan.plan.ramp, events[-1].record if events else None
    if design is None or drawn_stratum(plan.plan) is None or record is None or record.state != "ramp":
        return None
    share = record.share(design)
    if was_paused(events, record) or not 0.0 < share < 1.0:
        return None
    arms = (CONTROL, plan.plan.candidates[0][0])
    totals, kinds = ramp_units(connection, served_calls(plan, arms, record.since, math.inf))
    return ratio_alarm(totals, [UnitCount(*each) for each in kinds], share)


def evidence_of(connection: Reading, plan: StoredPlan, events: Sequence[RampEvent], now: float) -> RampEvidence:
    """The evidence from the store as it is. events: of this plan, oldest first. now: Unix seconds."""
    candidate, terms = plan.plan.candidates[0][0], AlarmTerms.of(plan.plan)
    evidence = StoredEvidence(connection, plan, now)
    found = finding(evidence, candidate)
    headline = verdict_sentence(outcome_of(found, SequenceStates(evidence))).text
    periods = periods_of(events, watched_s(plan.plan))
    read = served_values(connection, plan, periods, terms, now)
    by_units = served_proofs_of(read.blocks, plan.plan)
    proofs = (*proved_without_any(read.values, plan.plan, proofs_of), *by_units, *read.p95)
    served_primary = (plan.plan.primary or "").startswith(FEEDBACK)
    verdict, sentence = _verdict(found, proofs) if served_primary else (found.decision.verdict, found.decision.sentence)
    serves = bool(periods) and periods[-1].step >= 0
    return RampEvidence(
        at=now,
        verdict=verdict,
        sentence=sentence,
        pairs=found.pairs.joined,
        decided=any(event.evidence.get("verdict") in SHIPS for event in events),
        served_primary=served_primary,
        served=(*caller_alarms(read.values, terms), *read.findings, *(each for each in by_units if each.raised)),
        proofs=proofs,
        units=read.units,
        unit=_UNITS[plan.plan.unit],
        requests=read.requests,
        usd=read.usd,
        blind=serves and blind_to_callers(read.values, terms, periods[-1].step),
        newest=read.newest if serves else found.pairs.last,
        independence=found.independence,
        excepted=_excepted(found),
        weak_spot=found.weak_spot,
        headline=sentence if served_primary else headline,
    )


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
