"""Moves the ramps of guards: reads the evidence, decides, and changes the record. One of the consumers does it.

It has no state: it may be killed at any moment, and another consumer goes on. A change is made by compare-and-swap,
with its event, so that two controllers, or a person at the same time, cannot both make one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import orjson

from gateway.config.config import Config
from gateway.config.guards import GuardConfig
from gateway.config.scorers import ScorerConfig
from gateway.core.guard_ramp import GuardRampDesign, design_of, ramp_name, ramped_guard
from gateway.core.json_values import as_object
from gateway.core.plan import FEEDBACK
from gateway.core.ramp import (
    CONTROLLER,
    RampChange,
    RampDecision,
    RampRecord,
    RampRefused,
    stopped,
)
from gateway.features.guards.promotion import (
    GuardCalls,
    PromotionEvidence,
    decide_promotion,
    guard_periods,
    promotion_evidence,
)
from gateway.features.guards.rows import counted_calls, feedback_on
from gateway.features.isolation import Work
from gateway.features.ramp.work import drain_events, lost_gateways, put_back, replace_record, was_paused
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.ramps.breakers import FRESH_S, late
from gateway.ramps.decision import follow
from gateway.store.query import Reading
from gateway.store.ramp_events import stored_ramp_events
from gateway.stream import Corridor

LEASE = "guard-ramps"
EVERY_S = 2.0
_KEEP_S = 30.0
"""A lease that is not renewed for this long may be taken over."""
_AT_MOST = 0.2
"""The share of the time that is spent looking."""
_LOW = 0.5
"""The value below which feedback without a range is bad."""


@dataclass(frozen=True, slots=True)
class GuardRampSettings:
    """Settings that the controller takes from the config."""

    guards: Mapping[str, GuardConfig]
    scorers: Mapping[str, ScorerConfig] = field(default_factory=dict)
    middles: Mapping[str, float] = field(default_factory=dict)
    """The middle of the range of feedback, by its scorer's name, below which it is bad."""

    @classmethod
    def of(cls, config: Config) -> GuardRampSettings:
        middles = {FEEDBACK + name: (low + high) / 2 for name, (low, high) in config.feedback.range.items()}
        return cls(config.guards, config.scorers, middles)


