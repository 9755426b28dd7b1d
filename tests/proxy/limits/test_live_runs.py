"""Live runs as a person sees them with `gateway runs`: their ceilings, a stop, and an amount that a person adds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.cli.options import command_line
from gateway.config.stream import StreamConfig
from gateway.core.errors import CannotRun
from gateway.core.exchange import run_key
from gateway.store.directory import list_audit
from gateway.store.location import default_url
from gateway.store.query import reading
from gateway.stream.connect import close, connect

CHAT = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


@pytest.fixture
def verb(tmp_path: Path) -> Callable[..., Any]:
    """Runs a verb on a config, in a thread: it has an event loop of its own."""

    async def run(gateway: Any, *words: str, data: Path = tmp_path / "cli") -> Any:
        options = ["--config", str(gateway.config_path), "--data", str(data)]
        result = await asyncio.to_thread(CliRunner().invoke, app, ["runs", *words, *options])
        assert result.exception is None or isinstance(result.exception, CannotRun), result.exception
        return result

    return run


async def ask(gateway: Any, run: str) -> int:
    answer = await gateway.client.post("/chat/completions", json=CHAT, headers={"x-gateway-run": run})
    return int(answer.status_code)


@pytest.fixture
async def limited_runs(start: Any, configured: Any, upstream: Any) -> Callable[..., Any]:
    """Starts a gateway whose key has this ceiling."""

    async def go(**ceiling: Any) -> Any:
        config = configured(upstream)
        config["keys"][0]["limits"] = {"per_run": ceiling}
        return await start(config)

    return go


async def test_a_person_sees_a_run_and_adds_to_it_once(limited_runs: Any, verb: Any) -> None:
    gateway = await limited_runs(calls=2, on_end="ask")
    assert [await ask(gateway, "task-1") for _ in range(3)] == [200, 200, 429]
    assert await ask(gateway, "task-2") == 200
    listed = await verb(gateway, "--live", "--json")
    conforms("runs", listed.stdout)
    found = {row["run"]: row for row in orjson.loads(listed.stdout)}
    assert (found["tester/task-1"]["amount"], found["tester/task-1"]["ceiling"]) == (2.0, "calls")
    assert found["tester/task-1"]["spent"] + found["tester/task-1"]["reserved"] >= 2
    assert "tester/task-1" in (await verb(gateway, "--live")).stdout
    assert "may use 4 calls now" in (await verb(gateway, "more", "task-1")).stdout
    await until(lambda: ask(gateway, "task-1"), 200)
    assert [await ask(gateway, "task-1") for _ in range(2)] == [200, 429]
    assert "possible once" in str((await verb(gateway, "more", "task-1")).exception)


async def test_minutes_are_added_once(limited_runs: Any, verb: Any, stream_url: str, stream_name: str) -> None:
    """The first call is moved into the past on the stream server: clocks that step are the server's."""
    gateway = await limited_runs(minutes=10)
    assert await ask(gateway, "task-1") == 200
    client = connect(stream_url, StreamConfig())
    (record,) = [key async for key in client.scan_iter(f"{{{stream_name}:limits}}:r:*")]
    await client.hincrby(record, "b", -11 * 60_000)
    await close(client)
    await until(lambda: ask(gateway, "task-1"), 429)

    async def more() -> bool:
        return "may use 20 minutes now" in (await verb(gateway, "more", "task-1")).stdout

    await until(more, True)
    await until(lambda: ask(gateway, "task-1"), 200)
    assert "possible once" in str((await verb(gateway, "more", "task-1")).exception)


async def test_a_person_stops_a_run_and_no_other(limited_runs: Any, verb: Any) -> None:
    gateway = await limited_runs(calls=1_000_000)
    assert [await ask(gateway, "task-2"), await ask(gateway, "task-3")] == [200, 200]
    await verb(gateway, "stop", "task-2")
    await until(lambda: ask(gateway, "task-2"), 429)
    answer = await gateway.client.post("/chat/completions", json=CHAT, headers={"x-gateway-run": "task-2"})
    assert answer.json()["error"]["message"].startswith("a person has stopped this run")
    assert await ask(gateway, "task-3") == 200


async def test_a_run_without_a_ceiling_can_be_stopped_by_our_id(limited_runs: Any, verb: Any) -> None:
    gateway = await limited_runs()
    assert await ask(gateway, "task-2") == 200
    await verb(gateway, "stop", run_key("tester", "task-2"))
    await until(lambda: ask(gateway, "task-2"), 429)
    assert await ask(gateway, "task-3") == 200


async def test_the_audit_has_who_stopped_a_run_or_added_to_it(limited_runs: Any, verb: Any, tmp_path: Path) -> None:
    gateway = await limited_runs(calls=2)
    assert [await ask(gateway, "task-1") for _ in range(3)] == [200, 200, 429]
    await verb(gateway, "more", "task-1")
    await verb(gateway, "stop", "task-1")
    with reading(default_url(tmp_path / "cli")) as connection:
        stopped, grown = list_audit(connection, None, 10)
    run_id = run_key("tester", "task-1")
    assert (stopped.kind, stopped.action, stopped.subject, stopped.role) == ("run", "stop", run_id, "operator")
    assert (grown.kind, grown.action, grown.subject) == ("run", "change", run_id)
    assert grown.after == {"run": "tester/task-1", "may_use": "4 calls"}
    assert grown.actor == stopped.actor == command_line()


async def test_a_stop_holds_where_the_audit_cannot_be_written(limited_runs: Any, verb: Any, tmp_path: Path) -> None:
    gateway = await limited_runs(calls=9)
    assert await ask(gateway, "task-1") == 200
    (tmp_path / "file").write_text("")
    failed = await verb(gateway, "stop", "task-1", data=tmp_path / "file")
    assert "task-1 is stopped; the audit has no line of it: " in str(failed.exception)
    await until(lambda: ask(gateway, "task-1"), 429)


async def until(ask: Callable[[], Any], status: int | bool) -> None:
    """Asks until the answer has this status; the gateway hears of a change with its next exchange."""
    end = time.monotonic() + 30
    while await ask() != status:
        assert time.monotonic() < end, f"never {status}"
        await asyncio.sleep(0.05)
