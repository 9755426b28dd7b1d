"""The watch of routes that serve: no leaf is taken back without reason, a bad one is, and it stays with the control."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
import yaml
from fixtures.learned_routes import ROUTE, a_route
from fixtures.webhooks import SECRET

from gateway.config.derive import plans_of
from gateway.config.routes import ConfiguredRoute, route_path
from gateway.config.upstreams import TargetRef
from gateway.core.learned_route import RETURNED, returned_from_json
from gateway.core.plan import RULES
from gateway.features.isolation import IsolatedWork, WorkLimits
from gateway.features.notices.rows import due_deliveries
from gateway.features.route.rows import watched_pairs
from gateway.features.route.watch.alarm import watched_leaves
from gateway.features.route.work import RouteWatch, keep_returned, returned_leaves
from gateway.features.task import TaskWorker
from gateway.store.query import reading
from gateway.store.store import Store

TOLERATED = 0.05 / 0.8


@pytest.mark.parametrize("rules", [2, RULES])
async def test_the_watch_takes_a_leaf_back_permanently(experiment: Any, paired: Any, rules: int) -> None:
    """Follows a leaf from stored pairs to the shared state that gateways read; a new leaf begins where the previous one
    ended. A watch that was started with older rules keeps them: pairs of one key count alone.
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
    plan = replace(plans_of(config)[f"{ROUTE}-watch"], rules=rules)
    room = experiment.room
    await room.begin(plan)
    records = []
    for i in range(120):
        leaf, large = (0, "0.9") if i % 2 else (1, "0.5")
        of = {"route": f"{ROUTE}/{leaf}", "received": 1.7e9 + i, "user_digest": f"{i:024x}" if rules > 2 else None}
        records += paired(plan, "0.5", {"candidate": large}, **of)
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
        watched = watched_pairs(connection, f"{ROUTE}-watch", "valid_json")
        [told] = due_deliveries(connection, ["ops", "other"], 1e12, 9)
    data = orjson.loads(told.body)["data"]
    assert (told.webhook, told.experiment, told.event) == ("ops", f"{ROUTE}-watch", f"route_{route.digest}_0")
    assert (data["route"], data["leaf"], data["says"]) == (ROUTE, 0, "no code")
    assert data["low"] > data["tolerated"] == pytest.approx(TOLERATED)
    assert (watched.rules, len(watched.pairs)) == (rules, 120)
    unnamed = replace(watched, pairs=tuple(replace(pair, user=None) for pair in watched.pairs), rules=RULES)
    assert not any(leaf.alarm for leaf in watched_leaves(route, unnamed)), "two minutes of one key are one session"


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
