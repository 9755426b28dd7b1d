"""A guard's ramp as a whole: a real gateway, consumer, stream server and store. A guard that refuses too much is taken
back, a good one reaches every unit; sampling draws nothing, so that only the ramp has its calls recorded."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx2
import pytest
import uvicorn
import yaml
from prometheus_client import CollectorRegistry

from gateway.config.config import Config
from gateway.config.environment import WorkerEnvironment
from gateway.config.loading import load
from gateway.consumer.serve import opened
from gateway.core.guard_ramp import ramp_name
from gateway.core.ramp import RampRecord
from gateway.fake import FakeUpstream
from gateway.features.guards.ramp.commands import GuardRampCommand, GuardRampVerb, command_guard_ramp
from gateway.features.ramp.notice_source import RampNotices
from gateway.proxy.serve import Process, server_settings
from gateway.store.events import events_since
from gateway.store.store import Store

pytestmark = pytest.mark.timeout(300)
PATIENCE_S = 250.0
PAUSE_S = 0.2  # between calls: the controller looks every two seconds
KEYS = {name: f"sk-{name}" for name in ("web", "app", "bot", "desk")}


def config(upstream: FakeUpstream, stream: tuple[str, str]) -> dict[str, Any]:
    ramp = {
        "steps": [0.5, 1.0], "soak_s": 0, "min_units": 20, "max_block_rate": 0.15, "thumbs_down": 0.25, "retries": 0.25,
        "retry_s": 0.01, "stale_s": 10_000,
    }  # fmt: skip
    invoices = {"name": "invoice", "regex": "invoice [0-9]{1,9}"}
    return {
        "keys": [{"name": name, "sha256": sha256(key.encode()).hexdigest()} for name, key in KEYS.items()],
        "upstreams": {"local": {"kind": "openai", "base_url": upstream.base_url}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "m"}]}},
        "stream": {"url": stream[0], "name": stream[1]},
        "sampling": {"rate": 0},
        "guards": {"own": {"on": "request", "scorer": "patterns", "patterns": [invoices], "ramp": ramp}},
    }


@dataclass
class Deployment:
    """A gateway and its consumer."""

    config: Config
    corridor: Any
    client: httpx2.AsyncClient
    store: Store
    numbers: Any = field(default_factory=itertools.count)

    async def ask(self, text: str, conversation: str) -> httpx2.Response:
        key = list(KEYS.values())[crc32(conversation.encode()) % len(KEYS)]
        headers = {"authorization": f"Bearer {key}", "x-gateway-conversation": conversation}
        body = {"model": "chat", "messages": [{"role": "user", "content": text}]}
        return await self.client.post("/chat/completions", json=body, headers=headers)

    async def calls(self, n: int, text: str = "hello") -> None:
        """Calls of n conversations, four at a time."""
        names = [next(self.numbers) for _ in range(n)]
        for some in (names[i : i + 4] for i in range(0, n, 4)):
            await asyncio.gather(*(self.ask(f"{text} {i}", f"conversation-{i}") for i in some))

    async def record(self) -> RampRecord:
        found: RampRecord = (await self.corridor.ramps.records())[ramp_name("own")]
        return found

    async def until(self, state: str, step: int, text: str = "hello") -> RampRecord:
        """Sends calls until the ramp is there, as many as a look of the controller needs."""
        async with asyncio.timeout(PATIENCE_S):
            while ((found := await self.record()).state, found.step) != (state, step):
                assert found.state in ("shadow", "ramp"), found
                await self.calls(20, text)
                await asyncio.sleep(PAUSE_S)
                if found.paused:  # the draws of this deployment's secret do not fit the share: once in 1 000
                    await self.command("resume")
        return found

    async def events(self) -> list[str]:
        """The lines on charts over time, and on Today."""
        return [line.text for line in await self.store.look(lambda c: events_since(c, 0.0, 50))]

    async def command(self, verb: GuardRampVerb) -> None:
        await command_guard_ramp(self.corridor, self.config, "own", GuardRampCommand(verb, "ada", "as agreed"))

    async def until_applied(self, share: float) -> None:
        """The gateway applies a step."""
        wanted = f'gateway_ramp_share{{experiment="guard own"}} {share}'
        async with asyncio.timeout(PATIENCE_S):
            while wanted not in (await self.client.get(str(self.client.base_url).replace("/v1/", "/metrics"))).text:
                await asyncio.sleep(0.02)

    async def until_reported(self, ramp: dict[str, Any]) -> None:
        """The gateway's heartbeat names it, while the config's action stays."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                beats = await self.corridor.state.gateways()
                reports = [beat["guards"]["own"] for beat in beats.values() if beat.get("guards")]
                if [(of["action"], of["ramp"]) for of in reports] == [("observe", ramp)]:
                    return
                await asyncio.sleep(0.02)

    async def refused(self, conversation: str) -> bool:
        answer = await self.ask("pay invoice 77", conversation)
        assert answer.status_code in (200, 400)
        return answer.status_code == 400


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[str]:
    process = Process(WorkerEnvironment(path, path.parent / "data", loopback=True), heartbeat_s=0.1)
    settings = server_settings(process, process.config, "127.0.0.1", 0, 1)
    settings.loop = "asyncio"
    server = uvicorn.Server(settings)
    with contextlib.closing(settings.bind_socket()) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = asyncio.get_running_loop().create_task(server._serve([sock]))
        while not server.started:
            await asyncio.sleep(0.005)
            assert not task.done(), "the gateway did not start"
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        server.should_exit = True
        await task


