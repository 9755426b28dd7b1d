"""Commands of people for a guard's ramp (promote, pause, resume, roll back), and its state. For the admin API and the
command line.

A command changes the record on the stream server and appends its event, with the controller's newest evidence, in one
step; every gateway applies it within a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, get_args

from gateway.config.config import Config
from gateway.config.guard_ramps import PromotedAction
from gateway.config.guards import GuardConfig
from gateway.core.did_you_mean import did_you_mean
from gateway.core.guard_ramp import GuardRampDesign, design_of, guard_ramp_begun, ramp_in_force, ramp_name
from gateway.core.guards import GuardAction
from gateway.core.ramp import (
    RampAction,
    RampChange,
    RampDecision,
    RampMode,
    RampRecord,
    RampRefused,
    RampState,
    advanced,
)
from gateway.ramps.commands import (
    NoRamp,
    ProposedChange,
    SteeringVerb,
    evidence_at,
    make_change,
    read_evidence,
    steered,
)
from gateway.stream import Corridor

GuardRampVerb = Literal["promote", SteeringVerb]
GUARD_RAMP_VERBS: tuple[GuardRampVerb, ...] = get_args(GuardRampVerb)


class BlockRateOutput(TypedDict):
    """The share of a unit's calls with a hit, averaged over the units, with bounds that hold at every look."""

    rate: float
    low: float
    """The bound of the alarm, which takes the guard back above `max`."""
    high: float
    """The bound of what has to be shown: a step needs it at `max` at most."""
    max: float
    units: int
    rests_on: str
    """The one caller without whom neither is shown; "": none."""


class ComparisonOutput(TypedDict):
    """Bad feedback or retries of the units that are acted on, less those of the others."""

    metric: str
    """Name of the metric: `thumbs_down` or `retries`."""
    difference: float | None
    """Difference; below 0: worse with the action."""
    low: float | None
    high: float | None
    margin: float
    found: str
    """Finding: unclear, inferior (worse by more than the margin), or non_inferior or equivalent (shown not to be)."""
    units: list[int]
    """[not acted on, acted on]."""


class GuardRampOutput(TypedDict):
    """Progress of a guard's promotion, and what its next step waits for."""

    guard: str
    configured: GuardAction
    """The action in gateway.yaml."""
    action: GuardAction
    """The action of the units in `share`; the configured one where no ramp is in force."""
    otherwise: GuardAction
    """The action of the other units."""
    share: float
    """The share of the units that get `action`."""
    to: GuardAction | None
    """The action in the end; null: no ramp has begun."""
    state: RampState | None
    """Phase of the ramp. In the first one, shadow, no unit gets `to`; null if no ramp has begun."""
    step: int
    """The index of the step in force; -1: none."""
    steps: list[float]
    paused: bool
    mode: RampMode
    plan: str | None
    version: int
    since: float | None
    """Unix seconds of the beginning of this state and step."""
    by: str
    """Person or program that made the last change."""
    reason: str
    """Reason of the last change."""
    cooling_until: float | None
    """Unix seconds; before, it does not begin again."""
    decision: RampAction | None
    """Action that the evidence asks for; null: there is none yet."""
    waits_for: list[str]
    """Conditions that the next step waits for, the most important first."""
    block_rate: BlockRateOutput | None
    compared: list[ComparisonOutput]
    at: float | None
    """Unix seconds of the newest evidence."""


class GuardRampsOutput(TypedDict):
    """Progress of the promotions of guards."""

    guards: list[GuardRampOutput]


@dataclass(frozen=True, slots=True)
class GuardRampCommand:
    """One command. by: the person who gives it. to, steps: of a promotion, in place of the config's."""

    verb: GuardRampVerb
    by: str
    reason: str
    to: PromotedAction | None = None
    steps: tuple[float, ...] | None = None


@dataclass(frozen=True, slots=True)
class GuardRampView:
    """A guard's ramp as the stream server has it."""

    guard: str
    config: GuardConfig
    judged_hash: str
    """Hash of what decides its hits in the config in force, with `if_late` as the ramp began with it."""
    record: RampRecord | None
    """The ramp's record; None if no ramp has begun."""
    evidence: Mapping[str, Any]
    """The controller's newest, of this run of the ramp."""

    @property
    def is_of_config(self) -> bool:
        """Whether the ramp was begun with the config in force."""
        design = self.design
        return design is not None and (design.config, design.before) == (self.judged_hash, self.config.action)

    @property
    def design(self) -> GuardRampDesign | None:
        return None if self.record is None else design_of(self.record)

    @property
    def decision(self) -> RampDecision | None:
        return RampDecision.of(self.evidence)


