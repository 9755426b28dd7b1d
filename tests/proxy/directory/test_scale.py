"""The costs of ten thousand dynamic keys for a gateway: its start and its memory, measured on the program itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import statistics
import sys
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from gateway.core.keys import AnyRecord, KeyRecord, TeamRecord
from gateway.stream import Corridor
from gateway.stream.directory import DirectoryStream

KEYS, TEAMS, RUNS = 10_000, 500, 5
ADMIN = {"tokens": [{"name": "ada", "sha256": "f" * 64, "role": "owner"}]}


def secret(n: int) -> str:
    return f"sk-assay-{n}"


def a_directory() -> list[AnyRecord]:
    teams = [TeamRecord(f"team-{n}", {"usd_per_month": 500.0 + n}, models=("chat",)) for n in range(TEAMS)]
    keys = [
        KeyRecord(
            f"key_{n:032x}", f"caller-{n}", ((sha256(secret(n).encode()).hexdigest(), None),),
            {"requests_per_minute": 60 + n % 7}, team=f"team-{n % TEAMS}", tags=("cost-center",),
        )
        for n in range(KEYS)
    ]  # fmt: skip
    return [*teams, *keys]


@contextlib.asynccontextmanager
async def started(config: Path, data: Path, port: int) -> AsyncIterator[tuple[float, int]]:
    """Seconds of CPU until the gateway answers, which no other load on the machine changes much, and its process id."""
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(config), "--data", str(data)]
    running = await asyncio.create_subprocess_exec(
        *command, "--port", str(port), stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with httpx2.AsyncClient() as client, asyncio.timeout(60):
            while True:
                with contextlib.suppress(httpx2.HTTPError):
                    await client.get(f"http://127.0.0.1:{port}/health")
                    break
                await asyncio.sleep(0.005)
        yield cpu_s(running.pid), running.pid
    finally:
        running.terminate()
        await running.wait()


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def rss_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_ten_thousand_keys_cost_a_start_and_memory_that_are_bounded(
    tmp_path: Path, stream_server: Any, stream_name: str, servers: Any
) -> None:
    """Prints both. From the stream server, and from the snapshot once that server is gone."""
    corridor = Corridor(stream_server.url, stream_name)
    full, empty = tmp_path / "full.yaml", tmp_path / "empty.yaml"
    for path, name in ((full, stream_name), (empty, "nothing")):
        path.write_text(
            yaml.safe_dump(
                {
                    "upstreams": {"u": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
                    "models": {"chat": {"targets": [{"upstream": "u", "model": "m"}]}},
                    "stream": {"url": stream_server.url, "name": name}, "admin": ADMIN,
                }
            )
        )  # fmt: skip
    assert await corridor.directory.publish_all(None, "e1", 1, a_directory())
    assert await DirectoryStream(corridor.client, "nothing").publish_all(None, "e0", 1, [])
    [port] = servers.free_ports(1)
    seconds: dict[str, list[float]] = {"full": [], "empty": []}
    memory: dict[str, list[float]] = {"full": [], "empty": []}
    for _ in range(RUNS):
        for path in (empty, full):
            data = tmp_path / f"data-{path.stem}"
            async with started(path, data, port) as (took, pid):
                await _idle(port, path is full, data)
                seconds[path.stem].append(took)
                memory[path.stem].append(rss_mb(pid))
    stream_server.kill()
    snapshots = []
    for path in (empty, full):
        async with started(path, tmp_path / f"data-{path.stem}", port) as (took, _):
            await _opens(port, path is full)
            snapshots.append(took)
    start = statistics.median(seconds["full"]) - statistics.median(seconds["empty"])
    more = statistics.median(memory["full"]) - statistics.median(memory["empty"])
    print(  # noqa: T201
        f"{KEYS} keys, {TEAMS} teams: start + {start:.2f} s of CPU (from {statistics.median(seconds['empty']):.2f} s), "
        f"from the snapshot + {snapshots[1] - snapshots[0]:.2f} s, RSS + {more:.1f} MB "
        f"(from {statistics.median(memory['empty']):.1f} MB)"
    )
    await corridor.aclose()
    assert more <= 15.0
    assert start <= 0.3


async def _idle(port: int, full: bool, data: Path) -> None:
    """Waits until the snapshot is written and a key opens."""
    await _opens(port, full)
    async with asyncio.timeout(30):
        while not (data / "directory.jsonl").exists():
            await asyncio.sleep(0.05)


async def _opens(port: int, full: bool) -> None:
    async with httpx2.AsyncClient(headers={"authorization": f"Bearer {secret(KEYS - 1)}"}) as client:
        status = (await client.get(f"http://127.0.0.1:{port}/v1/models")).status_code
    assert status == 200 if full else status in (401, 503)
