"""The state of what can be asked: breaker, slots, load."""

from __future__ import annotations

import asyncio
import random
from collections import deque
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.loading import Upstream
from gateway.core.errors import Overloaded
from gateway.core.exchange import Target
from gateway.proxy.routing.target_state import CircuitBreaker, ConcurrencyLimiter, TargetState, UpstreamState, jitter


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
        assert breaker.enter()
        breaker.failed()
    return breaker


# ── the breaker ──


def test_a_breaker_opens_after_five_failures_in_a_row_and_not_before(breaker: CircuitBreaker) -> None:
    for _ in range(4):
        breaker.failed()
    assert breaker.enter()
    breaker.failed()
    assert breaker.open
    assert not breaker.enter()
    assert breaker.wait_s() == 1.0


def test_a_success_between_failures_keeps_it_closed(breaker: CircuitBreaker, clock: Clock) -> None:
    for at in range(40):
        clock.now += 1.0
        breaker.failed() if at % 3 else breaker.succeeded()
    assert not breaker.open


def test_half_of_twenty_calls_in_ten_seconds_open_it(breaker: CircuitBreaker, clock: Clock) -> None:
    for _ in range(10):
        breaker.succeeded()
        breaker.failed()
    assert breaker.open
    slow = CircuitBreaker(clock)
    for _ in range(40):
        clock.now += 1.0
        slow.succeeded()
        slow.failed()
    assert not slow.open, "twenty calls did not come within one window"


def test_after_its_time_one_probe_at_a_time_is_let_through(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    clock.now += 0.99
    assert not breaker.enter()
    clock.now += 0.02
    assert breaker.enter()
    assert not breaker.enter(), "the probe is under way"
    breaker.succeeded()
    assert not breaker.open
    assert breaker.enter()
    assert breaker.enter()


def test_a_probe_that_says_nothing_of_the_target_gives_the_next_one_its_turn(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    opened(breaker)
    clock.now += 1.1
    assert breaker.enter()
    breaker.left()
    assert breaker.open
    assert breaker.enter()
    assert not breaker.enter()


def test_each_failed_probe_doubles_the_wait_up_to_fifteen_seconds(breaker: CircuitBreaker, clock: Clock) -> None:
    opened(breaker)
    waits = []
    for _ in range(7):
        waits.append(breaker.wait_s())
        clock.now += breaker.wait_s()
        assert breaker.enter()
        breaker.failed()
    assert waits == [1.0, 2.0, 4.0, 8.0, 15.0, 15.0, 15.0]


def test_failures_of_calls_from_before_it_opened_do_not_lengthen_the_wait(breaker: CircuitBreaker) -> None:
    """A hundred calls in flight at a target that dies are one event."""
    for _ in range(100):
        assert breaker.enter()
    for _ in range(100):
        breaker.failed()
    assert breaker.wait_s() == 1.0


@given(st.lists(st.sampled_from(["ok", "fail", "left"]), min_size=60, max_size=60), st.integers(0, 30))
def test_after_a_minute_of_flapping_it_is_closed_within_thirty_seconds_of_recovery(
    minute: list[str], before: int
) -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock)
    for _ in range(before):
        breaker.failed()
    for ending in minute:
        clock.now += 1.0
        if breaker.enter():
            {"ok": breaker.succeeded, "fail": breaker.failed, "left": breaker.left}[ending]()
    recovered = clock.now
    while not (breaker.enter() and (breaker.succeeded() or not breaker.open)):
        clock.now += 0.25
    assert clock.now - recovered <= 30.0


def test_a_pause_that_the_target_asked_for_is_kept_and_only_ever_lengthened(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    breaker.cool(5.0)
    breaker.cool(1.0)
    assert not breaker.open, "it did not fail"
    assert not breaker.enter()
    assert breaker.wait_s() == 5.0
    breaker.cool(8.0)
    clock.now += 7.9
    assert not breaker.enter()
    clock.now += 0.2
    assert breaker.enter()
    breaker.cool(1e9)
    assert breaker.wait_s() == pytest.approx(120.0), "nobody pauses a target for ever"


@given(st.lists(st.sampled_from(["enter", "ok", "fail", "left", "cool", "tick"]), max_size=60))
def test_in_any_order_of_events_a_breaker_can_be_asked_again_within_two_minutes(events: list[str]) -> None:
    clock = Clock()
    breaker = CircuitBreaker(clock)
    entered = 0
    for event in events:
        if event == "tick":
            clock.now += 3.0
        elif event == "enter":
            entered += breaker.enter()
        elif entered:
            entered -= 1
            ends: dict[str, Any] = {"ok": breaker.succeeded, "fail": breaker.failed, "left": breaker.left}
            ends.get(event, lambda: breaker.cool(500.0))()
    for _ in range(entered):
        breaker.left()
    clock.now += 120.0
    assert breaker.wait_s() == 0.0
    assert breaker.enter()


# ── the slots ──


async def turns() -> None:
    for _ in range(4):
        await asyncio.sleep(0)


async def test_slots_are_given_in_the_order_of_arrival() -> None:
    slots = ConcurrencyLimiter(2, 10, 60.0)
    got: list[int] = []

    async def one(n: int) -> None:
        await slots.enter()
        got.append(n)

    async with asyncio.TaskGroup() as group:
        for n in range(6):
            group.create_task(one(n))
        await turns()
        assert got == [0, 1]
        for n in range(2, 6):
            slots.leave()
            await turns()
            assert got == list(range(n + 1))
    assert slots.in_flight == 2


async def test_a_late_comer_does_not_overtake_who_has_been_given_the_place() -> None:
    slots = ConcurrencyLimiter(1, 10, 60.0)
    await slots.enter()
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(slots.enter())
        await turns()
        slots.leave()  # handed over, but the other has not run yet
        late = group.create_task(slots.enter())
        await turns()
        assert waiting.done()
        assert not late.done()
        slots.leave()


async def test_a_full_queue_refuses_at_once_and_says_when_to_come_again() -> None:
    slots = ConcurrencyLimiter(1, 0, 60.0)
    await slots.enter()
    with pytest.raises(Overloaded, match="1 in flight, 0 waiting") as refused:
        await slots.enter()
    assert refused.value.retry_after_s == 1
    slots.leave()
    await slots.enter()


async def test_who_waits_too_long_is_refused_and_leaves_no_trace() -> None:
    slots = ConcurrencyLimiter(1, 5, 0.01)
    await slots.enter()
    with pytest.raises(Overloaded, match=r"within 0\.01 s"):
        await slots.enter()
    assert (slots.waiting, slots.in_flight) == (0, 1)
    slots.leave()
    assert slots.free


async def test_who_leaves_in_the_moment_in_which_its_place_comes_passes_it_on() -> None:
    slots = ConcurrencyLimiter(1, 5, 60.0)
    await slots.enter()
    loop = asyncio.get_running_loop()
    first, next_ = loop.create_task(slots.enter()), loop.create_task(slots.enter())
    await turns()
    slots.leave()  # it is the first one's now
    first.cancel()
    await turns()
    assert first.cancelled()
    assert next_.done()
    assert (slots.in_flight, slots.waiting) == (1, 0)


async def test_without_a_limit_nobody_ever_waits() -> None:
    slots = ConcurrencyLimiter(None, 0, 0.0)
    for _ in range(1000):
        await slots.enter()
    assert slots.in_flight == 1000


STEPS = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "cancel"]), st.integers(0, 9), st.booleans()),
    max_size=40,
)