class GuardRampController:
    """The ramps of guards, of one consumer."""

    def __init__(self, worker: TaskWorker, corridor: Corridor, settings: GuardRampSettings) -> None:
        self._worker, self._store, self._clock = worker, worker.store, worker.clock
        self._corridor, self._settings = corridor, settings

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.look, EVERY_S, "the ramps of guards take no step now", at_most=_AT_MOST)

    async def look(self) -> None:
        """Runs one round. Raises StreamDown and StoreDown."""
        if not await self._worker.leads(LEASE, _KEEP_S):
            return
        await drain_events(self._store, self._corridor)
        records = await self._corridor.ramps.records()
        known = {guard for name in records if (guard := ramped_guard(name)) is not None}
        for guard in sorted(known | self._settings.guards.keys()):
            work, record = Work(f"ramp of guard {guard}"), records.get(ramp_name(guard))
            await self._worker.isolated.attempt(work, partial(self._one, guard, record))
        await drain_events(self._store, self._corridor)

    async def _one(self, guard: str, record: RampRecord | None) -> None:
        now, config = self._clock(), self._settings.guards.get(guard)
        events = await self._store.look(lambda c: stored_ramp_events(c, ramp_name(guard)))
        after = self._amended(config, record, events[-1].record if events else None, now)
        if after is not None:
            await replace_record(self._corridor, record, after, await self._corridor.ramps.evidence(ramp_name(guard)))
            return
        design = None if record is None else design_of(record)
        if record is None or design is None or config is None or record.state not in ("shadow", "ramp"):
            return
        periods = guard_periods([e for e in events if e.record.plan == record.plan])
        if not periods:
            return
        begun = config.begun_as(self._settings.scorers, design.config) or config
        middles, late_blocks = self._settings.middles, begun.blocks_late(design.to)

        def look(connection: Reading) -> PromotionEvidence:
            """Runs in a thread, since a day's calls take seconds."""
            found = guard_calls(connection, guard, periods[0].start, middles)
            return promotion_evidence(design, periods, found, now, late_blocks=late_blocks)

        evidence = await self._store.look(look)
        evidence = await self._with_reports(guard, design, evidence, now)
        if was_paused(events, record):
            evidence = replace(evidence, ramp=replace(evidence.ramp, ratio=None))
        await self._decide(record, design, config, evidence)

    def _amended(
        self, config: GuardConfig | None, known: RampRecord | None, stored: RampRecord | None, now: float
    ) -> RampRecord | None:
        """The record that has to be in force before anything is decided; None if the known one is right.

        config: None: the config has no such guard. stored: of the newest event in the audit.
        """
        if (lost := put_back(known, stored, now)) is not None:
            return lost
        design = None if known is None else design_of(known)
        if known is None or design is None or known.state in ("rolled_back", "stopped"):
            return None
        why = _ended(self._settings, config, design, known)
        return None if why is None else stopped(known, RampChange(now, CONTROLLER, why))

    async def _with_reports(
        self, guard: str, design: GuardRampDesign, evidence: PromotionEvidence, now: float
    ) -> PromotionEvidence:
        """The evidence with what gateways and consumers report of themselves."""
        lag, beats = await self._corridor.lag(now), (await self._corridor.state.gateways()).values()
        lost = lost_gateways(beats, now)
        fresh = (beat for beat in beats if now - float(beat.get("at", now)) <= FRESH_S)
        ramp = replace(evidence.ramp, lag_s=lag.oldest_s, lost_gateways=lost, late=late(lag, design.ramp))
        return replace(evidence, ramp=ramp, failing=_failing(guard, fresh))

    async def _decide(
        self, record: RampRecord, design: GuardRampDesign, config: GuardConfig, evidence: PromotionEvidence
    ) -> None:
        now, pace = self._clock(), config.ramp.pace
        decision, after = decide_promotion(record, design, evidence, now, pace), record
        if decision.action not in ("hold", "ready"):
            try:
                after = follow(record, design.ramp, decision, now, pace)
            except RampRefused as refused:
                decision = RampDecision("hold", str(refused))
        snapshot = orjson.dumps({**evidence.fields(), "decision": decision.fields()})
        await self._corridor.ramps.set_evidence(record.experiment, snapshot)
        if after is not record:
            await replace_record(self._corridor, record, after, snapshot)


def _ended(
    settings: GuardRampSettings, config: GuardConfig | None, design: GuardRampDesign, known: RampRecord
) -> str | None:
    """Reason why the ramp ends without a finding against the guard; None if it continues, or is over."""
    if config is None:
        return "the config has no such guard any more"
    if config.action == design.to and known.state == "promoted":
        return None
    if config.action != design.before:
        return f"the config's action is {config.action} now, which holds from here on"
    if config.begun_as(settings.scorers, design.config) is None:
        return "the guard's config has changed, so what is known of its hits does not hold; promote it again"
    return None


def guard_calls(connection: Reading, guard: str, since: float, middles: Mapping[str, float]) -> GuardCalls:
    given = feedback_on(connection, guard, since)
    bad = frozenset(exchange for exchange, scorer, value in given if value < middles.get(scorer, _LOW))
    return GuardCalls(counted_calls(connection, guard, since), bad)


def _failing(guard: str, beats: Iterable[Mapping[str, Any]]) -> str:
    """Reason why the guard gives no decision in one of the gateway processes; "" if it gives some in all."""
    reports = (as_object(as_object(beat.get("guards")).get(guard)) for beat in beats)
    return next((str(report["failing"]) for report in reports if report.get("failing")), "")


def guard_ramps_task(context: TaskContext) -> PeriodicWork | None:
    """The task that moves ramps; None if the config has no guards."""
    if not context.config.guards:
        return None
    settings = GuardRampSettings.of(context.config)
    return GuardRampController(context.worker, context.corridor, settings).periodic()
