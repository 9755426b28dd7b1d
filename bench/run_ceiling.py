"""CPU of a call of a run with a ceiling, next to one without: python bench/run_ceiling.py [BLOCKS [CALLS]]

One gateway with a stream server of its own, one client's connection, one upstream, over sockets. Blocks of calls take
turns, in random order: of a key with ceilings in dollars and calls, and of one without, both with the id of a run. The
CPU is that of the gateway's main thread as the kernel counts it, so other programs matter only by the caches that they
take. The interval is that of the median over pairs of blocks, by bootstrap.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import load
import systems

WAYS = ("without", "with")


def config(upstream: int) -> dict[str, Any]:
    found = systems.config_of(f"http://{load.HOST}:{upstream}", "redis://127.0.0.1:9/0", "ceiling", 0.0)
    keys = [{"name": f"key-{way}", "sha256": hashlib.sha256(f"sk-{way}".encode()).hexdigest()} for way in WAYS]
    keys[1]["limits"] = {"per_run": {"usd": 1e6, "calls": 10**9}}  # type: ignore[assignment]
    prices = {f"{systems.MODEL}-{target}": {"input": 0.1, "output": 0.4} for target in "abc"}
    return found | {
        "keys": keys, "prices": {"as_of": "2026-11-01", "models": prices}, "experiments": {},
        "stream": {}, "scorers": {},
    }  # fmt: skip


def request(way: str) -> bytes:
    head, separator, body = systems.request(80).partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"authorization")]
    lines += [b"authorization: Bearer sk-" + way.encode(), b"x-gateway-run: 0b1e7c52-5a52-4e0a-9a0f-5d7d3f0f7a11"]
    return b"\r\n".join(lines) + separator + body


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream that answers every request alike."""
    answer = systems.answer().encode()
    reply = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer
    with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
        while True:
            await whole(reader)
            writer.write(reply)


async def whole(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    await reader.readexactly(length)
    return head


def cpu_us(pid: int) -> float:
    return int(Path(f"/proc/{pid}/task/{pid}/schedstat").read_text().split()[0]) / 1000


@contextlib.contextmanager
def gateway(upstream: int, port: int) -> Iterator[subprocess.Popen[bytes]]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "gateway.yaml"
        path.write_text(json.dumps(config(upstream)))
        argv = [sys.executable, "-m", "gateway", "serve", "--config", str(path), "--port", str(port), "--data", folder]
        with (Path(folder) / "log").open("wb") as log, subprocess.Popen(argv, stdout=log, stderr=log) as process:
            try:
                yield process
            finally:
                process.terminate()


async def connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    deadline = time.monotonic() + 120
    while True:
        try:
            return await asyncio.open_connection(load.HOST, port)
        except OSError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def measured(blocks: int, calls: int) -> dict[str, list[float]]:
    """CPU µs of a call in each block."""
    upstream = await asyncio.start_server(serve, load.HOST, 0)
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    rng, port = random.Random(1), load.free_port()
    async with upstream:
        with gateway(upstream.sockets[0].getsockname()[1], port) as process:
            reader, writer = await connected(port)
            for block in range(-4, blocks):
                for way in rng.sample(WAYS, 2):
                    before, asked = cpu_us(process.pid), request(way)
                    for _ in range(calls):
                        writer.write(asked)
                        head = await whole(reader)
                        assert head.startswith(b"HTTP/1.1 200"), head
                    if block >= 0:
                        times[way].append((cpu_us(process.pid) - before) / calls)
            writer.close()
    return times


def interval(ratios: Sequence[float]) -> tuple[float, float]:
    """95 % interval of the median, by bootstrap."""
    rng = random.Random(2)
    medians = sorted(statistics.median(rng.choices(ratios, k=len(ratios))) for _ in range(2000))
    return medians[49], medians[1949]


def main() -> None:
    blocks, calls = (int(word) for word in (sys.argv[1:] + ["300", "40"][len(sys.argv) - 1 :]))
    times = asyncio.run(measured(blocks, calls))
    ratios = [a / b - 1 for a, b in zip(times["with"], times["without"], strict=True)]
    low, high = interval(ratios)
    for way in WAYS:
        print(f"{way}: {statistics.median(times[way]):.0f} µs of CPU a call (median of {blocks} blocks of {calls})")  # noqa: T201
    total = sum(times["with"]) / sum(times["without"]) - 1
    print(f"with a ceiling: {statistics.median(ratios):+.1%} ({low:+.1%} … {high:+.1%}), sums {total:+.1%}")  # noqa: T201


if __name__ == "__main__":
    main()
