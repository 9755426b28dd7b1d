"""A call from its first byte to its end, when its client leaves, or does not read: nothing stays, nothing grows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis.asyncio as redis
import yaml
from fixtures.program_command import gateway_command

from gateway.config.environment import WorkerEnvironment
from gateway.fake import HOLD, FakeAnswer, FakeUpstream, Fault, Received
from gateway.proxy.serve import Process

Configured = Callable[..., dict[str, Any]]
MB = 1 << 20


@pytest.fixture(autouse=True)
def nothing_failed(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fails a test whose log names an error: errors in the background are reported nowhere else."""
    yield
    wrong = [r.getMessage() for r in caplog.records if r.exc_info or "ASGI" in r.getMessage()]
    assert not wrong


@pytest.fixture
def deaf() -> Iterator[str]:
    """The base URL of a listener that never accepts, and whose queue is full: a connection to it neither opens nor
    fails."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(3):  # one is queued, the others fill what the kernel allows beyond
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"


def is_quiet(gateway: Any) -> bool:
    """Nobody is asked, nothing waits, no limit runs."""
    now = gateway.gateway
    return not (
        now.in_use
        or now.ticker.timers
        or any(p.in_flight for p in now.router.target_states)
        or any(u.limiter.in_flight or u.limiter.waiting for u in now.upstreams.values())
    )


@contextlib.asynccontextmanager
async def leaving(gateway: Any, *, stream: bool) -> AsyncIterator[asyncio.Task[Any]]:
    """A client that asks, and leaves at the end of the block; then all must be as it was before."""
    before = set(asyncio.all_tasks())
    task = asyncio.get_running_loop().create_task(gateway.chat(stream=stream))
    yield task
    assert not task.done()
    task.cancel()
    await gateway.until(lambda: is_quiet(gateway))
    await gateway.until(lambda: not asyncio.all_tasks() - before - {task})


BOTH = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@BOTH
async def test_while_connecting(start: Any, configured: Configured, upstream: FakeUpstream, deaf: str, stream: bool):
    config = configured(upstream)
    config["upstreams"]["u0"]["base_url"] = deaf
    config["models"]["chat"]["timeouts"] = {"connect_s": 20, "total_s": 20}
    gateway = await start(config)
    async with leaving(gateway, stream=stream):
        await gateway.until(lambda: any(p.in_flight for p in gateway.gateway.router.target_states))
    [exchange] = await gateway.recorded()
    assert (exchange.outcome, exchange.status) == ("client_gone", 0)
    assert [a.failure for a in exchange.attempts] == ["client gone"]


@BOTH
async def test_while_waiting_for_the_head(gateway: Any, upstream: FakeUpstream, stream: bool):
    upstream.then(Fault.silence())
    async with leaving(gateway, stream=stream):
        await upstream.until(lambda u: len(u.calls) == 1)
    await upstream.until(lambda u: u.cancelled == 1 and u.open_connections == 0)
    [exchange] = await gateway.recorded()
    assert (exchange.outcome, exchange.response) == ("client_gone", b"")


async def test_before_the_first_token(gateway: Any, upstream: FakeUpstream):
    upstream.says(HOLD, "late")
    async with leaving(gateway, stream=True):
        await gateway.until(lambda: any(p.latency_s for p in gateway.gateway.router.target_states))  # its head has come
    await upstream.until(lambda u: u.cancelled == 1 and u.open_connections == 0)
    [exchange] = await gateway.recorded()
    assert (exchange.outcome, exchange.first_token_s) == ("client_gone", None)


async def test_in_the_middle_of_a_plain_answer(gateway: Any, upstream: FakeUpstream):
    upstream.then(Fault.stall_after(1))
    async with leaving(gateway, stream=False):
        await gateway.until(lambda: any(p.latency_s for p in gateway.gateway.router.target_states))
    await upstream.until(lambda u: u.cancelled == 1 and u.open_connections == 0)
    [exchange] = await gateway.recorded()
    assert (exchange.outcome, exchange.status, exchange.response) == ("client_gone", 200, b"")


async def test_in_the_middle_of_a_stream(gateway: Any, upstream: FakeUpstream):
    upstream.says("one ", HOLD, "two ")
    async with gateway.stream() as reply:
        async for line in reply.aiter_lines():
            if "one " in line:
                break
    await upstream.until(lambda u: u.cancelled == 1 and u.open_connections == 0)
    await gateway.until(lambda: is_quiet(gateway))
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "client_gone"
    assert b"one " in exchange.response
    assert b"two " not in exchange.response


@BOTH
async def test_in_the_upstreams_queue(start: Any, configured: Configured, upstream: FakeUpstream, stream: bool):
    """No upstream was called, so there is no exchange; the next waiter is admitted."""
    config = configured(upstream)
    config["upstreams"]["u0"] |= {"concurrency": 1, "queue_s": 20}
    upstream.says(HOLD, "said")
    gateway = await start(config)
    limiter = gateway.gateway.upstreams["u0"].limiter
    loop = asyncio.get_running_loop()
    first = loop.create_task(gateway.chat())
    await upstream.until(lambda u: len(u.calls) == 1)
    leaves = loop.create_task(gateway.chat(stream=stream))
    await gateway.until(lambda: limiter.waiting == 1)
    behind = loop.create_task(gateway.chat())
    await gateway.until(lambda: limiter.waiting == 2)
    leaves.cancel()
    await gateway.until(lambda: limiter.waiting == 1)
    upstream.release()
    assert (await first).status_code == 200
    await upstream.until(lambda u: len(u.calls) == 2)
    upstream.release()
    assert (await behind).status_code == 200
    await gateway.until(lambda: is_quiet(gateway))
    tally = await gateway.tally(lambda t: t.last_seq == 2)
    assert sum(c.n for c in tally.seen) == 2
    assert [e.outcome for e in gateway.exchanges] == ["ok", "ok"]
    assert await gateway.metric("gateway_requests_total", outcome="client_gone") == 1


@BOTH
async def test_between_two_tries(gateway: Any, upstream: FakeUpstream, stream: bool):
    upstream.then(Fault.rate_limited(retry_after=5))
    async with leaving(gateway, stream=stream):
        await upstream.until(lambda u: len(u.calls) == 1 and u.calls[0].done.is_set())
        await gateway.until(lambda: not any(p.in_flight for p in gateway.gateway.router.target_states))
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "client_gone"
    assert [a.status for a in exchange.attempts] == [429]
    assert len(upstream.calls) == 1


@BOTH
async def test_while_the_fallback_is_asked(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream, stream: bool
):
    upstream.always(Fault.status(400, error_code="context_length_exceeded"))
    second.then(Fault.silence())
    gateway = await start(configured(upstream, second))
    async with leaving(gateway, stream=stream):
        await second.until(lambda u: len(u.calls) == 1)
    await second.until(lambda u: u.cancelled == 1)
    [exchange] = await gateway.recorded()
    assert exchange.outcome == "client_gone"
    assert [a.failure for a in exchange.attempts] == ["HTTP 400 context_length_exceeded", "client gone"]
    assert exchange.target.upstream == "u1"


async def test_while_its_own_body_is_on_the_way(gateway: Any, upstream: FakeUpstream):
    _, writer = await asyncio.open_connection("127.0.0.1", int(re.findall(r":(\d+)", gateway.base_url)[0]))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\ncontent-length: 100\r\n"
    writer.write(head + b'\r\n{"model"')
    await writer.drain()
    await gateway.until(lambda: gateway.gateway.in_use)
    writer.close()
    await gateway.until(lambda: is_quiet(gateway))
    assert not upstream.calls
    assert (await gateway.chat()).status_code == 200
    assert len(await gateway.recorded()) == 1


async def test_a_client_that_leaves_releases_the_probe(start: Any, configured: Configured, upstream: FakeUpstream):
    """A client that leaves says nothing of the target, and must not keep it from ever being asked again."""
    gateway = await start(configured(upstream, chat={"retries": {"attempts": 1}}))
    breaker = gateway.gateway.router.target_states[0].breaker
    upstream.always(Fault.status(500))
    for _ in range(5):
        await gateway.chat()
    upstream.always(None)
    upstream.then(Fault.silence())
    assert breaker.open
    await gateway.until(lambda: breaker.wait_s() == 0)
    async with leaving(gateway, stream=False):
        await upstream.until(lambda u: len(u.calls) == 6)
    assert (await gateway.chat()).status_code == 200
    assert not breaker.open


@pytest.mark.parametrize("path", ["/files/f/content", "/responses/resp_1"])
async def test_on_other_paths(start: Any, configured: Configured, upstream: FakeUpstream, path: str):
    gateway = await start(configured(upstream, passthrough="u0"))
    if "responses" in path:  # an id as the gateway gave it
        path = path.replace("resp_1", gateway.gateway.affinity.ids.seal("u0", "tester", "resp_1"))
    upstream.then(Fault.silence())
    state = asyncio.get_running_loop().create_task(gateway.client.get(path))
    await upstream.until(lambda u: len(u.calls) == 1)
    state.cancel()
    await upstream.until(lambda u: u.cancelled == 1)

    upstream.streams([b"a part ", HOLD, b"the rest"], content_type="application/octet-stream")
    async with gateway.client.stream("GET", path) as reply:
        await anext(reply.aiter_raw())
    await upstream.until(lambda u: u.cancelled == 2 and u.open_connections == 0)
    await gateway.until(lambda: is_quiet(gateway))


async def test_a_client_that_leaves_an_upload_ends_it_upstream(
    start: Any, configured: Configured, upstream: FakeUpstream
):
    gateway = await start(configured(upstream, passthrough="u0"))
    sent, never = asyncio.Event(), asyncio.Event()

    async def half() -> AsyncIterator[bytes]:
        yield b"half a file"
        sent.set()
        await never.wait()

    task = asyncio.get_running_loop().create_task(gateway.client.post("/files", content=half()))
    await sent.wait()
    await upstream.until(lambda u: u.open_connections == 1)
    task.cancel()
    await upstream.until(lambda u: u.open_connections == 0)
    await gateway.until(lambda: is_quiet(gateway))
    assert not upstream.received, "half a body is not a request"


async def test_an_internal_fault_is_an_error_not_an_answer(
    gateway: Any, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """No traceback for the client, one in the log; the call is not counted as answered, and the next one is."""

    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a mistake")

    [target_state] = gateway.gateway.router.target_states
    with monkeypatch.context() as broken:
        broken.setattr(target_state.upstream.dialect.by_api["chat"], "answer", fail)
        reply = await gateway.chat()
    assert (reply.status_code, reply.json()["error"]["code"]) == (500, "internal_error")
    assert "mistake" not in reply.text
    assert reply.headers["x-should-retry"] == "false"
    assert "ZeroDivisionError: a mistake" in caplog.text
    caplog.clear()
    assert (await gateway.chat()).status_code == 200
    await gateway.until(lambda: is_quiet(gateway))
    assert await gateway.metric("gateway_requests_total", outcome="ok") == 1
    assert [e.outcome for e in await gateway.recorded()] == ["ok"]


@dataclass
class Flood:
    """A stream of many equal events. asked: events for which there was room downstream; total: all of them."""

    total: int
    kind: bytes = b"text/event-stream"
    asked: int = 0
    event: bytes = b'data: {"id":"x","choices":[{"index":0,"delta":{"content":"' + b"x" * 65_000 + b'"}}]}\n\n'

    def bend(self, received: Received, answer: FakeAnswer) -> Iterator[Any]:
        yield b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % self.kind
        chunk = b"%x\r\n%b\r\n" % (len(self.event), self.event)
        while self.asked < self.total:
            self.asked += 1
            yield chunk
        last = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n'
        yield b"%x\r\n%b\r\n0\r\n\r\n" % (len(last), last)

    @property
    def asked_mb(self) -> float:
        return self.asked * len(self.event) / MB


class SlowClient:
    """Sends a request over a socket with a small buffer, and reads only on demand."""

    def __init__(self, port: int) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        self._socket.connect(("127.0.0.1", port))
        self._socket.setblocking(False)

    async def ask(self, path: str = "/v1/chat/completions", **fields: Any) -> None:
        fields = {"model": "chat", **(fields or {"stream": True, "messages": [{"role": "user", "content": "x"}]})}
        body = json.dumps(fields).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\n"
        request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        await asyncio.get_running_loop().sock_sendall(self._socket, request)

    async def read(self, until: bytes) -> int:
        """Number of bytes that came, up to these or the connection's end."""
        loop, size, tail = asyncio.get_running_loop(), 0, b""
        while until not in tail:
            data = await loop.sock_recv(self._socket, MB)
            if not data:
                break
            size += len(data)
            tail = (tail + data)[-200_000:]
        self.tail = tail
        return size

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def slow_client() -> Iterator[Callable[[int], SlowClient]]:
    """Makes clients that read slowly, and closes them after the test."""
    clients: list[SlowClient] = []

    def make(port: int) -> SlowClient:
        clients.append(SlowClient(port))
        return clients[-1]

    yield make
    for client in clients:
        client.close()


