"""A thousand open connections: what each takes of the process, and how soon a client's leaving reaches the upstream."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from websockets.asyncio.client import connect

from gateway.fake import HOLD, FakeUpstream
from gateway.proxy.http.server.connection_limits import raise_file_limit

CONNECTIONS = 1000
MOST_KB = 60


def resident_kb(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith("VmRSS:")))


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
async def test_a_thousand_connections(tmp_path: Path, servers: Any, stream_url: str, stream_name: str) -> None:
    raise_file_limit()
    [port] = servers.free_ports(1)
    async with FakeUpstream() as upstream:
        config = {
            "open": True,
            "upstreams": {"u0": {"kind": "openai", "base_url": upstream.base_url}},
            "models": {"chat": {"targets": [{"upstream": "u0", "model": "m"}]}},
            "stream": {"url": stream_url, "name": stream_name},
        }
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
        argv = ["serve", "--config", str(tmp_path / "gateway.yaml"), "--port", str(port), "--data", str(tmp_path)]
        gateway = await asyncio.create_subprocess_exec(sys.executable, "-m", "gateway", *argv)
        try:
            await measured(gateway.pid, port, upstream)
        finally:
            gateway.terminate()
            await gateway.wait()


async def measured(pid: int, port: int, upstream: FakeUpstream) -> None:
    url = f"ws://127.0.0.1:{port}/v1/responses"
    create = json.dumps({"type": "response.create", "model": "chat", "input": "hi", "store": False})

    async def opened() -> Any:
        connection = await connect(url, compression=None, proxy=None, ping_interval=None)
        await connection.send(create)
        while json.loads(await connection.recv())["type"] != "response.completed":
            pass
        return connection

    async with asyncio.timeout(60):
        while True:
            try:
                connections = [await opened()]
                break
            except OSError:
                await asyncio.sleep(0.1)
    connections += [await opened() for _ in range(50)]  # so that all code has run
    before = resident_kb(pid)
    connections += [await opened() for _ in range(CONNECTIONS)]
    each_kb = (resident_kb(pid) - before) / CONNECTIONS
    upstream.says("a", HOLD)
    await connections[0].send(create)
    await upstream.until(lambda fake: fake.calls[-1].json.get("stream") and len(fake.calls) > CONNECTIONS + 51)
    left = time.monotonic()
    connections[0].transport.abort()
    await upstream.until(lambda fake: fake.cancelled == 1)
    cancelled_s = time.monotonic() - left
    for connection in connections:
        connection.transport.abort()
    print(f"\n{each_kb:.1f} KB for each of {CONNECTIONS} connections; cancelled after {cancelled_s * 1000:.1f} ms")  # noqa: T201
    assert each_kb <= MOST_KB
    assert cancelled_s < 1
