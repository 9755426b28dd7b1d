"""The plans of the stream server are kept in the store, and put back where the server has lost them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from gateway.core.plan import Plan, PlanState
from gateway.features.experiments.plan_keeper import PlanKeeper
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
