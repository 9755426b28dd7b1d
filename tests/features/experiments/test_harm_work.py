"""The consumer stops a harmful candidate on every gateway; the stop holds until somebody resumes the plan."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.plan import Plan, PlanState
from gateway.features.experiments.start.start_stop import clear_harm
from gateway.store.harm_stops import harm_of
from gateway.store.query import reading


@pytest.fixture
def costly(plan: Plan) -> Plan:
    """A plan of rules 3 that asks for 24 hours of traffic, so that its verdict waits."""
    return replace(
        plan, rules=3, method="hybrid", max_pairs=400, auto_horizon=True, aa="alarm", guardrails=(), repeat_control=1.0,
        after_verdict="stop", margin=0.1, min_hours=24.0,
    )  # fmt: skip


def spread(plan: Plan, paired: Any, pairs: int) -> list[Any]:
    """Pairs whose candidate is worse by 0.4, a minute apart."""
    asked = {"candidate": "0.1", "repeat": "0.5"}
    made = []
    for i in range(pairs):
        made += [replace(record, received=1_000_000.0 + 60.0 * i) for record in paired(plan, "0.5", asked)]
    return made


async def until_harmed(room: Any) -> PlanState:
    async with asyncio.timeout(60):
        while True:
            state = (await room.corridor.state.plans()).get("swap")
            if state is not None and state.harmed:
                return state
            await asyncio.sleep(0.01)


async def test_a_stop_holds_until_it_is_cleared(room: Any, costly: Plan, paired: Any, caplog: Any) -> None:
    caplog.set_level(logging.INFO)
    await room.begin(costly)
    async with room.consuming():
        await room.send(*spread(costly, paired, 60))
        state = await until_harmed(room)
        assert state.running, "the plan goes on, at a twentieth of its shadows"
        assert state.plan == costly, "its hash, and with it each draw, stays"
        await room.corridor.client.delete(f"{room.corridor.state.prefix}:plans")
        again = await until_harmed(room)
        assert again.harm == state.harm, "the store puts it back"
        assert await clear_harm(room.corridor.state, "swap", 7.0)
        await room.until_settled(60)
        await room.send(*spread(costly, paired, 20))
        await room.until_settled(80)
        assert not (await room.corridor.state.plans())["swap"].harmed, "somebody has seen it: it is not stopped again"
    with reading(room.store_url) as connection:
        stored = harm_of(connection, costly.hash)
    assert stored is not None
    assert stored.cleared == 7.0
    said = [record.getMessage() for record in caplog.records if "stopped: harm" in record.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("experiment swap: stopped: harm. After ")


async def test_a_plan_without_a_stop_has_none_to_clear(room: Any, costly: Plan) -> None:
    await room.begin(costly)
    assert not await clear_harm(room.corridor.state, "swap", 7.0)
    assert not await clear_harm(room.corridor.state, "other", 7.0)
