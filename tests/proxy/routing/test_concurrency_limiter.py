"""The limiter of one upstream: its limit, its queue and its allowance; shares of its time, on a clock of the test."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections import Counter, deque
from dataclasses import dataclass, field

import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import Overloaded
from gateway.core.traffic_class import RANKS
from gateway.proxy.routing.concurrency_limiter import Admission, ConcurrencyLimiter, VendorWait
from gateway.proxy.routing.fair_queue import Flow, FlowShares
from gateway.proxy.types import Headers


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


@settings(max_examples=examples(150))
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


@dataclass
class VirtualTime:
    """A clock that moves on to the next event once nothing else happens."""

    now: float = 0.0
    _events: list[tuple[float, int, asyncio.Future[None]]] = field(default_factory=list)
    _n: int = 0

    async def sleep(self, seconds: float) -> None:
        self._n += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._events, (self.now + seconds, self._n, future))
        await future

    async def run(self, until: float) -> None:
        while True:
            for _ in range(6):
                await asyncio.sleep(0)
            if not self._events or self._events[0][0] > until:
                return
            self.now, _, future = heapq.heappop(self._events)
            if not future.done():
                future.set_result(None)


@dataclass
class Load:
    """Callers that ask a limiter again and again, and what they got of its time."""

    time: VirtualTime
    limiter: ConcurrencyLimiter
    rng: random.Random
    held_s: Counter[str] = field(default_factory=Counter)
    waits_s: dict[str, list[float]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)

    async def caller(self, flow: Flow, takes_s: float, pause_s: float = 0.0) -> None:
        while True:
            asked = self.time.now
            try:
                admission = await self.limiter.acquire(flow)
            except Overloaded:
                self.refused[flow.key] += 1
                await self.time.sleep(1.0)
                continue
            self.waits_s.setdefault(flow.key, []).append(self.time.now - asked)
            held_s = takes_s * self.rng.uniform(0.5, 1.5)
            await self.time.sleep(held_s)
            self.held_s[flow.team or flow.key] += held_s
            self.limiter.release(admission)
            if pause_s:
                await self.time.sleep(pause_s)


async def loaded(shares: FlowShares, callers: list[tuple[Flow, int, float, float]], seconds: float) -> Load:
    """callers: (flow, how many, seconds of one call, pause between two)."""
    time = VirtualTime()
    load = Load(time, ConcurrencyLimiter(8, 64, 600.0, shares, lambda: time.now), random.Random(35))
    tasks = [
        asyncio.get_running_loop().create_task(load.caller(flow, takes_s, pause_s))
        for flow, n, takes_s, pause_s in callers
        for _ in range(n)
    ]
    await time.run(seconds)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (load.limiter.in_flight, load.limiter.waiting) == (load.limiter.in_flight, 0)
    return load


@pytest.mark.parametrize("longest", [0.2, 1.0], ids=["equal calls", "calls five times as long"])
async def test_shares_of_a_full_upstream_are_within_5_percent_of_weights(longest: float) -> None:
    """60 s on the clock of the test, by the time that the calls take."""
    weights = {"search": 5.0, "ads": 3.0, "lab": 2.0}
    shares = FlowShares({("team", name): weight for name, weight in weights.items()})
    callers = [
        (Flow("s", "search"), 14, 0.2, 0.0),
        (Flow("a", "ads"), 14, longest, 0.0),
        (Flow("l", "lab"), 14, 0.2, 0),
    ]
    load = await loaded(shares, callers, 60.0)
    total = sum(load.held_s.values())
    for team, weight in weights.items():
        assert load.held_s[team] / total == pytest.approx(weight / 10, rel=0.05), load.held_s


async def test_a_flood_of_batches_leaves_interactive_calls_their_p95() -> None:
    flood = (Flow("night", "", RANKS["batch"]), 60, 0.2, 0.0)
    users = (Flow("web", "", RANKS["interactive"]), 4, 0.2, 0.5)
    equals = (Flow("night", "", RANKS["interactive"]), 60, 0.2, 0.0)

    async def p95(*callers: tuple[Flow, int, float, float]) -> float:
        waits = sorted((await loaded(FlowShares(), list(callers), 60.0)).waits_s["web"])
        return waits[int(0.95 * len(waits))]

    alone, flooded, unclassed = await p95(users), await p95(users, flood), await p95(users, equals)
    assert alone == 0.0
    assert flooded <= 0.1, "the next of eight places that comes free"
    assert unclassed > flooded


async def test_a_guaranteed_share_serves_batches_in_an_interactive_flood() -> None:
    night, web = Flow("night", "", RANKS["batch"]), Flow("web", "", RANKS["interactive"])
    callers = [(night, 8, 0.2, 0.0), (web, 60, 0.2, 0.0)]
    starved = await loaded(FlowShares(), callers, 60.0)
    assert starved.held_s["night"] < 5.0
    served = await loaded(FlowShares({}, {("class", "batch"): 0.25}), callers, 60.0)
    assert served.held_s["night"] / sum(served.held_s.values()) == pytest.approx(0.25, rel=0.05)
    alone = await loaded(FlowShares({}, {("class", "interactive"): 0.75}), [(night, 20, 0.2, 0.0)], 60.0)
    assert alone.held_s["night"] > 8 * 60 * 0.98, "what nobody uses is lent"


@dataclass
class Purse:
    """An allowance of a number of attempts, which a test fills."""

    left: int
    closed_models: set[str] = field(default_factory=set)
    filled: asyncio.Event = field(default_factory=asyncio.Event)
    settled: list[int | None] = field(default_factory=list)
    in_tokens: bool = False

    def open(self, model: str) -> bool:
        return self.left > 0 and model not in self.closed_models

    def closed(self, tokens: int, model: str) -> VendorWait | None:
        return VendorWait("x-remaining: 0", 60.0) if model in self.closed_models else None

    def take(self, tokens: int, model: str) -> Purse | None:
        if not self.open(model):
            return None
        self.left -= 1
        return self

    async def refresh(self, tokens: int, model: str) -> None:
        self.filled.clear()
        await self.filled.wait()

    def learn(self, headers: Headers) -> None:
        raise NotImplementedError

    def settle(self, tokens: int | None) -> None:
        self.settled.append(tokens)

    def fill(self, n: int) -> None:
        self.left += n
        self.filled.set()


async def test_attempts_wait_for_an_allowance_in_the_order_of_their_classes() -> None:
    limiter, purse, loop = ConcurrencyLimiter(None, 8, 60.0), Purse(1), asyncio.get_running_loop()
    limiter.use(purse, loop.create_task)
    first = await limiter.acquire(tokens=7)
    got: list[str] = []

    async def one(name: str, flow: Flow) -> Admission:
        admission = await limiter.acquire(flow)
        got.append(name)
        return admission

    tasks = [loop.create_task(one("batch", Flow("b", "", 2))), loop.create_task(one("user", Flow("i", "", 0)))]
    await turns()
    assert (limiter.waiting, limiter.can_admit(["m"])) == (2, False)
    purse.fill(1)
    await turns()
    assert got == ["user"]
    purse.fill(1)
    await turns()
    assert got == ["user", "batch"]
    for admission in (first, *[task.result() for task in tasks]):
        limiter.release(admission, admission.tokens)
    assert purse.settled == [7, 0, 0]
    assert limiter.in_flight == 0


async def test_an_allowance_that_stays_empty_refuses_and_says_so() -> None:
    limiter = ConcurrencyLimiter(None, 1, 0.01)
    limiter.use(Purse(0), asyncio.get_running_loop().create_task)
    with pytest.raises(Overloaded, match=r"limits are used up: no part of them came free within 0\.01 s"):
        await limiter.acquire()
    assert (limiter.waiting, limiter.in_flight) == (0, 0)


async def test_attempts_at_a_closed_model_hold_up_no_other_model() -> None:
    """An open model starts next to a queue that they fill, and first when a place comes free."""
    limiter, purse, loop = ConcurrencyLimiter(2, 2, 60.0), Purse(100), asyncio.get_running_loop()
    limiter.use(purse, loop.create_task)
    purse.closed_models.add("spent")
    started: list[str] = []

    async def one(name: str, model: str) -> Admission:
        admission = await limiter.acquire(Flow(name), 0, model)
        started.append(name)
        return admission

    closed = [loop.create_task(one(f"spent {n}", "spent")) for n in range(2)]
    await turns()
    held = [await one(name, "open") for name in ("a", "b")]
    with pytest.raises(Overloaded, match="2 in flight, 2 waiting"):
        await limiter.acquire(Flow("spent 0"), 0, "open")
    closed.pop().cancel()
    await turns()
    waiting = loop.create_task(one("c", "open"))
    await turns()
    assert (limiter.waiting, started) == (2, ["a", "b"])
    limiter.release(held.pop())
    await turns()
    assert (limiter.waiting, started) == (1, ["a", "b", "c"])
    limiter.release(held.pop())
    purse.closed_models.clear()
    purse.fill(1)
    await turns()
    assert started == ["a", "b", "c", "spent 0"]
    for task in (*closed, waiting):
        limiter.release(await task)
    assert (limiter.in_flight, limiter.waiting) == (0, 0)
