"""Measures what guards add to a call over sockets: p50 and p99 of plain answers, and the first token of streams.

    .venv/bin/python bench/guarded.py [CALLS]

One client, one call after another, so that the time is that of a call and not of a queue. The HTTP guard is a service
that takes 20 ms. The upstream answers at once with a kilobyte; a stream has 100 events of 10 characters.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import yaml

from gateway.fake import FakeUpstream

PATTERN = {"name": "staff", "regex": "EMP-[0-9]{6}"}
RULE = {"on": "answer", "scorer": "patterns", "patterns": [PATTERN]}
OWN = {"on": "answer", "scorer": "slow", "deadline_ms": 5000}
GUARDS: dict[str, dict[str, Any]] = {
    "none": {},
    "regex, observe": {"g": {**RULE, "action": "observe"}},
    "regex, block": {"g": {**RULE, "action": "block"}},
    "secrets, block": {"g": {"on": "answer", "scorer": "secrets", "action": "block"}},
    "HTTP 20 ms, observe": {"g": {**OWN, "action": "observe"}},
    "HTTP 20 ms, block": {"g": {**OWN, "action": "block"}},
    "HTTP 20 ms on requests, block": {"g": {**OWN, "on": "request", "action": "block"}},
}
WORDS = [f"{'words of' if i % 2 else 'the next':9} " for i in range(100)]
BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


async def score_slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each subject with 1 after 20 ms, and the request for golden cases with HTTP 404."""
    try:
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).lower()
            size = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0] or 0)
            await reader.readexactly(size)
            await asyncio.sleep(0.02 if size else 0)
            status = b"200 OK" if size else b"404 Not Found"
            writer.write(b'HTTP/1.1 %b\r\ncontent-length: 12\r\n\r\n{"value": 1}' % status)
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@asynccontextmanager
async def serving(directory: Path, config: dict[str, Any]) -> AsyncIterator[str]:
    """The base URL of a gateway in a process of its own."""
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(config))
    argv = ("-m", "gateway", "serve", "--config", str(path), "--port", "18936", "--data", str(directory / "data"))
    quiet = asyncio.subprocess.DEVNULL
    process = await asyncio.create_subprocess_exec(sys.executable, *argv, stdout=quiet, stderr=quiet)
    try:
        async with httpx2.AsyncClient(timeout=60) as client:
            for _ in range(600):
                try:
                    await client.get("http://127.0.0.1:18936/health")
                    break
                except httpx2.HTTPError:
                    await asyncio.sleep(0.1)
        yield "http://127.0.0.1:18936/v1"
    finally:
        process.terminate()
        await process.wait()


async def measured(url: str, n: int) -> tuple[list[float], list[float]]:
    """Milliseconds of plain answers, and to the first text of streams."""
    plain, first = list[float](), list[float]()
    async with httpx2.AsyncClient(base_url=url, timeout=60) as client:
        for i in range(n + 30):
            began = time.perf_counter()
            reply = await client.post("/chat/completions", json=BODY)
            took = (time.perf_counter() - began) * 1000
            assert reply.status_code == 200, reply.text
            if i >= 30:
                plain.append(took)
        for i in range(n // 2 + 10):
            began = time.perf_counter()
            async with client.stream("POST", "/chat/completions", json={**BODY, "stream": True}) as stream:
                async for piece in stream.aiter_bytes():
                    if b"words" in piece or b"the next" in piece:
                        if i >= 10:
                            first.append((time.perf_counter() - began) * 1000)
                        break
    return plain, first


async def main(n: int) -> None:
    service = await asyncio.start_server(score_slowly, "127.0.0.1", 0)
    address = f"http://127.0.0.1:{service.sockets[0].getsockname()[1]}/score"
    async with FakeUpstream(remember=False) as upstream:
        upstream.says(*WORDS)
        print("| guard | plain p50, ms | p99 | first token p50, ms | p99 |\n|---|---|---|---|---|")  # noqa: T201
        for name, guards in GUARDS.items():
            config = {
                "open": True,
                "upstreams": {"up": {"kind": "openai", "base_url": upstream.base_url, "api_key": "no"}},
                "models": {"chat": {"targets": [{"upstream": "up", "model": "m"}]}},
                "sampling": {"rate": 0},
                "scorers": {"slow": {"use": address}},
                "guards": guards,
            }
            with tempfile.TemporaryDirectory() as directory:
                async with serving(Path(directory), json.loads(json.dumps(config))) as url:
                    await asyncio.sleep(3 if guards else 0)  # the process of guards is built
                    plain, first = await measured(url, n)
            cells = [f"{statistics.quantiles(each, n=100)[at]:.2f}" for each in (plain, first) for at in (49, 98)]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 400))
