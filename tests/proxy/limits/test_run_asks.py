"""A run that asks at its ceiling, over sockets: the notice, the page behind its link, and who may add the amount."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest
import yaml

from gateway.config.loading import load_for_console
from gateway.core.exchange import run_key
from gateway.features.runs.live import ended_ceilings
from gateway.features.runs.notice_source import RunNotices
from gateway.features.runs.operations import read_live
from gateway.features.task import TaskContext
from gateway.store.directory import list_audit

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


async def ask(gateway: Any, run: str) -> int:
    answer = await gateway.client.post("/chat/completions", json=CHAT, headers={"x-gateway-run": run})
    return int(answer.status_code)


async def until(done: Callable[[], Awaitable[Any]]) -> Any:
    """Waits until there is something; the gateway exchanges twice a second."""
    end = time.monotonic() + 30
    while not (found := await done()):
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    return found


@pytest.fixture
async def asking(start: Any, configured: Any, upstream: Any) -> Any:
    """A gateway whose runs end after two calls, and ask."""
    config = configured(upstream)
    config["keys"][0]["limits"] = {"per_run": {"calls": 2, "on_end": "ask"}}
    return await start(config)


async def ended(gateway: Any, pages: Any, run: str) -> str:
    """Ends a run, and returns our id of it once the stream server knows."""
    assert [await ask(gateway, run) for _ in range(3)] == [200, 200, 429]
    (use,) = await until(lambda: ended_ceilings(pages.admin.corridor))
    assert (use.on_end, use.ended, use.run) == ("ask", "calls", f"tester/{run}")
    return str(use.run_id)


async def test_the_link_of_the_notice_leads_to_the_button(asking: Any, pages: Any) -> None:
    id = await ended(asking, pages, "task-1")
    source = RunNotices(cast(TaskContext, pages.admin))
    (notice,) = await source.look(time.time())
    assert (notice.title, notice.severity) == ("run tester/task-1 asks for more", "warning")
    assert notice.path == f"/console/runs/{id}"
    assert notice.text.startswith("It has used 2 of 2 calls. Its further calls are refused until somebody adds")
    operator = await pages.login("operator")
    assert "asks for more" in await pages.get(operator, notice.path)
    assert await ask(asking, "task-1") == 429, "until somebody adds to it, calls are refused"
    answer = await pages.send(operator, notice.path, "/console/runs/more", {"run": id})
    assert (answer.status_code, answer.headers["location"]) == (303, notice.path)
    await until(lambda: _passes(asking, "task-1"))
    assert await source.look(time.time()) == []
    assert [await ask(asking, "task-1") for _ in range(2)] == [200, 429]
    (again,) = await until(lambda: source.look(time.time()))
    assert (again.title, again.severity) == ("run tester/task-1 has ended", "info")
    assert again.id != notice.id
    refused = await pages.send(operator, notice.path, "/console/runs/more", {"run": id})
    assert (refused.status_code, "possible once" in refused.text) == (409, True)
    (line,) = await pages.store.read(lambda connection: list_audit(connection, None, 10, id))
    assert (line.actor, line.action, line.kind, line.after["may_use"]) == ("otto", "change", "run", "4 calls")


async def _passes(gateway: Any, run: str) -> bool:
    return await ask(gateway, run) == 200


async def test_viewers_see_live_runs_and_change_none(asking: Any, pages: Any) -> None:
    id = await ended(asking, pages, "task-1")
    viewer = await pages.login("viewer")
    page = await pages.get(viewer, "/console/runs/live")
    assert "1 run with a ceiling had a call in the last day; 1 run waits for a person" in page
    assert f"/console/runs/{id}" in page
    assert "task-1" not in page, "the client's id is for those who may read content"
    assert "Add the original amount" not in await pages.get(viewer, f"/console/runs/{id}")
    for verb in ("stop", "more"):
        assert (await pages.send(viewer, "/console/runs/live", f"/console/runs/{verb}", {"run": id})).status_code == 403


async def test_a_run_has_its_ceilings_as_bars_and_the_dearest_first(
    start: Any, configured: Any, upstream: Any, pages: Any
) -> None:
    config = configured(upstream)
    config["keys"][0]["limits"] = {"per_run": {"usd": 1.0, "calls": 50}}
    config["prices"] = {"as_of": "2026-11-01", "models": {"model-u0": {"input": 100.0, "output": 1000.0}}}
    gateway = await start(config)
    assert [await ask(gateway, run) for run in ("little", *["much"] * 6)] == [200] * 7
    viewer, ids = await pages.login("viewer"), {name: run_key("tester", name) for name in ("little", "much")}

    async def ordered() -> bool:
        page = await pages.get(viewer, "/console/runs/live")
        return all(id in page for id in ids.values()) and page.index(ids["much"]) < page.index(ids["little"])

    await until(ordered)
    page = await pages.get(viewer, f"/console/runs/{ids['much']}")
    bars = page.split('<div class="bar-of">')[1:]
    assert len(bars) == 2, "a bar for each ceiling"
    assert all("<svg" in bar.partition("</div>")[0] for bar in bars)


async def test_an_operator_stops_a_run_on_its_page(asking: Any, pages: Any) -> None:
    assert await ask(asking, "task-2") == 200
    id, operator = run_key("tester", "task-2"), await pages.login("operator")
    await until(lambda: read_live(pages.admin.corridor))
    assert (await pages.send(operator, f"/console/runs/{id}", "/console/runs/stop", {"run": id})).status_code == 303
    await until(lambda: _refused(asking, "task-2"))
    assert await ask(asking, "task-3") == 200
    assert (await pages.send(operator, f"/console/runs/{id}", "/console/runs/stop", {"run": "x"})).status_code == 404


async def _refused(gateway: Any, run: str) -> bool:
    return await ask(gateway, run) == 429


async def test_the_holder_of_the_key_adds_the_amount_once(asking: Any, pages: Any, csrf_of: Any) -> None:
    id = await ended(asking, pages, "task-1")
    config = yaml.safe_load((pages.data / "gateway.yaml").read_text())
    (key,) = yaml.safe_load(asking.config_path.read_text())["keys"]
    own = pages.data / "own.yaml"
    own.write_text(yaml.safe_dump({**config, "open": False, "keys": [key]}))
    pages.config.append(load_for_console(own))
    holder = await pages.client()
    secret = asking.client.headers["authorization"].removeprefix("Bearer ")
    assert (await holder.post("/console/me/login", data={"key": secret})).status_code == 303
    page = await pages.get(holder, "/console/me")
    assert "Runs that wait for you" in page
    strange = await holder.post("/console/me/more", data={"csrf": csrf_of(page), "run": run_key("other", "task-1")})
    assert strange.status_code == 409
    assert (await holder.post("/console/me/more", data={"csrf": csrf_of(page), "run": id})).status_code == 303
    await until(lambda: _passes(asking, "task-1"))
    (line,) = await pages.store.read(lambda connection: list_audit(connection, None, 10, id))
    assert (line.actor, line.role) == ("key:tester", "key")
