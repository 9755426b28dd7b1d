"""Both HTTP sides of a running gateway get nonsense at once: mutated requests from clients, mutated replies from the
upstream. Held is: no 5xx of the gateway's own making, no call without an end, no traceback, no growth of memory, and a
well-formed call is answered all the time. The seed is fixed, so a failure can be repeated; the printed figures say how
much was tried. Long: five minutes for each side."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

KEY = b"authorization: Bearer test-key\r\n"
HANG_S = 60.0
SILENT_S = 0.25  # a fuzzing client waits no longer for more
CHAT = b'{"model":"chat","messages":[{"role":"user","content":"hi \\u00e9"}],"stream":false,"n":1}'
STREAM = CHAT.replace(b"false", b"true")
FORM = (
    b'--b0undary\r\ncontent-disposition: form-data; name="model"\r\n\r\nchat\r\n--b0undary\r\n'
    b'content-disposition: form-data; name="file"; filename="a.wav"\r\ncontent-type: audio/wav\r\n\r\nRIFFxxxx\r\n'
    b"--b0undary--\r\n"
)


def post(path: bytes, body: bytes, kind: bytes = b"application/json", more: bytes = b"") -> bytes:
    head = b"POST %b HTTP/1.1\r\nhost: localhost\r\n%bcontent-type: %b\r\n%bcontent-length: %d\r\n\r\n"
    return head % (path, KEY, kind, more, len(body)) + body


CHUNKED = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n%btransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
REQUESTS = (
    post(b"/v1/chat/completions", CHAT),
    post(b"/v1/chat/completions", STREAM, more=b"connection: close\r\n"),
    post(b"/v1/responses", b'{"model":"chat","input":"hi","stream":true}'),
    post(b"/v1/messages", b'{"model":"chat","max_tokens":5,"messages":[{"role":"user","content":"hi"}]}'),
    post(b"/v1/embeddings", b'{"model":"chat","input":["a","b"]}', more=b"expect: 100-continue\r\n"),
    post(b"/v1/audio/transcriptions", FORM, b"multipart/form-data; boundary=b0undary"),
    post(b"/v1/files", b'{"a":1}'),
    post(b"/v1/feedback", b'{"id":"0193c1f0-0000-7000-8000-000000000000","value":true}'),
    CHUNKED % (KEY, len(CHAT), CHAT),
    b"GET /v1/models HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % KEY * 3,
    b"DELETE /v1/responses/resp_1 HTTP/1.1\r\nhost: localhost\r\n%b\r\n" % KEY,
)
ANSWER = (
    b'{"id":"x","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":'
    b'"ok"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1}}'
)
EVENTS = (
    b'data: {"id":"x","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"ok"}}]}\n\n'
    b'data: {"id":"x","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
)
REPLIES = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER),
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n"
    % (len(EVENTS), EVENTS),
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}",
    b'HTTP/1.1 429 Too Many\r\nretry-after: 1\r\ncontent-length: 28\r\n\r\n{"error":{"message":"slow"}}',
    b"HTTP/1.0 200 OK\r\n\r\n" + ANSWER,
)
WORDS = (
    b"\r\n", b"\n", b"\x00", b" ", b"\t", b":", b"content-length: 0\r\n", b"content-length: 99999999999\r\n",
    b"transfer-encoding: chunked\r\n", b"connection: close\r\n", b"upgrade: h2c\r\n", b"HTTP/1.1 ", b"0\r\n\r\n",
    b"ffffffffffffffff\r\n", b"-1", b"\xff\xfe", b'"', b"{", b"}", b"[" * 50, b"\\ud800", b"1e999", b"null",
    b"data: ", b"[DONE]", b"\r\n\r\n", b"%2e%2e/", b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", b"x" * 9000,
)  # fmt: skip


def mutated(rng: random.Random, seed: bytes) -> bytes:
    data = bytearray(seed)
    for _ in range(rng.choice((0, 1, 1, 2, 3, 8))):
        at, end = sorted((rng.randrange(len(data) + 1), rng.randrange(len(data) + 1)))
        end = min(end, at + 40)
        kind = rng.randrange(6)
        if kind == 0:
            data[at:end] = b""
        elif kind == 1:
            data[at:at] = rng.choice(WORDS)
        elif kind == 2:
            data[at:end] = rng.choice(WORDS)
        elif kind == 3 and data:
            data[min(at, len(data) - 1)] = rng.randrange(256)
        elif kind == 4:
            data[at:at] = data[at:end]
        else:
            data = data[: max(1, end)]
    return bytes(data)


def pieces(rng: random.Random, data: bytes) -> list[bytes]:
    cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 1, 3))))
    return [data[a:b] for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@dataclass
class Upstream:
    """Answers every request. broken: with mutated replies, and now and then in silence or with a reset."""

    rng: random.Random
    broken: bool = False
    port: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                await self._body(reader, head)
                seed = REPLIES[1] if b'"stream":true' in self._last else REPLIES[0]
                probe = b"probe: yes" in head
                if self.broken and not probe:
                    seed = mutated(self.rng, self.rng.choice(REPLIES))
                    if self.rng.random() < 0.02:
                        await reader.read(1)  # in silence, until the gateway gives up
                for piece in pieces(self.rng, seed):
                    writer.write(piece)
                    await writer.drain()
                if self.broken and not probe:
                    break
        writer.close()

    _last: bytes = b""

    async def _body(self, reader: asyncio.StreamReader, head: bytes) -> None:
        length = re.search(rb"content-length: (\d+)", head)
        if length is not None:
            self._last = await reader.readexactly(int(length[1]))
        elif b"chunked" in head:
            self._last = await reader.readuntil(b"0\r\n\r\n")


@dataclass
class Gateway:
    port: int
    pid: int
    log: Path
    statuses: Counter[int] = field(default_factory=Counter)
    of_own: list[bytes] = field(default_factory=list)
    """Answers with a fault of the gateway's own."""

    @property
    def rss_mb(self) -> float:
        text = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.findall(r"VmRSS:\s+(\d+)", text)[0]) / 1024

    async def throw(self, rng: random.Random, data: bytes) -> None:
        """Sends the bytes in pieces and reads what comes, until nothing does for a moment."""
        reply = b""
        with contextlib.suppress(OSError, TimeoutError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            try:
                for piece in pieces(rng, data):
                    writer.write(piece)
                    await writer.drain()
                if rng.random() < 0.2:
                    writer.write_eof()
                while more := await asyncio.wait_for(reader.read(65_536), SILENT_S):
                    reply += more
            finally:
                writer.close()
        self._judge(reply)

    def _judge(self, reply: bytes) -> None:
        self.statuses.update(int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", reply))
        if b"HTTP/1.1 500 " in reply or b"internal_error" in reply or b"Traceback" in reply:
            self.of_own.append(reply)

    async def well(self) -> None:
        """A well-formed call is answered. Raises TimeoutError for a gateway that hangs."""
        async with asyncio.timeout(HANG_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
            writer.write(
                post(b"/v1/chat/completions", CHAT.replace(b'"chat"', b'"sound"'), more=b"connection: close\r\n")
            )
            reply = await reader.read()
            writer.close()
        assert reply.startswith(b"HTTP/1.1 200 "), reply


@pytest.fixture
async def upstreams() -> AsyncIterator[tuple[Upstream, Upstream]]:
    """One that becomes broken, and one that stays sound."""
    async with contextlib.AsyncExitStack() as stack:
        both = (Upstream(random.Random(1)), Upstream(random.Random(2)))
        for each in both:
            server = await asyncio.start_server(each.serve, "127.0.0.1", 0, limit=1 << 22)
            each.port = server.sockets[0].getsockname()[1]
            stack.callback(server.close)
        yield both


@pytest.fixture
async def gateway(tmp_path: Path, upstreams: tuple[Upstream, Upstream], stream_url: str, stream_name: str) -> Any:
    """A gateway as a program, with short deadlines, in front of a mutating upstream and a sound one."""
    quick = {"connect_s": 1, "first_token_s": 1, "answer_s": 1, "idle_s": 1, "total_s": 3}
    breaker = {"open_s": 0.01, "max_open_s": 0.01}  # else a broken upstream would be left alone
    names = ("fuzzed", "steady")
    config = {
        "keys": [
            {"name": "k", "sha256": sha256(b"test-key").hexdigest(), "allow": ["sample", "target", "passthrough"]}
        ],
        "upstreams": {
            name: {"kind": "openai", "base_url": f"http://127.0.0.1:{u.port}/v1", "breaker": breaker}
            for name, u in zip(names, upstreams, strict=True)
        },
        "models": {
            "chat": {"targets": [{"upstream": "fuzzed", "model": "m"}], "timeouts": quick, "retries": {"attempts": 1}},
            "sound": {"targets": [{"upstream": "steady", "model": "m"}], "timeouts": {**quick, "answer_s": 30}},
        },
        "passthrough": "fuzzed",
        "sampling": {"rate": 0.1},
        "redaction": {},
        "log": {"access": False, "format": "json"},
        "stream": {"url": stream_url, "name": stream_name},
    }
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
    log = tmp_path / "log"
    with log.open("wb") as out:
        words = ("-m", "gateway", "serve", "--config", "gateway.yaml", "--port", "0")
        process = await asyncio.create_subprocess_exec(
            sys.executable, *words, cwd=tmp_path, env={**os.environ, "TMPDIR": str(tmp_path)}, stdout=out, stderr=out
        )
    async with asyncio.timeout(60):
        while not (found := re.search(r"running on http://[^:]+:(\d+)", log.read_text())):
            assert process.returncode is None, log.read_text()
            await asyncio.sleep(0.02)
    yield Gateway(int(found[1]), process.pid, log)
    process.terminate()
    await asyncio.wait_for(process.wait(), 90)
    assert process.returncode == 0


async def fuzz(gateway: Gateway, seconds: float, requests: bool, at_once: int = 12) -> list[float]:
    """Throws requests for so long; mutated, if `requests`. Returns the memory in MB at ten moments."""
    end = time.monotonic() + seconds
    memory: list[float] = []

    async def one(n: int) -> None:
        rng = random.Random(n)
        while time.monotonic() < end:
            seed = rng.choice(REQUESTS)
            await gateway.throw(rng, mutated(rng, seed) if requests else seed)

    async def watch() -> None:
        while time.monotonic() < end:
            await gateway.well()
            await asyncio.sleep(min(1.0, seconds / 10))
            memory.append(gateway.rss_mb)

    async with asyncio.TaskGroup() as tasks:
        for n in range(at_once):
            tasks.create_task(one(n))
        tasks.create_task(watch())
    step = max(1, len(memory) // 10)
    return memory[::step]


async def nothing_left(gateway: Gateway) -> None:
    """No call is in flight any more."""
    async with asyncio.timeout(HANG_S):
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
            writer.write(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            text = await reader.read()
            writer.close()
            if b"gateway_inflight_requests 0.0" in text:
                return
            await asyncio.sleep(0.1)


def faults_in(log: Path) -> list[str]:
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    wrong = [line for line in lines if line["level"] in ("ERROR", "CRITICAL") or "exception" in line]
    return sorted({f"{line['message']}: {line.get('exception', '')[-1500:]}" for line in wrong})


DURATIONS = [pytest.param(1.5, id="a moment"), pytest.param(300.0, id="five minutes", marks=pytest.mark.long)]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", DURATIONS)
async def test_mutated_requests(gateway: Gateway, seconds: float, capsys: pytest.CaptureFixture[str]) -> None:
    memory = await fuzz(gateway, seconds, requests=True)
    await nothing_left(gateway)
    report(capsys, "requests", seconds, gateway, memory)
    assert gateway.of_own == []
    assert {status for status in gateway.statuses if status >= 500} <= {501}, gateway.statuses
    assert faults_in(gateway.log) == []
    assert grown(memory, seconds) < 40, memory


@pytest.mark.timeout(900)
@pytest.mark.parametrize("seconds", DURATIONS)
async def test_mutated_replies(
    gateway: Gateway, upstreams: tuple[Upstream, Upstream], seconds: float, capsys: pytest.CaptureFixture[str]
) -> None:
    upstreams[0].broken = True
    memory = await fuzz(gateway, seconds, requests=False)
    await nothing_left(gateway)
    report(capsys, "replies", seconds, gateway, memory)
    assert gateway.of_own == []
    assert {status for status in gateway.statuses if status >= 500} <= {501, 502, 503, 504, *range(505, 600)}
    assert faults_in(gateway.log) == []
    assert grown(memory, seconds) < 40, memory


def grown(memory: list[float], seconds: float) -> float:
    """MB from a fifth of the time, when everything has been used once, to the end; 0 for a run that is too short."""
    return memory[-1] - memory[len(memory) // 5] if seconds > 60 else 0.0


def report(
    capsys: pytest.CaptureFixture[str], what: str, seconds: float, gateway: Gateway, memory: list[float]
) -> None:
    if seconds < 60:
        return
    with capsys.disabled():
        total = sum(gateway.statuses.values())
        print(f"\n{what}: {total} answers in {seconds:g} s {dict(gateway.statuses.most_common())}")  # noqa: T201
        print(f"memory in MB: {[round(m) for m in memory]}")  # noqa: T201
