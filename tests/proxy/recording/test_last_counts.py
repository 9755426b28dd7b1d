"""The next process knows the records that a killed process had taken: each lost record is counted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.program_command import gateway_command, send_signal
from prometheus_client import CollectorRegistry

from gateway.core.exchange import Exchange, Tally, from_fields
from gateway.fake import FakeUpstream
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.recording.last_counts import kept_counts, report_killed
from gateway.proxy.recording.recorder import CountsOfProcess, Recorder
from gateway.stream import Corridor

QUESTION = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


@dataclass
class Program:
    """A `gateway serve` that is killed or stopped."""

    process: asyncio.subprocess.Process
    log: Path
    url: str

    async def call(self, times: int) -> None:
        async with httpx2.AsyncClient() as client:
            for _ in range(times):
                assert (await client.post(f"{self.url}/chat/completions", json=QUESTION)).status_code == 200

    async def kill(self) -> None:
        send_signal(self.process.pid, signal.SIGKILL)
        await self.process.wait()


@pytest.fixture
async def serve(tmp_path: Path, servers: Any) -> AsyncIterator[Callable[..., Any]]:
    """Starts gateways that share a data directory, one after the other."""
    started: list[Program] = []

    async def go(config: dict[str, Any]) -> Program:
        path, log = tmp_path / "gateway.yaml", tmp_path / f"log-{len(started)}"
        path.write_text(yaml.safe_dump({**config, "open": True, "keys": []}))
        [port] = servers.free_ports(1)
        options = ["--config", str(path), "--data", str(tmp_path / "data"), "--port", str(port)]
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(*gateway_command("serve", *options), stdout=out, stderr=out)
        started.append(Program(process, log, f"http://127.0.0.1:{port}/v1"))
        async with asyncio.timeout(60), httpx2.AsyncClient() as client:
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    if (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200:
                        return started[-1]
                await asyncio.sleep(0.05)

    yield go
    for program in started:
        if program.process.returncode is None:
            await program.kill()


async def read_until(corridor: Corridor, holds: Callable[[list[Any]], bool]) -> list[Any]:
    """The records of the stream, once they are so."""
    found: list[Any] = []
    async with asyncio.timeout(60):
        while not holds(found):
            found += [from_fields(entry.fields) for entry in await corridor.read("test", 500, 100)]
    return found


async def until(path: Path, **least: int) -> None:
    """Waits until the gateway has counted this many. It takes a record after the answer's last byte, and knows that
    one is in the stream after it is there.
    """
    async with asyncio.timeout(60):
        while any(getattr(kept(path), name) < count for name, count in least.items()):
            await asyncio.sleep(0.01)


def kept(path: Path) -> CountsOfProcess:
    return CountsOfProcess(*memoryview(path.read_bytes()).cast("Q"))


async def test_each_record_that_a_kill_lost_is_named(
    serve: Any, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream, stream_server: Any, tmp_path: Path
) -> None:
    config = configured(upstream, stream={"url": stream_server.url, "name": "killed"})
    corridor = Corridor(stream_server.url, "killed")
    await corridor.join()
    first = await serve(config)
    await first.call(5)
    arrived = await read_until(corridor, lambda all_: sum(isinstance(each, Exchange) for each in all_) == 5)
    killed = next(record.incarnation for record in arrived if isinstance(record, Exchange))
    counts = tmp_path / "data" / "counts" / killed
    await until(counts, appended=5)
    stream_server.pause()
    await first.call(3)
    await until(counts, taken=8)
    await first.kill()
    stream_server.resume()

    second = await serve(config)
    told = await read_until(corridor, lambda all_: any(isinstance(r, Tally) and r.taken is not None for r in all_))
    [report] = [record for record in told if isinstance(record, Tally) and record.taken is not None]
    assert (report.incarnation, report.taken) == (killed, 8)
    warned = [line for line in second.log.read_text().splitlines() if killed in line]
    assert len(warned) == 1
    assert "up to 3 records of 8" in warned[0]
    assert "of 8, are lost" in warned[0]
    assert not [path for path in (tmp_path / "data" / "counts").iterdir() if killed in path.name]
    await corridor.aclose()


class Kept:
    """A stream that keeps what it gets."""

    def __init__(self) -> None:
        self.entries: list[Any] = []

    async def losses(self) -> int:
        return 0

    async def append(self, entries: list[Any]) -> None:
        self.entries += entries


def a_recorder(stream: Any) -> Recorder:
    return Recorder(stream, ProxyMetrics(CollectorRegistry()))


async def test_an_orderly_end_leaves_no_file(tmp_path: Path) -> None:
    stream = Kept()
    with kept_counts(tmp_path, a_recorder(stream)):
        await report_killed(tmp_path, stream)
        assert stream.entries == [], "it runs"
    await report_killed(tmp_path, stream)
    assert stream.entries == []
    assert [*(tmp_path / "counts").iterdir()] == []


async def test_a_directory_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    recorder, stream = a_recorder(Kept()), Kept()
    with kept_counts(tmp_path / "file", recorder):
        recorder.saw(("all", "chat", "u/m", "", ""), None)
    await report_killed(tmp_path / "file", stream)
    assert stream.entries == []