async def read_guard_ramp(corridor: Corridor, config: Config, guard: str) -> GuardRampView:
    """Raises NoRamp, StreamDown."""
    own = config.guards.get(guard)
    if own is None:
        hint = did_you_mean(guard, config.guards) or f"; it has: {', '.join(config.guards) or 'none'}"
        raise NoRamp(f'the config has no guard "{guard[:200]}"{hint}')
    record = (await corridor.ramps.records()).get(ramp_name(guard))
    evidence = await read_evidence(corridor, ramp_name(guard))
    ended = record is not None and record.state in ("rolled_back", "promoted")
    known = ended or (record is not None and evidence_at(evidence) >= record.since)
    design = None if record is None else design_of(record)
    begun = own if design is None else own.begun_as(config.scorers, design.config) or own
    return GuardRampView(guard, own, begun.judged_hash(config.scorers), record, evidence if known else {})


async def command_guard_ramp(
    corridor: Corridor,
    config: Config,
    guard: str,
    command: GuardRampCommand,
    clock: Callable[[], float] = time.time,
) -> GuardRampView:
    """Gives a command. Returns the ramp as it is then.

    Raises RampRefused if the ramp does not allow it now or others kept changing it, NoRamp, StreamDown.
    """

    async def propose() -> ProposedChange:
        view = await read_guard_ramp(corridor, config, guard)
        after = _after(view, config, command, RampChange(clock(), command.by, command.reason))
        return ProposedChange(view.record, after, view.evidence)

    await make_change(corridor, guard, command.reason, propose)
    return await read_guard_ramp(corridor, config, guard)


def _after(view: GuardRampView, config: Config, command: GuardRampCommand, change: RampChange) -> RampRecord:
    record = view.record
    if command.verb == "promote":
        return _promoted(view, config, command, change)
    if record is None:
        raise RampRefused(f"{view.guard}: no ramp has begun; `gateway guard promote {view.guard}` begins one")
    return steered(record, command.verb, change, view.config.ramp.cooldown_s)


def _promoted(view: GuardRampView, config: Config, command: GuardRampCommand, change: RampChange) -> RampRecord:
    """A ramp that begins, or the step that waits for a person."""
    record, known = view.record, view.design
    try:
        design = view.config.ramp_design(config.scorers, command.to, command.steps)
    except ValueError as error:
        raise RampRefused(f"{view.guard}: {error}") from None
    going = view.is_of_config and record is not None and record.state not in ("rolled_back", "stopped")
    if not going or record is None or known is None:
        if record is not None and record.plan == design.hash and change.at < record.cooling_until:
            left = record.cooling_until - change.at
            raise RampRefused(f"{view.guard}: it cools down after a rollback for another {left:.0f} s")
        return guard_ramp_begun(view.guard, design, change, record)
    if record.state == "promoted":
        raise RampRefused(f"{view.guard}: it is promoted already; write `action: {known.to}` into gateway.yaml")
    if command.to not in (None, known.to) or command.steps not in (None, known.steps):
        steps = ", ".join(f"{step:g}" for step in known.steps)
        raise RampRefused(
            f"{view.guard}: its ramp to {known.to} goes by the steps {steps}; roll it back first to begin another"
        )
    decision = view.decision
    if decision is None or not decision.suffices:
        why = decision.reason if decision else "there is no evidence yet: is a consumer running?"
        raise RampRefused(f"{view.guard}: its next step waits: {why}")
    return advanced(record, known.ramp, change)


def guard_ramp_output(view: GuardRampView) -> GuardRampOutput:
    """JSON-able: the guard as it is now."""
    record, design, config, decision = view.record, view.design, view.config, view.decision
    applies = record is not None and design is not None and view.is_of_config
    ramp = ramp_in_force(record, design) if applies else None  # type: ignore[arg-type]
    waits = [] if decision is None or decision.action not in ("hold", "ready") else [decision.reason, *decision.also]
    return {
        "guard": view.guard,
        "configured": config.action,
        "action": config.action if ramp is None else ramp.action,
        "otherwise": config.action if ramp is None else ramp.before,
        "share": 1.0 if ramp is None else ramp.share,
        "to": None if design is None else design.to,
        "state": None if record is None else record.state,
        "step": -1 if record is None else record.step,
        "steps": list(config.ramp.steps if design is None else design.steps),
        "paused": record is not None and record.paused,
        "mode": config.ramp.mode,
        "plan": None if record is None else record.plan,
        "version": 0 if record is None else record.version,
        "since": None if record is None else record.since,
        "by": "" if record is None else record.by,
        "reason": "" if record is None else record.reason,
        "cooling_until": None if record is None else record.cooling_until or None,
        "decision": None if decision is None else decision.action,
        "waits_for": waits if record is not None and record.state in ("shadow", "ramp") else [],
        "block_rate": view.evidence.get("block_rate"),
        "compared": [_comparison(each) for each in view.evidence.get("proofs") or []],
        "at": view.evidence.get("at"),
    }


def _comparison(of: Mapping[str, Any]) -> ComparisonOutput:
    return {
        "metric": of["metric"],
        "difference": of["difference"],
        "low": of["low"],
        "high": of["high"],
        "margin": of["margin"],
        "found": of["found"],
        "units": list(of["units"]),
    }
