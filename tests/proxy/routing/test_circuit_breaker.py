"""The circuit breaker: when it opens, what probes it, and that no target is left out for long."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.routing.circuit_breaker import CircuitBreaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that the test sets."""
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    """A circuit breaker on that clock."""
    return CircuitBreaker(clock)


def opened(breaker: CircuitBreaker) -> CircuitBreaker:
    for _ in range(5):
        assert breaker.allow()
        breaker.record_failure()
    return breaker


def test_a_breaker_opens_after_five_failures_in_a_row(breaker: CircuitBreaker) -> None:
    for _ in range(4):
        breaker.record_failure()
    assert breaker.allow()
    breaker.record_failure()
    assert breaker.open
    assert not breaker.allow()
    assert breaker.wait_s() == 1.0


def test_a_success_between_failures_keeps_it_closed(breaker: CircuitBreaker, clock: Clock) -> None:
    for at in range(40):
        clock.now += 1.0
        breaker.record_failure() if at % 3 else breaker.record_success()
    assert not breaker.open


def test_half_of_twenty_calls_in_ten_seconds_open_it(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(10):
        breaker.record_success()
        breaker.record_failure()
    assert breaker.open
    slow = CircuitBreaker(clock)
    for _ in range(40):
        clock.now += 1.0
        slow.record_success()
        slow.record_failure()
    assert not slow.open, "twenty calls did not come within one window"


def test_half_open_lets_one_probe_through_at_a_time(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 0.99
    assert not breaker.allow()
    clock.now += 0.02
    assert breaker.allow()
    assert not breaker.allow(), "the probe is in flight"
    breaker.record_success()
    assert not breaker.open
    assert breaker.allow()
    assert breaker.allow()


def test_a_free_check_closes_an_idle_breaker_until_the_next_failure(breaker: CircuitBreaker, clock: Clock) -> None:
    """No call came that could have been the probe."""
    opened(breaker)
    breaker.record_idle_check()
    assert breaker.open, "calls could not have probed it yet"
    clock.now += 1.1
    breaker.record_idle_check()
    assert (breaker.open, breaker.allow()) == (False, True)
    breaker.record_failure()
    assert breaker.open
    clock.now += 1.1
    assert breaker.allow()
    breaker.record_idle_check()
    assert breaker.open, "the call in flight decides"


def test_a_probe_without_a_result_lets_the_next_one_through(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 1.1
    assert breaker.allow()
    breaker.release_probe()
    assert breaker.open
    assert breaker.allow()
    assert not breaker.allow()


def test_each_failed_probe_doubles_the_wait_up_to_15_s(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    waits = []
    for _ in range(7):
        waits.append(breaker.wait_s())
        clock.now += breaker.wait_s()
        assert breaker.allow()
        breaker.record_failure()
    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_failures_from_before_it_opened_do_not_count_again(breaker: CircuitBreaker) -> None:
    """A hundred calls in flight at a target that dies are one event."""
    for _ in range(100):
        assert breaker.allow()
    for _ in range(100):
        breaker.record_failure()
    assert breaker.wait_s() == 1.0


@given(st.lists(st.sampled_from(["ok", "fail", "left"]), min_size=60, max_size=60), st.integers(0, 30))
def test_after_flapping_it_closes_within_thirty_seconds(minute: list[str], before: int) -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock)
    for _ in range(before):
        breaker.record_failure()
    for ending in minute:
        clock.now += 1.0
        if breaker.allow():
            {"ok": breaker.record_success, "fail": breaker.record_failure, "left": breaker.release_probe}[ending]()
    recovered = clock.now
    while not (breaker.allow() and (breaker.record_success() or not breaker.open)):
        clock.now += 0.25
    assert clock.now - recovered <= 30.0


def test_a_requested_pause_is_kept_and_only_lengthened(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.pause(5.0)
    breaker.pause(1.0)
    assert not breaker.open, "it did not fail"
    assert not breaker.allow()
    assert breaker.wait_s() == 5.0
    breaker.pause(8.0)
    clock.now += 7.9
    assert not breaker.allow()
    clock.now += 0.2
    assert breaker.allow()
    breaker.pause(1e9)
    assert breaker.wait_s() == pytest.approx(60.0), "a pause is limited"


def test_a_pause_above_a_minute_lets_one_call_ask_each_minute(breaker: CircuitBreaker, clock: Clock) -> None:
    breaker.pause(8 * 3600.0)
    for ending in (lambda: breaker.pause(8 * 3600.0), breaker.record_failure):
        clock.now += 60.0
        assert [breaker.allow() for _ in range(3)] == [True, False, False]
        ending()
    assert (breaker.open, breaker.allow()) == (False, True), "one failure does not open it"
    breaker.record_success()
    assert [breaker.allow() for _ in range(3)] == [True] * 3


@given(st.lists(st.sampled_from(["enter", "ok", "fail", "left", "cool", "tick"]), max_size=60))
def test_a_breaker_always_allows_a_call_within_two_minutes(events: list[str]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock)
    entered = 0
    for event in events:
        if event == "tick":
            clock.now += 3.0
        elif event == "enter":
            entered += breaker.allow()
        elif entered:
            entered -= 1
            ends: dict[str, Any] = {
                "ok": breaker.record_success,
                "fail": breaker.record_failure,
                "left": breaker.release_probe,
            }
            ends.get(event, lambda: breaker.pause(500.0))()
    for _ in range(entered):
        breaker.release_probe()
    clock.now += 120.0
    assert breaker.wait_s() == 0.0
    assert breaker.allow()
