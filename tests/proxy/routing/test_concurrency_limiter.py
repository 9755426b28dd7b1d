"""The concurrency limiter of one upstream: its limit, and its queue, which is round-robin by key."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import Overloaded
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter, FairQueue, Turn


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that the test turns."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Waiting:
    """A queue whose attempts have names: the key, a stroke and a number."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.queue = FairQueue()
        self._loop = loop
        self._names: dict[Turn, str] = {}
        self.turns: dict[str, Turn] = {}

    def push(self, *names: str, background: bool = False) -> None:
        for name in names:
            turn = self.turns[name] = self._loop.create_future()
            self._names[turn] = name
            self.queue.push(name.partition("-")[0], turn, background=background)

    def pop(self, n: int) -> list[str]:
        return [self._names[self.queue.pop()] for _ in range(n)]

    def pop_for(self, key: str, *, background: bool = False) -> str | None:
        turn = self.queue.pop_for(key, background=background)
        return None if turn is None else self._names[turn]


@pytest.fixture
def waiting(loop: asyncio.AbstractEventLoop) -> Waiting:
    """Callers that wait at a limiter on that loop."""
    return Waiting(loop)


def test_keys_are_served_in_turn(waiting: Waiting) -> None:
    waiting.push("a-1", "a-2", "a-3", "a-4", "b-1", "b-2", "c-1")
    assert waiting.pop(7) == ["a-1", "b-1", "c-1", "a-2", "b-2", "a-3", "a-4"]
    with pytest.raises(KeyError):
        waiting.queue.pop()


def test_a_key_that_comes_later_waits_for_one_turn_of_each_other(waiting: Waiting) -> None:
    waiting.push(*(f"a-{i}" for i in range(50)))
    assert waiting.pop(3) == ["a-0", "a-1", "a-2"]
    waiting.push("b-1")
    assert waiting.pop(2) == ["a-3", "b-1"]


def test_shadows_and_judges_are_served_when_no_caller_waits(waiting: Waiting) -> None:
    waiting.push("s-1", "j-1", "s-2", background=True)
    waiting.push("a-1", "a-2")
    assert waiting.pop(3) == ["a-1", "a-2", "s-1"]
    waiting.push("b-1")
    assert waiting.pop(3) == ["b-1", "j-1", "s-2"]


def test_the_newest_of_the_longest_line_gives_way(waiting: Waiting) -> None:
    waiting.push("a-1", "b-1", "a-2", "a-3")
    assert waiting.pop_for("c") == "a-3"
    assert waiting.pop_for("b") is None, "b would then have as many as a"
    assert waiting.pop_for("a") is None
    assert waiting.pop_for("c") == "a-2"
    assert waiting.pop_for("c") is None
    assert waiting.pop(2) == ["a-1", "b-1"]


def test_the_background_gives_way_first_and_never_takes_from_callers(waiting: Waiting) -> None:
    waiting.push("a-1", "a-2", "a-3")
    assert waiting.pop_for("s", background=True) is None
    waiting.push("s-1", background=True)
    assert waiting.pop_for("a") == "s-1"
    assert waiting.pop_for("a") is None


def test_attempts_that_left_the_queue_are_not_served(waiting: Waiting) -> None:
    waiting.push("a-1", "a-2", "b-1")
    assert waiting.queue.remove("a", waiting.turns["a-1"])
    assert waiting.queue.remove("b", waiting.turns["b-1"])
    assert not waiting.queue.remove("b", waiting.turns["b-1"])
    assert waiting.pop(1) == ["a-2"]


KEYS = "abcd"


@given(arrivals=st.lists(st.sampled_from([*KEYS, None]), max_size=80))
def test_between_two_turns_of_a_key_no_other_has_two(arrivals: list[str | None]) -> None:
    """None: the next one is served. Whoever waits meanwhile is served at most one turn of each key later."""
    loop = asyncio.new_event_loop()
    waiting, counts = Waiting(loop), dict.fromkeys(KEYS, 0)
    overtaken: dict[str, list[str]] = {}  # by waiting key: who was served since its last turn
    for at, key in enumerate(arrivals):
        if key is not None:
            waiting.push(f"{key}-{at}")
            counts[key] += 1
            overtaken.setdefault(key, [])
        elif any(counts.values()):
            served = waiting.pop(1)[0][0]
            counts[served] -= 1
            for others in overtaken.values():
                others.append(served)
            assert all(len(set(others)) == len(others) for k, others in overtaken.items() if k != served)
            overtaken.pop(served)
            if counts[served]:
                overtaken[served] = []
    loop.close()


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
