"""A steady load with faults and with clients that leave: afterwards nothing is left over, and nothing has grown.

The short form runs with the suite; the stated five minutes with `pytest -m long`.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.tallies import merged

from gateway.core.exchange import Exchange, Tally, from_fields
from gateway.fake import Delay, FakeAnswer, FakeUpstream, Fault, Received
from gateway.stream import Corridor

Configured = Callable[..., dict[str, Any]]
CONCURRENCY = 32
CALLS = 500
MB = 1 << 20

FAULTS = (
    Fault.status(500), Fault.status(503), Fault.rate_limited(retry_after=0.01), Fault.reset(), Fault.silence(),
    Fault.cut_after(2), Fault.stall_after(2), Fault.malformed_after(1), Fault.broken_chunk_after(1), Fault.no_done(),
    Fault.no_done(close=True), Fault.short(), Fault.error_body(), Fault.error_event_after(1), Fault.garbage(),
    Fault.header_drip(0.01), Fault.comments_forever(0.01), Fault.slow_first_token(0.05), Fault.context_length(),
    Fault.content_policy(), Fault.refuse_prefill(), Fault.status(401), Fault.status(400),
)  # fmt: skip


def mixed() -> Fault:
    """Each in turn."""

    def bend(received: Received, answer: FakeAnswer) -> Any:
        return FAULTS[received.serial % len(FAULTS)].bend(received, answer)

    return Fault("mixed", bend)


@dataclass
class Load:
    """Clients that send one request after another."""

    port: int
    seed: int
    ended: Counter[str] = field(default_factory=Counter)
    """Answers by the kind of client and the status."""
    sent: int = 0
    """The number of requests. Each has its number in its id."""

    async def run(self, goes_on: Callable[[], bool]) -> None:
        async with asyncio.TaskGroup() as group:
            for n in range(CONCURRENCY):
                group.create_task(self._client(random.Random(f"{self.seed}/{n}"), goes_on))

    async def _client(self, rng: random.Random, goes_on: Callable[[], bool]) -> None:
        while goes_on():
            self.sent += 1
            kind = rng.choice(("plain", "plain", "stream", "stream", "slow", "leaves soon", "leaves midway"))
            async with asyncio.timeout(60):
                await self._call(kind, f"soak-{self.sent}", rng)

    async def _call(self, kind: str, name: str, rng: random.Random) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        stream = kind in ("stream", "slow", "leaves midway") or (kind == "leaves soon" and rng.random() < 0.5)
        try:
            writer.write(self._request(name, stream=stream))
            if kind == "leaves soon":
                await asyncio.sleep(rng.random() * 0.03)
            elif kind == "leaves midway":
                await reader.read(300)
            else:
                self._ended(kind, await _read(reader, slowly=kind == "slow"))
        finally:
            writer.transport.abort()

    def _request(self, name: str, *, stream: bool) -> bytes:
        chat = {"model": "chat", "stream": stream, "messages": [{"role": "user", "content": "count to seven"}]}
        body = json.dumps(chat).encode()
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: soak\r\nconnection: close\r\nauthorization: Bearer test-key"
            f"\r\nx-request-id: {name}\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _ended(self, kind: str, answer: bytes) -> None:
        """Every answer is whole, or says that it is not."""
        status = int(answer[9:12])
        self.ended[f"{kind} {status}"] += 1
        if status != 200:
            assert b'"error"' in answer
        elif kind != "plain":
            assert (b"data: [DONE]" in answer) != (b'"error"' in answer), answer
        else:
            assert b'"choices"' in answer
        assert status in (200, 400, 401, 429, 502, 503, 504), answer


async def _read(reader: asyncio.StreamReader, *, slowly: bool) -> bytes:
    pieces = []
    while data := await reader.read(200 if slowly else 65536):
        pieces.append(data)
        if slowly and len(pieces) < 5:
            await asyncio.sleep(0.01)
    return b"".join(pieces)


@dataclass
class Seen:
    """Everything that can be seen from outside: which requests reached an upstream, and what was recorded of them."""

    upstreams: tuple[FakeUpstream, ...]
    corridor: Corridor
    reached: set[str] = field(default_factory=set)
    recorded: Counter[str] = field(default_factory=Counter)
    answered: set[str] = field(default_factory=set)
    """Requests for which an attempt has a status."""
    served: set[str] = field(default_factory=set)
    """Requests whose outcome is "ok"."""
    outcomes: Counter[str] = field(default_factory=Counter)
    attempts: int = 0
    tally: Tally | None = None

    async def look(self) -> None:
        for upstream in self.upstreams:
            calls = [r for r in upstream.received if r.method == "POST"]  # a check of an idle target is a GET
            self.reached |= {r.header("x-request-id") or "" for r in calls}
            upstream.received.clear()
        full = True
        while full:  # and not until nothing comes: under load something always does
            entries = await self.corridor.read("soak", 500, 10)
            for entry in entries:
                self._note(from_fields(entry.fields))
            await self.corridor.ack([e.id for e in entries])
            full = len(entries) == 500

    def _note(self, record: Any) -> None:
        if isinstance(record, Exchange):
            assert record.client_id is not None
            self.recorded[record.client_id] += 1
            self.outcomes[record.outcome] += 1
            self.attempts += len(record.attempts)
            if record.outcome == "ok":
                self.served.add(record.client_id)
            if any(a.status for a in record.attempts):
                self.answered.add(record.client_id)
        elif isinstance(record, Tally):
            self.tally = merged(self.tally, record) if self.tally else record

    async def until_complete(self) -> None:
        """Waits until a tally, begun when the last clients that left have been noticed, says that all has been read."""
        since = time.time() + 0.5
        async with asyncio.timeout(60):
            while not self._complete(since):
                await self.look()

    def _complete(self, since: float) -> bool:
        tally = self.tally
        if tally is None or tally.at < since or tally.last_seq != self.recorded.total():
            return False
        return sum(c.n for c in tally.sampled) == sum(c.n for c in (*tally.enqueued, *tally.dropped))

    def check(self) -> None:
        """Each call that reached an upstream left one exchange. An exchange of a call that reached none was not served:
        its client left, or its connection failed, before the request had been sent."""
        assert set(self.recorded.values()) == {1}
        assert self.served | self.answered <= self.reached <= set(self.recorded)
        tally = self.tally
        assert tally is not None
        assert not tally.dropped
        counted = [sum(c.n for c in counts) for counts in (tally.seen, tally.sampled, tally.enqueued)]
        assert counted == [self.recorded.total()] * 3
        assert {"ok", "client_gone", "upstream_error"} <= set(self.outcomes)


@pytest.fixture
def troubled(configured: Configured, upstream: FakeUpstream, second: FakeUpstream) -> dict[str, Any]:
    """A third of all requests meet a fault at the target, a tenth at the fallback. A silent upstream is given up after
    1.5 s, in which a healthy one answers on a busy machine too."""
    words = [w for i in range(7) for w in (Delay(0.002), f"{i} ")]
    for fake, share in ((upstream, 1 / 3), (second, 0.1)):
        fake.says(*words)
        fake.always(mixed(), share)
    timeouts = {"connect_s": 5, "first_token_s": 1.5, "answer_s": 1.5, "idle_s": 1.5, "total_s": 20}
    chat = {"timeouts": timeouts, "retries": {"attempts": 2, "backoff_s": 0.01}}
    return configured(upstream, second, chat=chat)


async def test_after_a_steady_load_nothing_is_left_over(
    start: Any,
    troubled: dict[str, Any],
    upstream: FakeUpstream,
    second: FakeUpstream,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Runs in this process, where tasks and connections can be counted."""
    gateway = await start(troubled)
    now = gateway.gateway
    before = set(asyncio.all_tasks())
    load = Load(int(re.findall(r":(\d+)", gateway.base_url)[0]), seed=1)
    seen = Seen((upstream, second), gateway.corridor)
    await load.run(lambda: load.sent < CALLS)

    await gateway.until(lambda: not now.in_use)
    await gateway.until(lambda: not asyncio.all_tasks() - before)
    assert not now.ticker.timers
    assert not any(p.in_flight for p in now.router.target_states)
    assert not any(u.limiter.in_flight or u.limiter.waiting for u in now.upstreams.values())
    assert await gateway.metric("gateway_inflight_requests") == 0
    for name, fake in (("u0", upstream), ("u1", second)):
        state = now.upstreams[name]
        # Those that fake closes by itself are on their way; what stays is in the pool, ready for the next call.
        await fake.until(lambda u, s=state: u.open_connections <= s.transport.idle(u.origin))
    await seen.until_complete()
    seen.check()
    assert await gateway.metric("gateway_attempts_total") == seen.attempts
    assert load.ended["plain 200"] > 0.6 * sum(n for kind, n in load.ended.items() if kind.startswith("plain"))
    assert not [r.getMessage() for r in caplog.records if r.exc_info or "ASGI" in r.getMessage()]

    upstream.always(None)
    second.always(None)
    async with asyncio.timeout(60):  # as long as a breaker may stay open
        while (await gateway.chat()).headers.get("x-gateway-upstream") != "u0":
            await asyncio.sleep(0.05)


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / MB


