"""/health of the console over sockets: HTTP 200 in any case, with the parts that fail and, from here, the causes."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import yaml

from gateway.console.serve import ConsoleOptions, LiveConfig, console_server, opened
from gateway.runtime.tasks import Tasks

CONFIG = "the newest gateway.yaml was refused, and the previous one is in force"
PROXIED = {"x-forwarded-for": "203.0.113.7"}
SECTIONS: dict[str, Any] = {
    "upstreams": {"u": {"kind": "openai", "base_url": "http://127.0.0.1:1/v1", "api_key": "k"}},
    "models": {"chat": {"targets": [{"upstream": "u", "model": "m"}]}},
    "admin": {"tokens": [{"name": "ada", "sha256": sha256(b"t").hexdigest(), "role": "owner"}]},
}


@contextlib.asynccontextmanager
async def console(tmp_path: Path, **sections: Any) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of a console with this config, on a port of its own."""
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(SECTIONS | sections))
    options, live = ConsoleOptions(path, tmp_path / "data", port=0), LiveConfig(path)
    async with opened(options, live, open_s=0.1) as app, Tasks() as tasks:
        server = console_server(app, options, live, None)
        with contextlib.closing(server.config.bind_socket()) as sock:
            serving = tasks.start(server._serve([sock]), "console")
            while not server.started:
                await asyncio.sleep(0.005)
            async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{sock.getsockname()[1]}") as client:
                yield client
            server.should_exit = True
            await serving


async def reasons_until(
    client: httpx2.AsyncClient, holds: Callable[[list[str]], bool], headers: dict[str, str] | None = None
) -> list[str]:
    async with asyncio.timeout(55):
        while True:
            reply = await client.get("/health", headers=headers)
            found = reply.json()
            assert (reply.status_code, found["status"], set(found)) == (200, "ok", {"status", "version", "reasons"})
            if holds(found["reasons"]):
                return list(found["reasons"])
            await asyncio.sleep(0.02)


async def test_a_store_that_cannot_be_opened_is_named(tmp_path: Path, stream_url: str, stream_name: str) -> None:
    (tmp_path / "file").touch()
    store = {"url": f"sqlite:///{tmp_path / 'file' / 'a.db'}"}
    async with console(tmp_path, store=store, stream={"url": stream_url, "name": stream_name}) as client:
        found = await reasons_until(client, lambda found: len(found) == 2)
        assert found[0].startswith("the store cannot be used: ")
        assert found[1].startswith("keys are not published: ")
        assert await reasons_until(client, bool, PROXIED) == ["the store cannot be used", "keys are not published"]


async def test_a_stream_server_that_is_gone_is_named_until_it_is_back(
    tmp_path: Path, stream_server: Any, stream_name: str
) -> None:
    async with console(tmp_path, stream={"url": stream_server.url, "name": stream_name}) as client:
        assert await reasons_until(client, lambda found: not found) == []
        stream_server.kill()
        (found,) = await reasons_until(client, bool)
        assert found.startswith("keys are not published: stream server: ")
        stream_server.start()
        assert await reasons_until(client, lambda found: not found) == []


async def test_a_refused_config_is_named_until_a_good_one_comes(
    tmp_path: Path, stream_url: str, stream_name: str
) -> None:
    stream = {"url": stream_url, "name": stream_name}
    path = tmp_path / "gateway.yaml"
    async with console(tmp_path, stream=stream) as client:
        assert await reasons_until(client, lambda found: not found) == []
        path.write_text(yaml.safe_dump({**SECTIONS, "stream": stream, "surely_unknown": 1}))
        (found,) = await reasons_until(client, bool)
        assert found.startswith(f"{CONFIG}: ")
        assert "surely_unknown" in found
        assert await reasons_until(client, bool, PROXIED) == [CONFIG]
        path.write_text(yaml.safe_dump({**SECTIONS, "stream": stream, "sampling": {"rate": 0.5}}))
        assert await reasons_until(client, lambda found: not found) == []


async def test_a_store_that_takes_no_writes_is_named_until_it_does(
    tmp_path: Path, stream_url: str, stream_name: str
) -> None:
    """Another program holds the lock that a write needs."""
    async with console(tmp_path, stream={"url": stream_url, "name": stream_name}) as client:
        assert await reasons_until(client, lambda found: not found) == []
        other = sqlite3.connect(tmp_path / "data" / "gateway.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        (found,) = await reasons_until(client, bool)
        assert found.startswith("keys cannot be changed: the store cannot be used: ")
        assert "database is locked" in found
        other.close()
        assert await reasons_until(client, lambda found: not found) == []
