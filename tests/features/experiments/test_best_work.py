"""The consumer drops candidates, tells the gateways by the stream server, and ends the experiment with the best."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated import a_plan

from gateway.core.exchange import Target
from gateway.core.plan import Plan, PlanState, StoredPlan
from gateway.features.experiments.rows.dropped import dropped_of
from gateway.features.experiments.start.start_stop import PlanToStart, best_refusal, start, stop
from gateway.scorers.edit_distance import EditDistance
from gateway.scoring.registry import BuiltScorers, RegisteredPair
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.query import reading
from gateway.verdict.findings import findings

ARMS = {"fast": "0.9", "slow": "0.5", "tiny": "0.1"}


@pytest.fixture
def several(plan: Plan) -> Plan:
    """Three candidates, compared with each other and with the control."""
    arms = tuple((arm, Target("local", arm)) for arm in sorted(ARMS))
    return replace(
        plan, candidates=arms, family="best", method="hybrid", max_pairs=400, aa="alarm", guardrails=(),
        repeat_control=1.0, after_verdict="stop", margin=0.1,
    )  # fmt: skip


def traffic(plan: Plan, paired: Any, n: int, arms: Any = tuple(ARMS)) -> list[Any]:
    asked = {**{arm: ARMS[arm] for arm in arms}, "repeat": "0.5"}
    return [each for _ in range(n) for each in paired(plan, "0.5", asked)]


async def until_dropped(room: Any, *arms: str) -> PlanState:
    async with asyncio.timeout(60):
        while (state := (await room.corridor.state.plans())["swap"]).dropped != arms:
            await asyncio.sleep(0.01)
    return state


async def test_the_gateways_learn_who_is_dropped(room: Any, several: Plan, paired: Any, caplog: Any) -> None:
    """One candidate is rejected, one is beaten, and the experiment stops with the third."""
    caplog.set_level(logging.INFO)
    await room.begin(several)
    async with room.consuming():
        await room.send(*traffic(several, paired, 60))
        async with asyncio.timeout(60):
            while (await room.corridor.state.plans())["swap"].running:
                await asyncio.sleep(0.01)
    state = (await room.corridor.state.plans())["swap"]
    assert (state.dropped, state.plan) == (("slow", "tiny"), several), "the plan, and with it each draw, stays"
    with reading(room.store_url) as connection:
        dropped = dropped_of(connection, several.hash)
        best = findings(StoredEvidence(connection, StoredPlan(several, several.hash, "stopped", 1.0)))["fast"].best
    assert set(dropped) == {"slow", "tiny"}
    assert (dropped["slow"].reason, dropped["slow"].by) == ("beaten", "fast")
    assert (best.verdict, best.best) == ("best", "fast")
    said = [record.getMessage() for record in caplog.records if "gets no more requests" in record.getMessage()]
    assert len(said) == 2, "once each"
    slow = "experiment swap: slow gets no more requests: worse than fast on stated (difference +0.40, interval"
    assert any(each.startswith(slow) for each in said)


async def test_another_consumer_and_another_server_know_who_is_dropped(room: Any, several: Plan, paired: Any) -> None:
    """The store has it; the stream server gets it back, also after it has lost everything."""
    lasting = replace(several, after_verdict="continue")
    await room.begin(lasting)
    async with room.consuming("one"):
        await room.send(*traffic(lasting, paired, 60))
        await until_dropped(room, "slow", "tiny")
    known = (await room.corridor.state.plans())["swap"]
    assert await room.corridor.state.set_plan(replace(known, dropped=()), known)
    async with room.consuming("two"):
        await until_dropped(room, "slow", "tiny")
        await room.send(*traffic(lasting, paired, 10, arms=("fast",)))
        await room.until_settled(70)
    await room.corridor.client.delete(f"{room.corridor.state.prefix}:plans")
    async with room.consuming("three"):
        async with asyncio.timeout(60):
            while "swap" not in await room.corridor.state.plans():
                await asyncio.sleep(0.01)
        await until_dropped(room, "slow", "tiny")
        assert (await room.corridor.state.plans())["swap"].running


async def test_a_plan_that_starts_again_has_its_drops(room: Any, several: Plan) -> None:
    states, dropped = room.corridor.state, ("slow", "tiny")
    assert await states.set_plan(PlanState(several, "running", 1.0, dropped=dropped))
    await stop(states, "swap")
    assert (await states.plans())["swap"].dropped == dropped
    await start(states, PlanToStart(several), ["swap"])
    again = (await states.plans())["swap"]
    assert (again.running, again.dropped) == (True, dropped)
    await start(states, PlanToStart(replace(several, margin=0.2)), ["swap"])
    assert (await states.plans())["swap"].dropped == (), "another plan starts from zero"


@pytest.fixture
def built() -> Callable[..., BuiltScorers]:
    """A distance between two answers, under this name."""
    return lambda name: BuiltScorers({}, {name: RegisteredPair(EditDistance(name), 1.0, 10.0, "c1")})


def test_a_primary_that_no_candidate_has_alone_is_refused(built: Any) -> None:
    arms = tuple((arm, Target("b", arm)) for arm in ARMS)
    plan = a_plan(candidates=arms, primary="edit", family="best")
    refusal = best_refusal(plan, built("edit"))
    assert refusal is not None
    assert refusal.startswith("experiments.swap.primary: edit compares an answer with the served one, so two")
    assert "or set `family: holm`" in refusal
    assert best_refusal(replace(plan, family="holm"), built("edit")) is None
    assert best_refusal(plan, built("another")) is None
