"""A process keeps a bounded number of connections and some free files, and says why it refuses another."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import selectors
import socket
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.program_command import forked_python

from gateway.core.errors import GatewayError
from gateway.fake import FakeUpstream
from gateway.proxy.http.server.connection_limits import LOG_EVERY_S, MOST, ConnectionLimits, OpenFiles, default_limit


def limited(most: int | None, from_one: int | None = None, **more: Any) -> ConnectionLimits:
    return ConnectionLimits(lambda: (most, from_one), **more)


def test_a_connection_above_the_limit_is_refused_until_one_closes() -> None:
    refused: list[GatewayError] = []
    limits = limited(2, on_refused=refused.append)
    assert limits.admit("a") is limits.admit("b") is None
    error = limits.admit("c")
    assert error is not None
    assert (error.status, error.code) == (503, "too_many_connections")
    assert refused == [error]
    limits.closed("c", admitted=False)
    assert limits.open == 2
    limits.closed("a", admitted=True)
    assert limits.admit("c") is None


def test_an_address_has_a_limit_of_its_own() -> None:
    limits = limited(None, 1)
    assert limits.admit("a") is limits.admit("b") is None
    assert limits.admit("a") is not None
    limits.closed("a", admitted=True)
    assert limits.admit("a") is None


def test_only_some_refused_connections_wait_for_their_client() -> None:
    limits = limited(1)
    limits.admit("a")
    for _ in range(1000):
        limits.admit("a")
    assert not limits.can_explain()
    for _ in range(1000):
        limits.closed("a", admitted=False)
    assert limits.can_explain()


@pytest.mark.parametrize(("files", "most"), [(1024, 462), (100, 16), (1 << 20, MOST), (resource.RLIM_INFINITY, MOST)])
def test_the_default_leaves_files_for_the_upstreams(monkeypatch: pytest.MonkeyPatch, files: int, most: int) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert default_limit() == most


async def test_a_server_says_that_it_is_full_and_recovers(talk: Any) -> None:
    class App:
        connections = limited(1)

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 204, "headers": []})
            await send({"type": "http.response.body"})

    app = App()
    line = await talk(app)
    await line.say(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    assert b"204" in await line.until(b"\r\n\r\n")
    for _ in range(3):
        another = await line.another()
        refused = await another.rest()
        assert refused.startswith(b"HTTP/1.1 503 ")
        assert b"too_many_connections" in refused
        assert b"retry-after: 1\r\n" in refused
        another.writer.close()
    line.writer.close()
    while app.connections.open:
        await line.pause()
    third = await line.another()
    await third.say(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert b"204" in await third.rest()
    third.writer.close()


FILES = 120  # of a gateway; about thirty are in use when it has started
KEY = "test-key"


def test_the_last_files_are_kept_for_calls_in_flight(caplog: pytest.LogCaptureFixture) -> None:
    counted: Counter[str] = Counter()
    now = 0.0
    files = OpenFiles(lambda reason: counted.update([reason]), limit=1000, clock=lambda: now)
    assert not files.refuses(935)
    for _ in range(5):
        assert files.refuses(936)
    assert [files.may_linger(descriptor) for descriptor in (936, 967, 968)] == [True, True, False]
    now = LOG_EVERY_S
    assert files.refuses(999)
    assert counted == {"few_files": 6}
    assert [r.getMessage().partition(" since")[0] for r in caplog.records] == [
        "new connections are refused (1",
        "new connections are refused (5",
    ]


def test_a_refused_connection_is_not_admitted() -> None:
    limits = ConnectionLimits(lambda: (None, None), files=OpenFiles(limit=100))
    assert limits.admit("a", 50) is None
    error = limits.admit("a", 80)
    assert error is not None
    assert (error.status, error.code, limits.open) == (503, "too_many_connections", 1)


def test_a_lack_of_file_descriptors_is_found_by_looking(caplog: pytest.LogCaptureFixture, no_file_left: Any) -> None:
    counted: Counter[str] = Counter()
    files = OpenFiles(lambda reason: counted.update([reason]))
    files.look()
    with no_file_left():
        files.look()
        files.look()
    files.look()
    assert counted == {"no_files": 2}
    assert [r.getMessage().partition("report): ")[2][:19] for r in caplog.records] == ["Too many open files"]


async def test_a_gateway_short_of_files_answers_and_recovers(tmp_path: Path, stream_url: str, stream_name: str) -> None:
    async with FakeUpstream() as upstream:
        upstream.says("Paris")
        config = {
            "keys": [{"name": "tester", "sha256": sha256(KEY.encode()).hexdigest()}],
            "upstreams": {"u": {"kind": "openai", "base_url": upstream.base_url}},
            "models": {"chat": {"targets": [{"upstream": "u", "model": "m"}]}},
            "limits": {"connections": 10_000},
            "stream": {"url": stream_url, "name": stream_name},
        }
        path = tmp_path / "gateway.yaml"
        path.write_text(yaml.safe_dump(config))
        async with served(path) as (port, log):
            base_url = f"http://127.0.0.1:{port}"
            headers = {"authorization": f"Bearer {KEY}"}
            async with httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=30) as early:
                await early.get("/health")  # this connection is open before the files run short
                with contextlib.ExitStack() as idle:
                    clients = [
                        idle.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(2 * FILES)
                    ]
                    await asyncio.to_thread(_until_refused, clients)
                    body = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
                    answer = await early.post("/v1/chat/completions", json=body)
                    assert answer.status_code == 200, "the reserve opens a connection to the upstream"
                    shown = (await early.get("/metrics")).text
                    assert 'gateway_accept_failures_total{reason="few_files"}' in shown
            async with asyncio.timeout(60):
                while True:
                    async with httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=30) as late:
                        with contextlib.suppress(httpx2.TransportError):
                            if (await late.get("/health")).status_code == 200:
                                break
    assert sum(b"new connections are refused" in line for line in log) == 1


def _until_refused(clients: list[socket.socket]) -> None:
    """Waits until one of them is told why it is refused; others are closed without an answer."""
    with selectors.DefaultSelector() as waiting:
        for client in clients:
            waiting.register(client, selectors.EVENT_READ)
        while True:
            for key, _ in waiting.select(timeout=30) or pytest.fail("no connection is refused"):
                waiting.unregister(key.fileobj)
                with contextlib.suppress(OSError):
                    if key.fileobj.recv(100).startswith(b"HTTP/1.1 503 "):
                        return


@contextlib.asynccontextmanager
async def served(path: Path) -> Any:
    """A gateway that may open FILES files: its port, and the lines of its log."""
    limit = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({FILES}, {FILES}))"
    code = f"{limit}; from gateway.__main__ import main; main()"
    argv = ["serve", "--config", str(path), "--port", "0", "--data", str(path.parent / "data")]
    process = await asyncio.create_subprocess_exec(
        *forked_python(code, *argv), stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])},
    )  # fmt: skip
    assert process.stderr is not None
    log: list[bytes] = []
    reading: asyncio.Task[None] | None = None
    try:
        async with asyncio.timeout(60):
            while b"running on" not in (line := await process.stderr.readline()):
                assert line, b"".join(log)
                log.append(line)
        port = int(line.rpartition(b":")[2].split(b'"')[0])

        async def follow() -> None:
            async for more in process.stderr:
                log.append(more)

        reading = asyncio.get_running_loop().create_task(follow())
        yield port, log
        process.terminate()
        await process.wait()
        await reading
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