@pytest.fixture
async def deployment(room: Any, tmp_path: Path) -> AsyncIterator[Deployment]:
    """A gateway and its consumer at work."""
    path = tmp_path / "gateway.yaml"
    async with FakeUpstream() as upstream, contextlib.AsyncExitStack() as stack:
        path.write_text(yaml.safe_dump(config(upstream, (room.stream_url, room.stream_name))))
        read = load(path)
        url = await stack.enter_async_context(serving(path))
        consumer = await stack.enter_async_context(opened(read, room.store_url, room.stream_url, CollectorRegistry()))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        tasks.create_task(consumer.run())
        stack.callback(consumer.stop)
        store = await stack.enter_async_context(Store(room.store_url))
        client = await stack.enter_async_context(httpx2.AsyncClient(base_url=url, timeout=PATIENCE_S))
        yield Deployment(read, room.corridor, client, store)


async def until_applied(made: Deployment, conversations: list[str], *, refused: bool) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while {await made.refused(name) for name in conversations} != {refused}:
            await asyncio.sleep(0.05)


async def test_a_good_guard_reaches_every_unit(deployment: Deployment) -> None:
    made = deployment
    assert not await made.refused("before"), "it observes"
    await made.command("promote")
    await made.until("ramp", 0)
    names = [f"probe-{i}" for i in range(24)]  # all on one side of a half: 2^-23
    await made.until_applied(0.5)
    await made.until_reported({"action": "block", "share": 0.5, "before": "flag"})
    first = [await made.refused(name) for name in names]
    assert any(first), "half of the units are acted on"
    assert not all(first)
    assert [await made.refused(name) for name in names] == first, "a unit keeps its action"
    promoted = await made.until("promoted", 1)
    assert promoted.by == "controller"
    await until_applied(made, names, refused=True)
    answer = await made.ask("pay invoice 77", "probe-0")
    assert answer.json()["error"]["code"] == "content_filter"


async def test_a_guard_that_refuses_too_much_is_taken_back(deployment: Deployment) -> None:
    """Nobody writes of invoices at first; then good traffic does."""
    made = deployment
    await made.command("promote")
    await made.until("ramp", 0)
    async with asyncio.timeout(PATIENCE_S):
        while (record := await made.record()).state == "ramp":
            await made.calls(20, "please pay invoice")
            await asyncio.sleep(PAUSE_S)
    assert (record.state, record.by) == ("rolled_back", "controller")
    assert "block rate" in record.reason
    await until_applied(made, [f"probe-{i}" for i in range(12)], refused=False)
    context: Any = made
    notices = await RampNotices(context).look(record.at)
    assert [n.title for n in notices][-1] == "guard own: rolled back"
    assert (notices[-1].severity, notices[-1].path) == ("warning", "/console/guards/of/own")
    async with asyncio.timeout(PATIENCE_S):  # the consumer notes it
        while "guard own: rolled back" not in await made.events():
            await asyncio.sleep(0.05)
