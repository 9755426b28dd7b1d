"""The costs of one caller without a key for a real gateway process: memory is measured from outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.program_command import gateway_command

from gateway.fake import FakeUpstream

pytestmark = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="/proc is needed to measure memory")


def rss_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.findall(r"VmRSS:\s+(\d+)", status)[0]) / 1024


@pytest.fixture
async def served(
    tmp_path: Path, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream
) -> AsyncIterator[tuple[int, int]]:
    """(process id, port) of a gateway of one worker."""
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(configured(upstream)))
    command = gateway_command("serve", "--config", "gateway.yaml", "--port", "0")
    log = tmp_path / "log"
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=tmp_path, stdout=out, stderr=out, env={**os.environ}
        )
    async with asyncio.timeout(60):
        while not (found := re.findall(r"running on http://[^:]+:(\d+)", log.read_text())):
            await asyncio.sleep(0.02)
    yield process.pid, int(found[0])
    process.kill()
    await process.wait()


async def push(sock: socket.socket, data: bytes) -> int:
    """Sends until the peer has taken nothing for two seconds. Returns how much it took."""
    loop, sent = asyncio.get_running_loop(), 0
    with contextlib.suppress(TimeoutError, OSError):
        while sent < len(data):
            async with asyncio.timeout(2):
                await loop.sock_sendall(sock, data[sent : sent + 65536])
            sent += 65536
    return sent


async def test_pipelined_requests_that_nobody_reads_take_little_memory(served: tuple[int, int]) -> None:
    """40 connections, each with 840 KB of requests, and no answer is read."""
    pid, port = served
    before = rss_mb(pid)
    data = b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n" * (840_000 // 33)
    async with contextlib.AsyncExitStack() as stack:
        socks = []
        for _ in range(40):
            sock = stack.enter_context(socket.socket())
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
            socks.append(sock)
        sent = sum(await asyncio.gather(*(push(sock, data) for sock in socks)))
        after = rss_mb(pid)
    print(f"\n{sent / 1e6:.1f} MB sent on 40 connections: rss {before:.0f} -> {after:.0f} MB")  # noqa: T201
    assert sent > 10e6
    assert after <= 90
