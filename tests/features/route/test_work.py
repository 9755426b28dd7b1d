"""The watch of routes that serve: no leaf is taken back without reason, a bad one is, and it stays with the control."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
import yaml
from fixtures.learned_routes import ROUTE, a_route
from fixtures.webhooks import SECRET

from gateway.config.derive import plans_of
from gateway.config.routes import ConfiguredRoute, route_path
from gateway.config.upstreams import TargetRef
from gateway.core.learned_route import RETURNED, returned_from_json
from gateway.features.isolation import IsolatedWork, WorkLimits
from gateway.features.notices.rows import due_deliveries
from gateway.features.route.work import RouteWatch, keep_returned, returned_leaves, tolerated_loss, watched_leaves
from gateway.features.task import TaskWorker
from gateway.store.query import reading
from gateway.store.store import Store

TOLERATED = 0.05 / 0.8


def losses(mean: float, n: int, seed: int, leaf: int = 0) -> list[tuple[str, float]]:
    values = np.clip(mean + 0.3 * np.random.default_rng(seed).standard_normal(n), -1, 1)
    return [(f"{ROUTE}/{leaf}", float(value)) for value in values]


def test_the_loss_of_moved_requests_is_the_margin_by_their_share() -> None:
    assert tolerated_loss(a_route()) == pytest.approx(TOLERATED)


def alarms(mean: float, runs: int, n: int) -> int:
    """Runs in which any look of many raises an alarm."""
    found = 0
    for seed in range(runs):
        rows = losses(mean, n, seed)
        found += any(each.alarm for k in range(25, n + 1, 25) for each in watched_leaves(a_route(), rows[:k]))
    return found


def test_a_leaf_that_loses_as_much_as_it_may_is_rarely_taken_back() -> None:
    assert alarms(TOLERATED, 40, 400) <= 40 * 0.05 + 3 * (40 * 0.05 * 0.95) ** 0.5


def test_a_broken_leaf_is_found_soon() -> None:
    assert alarms(0.35, 20, 150) == 20


def test_a_leaf_that_breaks_after_a_long_good_time_is_found_too() -> None:
    rows = [*losses(-0.5, 1500, 1), *losses(0.35, 250, 2)]
    [found] = watched_leaves(a_route(), rows)
    assert (found.alarm, found.pairs <= 350) == (True, True)
    assert not watched_leaves(a_route(), rows[:1500])[0].alarm


def test_each_leaf_is_looked_at_alone() -> None:
    route = a_route(leaves=tuple(replace(leaf, moved=True) for leaf in a_route().leaves))
    found = watched_leaves(route, [*losses(0.5, 200, 1, leaf=1), *losses(0.0, 200, 2), ("other/0", 1.0), ("", 1.0)])
    assert [(each.leaf, each.pairs, each.alarm) for each in found] == [(0, 200, False), (1, 200, True)]


async def test_the_watch_takes_a_leaf_back_permanently(experiment: Any, paired: Any) -> None:
    """Follows a leaf from stored pairs to the shared state that gateways read; a new leaf begins where the previous one
    ended.
    """
    from gateway.config.loading import load

    experiment.configure()
    route = a_route()
    route_path(experiment.path, ROUTE).write_bytes(route.to_json())
    text = experiment.path.read_text().replace("- model: model-u0\n      upstream: u0", f"- route: {ROUTE}")
    hooks = {"ops": {"url": "http://127.0.0.1:1", "secret": SECRET}}
    hooks["other"] = {**hooks["ops"], "experiments": ["swap"]}  # type: ignore[dict-item]
    text += yaml.safe_dump({"webhooks": hooks})
    experiment.path.write_text(text)
    config = load(experiment.path)
    plan = plans_of(config)[f"{ROUTE}-watch"]
    room = experiment.room
    await room.begin(plan)
    records = []
    for i in range(120):
        leaf, large = (0, "0.9") if i % 2 else (1, "0.5")
        records += paired(plan, "0.5", {"candidate": large}, route=f"{ROUTE}/{leaf}", received=1.7e9 + i)
    async with room.consuming():
        await room.send(*records)
        await room.until_settled(120)
    async with Store(room.store_url) as store:
        watch = RouteWatch(TaskWorker(store, "c1"), config, room.corridor)
        assert await watch.look() == {route.digest: frozenset({0})}
        shared = await room.corridor.state.recall(RETURNED)
        assert returned_from_json(shared) == {route.digest: {0}}
        assert await RouteWatch(TaskWorker(store, "c2"), config, room.corridor).look() is None, (
            "another consumer has the lease"
        )
        assert await RouteWatch(TaskWorker(store, "c1"), config, room.corridor).look() == {route.digest: frozenset({0})}
    with reading(room.store_url) as connection:
        assert returned_leaves(connection, route.digest) == {0}
        assert returned_leaves(connection, "0" * 16) == frozenset()
        [told] = due_deliveries(connection, ["ops", "other"], 1e12, 9)
    data = orjson.loads(told.body)["data"]
    assert (told.webhook, told.experiment, told.event) == ("ops", f"{ROUTE}-watch", f"route_{route.digest}_0")
    assert (data["route"], data["leaf"], data["says"]) == (ROUTE, 0, "no code")
    assert data["low"] > data["tolerated"] == pytest.approx(TOLERATED)


async def test_a_route_whose_watch_fails_keeps_no_other_waiting(room: Any, paired: Any, plan: Any) -> None:
    """Leaves of it that were taken back stay so."""
    fine, broken = a_route(name="fine"), a_route(name="broken")
    broken = replace(broken, evidence={"margin": 0.05})
    targets = TargetRef(upstream="u0", model="model-u0"), TargetRef(upstream="u1", model="small")
    config = room.config.with_routes({of.name: ConfiguredRoute(of, *targets) for of in (broken, fine)})
    isolated = IsolatedWork(limits=WorkLimits(tries=2, failing_s=0.0))
    async with Store(room.store_url) as store:
        await store.run(lambda c: keep_returned(c, broken.digest, frozenset({1}), 1.0))
        watch = RouteWatch(TaskWorker(store, "c1", isolated=isolated), config, room.corridor)
        for stopped in ([], ["route broken"], ["route broken"]):
            assert await watch.look() == {broken.digest: {1}, fine.digest: frozenset()}
            assert list(isolated.stopped()) == stopped
