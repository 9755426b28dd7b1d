"""The consumer stops a harmful candidate on every gateway; the stop holds until somebody resumes the plan."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.plan import Plan, PlanState, StoredPlan
from gateway.features.experiments.report.build import cautions_of
from gateway.features.experiments.start.resume import clear_harm
from gateway.features.experiments.work import figures_of
from gateway.store.harm_stops import harm_of
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.query import reading
from gateway.verdict.findings import Finding, finding


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


def found_in(connection: Any, plan: StoredPlan) -> Finding:
    return finding(StoredEvidence(connection, plan), "candidate")


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


async def test_a_plan_that_has_ended_is_not_stopped_for_harm_now(room: Any, costly: Plan, paired: Any) -> None:
    """The report says that it was, and neither a shadow rate nor a command that would not help."""
    stored = StoredPlan(costly, costly.hash, "running", 1.0)
    await room.begin(costly)
    async with room.consuming():
        await room.send(*spread(costly, paired, 60))
        await until_harmed(room)
        await room.until_settled(60)
        known = (await room.corridor.state.plans())["swap"]
        with reading(room.store_url) as connection:
            assert [figures.harm[:13] for figures in figures_of(connection, 2.0)] == ["stopped: harm"]
            assert any("resume swap" in text for text in cautions_of(connection, found_in(connection, stored)))
        assert await room.corridor.state.set_plan(replace(known, state="stopped"), known)
        await room.until(lambda: room.sql("SELECT state FROM plans") == [("stopped",)])
    with reading(room.store_url) as connection:
        assert [figures.harm for figures in figures_of(connection, 2.0)] == [""]
        said = list(cautions_of(connection, found_in(connection, replace(stored, state="stopped"))))
    assert any(text.startswith("The candidate was stopped for harm. After ") for text in said)
    assert not any("resume swap" in text for text in said)


async def test_a_plan_without_a_stop_has_none_to_clear(room: Any, costly: Plan) -> None:
    await room.begin(costly)
    assert not await clear_harm(room.corridor.state, "swap", 7.0)
    assert not await clear_harm(room.corridor.state, "other", 7.0)
