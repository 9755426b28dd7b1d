"""The admin API's operations on the ramps of guards: by role, with a reason, audited."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import yaml
from fixtures.consoles import a_config

from gateway.config.loading import parse
from gateway.core.guard_ramp import ramp_name
from gateway.core.ramp import CONTROLLER
from gateway.features.guards.ramp.work import GuardRampController, GuardRampSettings
from gateway.features.task import TaskWorker
from gateway.store.ramp_events import add_ramp_events
from gateway.stream import Corridor

INJECTION = {"on": "request", "scorer": "prompt_injection", "ramp": {"cooldown_s": 0}}


@pytest.fixture
async def guarded(admin: Any, corridor: Corridor, serving: Any) -> AsyncIterator[Any]:
    """A console whose config has a guard."""
    config = parse(yaml.safe_dump(a_config(guards={"injection": INJECTION})))
    async with serving(replace(admin, config=lambda: config), corridor) as running:
        yield running


async def test_a_guard_is_promoted_and_taken_back(guarded: Any) -> None:
    otto = guarded.clients["operator"]
    listed = (await guarded.clients["viewer"].get("/guards")).json()
    assert [(g["guard"], g["state"], g["action"]) for g in listed["data"]] == [("injection", None, "observe")]
    begun = await otto.post("/guards/injection/promote", json={"reason": "as agreed", "steps": [0.5, 1.0]})
    assert begun.status_code == 200, begun.text
    found = begun.json()
    assert (found["state"], found["action"], found["to"], found["by"]) == ("shadow", "flag", "block", "otto")
    assert found["steps"] == [0.5, 1.0]
    assert (await otto.post("/guards/injection/pause", json={"reason": "wait"})).json()["paused"] is True
    assert (await otto.post("/guards/injection/resume", json={"reason": "go"})).json()["paused"] is False
    back = (await otto.post("/guards/injection/rollback", json={"reason": "complaints"})).json()
    assert (back["state"], back["action"]) == ("rolled_back", "observe")
    assert (await guarded.clients["viewer"].get("/guards/injection")).json() == back


@pytest.mark.parametrize("verb", ["promote", "pause", "resume", "rollback"])
async def test_each_command_needs_the_role_and_a_reason(guarded: Any, verb: str) -> None:
    path = f"/guards/injection/{verb}"
    assert (await guarded.clients["viewer"].post(path, json={"reason": "x"})).status_code == 403
    for body in ({}, {"reason": ""}, {"reason": "  "}, {"reason": 5}, {"reason": "x", "share": 1}):
        refused = await guarded.owner.post(path, json=body)
        assert refused.status_code == 400, (body, refused.text)


@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("/guards/injektion/promote", {}, 404, 'did you mean "injection"'),
        ("/guards/injection/pause", {}, 409, "no ramp has begun"),
        ("/guards/injection/promote", {"steps": [0.5, 0.1, 1]}, 400, "steps"),
        ("/guards/injection/promote", {"to": "observe"}, 400, "to"),
    ],
)
async def test_a_mistake_is_named(guarded: Any, path: str, body: dict[str, Any], status: int, message: str) -> None:
    found = await guarded.owner.post(path, json={"reason": "x", **body})
    assert found.status_code == status, found.text
    assert message in str(found.json()["error"])


async def test_the_history_has_each_change(guarded: Any) -> None:
    assert (await guarded.owner.get("/guards/injection/history")).json() == {"data": [], "next": None}
    assert (await guarded.owner.get("/guards/nothing/history")).status_code == 404
    await guarded.owner.post("/guards/injection/promote", json={"reason": "as agreed"})
    await guarded.owner.post("/guards/injection/rollback", json={"reason": "complaints"})
    waiting = await guarded.corridor.ramps.waiting()
    await guarded.admin.store.run(lambda c: add_ramp_events(c, waiting.events))
    page = (await guarded.owner.get("/guards/injection/history?limit=1")).json()
    assert [(c["kind"], c["by"], c["reason"]) for c in page["data"]] == [("rolled_back", "ada", "complaints")]
    rest = (await guarded.owner.get(f"/guards/injection/history?before={page['next']}")).json()
    assert [c["kind"] for c in rest["data"]] == ["begun"]


async def test_a_consumer_ends_the_ramp_of_a_changed_guard(guarded: Any, room: Any, corridor: Corridor) -> None:
    from gateway.store.store import Store

    await guarded.owner.post("/guards/injection/promote", json={"reason": "as agreed"})
    changed = parse(yaml.safe_dump(a_config(guards={"injection": {**INJECTION, "threshold": 0.9}})))
    async with Store(room.store_url) as store:
        controller = GuardRampController(TaskWorker(store, "c1"), corridor, GuardRampSettings.of(changed))
        await controller.look()
        record = (await corridor.ramps.records())[ramp_name("injection")]
        assert (record.state, record.by) == ("stopped", CONTROLLER)
        assert "config has changed" in record.reason


async def test_a_stream_server_that_lost_its_data_gets_the_ramp_back(
    guarded: Any, room: Any, corridor: Corridor
) -> None:
    from gateway.store.store import Store

    await guarded.owner.post("/guards/injection/promote", json={"reason": "as agreed"})
    before = (await corridor.ramps.records())[ramp_name("injection")]
    async with Store(room.store_url) as store:
        controller = GuardRampController(
            TaskWorker(store, "c1"), corridor, GuardRampSettings.of(guarded.admin.config())
        )
        await controller.look()
        await corridor.client.flushdb()
        await controller.look()
    after = (await corridor.ramps.records())[ramp_name("injection")]
    assert (after.state, after.step, after.design, after.version) == ("shadow", -1, before.design, before.version + 1)
    assert "put back" in after.reason
