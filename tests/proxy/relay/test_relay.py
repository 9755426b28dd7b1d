"""Attempts, retries and fallbacks: which target is named, what is counted, what is left behind.

The table of upstream faults is in tests/proxy/test_faults.py.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Target
from gateway.fake import CUT, HOLD, FakeUpstream, Fault
from gateway.proxy.relay.state import CallContext, HeldBytes
from gateway.proxy.request.call import NO_OPTIONS, Call, Caller
from gateway.proxy.routing.circuit_breaker import CircuitBreaker
from gateway.proxy.routing.target_state import TargetState
from gateway.proxy.types import DetachedClient

Configured = Callable[..., dict[str, Any]]
PATIENT = {"first_token_s": 5, "answer_s": 5, "total_s": 20}


async def test_a_refusal_names_its_upstream_and_counts_all_attempts(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.always(Fault.context_length())
    second.always(Fault.status(503))
    gateway = await start(configured(upstream, second, chat={"retries": {"attempts": 1}}))
    reply = await gateway.chat()
    assert reply.json()["error"]["code"] == "context_length_exceeded"
    assert reply.headers["x-gateway-upstream"] == "u0"
    assert reply.headers["x-gateway-attempts"] == "2"
    [exchange] = await gateway.recorded()
    assert exchange.target == Target("u0", "model-u0")
    assert [a.target.upstream for a in exchange.attempts] == ["u0", "u1"]


async def test_one_refusal_is_one_attempt(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.always(Fault.content_policy())
    assert (await gateway.chat()).headers["x-gateway-attempts"] == "1"


async def test_a_429_without_retry_after_is_retried_once(gateway: Any, upstream: FakeUpstream) -> None:
    """`x-should-retry: false` says that the gateway has spent its own retries: then it must have."""
    upstream.then(Fault.rate_limited())
    assert (await gateway.chat()).status_code == 200
    upstream.always(Fault.rate_limited())
    before = len(upstream.received)
    reply = await gateway.chat()
    assert (reply.status_code, reply.headers["x-should-retry"]) == (429, "false")
    assert len(upstream.received) - before == 2


def make_half_open(target_state: TargetState) -> None:
    """Opens the target's breaker and lets its time pass: the next call is the probe."""
    now = 0.0
    target_state.breaker = CircuitBreaker(lambda: now)
    for _ in range(5):
        target_state.breaker.record_failure()
    assert not target_state.ready
    now = 60.0


@pytest.fixture
async def full(start: Any, configured: Configured, upstream: FakeUpstream) -> Any:
    """A gateway whose upstream takes one call at a time and does not answer it."""
    config = configured(upstream, chat={"timeouts": PATIENT, "retries": {"attempts": 1}})
    config["upstreams"]["u0"] |= {"concurrency": 1, "queue_s": 5}
    gateway = await start(config)
    upstream.then(Fault.silence())
    holding = asyncio.get_running_loop().create_task(gateway.chat("first"))
    await upstream.next_received()
    yield gateway
    holding.cancel()
    await asyncio.wait([holding])


async def test_waiting_for_the_limiter_counts_against_the_total(full: Any, upstream: FakeUpstream) -> None:
    body = {"model": "chat", "messages": [{"role": "user", "content": "x"}]}
    reply = await full.client.post("/chat/completions", json=body, headers={"x-gateway-timeout-s": "0.05"})
    assert reply.status_code == 504
    assert "no end of the call within 0.05 s" in reply.json()["error"]["message"]
    assert len(upstream.received) == 1
    assert full.gateway.upstreams["u0"].limiter.waiting == 0


async def test_a_client_may_leave_while_waiting_for_the_limiter(full: Any, upstream: FakeUpstream) -> None:
    limiter, [target_state] = full.gateway.upstreams["u0"].limiter, full.gateway.router.target_states
    make_half_open(target_state)
    waiting = asyncio.get_running_loop().create_task(full.chat("second"))
    await full.until(lambda: limiter.waiting == 1)
    assert not target_state.ready, "the probe waits for the limiter"
    waiting.cancel()
    await full.until(lambda: limiter.waiting == 0)
    await full.until(lambda: target_state.ready)
    assert limiter.in_flight == 1


