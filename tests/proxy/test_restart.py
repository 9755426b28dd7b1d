"""Measures what callers notice while gateways restart and upstreams fail: two gateways behind nginx get 50 requests a
second, half of them for streams. The long test prints a table."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.program_command import gateway_command, send_signal
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
RATE = 50  # calls a second
DEPLOY = Path(__file__).parents[2] / "docs" / "deploy.md"
NGINX_CONF = """
worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log {directory}/nginx.log warn;
events {{ worker_connections 1024; }}
http {{
  access_log off; client_body_temp_path {directory}/body; proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/f; uwsgi_temp_path {directory}/u; scgi_temp_path {directory}/s;
  {documented}
}}
"""


def nginx_conf(directory: Path, gateways: list[int], front: int) -> str:
    """The configuration that docs/deploy.md gives, without TLS, on these ports."""
    [block] = re.findall(r"^```nginx\n(.*?)^```", DEPLOY.read_text(), re.MULTILINE | re.DOTALL)
    ports = {"127.0.0.1:8000": gateways[0], "127.0.0.1:8001": gateways[1], "443 ssl": front}
    for documented, port in ports.items():
        assert documented in block
        block = block.replace(documented, f"127.0.0.1:{port}")
    return NGINX_CONF.format(directory=directory, documented=block)


@dataclass
class Child:
    """A process that can be stopped, killed and started again with the same command."""

    command: list[str]
    log: Path
    url: str
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(*self.command, stdout=out, stderr=out)
        async with asyncio.timeout(60):
            while not await self.answers():
                await asyncio.sleep(0.05)

    async def answers(self) -> bool:
        with contextlib.suppress(httpx2.HTTPError):
            async with httpx2.AsyncClient() as client:
                return (await client.get(self.url)).status_code < 500
        return False

    def tell(self, number: signal.Signals) -> None:
        assert self.process is not None
        send_signal(self.process.pid, number)

    async def ended(self) -> None:
        assert self.process is not None
        async with asyncio.timeout(60):
            await self.process.wait()

    async def kill(self) -> None:
        if self.process is not None and self.process.returncode is None:
            self.tell(signal.SIGKILL)
            await self.ended()

    async def restart(self) -> None:
        self.tell(signal.SIGTERM)
        await self.ended()
        await self.start()


@dataclass
class Load:
    """Open-loop traffic: a call every 20 ms, whatever became of the others."""

    url: str
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest_s: float = 0.0

    @property
    def lost(self) -> int:
        return self.outcomes.total() - self.outcomes["ok"]

    async def during(self, what: Callable[[], Awaitable[None]], at_least: int) -> None:
        """Asks while `what` runs, and then on until there are `at_least` calls."""
        limits = httpx2.Limits(max_connections=None, max_keepalive_connections=20)
        async with (
            httpx2.AsyncClient(base_url=self.url, timeout=60, limits=limits) as client,
            asyncio.TaskGroup() as group,
        ):
            doing = group.create_task(_awaited(what()))
            started, n = time.monotonic(), 0
            while n < at_least or not doing.done():
                group.create_task(self._call(client, stream=n % 2 == 0))
                n += 1
                await asyncio.sleep(max(0.0, started + n / RATE - time.monotonic()))

    async def _call(self, client: httpx2.AsyncClient, *, stream: bool) -> None:
        body = {"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "hi"}]}
        began = time.monotonic()
        try:
            reply = await client.post("/v1/chat/completions", json=body)
            whole = reply.text.endswith("data: [DONE]\n\n") if stream else b'"choices":[{' in reply.content
            outcome = "ok" if reply.status_code == 200 and whole else f"HTTP {reply.status_code}: {reply.text[-300:]}"
        except httpx2.HTTPError as error:
            outcome = f"{type(error).__name__}"
        self.outcomes[outcome] += 1
        self.slowest_s = max(self.slowest_s, time.monotonic() - began)


async def _awaited(what: Awaitable[None]) -> None:
    await what


@dataclass
class Agents:
    """Clients that go through turns over WebSocket, and open another connection when theirs is closed."""

    url: str
    turns: int = 0
    reopened: int = 0
    codes: set[int | None] = field(default_factory=set)
    """Close codes of connections that had been opened."""
    lost: list[str] = field(default_factory=list)
    """Reasons why responses that had begun did not end."""
    refused: list[str] = field(default_factory=list)
    """Refusals of connections."""

    async def during(self, what: Callable[[], Awaitable[None]], number: int = 4) -> None:
        async with asyncio.TaskGroup() as group:
            doing = group.create_task(_awaited(what()))
            for _ in range(number):
                group.create_task(self._agent(doing))

    async def _agent(self, doing: asyncio.Task[None]) -> None:
        url = self.url.replace("http://", "ws://") + "v1/responses"
        while not doing.done():
            try:
                async with connect(url, compression=None, proxy=None) as connection:
                    await self._turns(connection, doing)
            except (OSError, InvalidStatus) as error:
                self.refused.append(str(error))
                await asyncio.sleep(0.05)
            except ConnectionClosed:
                pass
            self.reopened += 1

    async def _turns(self, connection: ClientConnection, doing: asyncio.Task[None]) -> None:
        previous: str | None = None
        while not doing.done():
            begun: list[str] = []
            ask = {"type": "response.create", "model": "chat", "input": "hi", "store": False}
            try:
                await connection.send(json.dumps(ask | {"previous_response_id": previous}))
                while not begun or begun[-1] not in ("response.completed", "error"):
                    event = json.loads(await connection.recv())
                    begun.append(event["type"])
            except ConnectionClosed as closed:
                self.codes.add(None if closed.rcvd is None else closed.rcvd.code)
                if begun:
                    self.lost.append(f"{begun[-1]}, then {closed}")
                raise
            if begun[-1] == "error":
                self.lost.append(str(event))
            previous = event.get("response", {}).get("id")
            self.turns += 1


@dataclass
class Fleet:
    upstreams: list[Child]
    gateways: list[Child]
    config: Path
    url: str

    async def rolling_restart(self) -> None:
        for gateway in self.gateways:
            await gateway.restart()


@pytest.fixture(params=[2])
async def fleet(
    request: pytest.FixtureRequest, tmp_path: Path, servers: Any, stream_url: str, stream_name: str
) -> AsyncIterator[Fleet]:
    """param: workers of the second gateway; the first has two."""
    if NGINX is None:
        pytest.skip("nginx is not installed (Debian: apt-get install nginx-light)")
    fakes, gateways, [front] = servers.free_ports(2), servers.free_ports(2), servers.free_ports(1)
    config = tmp_path / "gateway.yaml"
    config.write_text(yaml.safe_dump(_config(fakes, stream_url, stream_name)))
    me, directory = gateway_command(), tmp_path / "nginx"
    directory.mkdir()
    (directory / "nginx.conf").write_text(nginx_conf(directory, gateways, front))
    children = [
        Child([*me, "fake", "--port", str(p), "--tokens", "5", "--delay-s", "0.05"], tmp_path / f"fake-{p}", _at(p))
        for p in fakes
    ]
    for port, workers in zip(gateways, ("2", str(request.param)), strict=True):
        serve = [*me, "serve", "--config", str(config), "--workers", workers, "--port", str(port)]
        children.append(
            Child([*serve, "--data", str(tmp_path / str(port))], tmp_path / f"gw-{port}", _at(port) + "health")
        )
    children.append(Child([NGINX, "-c", f"{directory}/nginx.conf"], tmp_path / "nginx.out", _at(front) + "health"))
    async with contextlib.AsyncExitStack() as stack:
        for child in children:
            stack.push_async_callback(child.kill)
        await asyncio.gather(*(child.start() for child in children[:4]))
        await children[4].start()
        stack.callback(children[4].tell, signal.SIGTERM)
        yield Fleet(children[:2], children[2:4], config, _at(front))


def _at(port: int) -> str:
    return f"http://127.0.0.1:{port}/"


def _config(fakes: list[int], stream_url: str, stream_name: str) -> dict[str, Any]:
    return {
        "open": True,
        "upstreams": {f"u{i}": {"kind": "openai", "base_url": _at(port) + "v1"} for i, port in enumerate(fakes)},
        "models": {
            "chat": {
                "targets": [{"upstream": "u0", "model": "m"}],
                "fallback": [{"upstream": "u1", "model": "m"}],
                "timeouts": {"connect_s": 1, "first_token_s": 2, "answer_s": 3, "idle_s": 2, "total_s": 30},
            }
        },
        "stream": {"url": stream_url, "name": stream_name},
    }


@pytest.mark.parametrize("fleet", [1], indirect=True)
async def test_a_restart_loses_no_call(fleet: Fleet) -> None:
    """A restart loses no response over WebSocket either: connections are closed between two responses, and their
    clients come again.
    """
    load, agents = Load(fleet.url), Agents(fleet.url)
    await load.during(lambda: agents.during(fleet.gateways[0].restart), 100)
    assert load.lost == 0, load.outcomes
    assert (agents.lost, agents.refused) == ([], [])
    assert agents.turns > 4
    assert agents.codes <= {1001}


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_rolling_restart_loses_no_response_over_websocket(fleet: Fleet) -> None:
    """Two gateways with two workers each, behind nginx, restarted twice; sixteen clients in the middle of turns. Calls
    by HTTP leave kept connections, on which nginx sends upgrades to a gateway that stops."""
    load, agents = Load(fleet.url), Agents(fleet.url)

    async def restarts() -> None:
        for _ in range(2):
            await fleet.rolling_restart()

    await load.during(lambda: agents.during(restarts, 16), 100)
    opened = agents.reopened - 16  # each client's last connection ends with the test
    print(  # noqa: T201
        f"\n16 clients: {agents.turns} turns, {opened} further connections, {len(agents.lost)} lost, "
        f"{len(agents.refused)} refused; {load.outcomes.total()} calls by HTTP, {load.lost} lost"
    )
    assert load.lost == 0, load.outcomes
    assert (agents.lost, agents.refused) == ([], [])
    assert agents.codes == {1001}
    assert opened >= 16, "every client was told to come again"
    assert agents.turns > 16


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_callers_get_answers_while_parts_fail(fleet: Fleet) -> None:
    rows: list[tuple[str, Load]] = []

    async def phase(name: str, what: Callable[[], Awaitable[None]], at_least: int) -> Load:
        load = Load(fleet.url)
        await load.during(what, at_least)
        rows.append((name, load))
        return load

    first, second = fleet.upstreams

    async def restarts() -> None:
        for _ in range(4):
            await fleet.rolling_restart()

    async def reloads() -> None:
        good = fleet.config.read_text()
        for text in ("models: [", good + "upstream: {}\n", good + "# again\n"):
            fleet.config.write_text(text)
            await asyncio.sleep(3)

    async def killed() -> None:
        await first.kill()
        await asyncio.sleep(5)
        await first.start()

    async def frozen() -> None:
        first.tell(signal.SIGSTOP)
        await asyncio.sleep(8)
        first.tell(signal.SIGCONT)

    async def parent_killed() -> None:
        await fleet.gateways[0].kill()
        await asyncio.sleep(2)
        await fleet.gateways[0].start()

    async def all_down() -> None:
        await asyncio.gather(first.kill(), second.kill())
        await asyncio.sleep(10)
        await asyncio.gather(first.start(), second.start())
        await asyncio.sleep(15)  # the longest that a breaker stays open

    async def nothing() -> None: ...

    must_hold = [
        await phase("rolling restart, 2 × 2 workers, 8 restarts", restarts, 3000),
        await phase("a truncated, a wrong and a good config", reloads, 400),
        await phase("one upstream killed for 5 s", killed, 400),
        await phase("one upstream frozen (SIGSTOP) for 8 s", frozen, 600),
        await phase("a gateway's parent killed", parent_killed, 400),
    ]
    outage = await phase("all upstreams down for 10 s, then back", all_down, 600)
    after = await phase("afterwards", nothing, 300)
    print("\n| phase | calls | lost | slowest | outcomes |\n|---|---|---|---|---|")  # noqa: T201
    for name, load in rows:
        counts = dict(load.outcomes)
        print(f"| {name} | {load.outcomes.total()} | {load.lost} | {load.slowest_s:.2f} s | {counts} |")  # noqa: T201
    assert rows[0][1].outcomes.total() >= 3000
    assert [load.lost for load in must_hold] == [0] * len(must_hold)
    assert outage.lost > 0, "nobody could have answered"

    assert after.lost == 0