async def stands_still(flood: Flood) -> None:
    """Waits until nothing has been asked for in half a second."""
    async with asyncio.timeout(60):
        while True:
            before = flood.asked
            await asyncio.sleep(0.5)
            if flood.asked == before > 0:
                return


def rss_mb(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / MB


@pytest.mark.parametrize("fallback", [False, True], ids=["alone", "with a fallback"])
async def test_a_client_that_stops_reading_stops_the_upstream(
    configured: Configured,
    upstream: FakeUpstream,
    second: FakeUpstream,
    slow_client: Any,
    tmp_path: Path,
    fallback: bool,
):
    """The gateway runs in a process of its own, whose memory is the gateway's alone."""
    flood = Flood(total=1000)  # 65 MB
    config = configured(*([upstream, second] if fallback else [upstream]))
    config["models"]["chat"]["timeouts"] = {"total_s": 60, "idle_s": 60}
    config["limits"] = {"drain_s": 1}
    path, log = tmp_path / "gateway.yaml", tmp_path / "log"
    path.write_text(yaml.safe_dump(config))
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            *gateway_command("serve", "--config", str(path), "--port", "0"), stdout=out, stderr=out
        )
    try:
        async with asyncio.timeout(60):
            while (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", log.read_text())) is None:
                await asyncio.sleep(0.02)
        client = slow_client(int(found[1]))
        async with httpx2.AsyncClient(headers={"authorization": "Bearer test-key"}) as ordinary:
            url = f"http://127.0.0.1:{found[1]}/v1/chat/completions"
            body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": "x"}]}
            assert (await ordinary.post(url, json=body)).status_code == 200  # what is loaded once is loaded
        upstream.always(Fault("flood", flood.bend))
        before_mb = rss_mb(process.pid)
        await client.ask()
        await stands_still(flood)
        assert flood.asked_mb < 24, "sockets hold some; the gateway must not hold the rest"
        still_mb = rss_mb(process.pid) - before_mb
        assert still_mb < 8 + flood.asked_mb * fallback, "what has gone out is kept while it could be continued"

        got = await client.read(until=b"data: [DONE]\n\n")
        assert got > flood.total * len(flood.event), "all of it, and the framing"
        assert flood.asked == flood.total
        most_mb = 12 + 32 * fallback  # kept up to a bound, and grown into by lists
        assert rss_mb(process.pid) - before_mb < most_mb < flood.asked_mb
    finally:
        process.terminate()
        assert await process.wait() == 0
    assert "Traceback" not in log.read_text()


async def test_a_client_that_never_reads_runs_into_the_total(
    start: Any, configured: Configured, upstream: FakeUpstream, slow_client: Any
):
    flood = Flood(total=10_000)
    upstream.always(Fault("flood", flood.bend))
    timeouts = {"total_s": 0.4, "idle_s": 0.2}
    gateway = await start(configured(upstream, chat={"timeouts": timeouts}))
    for n in range(1, 7):  # more often than a breaker forgives
        client = slow_client(int(re.findall(r":(\d+)", gateway.base_url)[0]))
        await client.ask()
        await upstream.until(lambda u, n=n: u.cancelled == n)
        if n == 1:
            [exchange] = await gateway.recorded()
            assert exchange.outcome == "timeout"
            assert exchange.truncated, "what is kept for the record is bounded too"
            await client.read(until=b"[DONE]")
            assert b"[DONE]" not in client.tail
    await gateway.until(lambda: is_quiet(gateway))
    assert not gateway.gateway.router.target_states[0].breaker.open
    upstream.always(None)
    assert (await gateway.chat()).status_code == 200


async def test_a_slow_reader_of_audio_is_not_a_slow_upstream(
    start: Any, configured: Configured, upstream: FakeUpstream, slow_client: Any
):
    flood = Flood(total=200, kind=b"audio/mpeg")  # 13 MB, and sockets that hold less
    upstream.always(Fault("flood", flood.bend))
    timeouts = {"answer_s": 0.3, "idle_s": 0.3, "total_s": 20}
    gateway = await start(configured(upstream, chat={"timeouts": timeouts}))
    client = slow_client(int(re.findall(r":(\d+)", gateway.base_url)[0]))
    await client.ask("/v1/audio/speech", input="x", voice="alloy")
    await stands_still(flood)
    assert flood.asked < flood.total
    assert await client.read(until=b"\r\n0\r\n\r\n") > flood.total * len(flood.event)
    assert await gateway.metric("gateway_requests_total", outcome="ok") == 1


async def test_a_gateway_that_fails_closes_its_connections(
    tmp_path: Path, configured: Configured, upstream: FakeUpstream, stream_server: Any
) -> None:
    """Connections to the stream server, which it opens before anything else, are among them."""
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(configured(upstream, stream={"url": stream_server.url})))
    process = Process(WorkerEnvironment(path, tmp_path / "data", loopback=True))

    async def fails(other: redis.Redis) -> None:
        async with process.opened():
            assert len(await other.client_list()) > 1
            raise BrokenPipeError

    async with contextlib.aclosing(redis.Redis.from_url(stream_server.url)) as other:
        with pytest.raises(BrokenPipeError):
            await fails(other)
        async with asyncio.timeout(20):
            while len(await other.client_list()) > 1:
                await asyncio.sleep(0.005)
