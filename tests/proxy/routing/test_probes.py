"""Health and load of upstreams, asked only where it costs nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.upstreams import Upstream
from gateway.core.exchange import Target
from gateway.fake import FakeUpstream, Fault
from gateway.proxy.dialects.kinds import build_dialect
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.routing.circuit_breaker import CircuitBreaker
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.probes import load_report, look, probe_idle, scrape, watch
from gateway.proxy.routing.target_state import TargetState, UpstreamState


@pytest.fixture
async def state(upstream: FakeUpstream) -> AsyncIterator[UpstreamState]:
    """The live state of an upstream whose load is scraped."""
    config = Upstream(kind="vllm", base_url=upstream.base_url, load="scrape")
    transport = Http1Transport()
    yield UpstreamState("u", config, build_dialect(config), transport, ConcurrencyLimiter(None, 0, 1.0))
    await transport.aclose()


def a_target_state(state: UpstreamState) -> TargetState:
    return TargetState(Target("u", "m"), state, CircuitBreaker(lambda: 0.0), lambda: 0.0)


async def test_a_health_check_costs_nothing(state: UpstreamState, upstream: FakeUpstream) -> None:
    state.down = True
    await look(state)
    assert not state.down
    assert [(r.method, r.path) for r in upstream.received] == [("GET", "/health")]


STATES = [
    (Fault.status(503), True),
    (Fault.status(500), False),
    (Fault.status(401), False),
    (Fault.status(404), False),
    (Fault.reset(), True),
    (Fault.silence(), True),
    (Fault.garbage(), True),
]


@pytest.mark.parametrize(("fault", "down"), STATES, ids=[s[0].name for s in STATES])
async def test_it_is_down_when_nothing_answers_or_while_it_loads(
    state: UpstreamState, upstream: FakeUpstream, fault: Fault, down: bool
) -> None:
    upstream.always(fault)
    await look(state, timeout_s=0.1 if fault.name == "silence" else 30.0)
    assert state.down is down


async def test_a_change_is_said_once(
    state: UpstreamState, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    await looks(state, upstream, "+-----++")
    assert [r.message for r in caplog.records] == [
        "upstream u is down: /health does not answer",
        "upstream u is up again",
    ]


async def test_an_upstream_without_a_free_path_is_taken_to_be_there(upstream: FakeUpstream) -> None:
    config = Upstream(kind="openai", base_url=upstream.base_url)
    state = UpstreamState("u", config, build_dialect(config), Any, ConcurrencyLimiter(None, 0, 1.0))  # type: ignore[arg-type]
    await look(state)
    await watch([state])  # has nothing to watch, and ends
    assert not state.down
    assert not upstream.received


async def test_watching_continues(state: UpstreamState, upstream: FakeUpstream) -> None:
    task = asyncio.get_running_loop().create_task(watch([state], every_s=0.001))
    await upstream.until(lambda u: len(u.received) > 3)
    task.cancel()
    await asyncio.wait([task])


async def test_the_load_that_a_server_states_is_its_places_load(state: UpstreamState, upstream: FakeUpstream) -> None:
    upstream.load = {"kv_cache_usage_perc": 0.5, "num_requests_waiting": 3.0}
    target_state = a_target_state(state)
    task = asyncio.get_running_loop().create_task(scrape([state], [target_state], every_s=0.001))
    async with asyncio.timeout(60):
        while target_state.load < 9.0:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    assert target_state.load == 1.0 + 3.0 + 5.0


@pytest.mark.parametrize(("kind", "path"), [("vllm", "/health"), ("openai", "/v1/models")])
async def test_an_idle_open_breaker_is_probed_free_of_charge(upstream: FakeUpstream, kind: str, path: str) -> None:
    """A fallback failed once and gets no calls since: its breaker closes once the upstream answers."""
    target_state, now = idle_state(upstream, kind)
    upstream.always(Fault.status(500))
    task = asyncio.get_running_loop().create_task(probe_idle(lambda: [target_state], every_s=0.001))
    await asyncio.sleep(0.02)
    assert not upstream.received, "a call may still come"
    now[0] += 20.0
    await upstream.until(lambda u: len(u.received) > 3)
    assert target_state.breaker.open, "HTTP 500 proves nothing"
    upstream.always(None)
    async with asyncio.timeout(60):
        while target_state.breaker.open:
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait([task])
    await target_state.upstream.transport.aclose()
    assert {(r.method, r.path) for r in upstream.received} == {("GET", path)}


async def test_a_refused_key_is_not_probed_by_a_free_check(upstream: FakeUpstream) -> None:
    """The list of models answers 200 without a key, which proves nothing about it."""
    target_state, now = idle_state(upstream, "openai")
    other, _ = idle_state(upstream, "openai")
    target_state.upstream.record_key_refused(401, "HTTP 401")
    other.breaker = CircuitBreaker(lambda: now[0])
    for _ in range(5):
        other.breaker.record_failure()
    now[0] += 20.0
    task = asyncio.get_running_loop().create_task(probe_idle(lambda: [target_state, other], every_s=0.001))
    async with asyncio.timeout(60):
        while other.breaker.open:
            await asyncio.sleep(0.001)
    assert target_state.breaker.open
    task.cancel()
    await asyncio.wait([task])
    for state in (target_state, other):
        await state.upstream.transport.aclose()


async def test_a_candidate_of_a_ramp_is_probed_by_calls_alone(upstream: FakeUpstream) -> None:
    target_state, now = idle_state(upstream, "vllm")
    now[0] += 20.0
    asked = asyncio.Event()

    def candidates() -> set[Target]:
        asked.set()
        return {target_state.target}

    task = asyncio.get_running_loop().create_task(probe_idle(lambda: [target_state], candidates, every_s=0.001))
    await asyncio.wait_for(asked.wait(), 60)
    await asyncio.sleep(0.02)
    assert (target_state.breaker.open, upstream.received) == (True, [])
    task.cancel()
    await asyncio.wait([task])
    await target_state.upstream.transport.aclose()


def idle_state(upstream: FakeUpstream, kind: Any) -> tuple[TargetState, list[float]]:
    """A target whose breaker is open, and the time, in seconds."""
    now = [0.0]
    config = Upstream(kind=kind, base_url=upstream.base_url)
    state = UpstreamState("u", config, build_dialect(config), Http1Transport(), ConcurrencyLimiter(None, 0, 1.0))
    target_state = TargetState(Target("u", "m"), state, CircuitBreaker(lambda: now[0]), lambda: now[0])
    for _ in range(5):
        target_state.breaker.record_failure()
    return target_state, now


REPORTS = [
    (b'vllm:num_requests_waiting{engine="0"} 2.0\nvllm:num_requests_waiting{engine="1"} 3.0\n', 5.0, 0.0),
    (b"vllm:kv_cache_usage_perc 0.25\n", 0.0, 0.25),
    (b"vllm:gpu_cache_usage_perc 0.5\n", 0.0, 0.5),
    (b'vllm:kv_cache_usage_perc{engine="0"} 0.2\nvllm:kv_cache_usage_perc{engine="1"} 0.4\n', 0.0, 0.3),
    (b"# HELP vllm:num_requests_waiting 9\nvllm:num_requests_running 4\n", 0.0, 0.0),
    (b"vllm:num_requests_waiting NaN\nvllm:num_requests_waiting 1\n", 1.0, 0.0),
    (b"vllm:num_requests_waiting many\n", 0.0, 0.0),
    (b"vllm:num_requests_waiting +Inf\n", 0.0, 0.0),
    (b"", 0.0, 0.0),
]


@pytest.mark.parametrize(("exposition", "waiting", "cache"), REPORTS, ids=[str(at) for at in range(len(REPORTS))])
async def test_scraped_load_is_summed_under_either_name(
    state: UpstreamState, exposition: bytes, waiting: float, cache: float
) -> None:
    target_state = a_target_state(state)
    target_state.record_load_report(load_report(exposition))
    assert target_state.load == pytest.approx(1.0 + waiting + 10 * cache)


@given(st.binary(max_size=30))
def test_no_metrics_page_is_ever_an_error(value: bytes) -> None:
    load_report(b"vllm:num_requests_waiting " + value + b"\nvllm:kv_cache_usage_perc " + value)


async def looks(state: UpstreamState, upstream: FakeUpstream, results: str) -> str:
    """Checks once for each result, "+" good and "-" failed; returns "d" or "u" for down or up after each."""
    after = ""
    for result in results:
        upstream.always(Fault.status(503) if result == "-" else None)
        await look(state)
        after += "d" if state.down else "u"
    return after


async def test_three_failed_checks_in_a_row_take_an_upstream_out(state: UpstreamState, upstream: FakeUpstream) -> None:
    changes: list[bool] = []
    state.on_health = changes.append
    assert await looks(state, upstream, "+--+---+") == "uuuuuudu"
    assert changes == [True, False]


async def test_one_failed_check_is_enough_until_the_first_good_one(
    state: UpstreamState, upstream: FakeUpstream
) -> None:
    assert await looks(state, upstream, "-+-") == "duu"


async def test_thresholds_are_those_of_the_config(upstream: FakeUpstream) -> None:
    state = configured_state(upstream, failures=2, successes=2)
    assert await looks(state, upstream, "+-+--+-++") == "uuuuddddu"
    await state.transport.aclose()


async def test_the_interval_is_that_of_the_config(upstream: FakeUpstream) -> None:
    state = configured_state(upstream, interval_s=0.001)
    task = asyncio.get_running_loop().create_task(watch([state]))
    await upstream.until(lambda u: len(u.received) > 3)
    task.cancel()
    await asyncio.wait([task])
    await state.transport.aclose()


def configured_state(upstream: FakeUpstream, **check: float) -> UpstreamState:
    config = Upstream.model_validate({"kind": "vllm", "base_url": upstream.base_url, "health_check": check})
    return UpstreamState("u", config, build_dialect(config), Http1Transport(), ConcurrencyLimiter(None, 0, 1.0))
