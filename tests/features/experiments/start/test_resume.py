"""`gateway ab resume` and its API end a stop for harm, whatever has happened between the two changes that it makes."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.plan import HarmStop, Plan, PlanState
from gateway.core.ramp import RampChange, RampPace, RampRecord, RampRefused, resumed, rolled_back
from gateway.features.experiments.start.resume import clear_harm, give_command, resume_alone
from gateway.ramps.commands import NoRamp, RampCommand
from gateway.stream import Corridor

RESUME = RampCommand("resume", "ada", "seen")
SOON = RampPace(cooldown_s=0.0)


@pytest.fixture
async def ramp(corridor: Corridor, ramp_on_server: Any) -> Any:
    """A ramp at its first step whose candidate is stopped for harm, before it is rolled back."""
    found = ramp_on_server(corridor, at=time.time() - 60.0)
    await found.plan_runs()
    await found.begins()
    await found.steps()
    await harmed(corridor, found.at)
    return found


async def harmed(corridor: Corridor, at: float) -> None:
    known = (await corridor.state.plans())["swap"]
    assert await corridor.state.set_plan(replace(known, harm=HarmStop(at, 60, -0.3, 7.5)), known)


async def is_harmed(corridor: Corridor) -> bool:
    return (await corridor.state.plans())["swap"].harmed


async def resumed_record(corridor: Corridor, command: RampCommand) -> RampRecord:
    record = await give_command(corridor, "swap", command, SOON)
    assert record is not None
    return record


async def change(ramp: Any, after: Any) -> None:
    assert await ramp.corridor.ramps.change(await ramp.record(), after, b"{}")


async def test_a_ramp_begins_again_and_the_stop_ends(corridor: Corridor, ramp: Any) -> None:
    await change(ramp, rolled_back(await ramp.record(), RampChange(ramp.at, "controller", "harm"), 0.0))
    record = await resumed_record(corridor, RESUME)
    assert (record.state, record.step) == ("shadow", -1)
    assert not await is_harmed(corridor)


async def test_a_stop_that_outlived_the_resumed_ramp_ends(corridor: Corridor, ramp: Any) -> None:
    """The stream server was lost between both changes: the ramp refuses to be resumed again, the stop does not."""
    back = rolled_back(await ramp.record(), RampChange(ramp.at, "controller", "harm"), 0.0)
    await change(ramp, back)
    await change(ramp, resumed(await ramp.record(), RampChange(ramp.at + 1.0, "ada", "seen")))
    assert await is_harmed(corridor)
    assert (await resumed_record(corridor, RESUME)).state == "shadow"
    assert not await is_harmed(corridor)


async def test_a_ramp_that_cools_down_stays_stopped(corridor: Corridor, ramp: Any) -> None:
    await change(ramp, rolled_back(await ramp.record(), RampChange(time.time(), "controller", "harm"), 3600.0))
    with pytest.raises(RampRefused, match="cools down"):
        await resumed_record(corridor, RESUME)
    assert await is_harmed(corridor)


async def test_an_override_ends_the_stop(corridor: Corridor, ramp: Any) -> None:
    """A stop that stayed would leave the ramp at a step that serves nobody."""
    record = await resumed_record(corridor, RampCommand("override", "ada", "it ends"))
    assert (record.state, record.step) == ("ramp", 1)
    assert not await is_harmed(corridor)


async def test_a_command_at_the_same_time_does_not_hide_the_resume(corridor: Corridor, ramp: Any) -> None:
    """Between reading and writing, a consumer changes the same plan once."""
    states, plans = corridor.state, corridor.state.plans
    changed: list[PlanState] = []

    async def meddled() -> dict[str, PlanState]:
        found = await plans()
        if not changed:
            changed.append(replace(found["swap"], dropped=("candidate",)))
            assert await states.set_plan(changed[0], found["swap"])
        return found

    states.plans = meddled  # type: ignore[method-assign]
    assert await clear_harm(states, "swap", 9.0)
    assert not await is_harmed(corridor)
    assert not await resume_alone(states, "swap", 9.0), "it has a ramp"


async def test_a_plan_without_a_ramp_goes_on_once(corridor: Corridor, ramp_on_server: Any, plan: Plan) -> None:
    """A second command is for a ramp, which it does not have."""
    await ramp_on_server(corridor, plan=replace(plan, name="swap", ramp=None), at=time.time() - 60.0).plan_runs()
    await harmed(corridor, time.time())
    assert await give_command(corridor, "swap", RESUME, SOON) is None
    assert not await is_harmed(corridor)
    with pytest.raises(NoRamp):
        await give_command(corridor, "swap", RESUME, SOON)
