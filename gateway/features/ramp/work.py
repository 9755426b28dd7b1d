"""The ramps of experiments: a candidate as the subject of the engine, and a round over all of them, which the leading
consumer runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from gateway.config.derive import has_control, paces_of
from gateway.core.plan import Plan, StoredPlan, current_plan
from gateway.core.ramp import (
    CONTROLLER,
    DAY_S,
    RampChange,
    RampDesign,
    RampPace,
    RampRecord,
    holdout_ended,
    started,
    stopped,
)
from gateway.features.isolation import IsolatedWork, Work, stop_plan
from gateway.features.ramp.evidence import CandidateLooks, LookTiming
from gateway.features.task import AfterStep, TaskContext
from gateway.ramps.engine import RampEngine, RampStanding
from gateway.ramps.evidence import RampEvidence
from gateway.ramps.subject import RampLook
from gateway.store.store import Store
from gateway.stream import Corridor


@dataclass(frozen=True, slots=True)
class CandidateRamp:
    """The subject of a candidate's ramp."""

    plan: StoredPlan
    pace: RampPace
    looks: CandidateLooks
    looked_at: int | None = None
    """Version of the record at the last look; None if there was none."""
    newer: Sequence[StoredPlan] = ()
    """Plans that may end its holdout."""
    has_control: Callable[[Plan], bool] = lambda plan: True
    """Says whether the config still has the plan's control."""

    @property
    def name(self) -> str:
        return self.plan.plan.name

    def is_due(self, known: RampRecord | None) -> bool:
        """Whether there is something to change, or to look at."""
        unchanged = known is not None and known.version == self.looked_at
        return not unchanged or self.looks.is_due(self.name)

    def design(self, record: RampRecord) -> RampDesign | None:
        return self.plan.plan.ramp

    def rests(self, record: RampRecord) -> str | None:
        return None if self.plan.state == "running" else "the experiment is stopped"

    async def evidence(self, look: RampLook) -> RampEvidence | None:
        return await self.looks.evidence(self.plan, look, complete=look.record.version != self.looked_at)

    def amended(self, known: RampRecord | None, now: float) -> RampRecord | None:
        if self.plan.state != "running":
            return self._ended(known, now)
        if known is None:
            return self._started("the experiment runs; shadows come first", now)
        if known.plan != self.plan.hash:
            return self._started(f"a new plan runs; before: {known.plan}", now, known)
        if known.state == "stopped" and self.plan.since > known.at:
            return self._started("the experiment was started again; shadows come first", now, known)
        return self._without_holdout(known, now)

    def _started(self, why: str, now: float, before: RampRecord | None = None) -> RampRecord:
        return started(self.name, self.plan.hash, RampChange(now, CONTROLLER, why), before)

    def _ended(self, known: RampRecord | None, now: float) -> RampRecord | None:
        if known is None or known.plan != self.plan.hash or known.state not in ("shadow", "ramp", "promoted"):
            return None
        return stopped(known, RampChange(now, CONTROLLER, "the experiment was stopped"))

    def _without_holdout(self, known: RampRecord, now: float) -> RampRecord | None:
        """The record with its holdout ended; None if it continues, or there is none."""
        design = self.plan.plan.ramp
        if design is None or not known.holds_out(design):
            return None
        why = self._holdout_over(design, known, now)
        return None if why is None else holdout_ended(known, design, RampChange(now, CONTROLLER, why))

    def _holdout_over(self, design: RampDesign, known: RampRecord, now: float) -> str | None:
        plan = self.plan.plan
        if now - known.since >= design.holdout_days * DAY_S:
            return f"the holdout ends: its {design.holdout_days:g} days are over"
        if (rival := _rival(plan, known, self.newer)) is not None:
            return f"the holdout ends: {rival} has started on {plan.model}"
        if not self.has_control(plan):
            return f"the holdout ends: the config has no {plan.control} for {plan.model} any more"
        return None


