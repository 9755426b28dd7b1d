"""The live state of targets: readiness, load and latency."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.upstreams import Upstream
from gateway.core.exchange import Target
from gateway.proxy.routing.circuit_breaker import CircuitBreaker
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.target_state import TargetState, UpstreamState


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that the test sets."""
    return Clock()


def a_target_state(clock: Clock) -> TargetState:
    upstream = UpstreamState("u", Upstream(kind="vllm"), Any, Any, ConcurrencyLimiter(None, 0, 1.0))  # type: ignore[arg-type]
    return TargetState(Target("u", "org/model"), upstream, CircuitBreaker(clock), clock)


def test_a_target_is_ready_unless_failing_paused_or_down(clock: Clock) -> None:
    target_state = a_target_state(clock)
    assert target_state.ready
    assert target_state.name == "u/org/model"
    target_state.upstream.down = True
    assert not target_state.ready
    target_state.upstream.down = False
    target_state.breaker.pause(1.0)
    assert not target_state.ready


LOADS = [
    (b"TEXT named_metrics.kv_cache_usage_perc=0.25, named_metrics.num_requests_waiting=3", 5.5),
    (b'JSON {"named_metrics": {"kv_cache_usage_perc": 0.5, "num_requests_waiting": 2}}', 7.0),
    (b'JSON {"named_metrics": {"num_requests_waiting":4.0}}', 4.0),
    (b'JSON {"named_metrics": {"kv_cache_usage_perc": 8.5e-05}}', 8.5e-4),
    (b'JSON {"named_metrics": {"kv_cache_usage_perc": 1E-1}}', 1.0),
    (b'JSON {"num_requests_waiting": 1.2.3}', 1.2),
    (b"num_requests_waiting=...", 0.0),
    (b"num_requests_waiting=.", 0.0),
    (b"", 0.0),
    (b"\xff\x00", 0.0),
]


@pytest.mark.parametrize(("header", "load"), LOADS, ids=[str(at) for at in range(len(LOADS))])
def test_a_load_report_counts_as_load(clock: Clock, header: bytes, load: float) -> None:
    target_state = a_target_state(clock)
    target_state.record_load_report(header)
    assert target_state.load == pytest.approx(1.0 + load)


@given(st.binary(max_size=60))
def test_no_load_report_is_ever_an_error(tail: bytes) -> None:
    target_state = a_target_state(Clock())
    target_state.record_load_report(b"num_requests_waiting=" + tail)
    assert target_state.load >= 1.0


def test_a_load_report_is_forgotten_when_it_is_old(clock: Clock) -> None:
    target_state = a_target_state(clock)
    target_state.record_load_report(b"num_requests_waiting=9")
    target_state.in_flight = 2
    assert target_state.load == 12.0
    clock.now += 10.0
    assert target_state.load == 3.0


def test_latency_is_a_moving_average_that_begins_with_the_first(clock: Clock) -> None:
    target_state = a_target_state(clock)
    target_state.record_latency(1.0)
    assert target_state.latency_s == 1.0
    target_state.record_latency(2.0)
    assert target_state.latency_s == pytest.approx(1.2)