def open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def slope(points: list[tuple[float, float]]) -> float:
    """Slope of the least-squares line."""
    n = len(points)
    mean_x, mean_y = sum(x for x, _ in points) / n, sum(y for _, y in points) / n
    return sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points)


@pytest.fixture
async def served(troubled: dict[str, Any], tmp_path: Path) -> Any:
    """`gateway serve` in a process whose memory is its own: (its process id, its port)."""
    path, log = tmp_path / "gateway.yaml", tmp_path / "log"
    troubled["stream"]["max_mb"] = 64
    path.write_text(yaml.safe_dump(troubled))
    command = [sys.executable, "-m", "gateway", "serve", "--config", str(path), "--port", "0"]
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out)
    try:
        async with asyncio.timeout(60):
            while (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())) is None:
                await asyncio.sleep(0.02)
        yield process.pid, int(found[1])
    finally:
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
        output = log.read_text()
        assert "Traceback" not in output
        assert " ERROR " not in output


@pytest.mark.parametrize(
    ("seconds", "warm_s", "most_mb_a_minute"),
    [
        pytest.param(7, 3, 60, id="short"),
        pytest.param(300, 120, 1, id="five minutes", marks=[pytest.mark.long, pytest.mark.timeout(420)]),
    ],
)
async def test_memory_and_open_files_stay_level(
    served: tuple[int, int],
    troubled: dict[str, Any],
    upstream: FakeUpstream,
    second: FakeUpstream,
    seconds: float,
    warm_s: float,
    most_mb_a_minute: float,
    record_property: Callable[[str, Any], None],
) -> None:
    pid, port = served
    corridor = Corridor(troubled["stream"]["url"], troubled["stream"]["name"])
    await corridor.join()
    seen = Seen((upstream, second), corridor)
    load = Load(port, seed=2)
    files = open_files(pid)
    begun, points = time.monotonic(), []
    loading = asyncio.get_running_loop().create_task(load.run(lambda: time.monotonic() < begun + seconds))

    async def look() -> None:
        while not loading.done():
            await seen.look()
            await asyncio.wait({loading}, timeout=0.2)

    looking = asyncio.get_running_loop().create_task(look())  # it may take seconds: memory is read next to it
    while not loading.done():
        points.append(((time.monotonic() - begun) / 60, rss_mb(pid)))
        await asyncio.wait({loading}, timeout=0.2)
    await loading
    await looking
    await seen.until_complete()
    seen.check()
    grown = slope([(at, mb) for at, mb in points if at * 60 > warm_s])
    for name, value in (("MB a minute", grown), ("MB", points[-1][1]), ("calls", load.sent)):
        record_property(name, value)
    sys.stderr.write(f"\n{load.sent} calls in {seconds:g} s; {points[-1][1]:.1f} MB, {grown:+.2f} MB a minute\n")
    assert grown < most_mb_a_minute
    async with asyncio.timeout(60):  # idle connections to upstreams are closed after a few seconds
        while open_files(pid) > files + 2:
            await asyncio.sleep(0.1)
    await corridor.aclose()