def _rival(plan: Plan, known: RampRecord, plans: Sequence[StoredPlan]) -> str | None:
    """Another experiment on the model that has started since."""
    newer = (p.plan for p in plans if p.state == "running" and p.since > known.since)
    return next((other.name for other in newer if other.model == plan.model and other.name != plan.name), None)


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
        """paces: of the experiments in the config; others wait for a person. every_s, full_s: of LookTiming.
        has_control: whether the config still has the plan's control; without it a holdout ends. isolated: holds each
        ramp's work apart from that of others."""
        self._isolated = isolated or IsolatedWork()
        self._corridor, self._clock = corridor, clock
        self._paces, self._has_control = paces, has_control
        self._engine = RampEngine(store, corridor, clock)
        self._looks = CandidateLooks(store, corridor, LookTiming(every_s, full_s), clock)
        self._standing: dict[str, RampStanding] = {}

    @property
    def standings(self) -> tuple[RampStanding, ...]:
        """Empty where there is no ramp."""
        return tuple(self._standing.values())

    async def step(self, plans: Sequence[StoredPlan]) -> None:
        """Runs one round. plans: all stored ones, oldest first. Raises StreamDown and StoreDown."""
        await self._engine.drain_events()
        ramped = _ramped(plans)
        self._standing = {name: self._standing[name] for name in ramped if name in self._standing}
        records = await self._corridor.ramps.records() if ramped else {}
        ramps = [self._ramp(plan, plans) for plan in ramped.values()]
        steps = ((work_of(ramp.plan), partial(self._one, ramp, records.get(ramp.name))) for ramp in ramps)
        await self._isolated.alongside(steps)
        for ramp in ramps:
            await self._stop_failing(ramp.plan, records.get(ramp.name))
        await self._engine.drain_events()

    def _ramp(self, plan: StoredPlan, plans: Sequence[StoredPlan]) -> CandidateRamp:
        name, standing = plan.plan.name, self._standing.get(plan.plan.name)
        looked_at = None if standing is None else standing.record.version
        pace = self._paces.get(name, RampPace())
        return CandidateRamp(plan, pace, self._looks, looked_at, plans, self._has_control)

    async def _one(self, ramp: CandidateRamp, known: RampRecord | None) -> None:
        if not ramp.is_due(known) and ramp.amended(known, self._clock()) is None:
            return
        standing = await self._engine.step(ramp, known)
        if standing is not None:
            self._standing[ramp.name] = standing

    async def _stop_failing(self, plan: StoredPlan, record: RampRecord | None) -> None:
        """Stops a ramp whose work is stopped, and its experiment: a candidate whose alarms nobody reads serves nobody.
        One that is promoted is not touched."""
        of = self._isolated.stopped().get(work_of(plan).name)
        if of is None or record is None or record.plan != plan.hash or record.state not in ("shadow", "ramp"):
            return
        change = RampChange(self._clock(), CONTROLLER, f"its evidence cannot be read: {of.kind}; {of.resume}")
        await stop_plan(self._corridor, plan, of, self._clock())
        await self._engine.change(record, stopped(record, change), b"{}")


def _ramped(plans: Sequence[StoredPlan]) -> Mapping[str, StoredPlan]:
    """The current plan of each experiment whose plan has a ramp."""
    by_name: dict[str, list[StoredPlan]] = {}
    for plan in plans:
        by_name.setdefault(plan.plan.name, []).append(plan)
    current = {name: current_plan(of_name) for name, of_name in by_name.items()}
    return {name: plan for name, plan in current.items() if plan is not None and plan.plan.ramp is not None}


def work_of(plan: StoredPlan) -> Work:
    """The work on a ramp. A plan that is started again has another token."""
    name = plan.plan.name
    resume = f"once its cause is mended, `gateway ab start {name}` begins it again"
    return Work(f"ramp of {name}", resume, plan.since if plan.state == "running" else None)
