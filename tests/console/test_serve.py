"""The program `gateway console`, and keys that it makes and revokes while a gateway with two workers runs."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.program_command import gateway_command

from gateway.console.serve import ConsoleOptions, LiveConfig, console_server, load_served, opened
from gateway.core.errors import ConfigError
from gateway.fake import FakeUpstream
from gateway.proxy.http.server.protocol import HttpProtocol
from gateway.runtime.tasks import Tasks

TOKEN = "an-admin-token"
ADMIN = {"tokens": [{"name": "ada", "sha256": sha256(TOKEN.encode()).hexdigest(), "role": "owner"}]}


def a_config(upstream: str = "http://127.0.0.1:1/v1", **sections: Any) -> dict[str, Any]:
    return {
        "upstreams": {"u": {"kind": "openai", "base_url": upstream, "api_key": "${KEY_THAT_ONLY_GATEWAYS_HAVE}"}},
        "models": {"chat": {"targets": [{"upstream": "u", "model": "m"}]}},
        "admin": ADMIN,
        **sections,
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The path of a gateway.yaml."""
    found = tmp_path / "gateway.yaml"
    found.write_text(yaml.safe_dump(a_config()))
    return found


@pytest.fixture
def write(path: Path) -> Callable[[str], object]:
    """Replaces the text of the config."""
    return path.write_text


def test_the_console_needs_admin_tokens_and_no_secret_of_an_upstream(path: Path) -> None:
    assert load_served(path).admin is not None
    path.write_text(yaml.safe_dump(a_config(admin=None)))
    with pytest.raises(ConfigError, match=r"gateway.yaml: admin: missing. Add `admin: {tokens: "):
        load_served(path)


async def test_a_changed_config_is_read_and_a_wrong_one_is_not(
    path: Path, write: Any, caplog: pytest.LogCaptureFixture
) -> None:
    live = LiveConfig(path)
    async with Tasks() as tasks, asyncio.timeout(60):
        tasks.start(live.watch(), "config")
        write("models: [")
        while "the new config is refused" not in caplog.text:
            await asyncio.sleep(0.02)
        assert "chat" in live().models
        write(yaml.safe_dump(a_config(teams={"search": {}})))
        while "search" not in live().teams:
            await asyncio.sleep(0.02)


async def test_it_starts_without_its_stream_server_and_its_store(path: Path, write: Any, tmp_path: Path) -> None:
    sections = {
        "stream": {"url": f"unix://{tmp_path / 'nobody'}"}, "store": {"url": f"sqlite:///{path / 'a.db'}"},
    }  # fmt: skip
    write(yaml.safe_dump(a_config(**sections)))
    async with opened(ConsoleOptions(path, tmp_path / "data"), LiveConfig(path), open_s=0.1) as app:
        transport = httpx2.ASGITransport(app)
        headers = {"authorization": f"Bearer {TOKEN}"}
        async with httpx2.AsyncClient(transport=transport, base_url="http://console", headers=headers) as client:
            assert (await client.get("/health")).status_code == 200
            assert (await client.get("/ready")).json() == {"status": "not ready", "store": False, "published": False}
            assert (await client.get("/admin/v1/keys")).json()["error"]["code"] == "store_unavailable"


async def test_readiness_follows_a_store_that_goes_and_returns(
    path: Path, write: Any, tmp_path: Path, postgres_server: Any, stream_url: str, stream_name: str
) -> None:
    stream = {"url": stream_url, "name": stream_name}
    write(yaml.safe_dump(a_config(stream=stream, store={"url": postgres_server.new()})))
    async with opened(ConsoleOptions(path, tmp_path / "data"), LiveConfig(path)) as app:
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://console") as client:

            async def until(store: bool) -> int:
                async with asyncio.timeout(60):
                    while (answer := await client.get("/ready")).json()["store"] is not store:
                        await asyncio.sleep(0.02)
                return answer.status_code

            await until(True)
            postgres_server.kill()
            assert await until(False) == 503


