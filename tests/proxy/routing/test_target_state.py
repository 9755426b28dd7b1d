"""The live state of targets: circuit breaker, concurrency limiter, load."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.upstreams import Upstream
from gateway.core.errors import Overloaded
from gateway.core.exchange import Target
from gateway.proxy.routing.target_state import CircuitBreaker, ConcurrencyLimiter, TargetState, UpstreamState


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
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
    assert breaker.wait_s() == pytest.approx(120.0), "a pause is limited"


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


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_attempts_are_admitted_in_order_of_arrival() -> None:
    limiter = ConcurrencyLimiter(2, 10, 60.0)
    got: list[int] = []

    async def one(n: int) -> None:
        await limiter.acquire()
        got.append(n)

    async with asyncio.TaskGroup() as group:
        for n in range(6):
            group.create_task(one(n))
        await turns()
        assert got == [0, 1]
        for n in range(2, 6):
            limiter.release()
            await turns()
            assert got == list(range(n + 1))
    assert limiter.in_flight == 2


async def test_a_late_comer_does_not_overtake_a_waiter() -> None:
    limiter = ConcurrencyLimiter(1, 10, 60.0)
    await limiter.acquire()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(limiter.acquire())
        await turns()
        limiter.release()  # handed over, but the other has not run yet
        late = group.create_task(limiter.acquire())
        await turns()
        assert waiting.done()
        assert not late.done()
        limiter.release()


async def test_a_full_queue_refuses_and_says_when_to_retry() -> None:
    limiter = ConcurrencyLimiter(1, 0, 60.0)
    await limiter.acquire()
    with pytest.raises(Overloaded, match="1 in flight, 0 waiting") as refused:
        await limiter.acquire()
    assert refused.value.retry_after_s == 1
    limiter.release()
    await limiter.acquire()


async def test_a_wait_that_is_too_long_is_refused() -> None:
    limiter = ConcurrencyLimiter(1, 5, 0.01)
    await limiter.acquire()
    with pytest.raises(Overloaded, match=r"within 0\.01 s"):
        await limiter.acquire()
    assert (limiter.waiting, limiter.in_flight) == (0, 1)
    limiter.release()
    assert limiter.free


async def test_a_cancelled_waiter_passes_its_turn_on() -> None:
    limiter = ConcurrencyLimiter(1, 5, 60.0)
    await limiter.acquire()
    loop = asyncio.get_running_loop()
    first, next_ = loop.create_task(limiter.acquire()), loop.create_task(limiter.acquire())
    await turns()
    limiter.release()  # it is the first one's now
    first.cancel()
    await turns()
    assert first.cancelled()
    assert next_.done()
    assert (limiter.in_flight, limiter.waiting) == (1, 0)


async def test_without_a_limit_no_attempt_waits() -> None:
    limiter = ConcurrencyLimiter(None, 0, 0.0)
    for _ in range(1000):
        await limiter.acquire()
    assert limiter.in_flight == 1000


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "cancel"]), st.integers(0, 9), st.booleans()),
    max_size=40,
)


class Crowd:
    """Callers of one ConcurrencyLimiter: which arrived, which are in flight, in which order."""

    def __init__(self, limit: int, queue: int) -> None:
        self.limiter = ConcurrencyLimiter(limit, queue, 60.0)
        self.limit = limit
        self.queue = queue
        self.tasks: list[asyncio.Task[None]] = []
        self.holders: deque[int] = deque()
        self.ever: list[int] = []

    async def _caller(self, n: int) -> None:
        await self.limiter.acquire()
        self.holders.append(n)
        self.ever.append(n)

    def step(self, group: asyncio.TaskGroup, what: str, which: int) -> None:
        if what == "enter":
            self.tasks.append(group.create_task(self._refusable(len(self.tasks))))
        elif what == "leave" and self.holders:
            self.holders.popleft()
            self.limiter.release()
        elif what == "cancel" and self.tasks:
            self.tasks[-1 - which % len(self.tasks)].cancel()

    async def _refusable(self, n: int) -> None:
        try:
            await self._caller(n)
        except Overloaded:
            assert self.limiter.waiting == self.queue

    def check(self) -> None:
        assert len(self.holders) == self.limiter.in_flight <= self.limit
        assert self.limiter.waiting <= self.queue
        assert not self.limiter.waiting or self.limiter.in_flight == self.limit, (
            "no attempt waits while another could start"
        )


@settings(max_examples=150)
@given(steps=STEPS, limit=st.integers(1, 3), queue=st.integers(0, 4))
def test_in_any_order_of_events_the_limit_holds(steps: list[tuple[str, int, bool]], limit: int, queue: int) -> None:
    async def play() -> None:
        crowd = Crowd(limit, queue)
        async with asyncio.TaskGroup() as group:
            for what, which, settle in steps:
                crowd.step(group, what, which)
                if settle:
                    await turns()
                    crowd.check()
            await turns()
            assert crowd.ever == sorted(crowd.ever) or not all(settle for *_, settle in steps)
            while crowd.holders:
                crowd.step(group, "leave", 0)
                await turns()
                crowd.check()
        assert (crowd.limiter.in_flight, crowd.limiter.waiting) == (0, 0)

    asyncio.run(play())


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