class Crowd:
    """Callers of one Slots: who came, who holds a place, in which order."""

    def __init__(self, limit: int, queue: int) -> None:
        self.slots = ConcurrencyLimiter(limit, queue, 60.0)
        self.limit = limit
        self.queue = queue
        self.tasks: list[asyncio.Task[None]] = []
        self.holders: deque[int] = deque()
        self.ever: list[int] = []

    async def _caller(self, n: int) -> None:
        await self.slots.enter()
        self.holders.append(n)
        self.ever.append(n)

    def step(self, group: asyncio.TaskGroup, what: str, which: int) -> None:
        if what == "enter":
            self.tasks.append(group.create_task(self._refusable(len(self.tasks))))
        elif what == "leave" and self.holders:
            self.holders.popleft()
            self.slots.leave()
        elif what == "cancel" and self.tasks:
            self.tasks[-1 - which % len(self.tasks)].cancel()

    async def _refusable(self, n: int) -> None:
        try:
            await self._caller(n)
        except Overloaded:
            assert self.slots.waiting == self.queue

    def check(self) -> None:
        assert len(self.holders) == self.slots.in_flight <= self.limit
        assert self.slots.waiting <= self.queue
        assert not self.slots.waiting or self.slots.in_flight == self.limit, "nobody waits for a free place"


@settings(max_examples=150)
@given(steps=STEPS, limit=st.integers(1, 3), queue=st.integers(0, 4))
def test_in_any_order_of_coming_leaving_and_cancelling_no_place_is_lost_or_made(
    steps: list[tuple[str, int, bool]], limit: int, queue: int
) -> None:
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
        assert (crowd.slots.in_flight, crowd.slots.waiting) == (0, 0)

    asyncio.run(play())


# ── the place ──


def a_place(clock: Clock) -> TargetState:
    upstream = UpstreamState("u", Upstream(kind="vllm"), Any, Any, ConcurrencyLimiter(None, 0, 1.0))  # type: ignore[arg-type]
    return TargetState(Target("u", "org/model"), upstream, CircuitBreaker(clock), clock)


def test_a_place_is_ready_unless_it_fails_pauses_or_its_upstream_is_down(clock: Clock) -> None:
    place = a_place(clock)
    assert place.ready
    assert place.name == "u/org/model"
    place.upstream.down = True
    assert not place.ready
    place.upstream.down = False
    place.breaker.cool(1.0)
    assert not place.ready


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
def test_a_servers_own_load_report_counts_as_load_and_what_cannot_be_read_is_left_out(
    clock: Clock, header: bytes, load: float
) -> None:
    place = a_place(clock)
    place.told_load(header)
    assert place.load == pytest.approx(1.0 + load)


@given(st.binary(max_size=60))
def test_no_load_report_is_ever_an_error(tail: bytes) -> None:
    place = a_place(Clock())
    place.told_load(b"num_requests_waiting=" + tail)
    assert place.load >= 1.0


def test_a_load_report_is_forgotten_when_it_is_old(clock: Clock) -> None:
    place = a_place(clock)
    place.told_load(b"num_requests_waiting=9")
    place.in_flight = 2
    assert place.load == 12.0
    clock.now += 10.0
    assert place.load == 3.0


def test_latency_is_a_moving_average_that_begins_with_the_first(clock: Clock) -> None:
    place = a_place(clock)
    place.took(1.0)
    assert place.latency_s == 1.0
    place.took(2.0)
    assert place.latency_s == pytest.approx(1.2)


def test_callers_that_failed_together_do_not_return_together() -> None:
    waits = [jitter(2.0, random.Random(seed)) for seed in range(200)]
    assert 1.0 <= min(waits) < 1.1
    assert 2.9 < max(waits) < 3.0
