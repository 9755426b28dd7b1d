"""The consumer stops a harmful candidate on every gateway; the stop holds until somebody resumes the plan."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from fixtures.rooms import HURRIED, QUICK
from fixtures.secret_of_draws import SECRET

from gateway.config.config import Config
from gateway.consumer.consumer import Consumer
from gateway.core.exchange import Target
from gateway.core.plan import Plan, PlanState, StoredPlan
from gateway.core.ramp import RampDesign, RampPace, RampRecord
from gateway.features.experiments.report.build import cautions_of
from gateway.features.experiments.start.resume import clear_harm, give_command
from gateway.features.experiments.work import ExperimentEngine, figures_of, harm_found, hooks_around
from gateway.features.ramp.work import RampController
from gateway.proxy.experiments.ramp_shares import RampShares
from gateway.proxy.request.call import Call, Caller
from gateway.proxy.routing.assignment import ExperimentAssignments
from gateway.ramps.commands import RampCommand, command_ramp
from gateway.runtime.tasks import Tasks
from gateway.scoring.threads import ScoringThreads
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


@pytest.mark.parametrize("score", ["0.1", "0.5"])
async def test_several_candidates_are_stopped_if_all_do_harm(room: Any, costly: Plan, paired: Any, score: str) -> None:
    """Fewer shadows would delay a harmless one, too."""
    both = replace(costly, candidates=(*costly.candidates, ("other", Target("local", "newer"))), family="even")
    stored = StoredPlan(both, both.hash, "running", 1.0)
    asked = {"candidate": "0.1", "other": score, "repeat": "0.5"}
    await room.begin(both)
    async with room.consuming():
        for i in range(80):
            await room.send(*(replace(r, received=1_000_000.0 + 60.0 * i) for r in paired(both, "0.5", asked)))
        await room.until_settled(80)
        if score == "0.1":
            await until_harmed(room)
    with reading(room.store_url) as connection:
        assert (harm_found(connection, stored, 5.0) is not None) == (score == "0.1")


@contextlib.asynccontextmanager
async def with_ramps(room: Any) -> AsyncIterator[None]:
    """A consumer that also moves ramps, after each step of the experiments."""
    paces = {"swap": RampPace("auto", cooldown_s=0.0)}
    threads = ScoringThreads()
    async with room.opened("c1", QUICK) as (_, context), Tasks() as tasks:
        ramps = RampController(context.store, context.corridor, paces, 0.0, 0.0)
        work = ExperimentEngine(
            context.store, context.corridor, {}, threads, HURRIED, after_step=ramps.step, paces=paces
        )
        consumer = Consumer(replace(context, hooks=hooks_around(work, "c1")), "c1", QUICK)
        running = tasks.start(consumer.run(), "consumer")
        yield
        consumer.stop()
        await running
    threads.close()


class Gateway:
    """One gateway, as it reads the stream server."""

    def __init__(self, room: Any, plan: Plan) -> None:
        self._corridor, self._plan, self._shares = room.corridor, plan, RampShares()
        config = {
            "open": True,
            "upstreams": {"local": {"kind": "fake"}},
            "models": {"chat": {"targets": [{"upstream": "local", "model": "small"}]}},
            "experiments": {
                "swap": {
                    "model": "chat", "control": {"upstream": "local", "model": "small"},
                    "candidate": {"upstream": "local", "model": "new"}, "primary": "stated", "margin": 0.1, "ramp": {},
                }
            },
        }  # fmt: skip
        self._experiments = ExperimentAssignments(Config.model_validate(config))

    async def arms(self) -> set[str]:
        states = await self._corridor.state.plans()
        self._shares.read(await self._corridor.ramps.records(), states)
        self._experiments.follow(states, time.time(), self._shares.by_plan, SECRET)
        one = Call("", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, b"{}")
        calls = (replace(one, id=f"c{i}") for i in range(200))
        return {found.arm for call in calls if (found := self._experiments.of(call, True)) is not None}


async def test_a_ramp_stopped_for_harm_begins_again_once_it_is_resumed(room: Any, costly: Plan, paired: Any) -> None:
    """The candidate's share is 0 within a look, and stays until somebody resumes the ramp, with shadows alone."""
    plan = replace(costly, mode="both", unit="request", shadow=0.9, ramp=RampDesign((0.5, 1.0), 60.0, 3))
    gateway, pace = Gateway(room, plan), RampPace(cooldown_s=0.0)

    async def record() -> RampRecord | None:
        return (await room.corridor.ramps.records()).get("swap")

    async def until(state: str) -> None:
        async with asyncio.timeout(60):
            while (found := await record()) is None or found.state != state:
                await asyncio.sleep(0.01)

    await room.begin(plan)
    async with with_ramps(room):
        await until("shadow")
        await command_ramp(room.corridor, "swap", RampCommand("override", "ada", "go"), pace)
        assert await gateway.arms() == {"control", "candidate"}
        await room.send(*spread(plan, paired, 60))
        state = await until_harmed(room)
        await until("rolled_back")
        found = await record()
        assert found is not None
        assert (found.by, found.reason[:14]) == ("controller", "stopped: harm.")
        assert await gateway.arms() == {"control"}
        resumed = await give_command(room.corridor, "swap", RampCommand("resume", "ada", "mended"), pace)
        assert resumed is not None
        assert (resumed.state, resumed.step) == ("shadow", -1)
        assert await gateway.arms() == {"control"}, "with shadows alone"
        await command_ramp(room.corridor, "swap", RampCommand("override", "ada", "go"), pace)
        assert await gateway.arms() == {"control", "candidate"}
        await room.send(*spread(plan, paired, 20))
        await room.until_settled(80)
        again = (await room.corridor.state.plans())["swap"]
        assert (again.plan.hash, again.harmed) == (state.plan.hash, False), "its draws stay, and nobody is asked twice"
