"""Shared state outside the stream: texts for a while, sums, plans by compare-and-set, heartbeats."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from gateway.config.derive import plan_of
from gateway.config.experiments import Experiment
from gateway.core.plan import PlanState


def a_state(margin: float = 0.02) -> PlanState:
    arms = {"control": {"upstream": "u", "model": "m"}, "candidate": {"upstream": "v", "model": "m"}}
    settings = Experiment.model_validate({"model": "chat", "shadow": 0.3, "margin": margin, **arms})
    return PlanState(plan_of("swap", settings, 600.0), "running", 1.0)


async def test_a_small_text_is_shared_for_a_while(corridor):
    await corridor.state.remember("home", "u1", 60)
    assert await corridor.state.recall("home") == "u1"
    assert await corridor.state.recall("nothing") is None
    assert await corridor.state.recall_all(["home", "nothing"]) == ["u1", None]
    assert await corridor.state.recall_all([]) == []
    assert 0 < await corridor.client.ttl(f"{corridor.state.prefix}:home") <= 60


async def test_sums_are_those_of_all_who_add(corridor):
    await asyncio.gather(*(corridor.state.add("spent", {"judge:usd": 0.25, "judge:tokens": 10}, 60) for _ in range(8)))
    assert await corridor.state.add("spent", {"judge:usd": 1.0}) == {"judge:usd": 3.0}
    assert await corridor.state.sums("spent") == {"judge:usd": 3.0, "judge:tokens": 80.0}
    assert await corridor.state.add("spent", {}) == {}
    assert await corridor.state.sums("nothing") == {}


async def test_the_second_of_two_writers_of_a_plan_is_refused(corridor):
    ours, theirs = a_state(0.02), a_state(0.05)
    done = await asyncio.gather(corridor.state.set_plan(ours), corridor.state.set_plan(theirs))
    assert sorted(done) == [False, True]
    (lies,) = (await corridor.state.plans()).values()
    assert await corridor.state.set_plan(replace(lies, state="stopped"), instead_of=lies)
    assert not await corridor.state.set_plan(ours, instead_of=lies), "it is no longer what lies there"
    assert (await corridor.state.plans())["swap"].state == "stopped"


async def test_entries_that_are_not_plans_are_left_out(corridor):
    await corridor.client.hset(f"{corridor.state.prefix}:plans", mapping={"odd": b"{", "older": b'{"plan": {}}'})
    assert await corridor.state.plans() == {}


async def test_gateways_are_known_until_they_leave(corridor):
    await corridor.state.set_gateway_heartbeat("g1", {"at": 1.0, "host": "a"})
    await corridor.state.set_gateway_heartbeat("g1", {"at": 2.0, "host": "a"})
    assert await corridor.state.gateways() == {"g1": {"at": 2.0, "host": "a"}}
    await corridor.state.forget_gateway("g1")
    assert await corridor.state.gateways() == {}


async def test_a_text_is_swapped_only_if_nobody_has_changed_it(corridor):
    state = corridor.state
    assert await state.swap("note", "", "one", 60)
    assert not await state.swap("note", "", "two", 60)
    assert await state.swap("note", "one", "two", 60)
    assert [await state.recall("note"), await state.swap("note", "one", "three", 60)] == ["two", False]