async def test_its_port_has_bounds_before_any_token(path: Path, tmp_path: Path) -> None:
    """A connection whose headers do not end is refused, and one that sends nothing ends: neither needs a token."""
    options, live = ConsoleOptions(path, tmp_path / "data", port=0), LiveConfig(path)
    async with opened(options, live, open_s=0.1) as app, Tasks() as tasks, asyncio.timeout(60):
        server = console_server(app, options, live, None)
        server.config.http = type("Limited", (HttpProtocol,), {"head_s": 0.3})
        with contextlib.closing(server.config.bind_socket()) as sock:
            serving = tasks.start(server._serve([sock]), "console")
            port = sock.getsockname()[1]
            while not server.started:
                await asyncio.sleep(0.005)
            silent, unused = await asyncio.open_connection("127.0.0.1", port)
            endless, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET /health HTTP/1.1\r\nhost: x\r\n" + b"x: yyyyyyyy\r\n" * 100_000)
            assert (await endless.readline()).startswith(b"HTTP/1.1 431 ")
            assert (await silent.readline()).startswith(b"HTTP/1.1 408 ")
            async with httpx2.AsyncClient() as client:
                assert (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200
            for each in (unused, writer):
                each.close()
            server.should_exit = True
            await serving


@dataclass
class Fleet:
    """A gateway with two workers and a console, as programs, on one stream server."""

    gateway: str
    console: httpx2.AsyncClient

    async def status(self, secret: str) -> int:
        """Status of a request over a connection of its own, which any of the workers may accept."""
        async with httpx2.AsyncClient(headers={"authorization": f"Bearer {secret}"}, timeout=30) as client:
            return (await client.get(f"{self.gateway}/v1/models")).status_code

    async def until_everywhere(self, secret: str, status: int) -> float:
        """Waits until every worker answers so; returns the seconds."""
        began = time.monotonic()
        last_other = began
        async with asyncio.timeout(60):
            in_a_row = 0
            while in_a_row < 24:
                in_a_row = in_a_row + 1 if await self.status(secret) == status else 0
                last_other = last_other if in_a_row else time.monotonic()
        return last_other - began


@pytest.fixture
async def fleet(tmp_path: Path, stream_url: str, stream_name: str, servers: Any) -> AsyncIterator[Fleet]:
    """A gateway with two workers and a console, as programs on one stream server."""
    async with FakeUpstream() as upstream, contextlib.AsyncExitStack() as stack:
        config = tmp_path / "gateway.yaml"
        sections = {"stream": {"url": stream_url, "name": stream_name}}
        config.write_text(yaml.safe_dump(a_config(upstream.base_url, **sections)))
        ports = servers.free_ports(2)
        shared = ["--config", str(config), "--data", str(tmp_path / "data")]
        programs = (["serve", *shared, "--workers", "2", "--port", str(ports[0])],
                    ["console", *shared, "--port", str(ports[1])])  # fmt: skip
        for words in programs:
            await stack.enter_async_context(program(words, tmp_path / f"{words[0]}.log"))
        for port in ports:
            await answering(f"http://127.0.0.1:{port}/health")
        headers = {"authorization": f"Bearer {TOKEN}"}
        base = f"http://127.0.0.1:{ports[1]}/admin/v1"
        console = await stack.enter_async_context(httpx2.AsyncClient(base_url=base, headers=headers, timeout=30))
        yield Fleet(f"http://127.0.0.1:{ports[0]}", console)


@contextlib.asynccontextmanager
async def program(words: list[str], log: Path) -> AsyncIterator[None]:
    environ = {**os.environ, "KEY_THAT_ONLY_GATEWAYS_HAVE": "x"} if words[0] == "serve" else None
    with log.open("wb") as out:
        command = gateway_command(*words)
        running = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out, env=environ)
    try:
        yield
    finally:
        running.terminate()
        await running.wait()


async def answering(url: str) -> None:
    async with httpx2.AsyncClient() as client, asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx2.HTTPError):
                if (await client.get(url)).status_code == 200:
                    return
            await asyncio.sleep(0.05)


async def test_a_key_is_made_and_revoked_on_every_worker_without_a_restart(fleet: Fleet) -> None:
    made = (await fleet.console.post("/keys", json={"name": "web"})).json()
    await fleet.until_everywhere(made["secret"], 200)
    await fleet.console.delete(f"/keys/{made['id']}")
    await fleet.until_everywhere(made["secret"], 401)


@pytest.mark.long
async def test_a_change_is_in_force_on_every_worker_within_a_second(fleet: Fleet) -> None:
    """Prints the seconds between the answer to a change and its last effect, on an otherwise idle machine."""
    made = (await fleet.console.post("/keys", json={"name": "web"})).json()
    await fleet.until_everywhere(made["secret"], 200)
    taken = []
    for n in range(20):
        disabled = n % 2 == 0
        await fleet.console.patch(f"/keys/{made['id']}", json={"disabled": disabled})
        taken.append(await fleet.until_everywhere(made["secret"], 401 if disabled else 200))
    taken.sort()
    print(f"in force on 2 workers after {taken[10]:.2f} s (median), {taken[-1]:.2f} s (longest of {len(taken)})")  # noqa: T201
    assert taken[-1] < 1.0
