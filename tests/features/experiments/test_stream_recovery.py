"""The plans of the stream server are kept in the store, and put back where the server has lost them."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.secret_of_draws import SECRET

from gateway.core.plan import Plan, PlanState
from gateway.features.experiments.stream_recovery import DrawSecret, PlanKeeper
from gateway.store.store import Store
from gateway.stream import Corridor


async def test_each_experiment_gets_its_newest_plan_back(
    stream_url: str, stream_name: str, tmp_path: Path, plan: Plan
) -> None:
    """One that was stopped is stopped; one that somebody has started again in between stays as it is."""
    corridor = Corridor(stream_url, stream_name)
    state = corridor.state
    first, second, other = replace(plan, margin=0.2), plan, replace(plan, name="other")
    async with Store(f"sqlite:///{tmp_path}/s.db") as store:
        keeper = PlanKeeper(store, state, lambda: 9.0)
        for made in (PlanState(first, "running", 1.0), PlanState(second, "stopped", 2.0)):
            assert await state.set_plan(made, (await state.plans()).get(plan.name))
            await keeper.keep()
        assert await state.set_plan(PlanState(other, "running", 3.0))
        await keeper.keep()
        for again in (keeper, PlanKeeper(store, state, lambda: 9.0)):
            await corridor.client.delete(f"{state.prefix}:plans")
            newer = PlanState(replace(other, margin=0.3), "running", 4.0)
            assert await state.set_plan(newer)
            await again.keep()
            there = await state.plans()
            assert (there[plan.name].plan, there[plan.name].state, there[plan.name].since) == (second, "stopped", 2.0)
            assert there["other"] == newer
    await corridor.aclose()


@pytest.fixture
async def corridor(stream_url: str, stream_name: str) -> Any:
    """A corridor of the test's own."""
    opened = Corridor(stream_url, stream_name)
    yield opened
    await opened.aclose()


async def test_consumers_agree_on_one_secret(corridor: Corridor, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    async with Store(url) as one, Store(url) as other:
        await asyncio.gather(*(DrawSecret(store, corridor.state).keep() for store in (one, other)))
        made = await corridor.state.draw_secret()
        assert made is not None
        assert len(made) == 32
        await asyncio.gather(*(DrawSecret(store, corridor.state).keep() for store in (one, other)))
        assert await corridor.state.draw_secret() == made


async def test_a_server_that_lost_its_data_gets_the_same_secret_back(
    corridor: Corridor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with Store(f"sqlite:///{tmp_path}/s.db") as store:
        kept = DrawSecret(store, corridor.state)
        await kept.keep()
        made = await corridor.state.draw_secret()
        for keeper in (kept, DrawSecret(store, corridor.state)):
            await corridor.client.delete(f"{corridor.state.prefix}:draw-secret")
            assert await corridor.state.draw_secret() is None
            await keeper.keep()
            assert await corridor.state.draw_secret() == made
    assert made is not None
    assert made.hex() not in caplog.text


async def test_a_new_store_takes_over_the_servers_secret(corridor: Corridor, tmp_path: Path) -> None:
    await corridor.state.set_draw_secret(SECRET)
    async with Store(f"sqlite:///{tmp_path}/s.db") as store:
        await DrawSecret(store, corridor.state).keep()
        assert await corridor.state.draw_secret() == SECRET
        await corridor.client.delete(f"{corridor.state.prefix}:draw-secret")
        await DrawSecret(store, corridor.state).keep()
        assert await corridor.state.draw_secret() == SECRET


async def test_the_stores_secret_replaces_that_of_another_store(
    corridor: Corridor, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with Store(f"sqlite:///{tmp_path}/s.db") as store:
        keeper = DrawSecret(store, corridor.state)
        await keeper.keep()
        made = await corridor.state.draw_secret()
        await corridor.state.set_draw_secret(SECRET)
        await keeper.keep()
        assert await corridor.state.draw_secret() == made
    assert "had the secret of another store" in caplog.text
