"""Peers that vanish without a word: packets are dropped, and nothing is acknowledged or refused. Deadlines fire, calls
fail over, records wait, and nothing hangs."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

from gateway.core.errors import StreamDown
from gateway.fake import HOLD, FakeUpstream

TIMEOUTS = {"connect_s": 0.1, "first_token_s": 0.2, "answer_s": 0.2, "idle_s": 0.2, "total_s": 15}
APART = {"connect_s": 1.0, "first_token_s": 5.0, "answer_s": 5.0, "idle_s": 5.0, "total_s": 60}
"""A process that the machine suspends for a moment finds one of these deadlines past, not two, and an upstream that is
there has the time to answer."""
PARIS = ("Paris ", "is ", "the ", "capital.")


def port_of(url: str) -> int:
    return int(url.split(":")[2].split("/")[0])


def behind(config: dict[str, Any], peer: Any, **settings: Any) -> dict[str, Any]:
    """The config with its first upstream behind a peer."""
    config["upstreams"]["u0"] |= {"base_url": f"http://127.0.0.1:{peer.port}/v1", **settings}
    return config


@pytest.mark.parametrize(
    ("stream", "transport"),
    [(False, "http1"), (True, "http1"), (False, "httpx")],
    ids=["plain", "streamed", "plain, httpx"],
)
async def test_calls_fail_over_from_an_upstream_that_vanished(
    start: Any,
    configured: Any,
    upstream: FakeUpstream,
    second: FakeUpstream,
    vanishing: Any,
    stream: bool,
    transport: str,
) -> None:
    upstream.says(*PARIS)
    second.says("from ", "another")
    async with vanishing(port_of(upstream.base_url)) as peer:
        config = behind(configured(upstream, second, chat={"timeouts": APART}), peer, transport=transport)
        gateway = await start(config)
        assert (await gateway.chat(stream=stream)).headers["x-gateway-upstream"] == "u0"

        peer.vanish()
        async with asyncio.timeout(60):
            for _ in range(8):
                answer = await gateway.chat(stream=stream)
                assert answer.status_code == 200
                assert answer.headers["x-gateway-upstream"] == "u1"
        exchanges = await gateway.recorded(9)
        failures = [e.attempts[0].failure for e in exchanges[1:] if len(e.attempts) > 1]
        assert sum(f.startswith("timed out") for f in failures) == 1, "the kept connection is used, and given up"
        assert sum(f.startswith("could not be connected to in time") for f in failures) >= 4
        assert any(len(e.attempts) == 1 for e in exchanges[1:]), "the circuit breaker opens"

        peer.appear()
        async with asyncio.timeout(60):
            while (await gateway.chat(stream=stream)).headers["x-gateway-upstream"] != "u0":
                await asyncio.sleep(0.05)


async def test_without_a_fallback_a_call_ends_at_its_deadline(
    start: Any, configured: Any, upstream: FakeUpstream, vanishing: Any
) -> None:
    async with vanishing(port_of(upstream.base_url)) as peer:
        gateway = await start(behind(configured(upstream, chat={"timeouts": APART}), peer))
        peer.vanish()
        async with asyncio.timeout(30):
            answer = await gateway.chat()
        assert answer.status_code == 504
        assert "connect" in answer.json()["error"]["message"]


async def test_a_stream_whose_upstream_vanishes_is_continued_elsewhere(
    start: Any, configured: Any, upstream: FakeUpstream, second: FakeUpstream, events: Any, vanishing: Any
) -> None:
    upstream.says("Paris ", "is ", HOLD, "lost")
    second.says("Paris ", "is ", "the ", "capital.")
    async with vanishing(port_of(upstream.base_url)) as peer:
        chat = {"timeouts": TIMEOUTS, "on_cut": "continue"}
        gateway = await start(behind(configured(upstream, second, chat=chat), peer))
        body = b""
        async with asyncio.timeout(30), gateway.stream() as answer:
            async for piece in answer.aiter_bytes():
                body += piece
                if body.count(b'"is ') == 1:
                    peer.vanish()
        text = "".join(
            c["delta"].get("content") or "" for e in events(body) if isinstance(e, dict) for c in e.get("choices", ())
        )
        assert text == "Paris is the capital."
        upstream.release()


async def test_a_client_that_vanishes_is_given_up(
    start: Any, configured: Any, upstream: FakeUpstream, vanishing: Any
) -> None:
    """More is sent to it than the kernel's buffers hold, and nothing of it is acknowledged."""
    upstream.says(*["word " * 20_000] * 100)
    gateway = await start(configured(upstream, chat={"timeouts": {"idle_s": 30}}), write_s=0.5)
    async with vanishing(port_of(gateway.base_url)) as peer:
        body = json.dumps({"model": "chat", "stream": True, "messages": [{"role": "user", "content": "hi"}]})
        reader, writer = await asyncio.open_connection("127.0.0.1", peer.port)
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer test-key\r\n"
            b"content-length: %d\r\n\r\n%b" % (len(body), body.encode())
        )
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        peer.vanish()
        async with asyncio.timeout(30):
            while gateway.gateway.in_use:
                await asyncio.sleep(0.02)
        [exchange] = await gateway.recorded()
        assert exchange.outcome == "client_gone"
        writer.transport.abort()


async def test_no_call_waits_for_a_stream_server_that_vanished(
    start: Any, configured: Any, upstream: FakeUpstream, stream_server: Any, vanishing: Any
) -> None:
    upstream.says(*PARIS)
    async with vanishing(str(stream_server.socket)) as peer:
        config = configured(upstream)
        config["stream"]["url"] = f"redis://127.0.0.1:{peer.port}/0"
        gateway = await start(config)
        answers = [await gateway.chat()]
        await gateway.recorded()
        peer.vanish()
        async with asyncio.timeout(30):
            answers += [await gateway.chat(stream=bool(i % 2)) for i in range(100)]  # a second each, if they waited
        assert {answer.status_code for answer in answers} == {200}
        await gateway.until(lambda: gateway.process.app.gateway.recorder.waiting)
        peer.appear()
        wanted = {answer.headers["x-request-id"] for answer in answers}
        async with asyncio.timeout(60):
            while {e.id for e in gateway.exchanges} < wanted:
                with contextlib.suppress(StreamDown):
                    await gateway.read_more()
        assert {e.id for e in gateway.exchanges} == wanted


async def test_a_gateway_stops_without_its_stream_server(
    start: Any, configured: Any, upstream: FakeUpstream, stream_server: Any, vanishing: Any
) -> None:
    upstream.says(*PARIS)
    async with vanishing(str(stream_server.socket)) as peer:
        config = configured(upstream)
        config["stream"]["url"] = f"redis://127.0.0.1:{peer.port}/0"
        gateway = await start(config, flush_s=0.3)
        peer.vanish()
        assert (await gateway.chat()).status_code == 200
        gateway.server.should_exit = True
        async with asyncio.timeout(30):
            await gateway.server.lifespan.shutdown_event.wait()
