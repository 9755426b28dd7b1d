"""The ramps of guards: a guard's action as the subject of the engine, and a round over all of them, which one of the
consumers runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from gateway.config.config import Config
from gateway.config.guards import GuardConfig
from gateway.config.scorers import ScorerConfig
from gateway.core.guard_ramp import GuardRampDesign, design_of, ramp_name, ramped_guard
from gateway.core.json_values import as_object
from gateway.core.plan import FEEDBACK
from gateway.core.ramp import CONTROLLER, RampChange, RampDesign, RampPace, RampRecord, stopped
from gateway.features.guards.rows import counted_calls, feedback_on
from gateway.features.isolation import Work
from gateway.features.task import PeriodicWork, TaskContext, TaskWorker
from gateway.ramps.breakers import FRESH_S, late, lost_gateways
from gateway.ramps.engine import RampEngine
from gateway.ramps.evidence import RampEvidence
from gateway.ramps.guard_promotion import (
    GuardCalls,
    PromotionEvidence,
    guard_periods,
    promotion_evidence,
)
from gateway.ramps.subject import RampLook
from gateway.store.query import Reading
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


@dataclass(frozen=True, slots=True)
class PromotedGuard:
    """A guard's action as the subject of its ramp."""

    guard: str
    settings: GuardRampSettings
    worker: TaskWorker
    corridor: Corridor

    @property
    def name(self) -> str:
        return ramp_name(self.guard)

    @property
    def config(self) -> GuardConfig | None:
        """The guard's settings in force; None if the config has no such guard."""
        return self.settings.guards.get(self.guard)

    @property
    def pace(self) -> RampPace:
        return RampPace() if self.config is None else self.config.ramp.pace

    def amended(self, known: RampRecord | None, now: float) -> RampRecord | None:
        design = None if known is None else design_of(known)
        if known is None or design is None or known.state in ("rolled_back", "stopped"):
            return None
        why = _ended(self.settings, self.config, design, known)
        return None if why is None else stopped(known, RampChange(now, CONTROLLER, why))

    def design(self, record: RampRecord) -> RampDesign | None:
        design = design_of(record)
        going = self.config is not None and record.state in ("shadow", "ramp")
        return design.ramp if design is not None and going else None

    def rests(self, record: RampRecord) -> str | None:
        return None

    async def evidence(self, look: RampLook) -> RampEvidence | None:
        design, periods = design_of(look.record), guard_periods(look.events)
        if design is None or not periods:
            return None

        def read(connection: Reading) -> PromotionEvidence:
            """Runs in a thread, since a day's calls take seconds."""
            calls = guard_calls(connection, self.guard, periods[0].start, self.settings.middles)
            return promotion_evidence(design, periods, calls, look.now, late_blocks=self._blocks_late(design))

        evidence = await self._with_reports(await self.worker.store.look(read), design, look.now)
        return evidence.for_step(look.record, design, self.worker.clock(), self.pace)

    def _blocks_late(self, design: GuardRampDesign) -> bool:
        """Whether a call without a score is refused, by the config with which the ramp began."""
        config = self.config
        if config is None:
            return False
        return (config.begun_as(self.settings.scorers, design.config) or config).blocks_late(design.to)

    async def _with_reports(
        self, evidence: PromotionEvidence, design: GuardRampDesign, now: float
    ) -> PromotionEvidence:
        """The evidence with what gateways and consumers report of themselves."""
        lag, beats = await self.corridor.lag(now), (await self.corridor.state.gateways()).values()
        lost = lost_gateways(beats, now)
        fresh = (beat for beat in beats if now - float(beat.get("at", now)) <= FRESH_S)
        ramp = replace(evidence.ramp, lag_s=lag.oldest_s, lost_gateways=lost, late=late(lag, design.ramp))
        return replace(evidence, ramp=ramp, failing=_failing(self.guard, fresh))


class GuardRampController:
    """The ramps of guards, of one consumer."""

    def __init__(self, worker: TaskWorker, corridor: Corridor, settings: GuardRampSettings) -> None:
        self._worker, self._corridor, self._settings = worker, corridor, settings
        self._engine = RampEngine(worker.store, corridor, worker.clock)

    def periodic(self) -> PeriodicWork:
        return PeriodicWork(self.look, EVERY_S, "the ramps of guards take no step now", at_most=_AT_MOST)

    async def look(self) -> None:
        """Runs one round. Raises StreamDown and StoreDown."""
        if not await self._worker.leads(LEASE, _KEEP_S):
            return
        await self._engine.drain_events()
        records = await self._corridor.ramps.records()
        known = {guard for name in records if (guard := ramped_guard(name)) is not None}
        for guard in sorted(known | self._settings.guards.keys()):
            subject = PromotedGuard(guard, self._settings, self._worker, self._corridor)
            step = partial(self._engine.step, subject, records.get(subject.name))
            await self._worker.isolated.attempt(Work(f"ramp of guard {guard}"), step)
        await self._engine.drain_events()


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
