"""Commands of people for a ramp: pause, resume, roll back, promote, override. Used by the admin API and the CLI.

A command changes the record on the stream server and appends its event, with the controller's newest evidence, in one
step; every gateway applies it within a second.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from gateway.core.did_you_mean import did_you_mean
from gateway.core.plan import Plan, PlanState
from gateway.core.ramp import (
    RampChange,
    RampDecision,
    RampDesign,
    RampPace,
    RampRecord,
    RampRefused,
    excepted,
    holdout_ended,
    overridden,
    paused,
    promoted,
    resumed,
    rolled_back,
    started,
)
from gateway.core.segments import named_segment, segment_name
from gateway.stream import Corridor

SteeringVerb = Literal["pause", "resume", "rollback"]
"""The commands of every ramp."""
RampVerb = Literal[SteeringVerb, "promote", "override"]
VERBS: tuple[RampVerb, ...] = get_args(RampVerb)
MAX_REASON = 2_000
_TRIES = 5
_WITHOUT_RAMP = ", or serve all but these segments at once: gateway route except {} --write"


class NoRamp(LookupError):
    """There is no such ramp; the message says what is missing: the experiment, the guard or its ramp."""


@dataclass(frozen=True, slots=True)
class RampCommand:
    """One command. by: the person who gives it.

    full: an override goes to all traffic at once; a promotion ends the holdout. kept: names of segments that stay with
    the control, of a promotion without them.
    """

    verb: RampVerb
    by: str
    reason: str
    full: bool = False
    kept: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RampView:
    """One ramp as the stream server holds it."""

    plan: PlanState
    design: RampDesign
    stored: RampRecord | None
    """Record on the server, possibly of an earlier plan."""
    evidence: dict[str, Any]
    """The controller's newest about this plan; {}: none."""

    @property
    def record(self) -> RampRecord | None:
        """Record of this plan; None if the consumer has not seen the plan yet."""
        return self.stored if self.stored is not None and self.stored.plan == self.plan.plan.hash else None

    @property
    def decision(self) -> RampDecision | None:
        """The controller's decision on the evidence."""
        return RampDecision.of(self.evidence)

    @property
    def share(self) -> float:
        return 0.0 if self.record is None else self.record.share(self.design)


async def read_ramp(corridor: Corridor, experiment: str, hint: str = "") -> RampView:
    """hint: what else can be done without a ramp. Raises NoRamp, StreamDown."""
    state = (await corridor.state.plans()).get(experiment)
    if state is None:
        raise NoRamp(f'no experiment "{experiment[:200]}" has been started here')
    if state.plan.ramp is None:
        raise NoRamp(f'experiment "{experiment[:200]}" has no ramp: add `ramp: {{}}` to it in gateway.yaml{hint}')
    record = (await corridor.ramps.records()).get(experiment)
    evidence = await read_evidence(corridor, experiment)
    known = evidence_at(evidence) >= state.since
    return RampView(state, state.plan.ramp, record, evidence if known else {})


async def read_evidence(corridor: Corridor, ramp: str) -> dict[str, Any]:
    """The controller's newest evidence, of whichever run of the ramp. Raises StreamDown."""
    evidence = orjson.loads(await corridor.ramps.evidence(ramp))
    return evidence if isinstance(evidence, dict) else {}


def evidence_at(evidence: Mapping[str, Any]) -> float:
    """Unix seconds; 0.0 if there is none."""
    return float(evidence.get("at") or 0.0)


async def command_ramp(
    corridor: Corridor,
    experiment: str,
    command: RampCommand,
    pace: RampPace,
    clock: Callable[[], float] = time.time,
) -> RampRecord:
    """Gives a command. Returns the record that is now in force.

    Raises RampRefused if the ramp does not allow it now or others kept changing it, NoRamp, StreamDown.
    """

    async def propose() -> ProposedChange:
        view = await read_ramp(corridor, experiment, _WITHOUT_RAMP.format(experiment[:200]) if command.kept else "")
        if not view.plan.running:
            raise RampRefused(f"{experiment}: it is stopped; `gateway ab start {experiment}` starts it")
        change = RampChange(clock(), command.by, command.reason)
        return ProposedChange(view.stored, _after(view, command, change, pace), view.evidence)

    return await make_change(corridor, experiment, command.reason, propose)


@dataclass(frozen=True, slots=True)
class ProposedChange:
    """A change that a person asks for, of the record as it was read. evidence: the controller's newest."""

    before: RampRecord | None
    after: RampRecord
    evidence: Mapping[str, Any]


async def make_change(
    corridor: Corridor, subject: str, reason: str, propose: Callable[[], Awaitable[ProposedChange]]
) -> RampRecord:
    """Makes the change, proposed again where others have changed the record meanwhile. Returns the record in force.

    subject: what people call the ramp. Raises RampRefused, StreamDown.
    """
    if len(reason) > MAX_REASON:
        raise RampRefused(f"{subject}: the reason has {len(reason)} characters; at most {MAX_REASON}")
    if not reason.strip():
        raise RampRefused(f"{subject}: a reason is needed; the audit keeps it")
    for _ in range(_TRIES):
        change = await propose()
        if await corridor.ramps.change(change.before, change.after, orjson.dumps(change.evidence)):
            return change.after
    raise RampRefused(f"{subject}: others changed it at the same time; try again")


def steered(record: RampRecord, verb: SteeringVerb, change: RampChange, cooldown_s: float) -> RampRecord:
    """The record after a command that every ramp has. Raises RampRefused."""
    match verb:
        case "pause":
            return paused(record, change)
        case "resume":
            return resumed(record, change)
        case "rollback":
            return rolled_back(record, change, cooldown_s)


def _declared(plan: Plan, names: tuple[str, ...]) -> tuple[str, ...]:
    """The names as the plan has them. Raises RampRefused for one that is no declared segment of it."""
    known = [segment_name(*each) for each in plan.segments.segments] if plan.segments else []
    found = tuple(segment_name(*named_segment(name)) for name in names)
    for name, segment in zip(names, found, strict=True):
        if segment not in known:
            hint = did_you_mean(segment, known) or f"; it has: {', '.join(known) or 'none'}"
            raise RampRefused(f'{plan.name}: "{name[:200]}" is not one of its segments{hint}')
    return found


def _after(view: RampView, command: RampCommand, change: RampChange, pace: RampPace) -> RampRecord:
    plan = view.plan.plan
    record = view.record or started(plan.name, plan.hash, change, view.stored)
    match command.verb:
        case "pause" | "resume" | "rollback":
            return steered(record, command.verb, change, pace.cooldown_s)
        case "promote" if command.full:
            return holdout_ended(record, view.design, change)
        case "promote" if command.kept:
            return excepted(record, view.design, change, view.decision, _declared(plan, command.kept))
        case "promote":
            return promoted(record, view.design, change, view.decision)
        case "override":
            return overridden(record, view.design, change, full=command.full)