async def test_a_shadow_request_waits_behind_clients(
    start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"] |= {"concurrency": 1, "queue_s": 50}
    running = await start(config)
    gateway, limiter = running.gateway, running.gateway.upstreams["u0"].limiter
    await limiter.acquire()
    body = b'{"model":"chat","messages":[{"role":"user","content":"a shadow"}]}'
    caller, path = Caller("tester"), b"/chat/completions"
    call = Call("id", 0.0, time.monotonic(), caller, "chat", b"POST", path, "chat", False, body)
    route = replace(gateway.router.decide(call, NO_OPTIONS), shadow_of="swap")
    context, loop = CallContext(HeldBytes(True, 1000)), asyncio.get_running_loop()
    shadow = loop.create_task(gateway.relay.ask(call, route, DetachedClient(), context, held=True))
    await running.until(lambda: limiter.waiting == 1)
    client = loop.create_task(running.chat("a client"))
    await running.until(lambda: limiter.waiting == 2)
    limiter.release()
    assert (await client).status_code == 200
    await shadow
    assert [b"a shadow" in call.body for call in upstream.calls] == [False, True]


async def test_a_gateway_fault_releases_the_breakers_probe(
    gateway: Any, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    [target_state] = gateway.gateway.router.target_states
    make_half_open(target_state)
    dialect = target_state.upstream.dialect.by_api["chat"]
    monkeypatch.setattr(dialect, "answer", lambda call, body: 1 / 0)
    assert (await gateway.chat()).status_code == 500
    monkeypatch.undo()
    assert (await gateway.chat()).status_code == 200
    assert target_state.in_flight == target_state.upstream.limiter.in_flight == 0


async def test_a_failed_continuation_records_what_the_client_got(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The status and target are those of the answer that was started, not of the failed continuation."""
    upstream.says("half an ", CUT)
    second.always(Fault.status(500))
    gateway = await start(configured(upstream, second))
    reply = await gateway.chat(stream=True)
    assert reply.status_code == 200
    [exchange] = await gateway.recorded()
    assert (exchange.outcome, exchange.status, exchange.spliced) == ("cut", 200, False)
    assert exchange.target == Target("u0", "model-u0")
    assert [a.status for a in exchange.attempts][1:] == [500]
    assert b"half an " in exchange.response


async def test_a_malformed_event_does_not_end_a_continuation(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream, events: Any
) -> None:
    upstream.says("one ", CUT)
    second.says("one ", "two ", "three")
    second.always(Fault.malformed_after(1))
    gateway = await start(configured(upstream, second))
    reply = await gateway.chat(stream=True)
    received = events(reply.content)
    text = "".join(c["delta"].get("content") or "" for e in received[:-1] for c in e["choices"])
    assert (text, received[-1]) == ("one two three", "[DONE]")
    [exchange] = await gateway.recorded()
    assert (exchange.outcome, exchange.spliced) == ("ok", True)


async def test_a_finished_continuation_is_complete_without_done(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream, events: Any
) -> None:
    upstream.says("one ", CUT)
    second.says("one ", "two")
    second.always(Fault.no_done())
    gateway = await start(configured(upstream, second, chat={"timeouts": {**PATIENT, "idle_s": 0.2}}))
    reply = await gateway.chat(stream=True)
    assert events(reply.content)[-1] == "[DONE]"
    [exchange] = await gateway.recorded()
    assert (exchange.outcome, exchange.spliced) == ("ok", True)


@pytest.mark.parametrize(
    ("settings", "waiting"),
    [({"kind": "vllm"}, 7.0), ({"kind": "vllm", "load": "none"}, None), ({"kind": "ray_serve", "load": "orca"}, 7.0)],
    ids=["by its kind", "switched off", "switched on"],
)
async def test_load_reports_are_read_only_from_configured_upstreams(
    settings: dict[str, Any], waiting: float | None, start: Any, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.vllm = True
    upstream.load["num_requests_waiting"] = 7.0
    gateway = await start(configured(upstream, upstreams={"u0": {**settings, "base_url": upstream.base_url}}))
    assert (await gateway.chat()).status_code == 200
    [target_state] = gateway.gateway.router.target_states
    assert target_state.waiting == waiting


@pytest.mark.parametrize(("queue", "queue_s"), [(0, 5), (4, 0.05)], ids=["no queue", "too long a wait"])
async def test_a_full_queue_is_a_429_and_no_fault(
    start: Any, configured: Configured, upstream: FakeUpstream, queue: int, queue_s: float
) -> None:
    """The upstream is healthy and was not asked, so nothing counts against it."""
    config = configured(upstream, chat={"timeouts": PATIENT})
    config["upstreams"]["u0"] |= {"concurrency": 1, "queue": queue, "queue_s": queue_s}
    gateway = await start(config)
    upstream.says(HOLD, "first")
    first = asyncio.get_running_loop().create_task(gateway.chat("first"))
    await upstream.next_received()
    for _ in range(6):
        reply = await gateway.chat("one too many")
        assert (reply.status_code, reply.json()["error"]["code"]) == (429, "rate_limit_exceeded")
        assert reply.headers["retry-after"] == "1"
        assert "x-should-retry" not in reply.headers
    assert await gateway.metric("gateway_requests_total", outcome="queue_full") == 6
    assert await gateway.metric("gateway_attempts_total", result="queue_full") == 6
    assert await gateway.metric("gateway_attempts_total", result="error") == 0
    assert await gateway.metric("gateway_requests_total", outcome="upstream_error") == 0
    [target_state] = gateway.gateway.router.target_states
    assert target_state.breaker.closed
    upstream.release()
    assert (await first).status_code == 200
    assert len(upstream.received) == 1


async def test_a_clients_own_4xx_is_counted_as_the_clients(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.then(Fault.status(400), Fault.context_length(), Fault.status(404), Fault.status(422))
    assert [(await gateway.chat()).status_code for _ in range(4)] == [400, 400, 404, 422]
    assert await gateway.metric("gateway_requests_total", outcome="client_error") == 4
    assert await gateway.metric("gateway_requests_total", outcome="upstream_error") == 0
    assert await gateway.metric("gen_ai_server_request_duration_seconds_count", error_type="client_error") == 4
    [exchange, *_] = await gateway.recorded(4)
    assert exchange.outcome == "upstream_error", "the record's outcomes are unchanged"


async def test_a_vendors_limit_is_not_counted_as_the_clients(gateway: Any, upstream: FakeUpstream) -> None:
    upstream.always(Fault.rate_limited())
    assert (await gateway.chat()).status_code == 429
    assert await gateway.metric("gateway_requests_total", outcome="upstream_error") == 1


async def test_the_log_says_why_a_target_cannot_be_reached(
    start: Any, configured: Any, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """The line comes at the first failure and when the breaker opens; clients do not get it, since it names
    addresses.
    """
    config = configured(upstream)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{closed.getsockname()[1]}"
        config["upstreams"]["u0"]["base_url"] = f"{address}/v1"
        gateway = await start(config)
        answers = [await gateway.chat() for _ in range(8)]
    assert {answer.status_code for answer in answers} == {502, 503}
    assert not any("127.0.0.1" in answer.text for answer in answers)
    lines = [r.getMessage() for r in caplog.records if "u0/model-u0 failed" in r.getMessage()]
    assert len(lines) == 2, lines
    assert all(
        f"could not be connected to: cannot connect to {address}: 127.0.0.1: Connection ref" in line for line in lines
    )
    assert "breaker opens" in lines[1]
