"""Resuming what was stopped for harm. A plan without a ramp goes on with all of its shadows and units; a ramp that was
rolled back for it begins again with shadows."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from gateway.core.errors import CannotRun
from gateway.core.plan import PlanState
from gateway.core.ramp import RampPace, RampRecord
from gateway.ramps.commands import RampCommand, RampVerb, command_ramp
from gateway.stream import Corridor
from gateway.stream.shared_state import SharedState

_RESUMING: tuple[RampVerb, ...] = ("resume", "override")
"""Commands after which a candidate that was stopped for harm may serve again."""
_TRIES = 5


async def clear_harm(states: SharedState, name: str, now: float) -> bool:
    """Ends the stop of a plan; its pairs and draws are kept. Returns whether there was one. now: Unix seconds. Raises
    CannotRun, StreamDown."""
    for _ in range(_TRIES):
        known = (await states.plans()).get(name)
        if known is None or known.harm is None or not known.harmed:
            return False
        if await states.set_plan(replace(known, harm=replace(known.harm, cleared=now)), known):
            return True
    raise CannotRun(f"{name}: other commands change it at the same time; see `gateway ab status {name}`")


async def resume_alone(states: SharedState, name: str, now: float) -> bool:
    """Resumes a plan without a ramp that was stopped for harm; of one with a ramp, the ramp is resumed first. Returns
    whether it was. Raises CannotRun, StreamDown."""
    known = (await states.plans()).get(name)
    return known is not None and known.plan.ramp is None and await clear_harm(states, name, now)


async def give_command(
    corridor: Corridor, name: str, command: RampCommand, pace: RampPace, clock: Callable[[], float] = time.time
) -> RampRecord | None:
    """Gives a command for a candidate. Returns the record that is now in force; None if a plan without a ramp goes on
    after its stop for harm. Raises RampRefused, NoRamp, CannotRun, StreamDown."""
    if command.verb == "resume" and await resume_alone(corridor.state, name, clock()):
        return None
    change = _resume_ramp if command.verb in _RESUMING else command_ramp
    return await change(corridor, name, command, pace, clock)


async def _resume_ramp(
    corridor: Corridor, name: str, command: RampCommand, pace: RampPace, clock: Callable[[], float] = time.time
) -> RampRecord:
    """Gives a command of _RESUMING, and then ends the stop of the plan. Returns the record that is now in force. Raises
    RampRefused, NoRamp, CannotRun, StreamDown."""
    known, record = (await corridor.state.plans()).get(name), (await corridor.ramps.records()).get(name)
    if known is None or record is None or command.verb != "resume" or not _has_begun_again(known, record):
        record = await command_ramp(corridor, name, command, pace, clock)
    await clear_harm(corridor.state, name, clock())
    return record


def _has_begun_again(known: PlanState, record: RampRecord) -> bool:
    """Whether the ramp was resumed after the stop of its plan, and the stop did not end with it."""
    if known.harm is None or not known.harmed or record.plan != known.plan.hash or record.paused:
        return False
    return record.state in ("shadow", "ramp") and record.at > known.harm.at
