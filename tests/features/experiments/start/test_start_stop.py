"""An experiment is started and stopped once, with any number of callers, and never over another one that takes the same
calls.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
import yaml
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.derive import plans_of
from gateway.config.loading import parse
from gateway.core.errors import CannotRun
from gateway.core.plan import Plan, PlanState
from gateway.core.segments import SegmentDesign
from gateway.features.experiments.start.start_stop import PlanToStart, config_findings, prepared, start, stop
from gateway.scoring.registry import BuiltScorers
from gateway.store.plans import save_plans
from gateway.store.query import reading
from gateway.store.store import Store


async def test_a_plan_that_runs_is_left_as_it_is(room, plan) -> None:
    states = room.corridor.state
    assert await start(states, PlanToStart(plan), ["swap"]) is None
    first = (await states.plans())["swap"]
    again = await start(states, PlanToStart(plan), ["swap"])
    assert again == first
    assert (await states.plans())["swap"].since == first.since


async def test_a_stopped_plan_continues_and_a_closed_one_is_replaced(room, plan) -> None:
    states = room.corridor.state
    await start(states, PlanToStart(replace(plan, method="hybrid", max_pairs=100, auto_horizon=True)), ["swap"])
    assert (await stop(states, "swap")).running
    longer = replace(plan, method="hybrid", max_pairs=300, auto_horizon=True)
    await start(states, PlanToStart(longer), ["swap"])
    kept = (await states.plans())["swap"]
    assert kept.plan.max_pairs == 100, "its horizon was frozen at its first start"
    await stop(states, "swap")
    await start(states, PlanToStart(longer, closed=(kept.plan.hash,)), ["swap"])
    assert (await states.plans())["swap"].plan.max_pairs == 300


async def test_a_rival_in_the_config_is_named_and_others_are_not_rivals(room, plan) -> None:
    states, other = room.corridor.state, replace(plan, name="other")
    await start(states, PlanToStart(plan), ["swap", "other"])
    with pytest.raises(CannotRun, match="swap is running on chat"):
        await start(states, PlanToStart(other), ["swap", "other"])
    await start(states, PlanToStart(other), ["other"])
    assert (await states.plans())["other"].running


async def test_an_experiment_that_never_started_is_not_stopped(room) -> None:
    assert await stop(room.corridor.state, "nobody") is None


def test_a_store_without_earlier_pairs_leaves_the_plan(room, plan, tmp_path) -> None:
    with reading(room.store_url) as connection:
        assert prepared(connection, plan) == PlanToStart(plan)


def by_product(plan: Plan, *values: str) -> Plan:
    """The plan with declared segments whose values recent traffic has shown."""
    frozen = (("metadata.product", values),) if values else ()
    return replace(plan, segments=SegmentDesign(("metadata.product",), 0.16, frozen=frozen))


async def test_other_values_of_segments_are_another_plan(room, plan) -> None:
    states = room.corridor.state
    await start(states, PlanToStart(by_product(plan, "code", "plain")), ["swap"])
    await stop(states, "swap")
    await start(states, PlanToStart(by_product(plan, "plain", "code")), ["swap"])
    assert (await states.plans())["swap"].plan == by_product(plan, "code", "plain"), "only the order differs"
    await stop(states, "swap")
    await start(states, PlanToStart(by_product(plan, "code", "german", "plain")), ["swap"])
    assert (await states.plans())["swap"].plan == by_product(plan, "code", "german", "plain")


async def test_a_plan_whose_segments_were_unknown_is_replaced(room, plan) -> None:
    """A version before this one has started it; `ship` would need nothing of any product."""
    states = room.corridor.state
    known = PlanState(by_product(plan), "running", 1.0)
    assert await states.set_plan(known, None)
    await start(states, PlanToStart(by_product(plan, "code", "plain")), ["swap"])
    assert (await states.plans())["swap"].plan == by_product(plan, "code", "plain")
    await stop(states, "swap")
    with pytest.raises(CannotRun, match="no call of the last day has"):
        await start(states, PlanToStart(by_product(plan), refusal="no call of the last day has it"), ["swap"])


LIKED = """
open: true
upstreams: {a: {kind: fake}}
models: {chat: {targets: [{upstream: a, model: m}]}}
experiments:
  liked:
    model: chat
    control: {upstream: a, model: m}
    candidate: {upstream: a, model: n}
    mode: split
    primary: feedback:thumb
    margin: 0.1
"""


async def test_feedback_that_decides_a_new_plan_has_a_range(room) -> None:
    """A plan that runs goes on, with a caution; the same holds where there is no store to ask."""
    said = "experiment liked: feedback thumb has no range, so that a few votes of -1e15 would decide it; state the lowe"
    config, built = parse(LIKED), BuiltScorers({}, {})
    plan = plans_of(config)["liked"]
    (refusal,) = config_findings(config, built, room.store_url).refusals
    assert refusal.startswith(said)
    assert refusal.endswith("such as `feedback: {range: {thumb: [0, 1]}}`")
    async with Store(room.store_url) as store:
        await store.run(lambda c: save_plans(c, [PlanState(plan, "running", 1.0)], 1.0))
    found = config_findings(config, built, room.store_url)
    assert (found.refusals, refusal in found.cautions) == ((), True)
    away = config_findings(config, built, room.store_url + ".none")
    assert (away.refusals, refusal in away.cautions) == ((), True)
    ranged = parse(LIKED + "feedback: {range: {thumb: [0, 1]}}\n")
    assert not any("range" in text for text in config_findings(ranged, built, room.store_url).cautions)


async def test_ab_start_refuses_feedback_without_a_range(room, tmp_path) -> None:
    path, where = tmp_path / "gateway.yaml", {"url": room.stream_url, "name": room.stream_name}
    more = yaml.safe_dump({"stream": where, "store": {"url": room.store_url}})
    for text, code in ((LIKED, 1), (LIKED + "feedback: {range: {thumb: [0, 1]}}\n", 0)):
        path.write_text(text + more)
        words = ["ab", "start", "liked", "--config", str(path)]
        done = await asyncio.to_thread(CliRunner().invoke, app, words)
        assert done.exit_code == code, done.output
        assert ("feedback thumb has no range" in str(done.exception)) == bool(code)
    assert (await room.corridor.state.plans())["liked"].running
