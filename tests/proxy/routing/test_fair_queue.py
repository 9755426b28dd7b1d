"""The queue of a full upstream: in turn by key, by class, by weight, and with guaranteed shares. No loop runs."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.core.traffic_class import BACKGROUND, RANKS
from gateway.proxy.routing.fair_queue import NO_SHARES, FairQueue, Flow, FlowShares, Waiter

BATCH, INTERACTIVE = RANKS["batch"], RANKS["interactive"]


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop that never runs."""
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


class Waiting:
    """A queue whose attempts have names: the key, a stroke and a number."""

    def __init__(self, loop: asyncio.AbstractEventLoop, shares: FlowShares = NO_SHARES, queue: int = 10) -> None:
        self.queue = FairQueue(shares, places=10, queue=queue)
        self._loop = loop
        self.names: dict[Waiter, str] = {}

    def push(self, *names: str, rank: int = 1, team: str = "") -> None:
        for name in names:
            waiter = Waiter(Flow(name.partition("-")[0], team, rank), self._loop.create_future())
            self.names[waiter] = name
            self.queue.push(waiter)

    def pop(self, n: int) -> list[str]:
        """The next n, which are in flight from then on."""
        found = []
        for _ in range(n):
            waiter = self.queue.first()
            self.queue.began(waiter.flow, waiter)
            found.append(self.names[waiter])
        return found

    def pop_for(self, key: str, rank: int = 1) -> str | None:
        waiter = self.queue.pop_for(Flow(key, "", rank))
        return None if waiter is None else self.names[waiter]

    def waiter(self, name: str) -> Waiter:
        return next(waiter for waiter, known in self.names.items() if known == name)


@pytest.fixture
def waiting(loop: asyncio.AbstractEventLoop) -> Waiting:
    """A queue without shares."""
    return Waiting(loop)


def test_keys_are_served_in_turn(waiting: Waiting) -> None:
    waiting.push("a-1", "a-2", "a-3", "a-4", "b-1", "b-2", "c-1")
    assert waiting.pop(7) == ["a-1", "b-1", "c-1", "a-2", "b-2", "a-3", "a-4"]
    with pytest.raises(ValueError, match="empty"):
        waiting.queue.first()


def test_a_key_that_comes_later_waits_for_one_turn_of_each_other(waiting: Waiting) -> None:
    waiting.push(*(f"a-{i}" for i in range(50)))
    assert waiting.pop(3) == ["a-0", "a-1", "a-2"]
    waiting.push("b-1")
    assert waiting.pop(2) == ["a-3", "b-1"]


def test_shadows_and_judges_are_served_when_no_caller_waits(waiting: Waiting) -> None:
    waiting.push("s-1", "j-1", "s-2", rank=BACKGROUND)
    waiting.push("a-1", "a-2")
    assert waiting.pop(3) == ["a-1", "a-2", "s-1"]
    waiting.push("b-1")
    assert waiting.pop(3) == ["b-1", "j-1", "s-2"]


def test_classes_are_served_in_their_order(waiting: Waiting) -> None:
    waiting.push("b-1", "b-2", rank=BATCH)
    waiting.push("n-1")
    waiting.push("i-1", "i-2", rank=INTERACTIVE)
    assert waiting.pop(5) == ["i-1", "i-2", "n-1", "b-1", "b-2"]


def test_the_newest_of_the_longest_line_gives_way(waiting: Waiting) -> None:
    waiting.push("a-1", "b-1", "a-2", "a-3")
    assert waiting.pop_for("c") == "a-3"
    assert waiting.pop_for("b") is None, "b would then have as many as a"
    assert waiting.pop_for("a") is None
    assert waiting.pop_for("c") == "a-2"
    assert waiting.pop_for("c") is None
    assert waiting.pop(2) == ["a-1", "b-1"]


def test_lower_classes_give_way_first_and_never_take_from_higher_ones(waiting: Waiting) -> None:
    waiting.push("a-1", "a-2", "a-3")
    assert waiting.pop_for("s", BACKGROUND) is None
    assert waiting.pop_for("c", BATCH) is None
    waiting.push("s-1", rank=BACKGROUND)
    waiting.push("c-1", rank=BATCH)
    assert waiting.pop_for("a") == "s-1"
    assert waiting.pop_for("a") == "c-1"
    assert waiting.pop_for("a") is None
    assert waiting.pop_for("i", INTERACTIVE) == "a-3"


def test_attempts_that_left_the_queue_are_not_served(waiting: Waiting) -> None:
    waiting.push("a-1", "a-2", "b-1")
    assert waiting.queue.remove(waiting.waiter("a-1"))
    assert waiting.queue.remove(waiting.waiter("b-1"))
    assert not waiting.queue.remove(waiting.waiter("b-1"))
    assert waiting.pop(1) == ["a-2"]
    waiting.push("b-2", "a-3")
    assert waiting.pop(2) == ["b-2", "a-3"], "b owes nothing for an attempt that was not served"


KEYS = "abcd"


@example(arrivals=["b", "a", "a", None, "b", None, None])
@given(arrivals=st.lists(st.sampled_from([*KEYS, None]), max_size=80))
def test_between_two_turns_of_a_key_no_other_has_two(arrivals: list[str | None]) -> None:
    """Serves a key, or the next one if it is None. A caller that waits meanwhile is served at most one turn of each key
    later.
    """
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


def shares(guaranteed: dict[str, float] | None = None, **weights: float) -> FlowShares:
    """Upper case: a team; lower case: a key; `batch`: the class."""

    def holder(name: str) -> tuple[str, str]:
        kind = "class" if name in RANKS else "team" if name.isupper() else "key"
        return kind, name

    return FlowShares(
        {holder(n): w for n, w in weights.items()},  # type: ignore[misc]
        {holder(n): part for n, part in (guaranteed or {}).items()},  # type: ignore[misc]
    )


def test_teams_get_turns_by_weight_and_their_keys_within(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting(loop, shares(S=3, T=1, a=2))
    for n in range(200):
        waiting.push(f"a-{n}", f"b-{n}", team="S")
        waiting.push(f"c-{n}", team="T")
        waiting.push(f"d-{n}", team="unlisted")
    served = Counter(name[0] for name in waiting.pop(200))
    assert served["a"] + served["b"] == pytest.approx(120, abs=2)
    assert served["a"] == pytest.approx(80, abs=2)
    assert served["c"] == pytest.approx(40, abs=2)
    assert served["d"] == pytest.approx(40, abs=2), "a key without a listed team has a weight of its own"


def test_a_flow_that_was_idle_saves_up_no_turns(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting(loop, shares(a=1, b=1))
    waiting.push(*(f"a-{n}" for n in range(40)))
    waiting.pop(30)
    waiting.push(*(f"b-{n}" for n in range(10)))
    assert Counter(name[0] for name in waiting.pop(10)) == {"a": 5, "b": 5}


def test_time_beyond_a_step_is_held_against_its_flow(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting(loop, shares(a=1, b=1))
    waiting.push(*(f"a-{n}" for n in range(40)), *(f"b-{n}" for n in range(40)))
    assert waiting.pop(2) == ["a-0", "b-0"]
    waiting.queue.ended(Flow("a"), 8.0)
    assert [name[0] for name in waiting.pop(10)] == ["b"] * 8 + ["a", "b"]


def test_time_is_held_against_nobody_while_nobody_waits(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting(loop, shares(a=1, b=1))
    waiting.queue.began(Flow("a"))
    waiting.queue.ended(Flow("a"), 100.0)
    waiting.push("a-0", "a-1", "b-0", "b-1")
    assert waiting.pop(4) == ["a-0", "b-0", "a-1", "b-1"]


def test_a_guaranteed_share_goes_first_and_others_borrow_it(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting(loop, shares({"T": 0.2, "batch": 0.1}, T=1))
    waiting.push(*(f"i-{n}" for n in range(20)), rank=INTERACTIVE)
    assert [name[0] for name in waiting.pop(10)] == ["i"] * 10, "nobody of the others waits"
    waiting.push(*(f"t-{n}" for n in range(5)), team="T")
    waiting.push(*(f"b-{n}" for n in range(5)), rank=BATCH)
    assert sorted(name[0] for name in waiting.pop(4)) == ["b", "i", "t", "t"], "two of ten places, and one"
    waiting.queue.ended(Flow("t", "T"), 0.0)
    assert waiting.pop(2)[0][0] == "t"


def test_a_guaranteed_share_of_the_queue_is_not_pushed_out(loop: asyncio.AbstractEventLoop) -> None:
    waiting = Waiting(loop, shares({"batch": 0.2}), queue=10)
    waiting.push(*(f"i-{n}" for n in range(10)), rank=INTERACTIVE)
    assert waiting.pop_for("b", BATCH) == "i-9"
    waiting.push("b-0", rank=BATCH)
    assert waiting.pop_for("b", BATCH) == "i-8"
    waiting.push("b-1", rank=BATCH)
    assert waiting.pop_for("b", BATCH) is None
    assert waiting.pop_for("j", INTERACTIVE) == "i-7", "not one of the two"


def test_a_queue_forgets_keys_that_are_idle(loop: asyncio.AbstractEventLoop) -> None:
    queue = FairQueue()
    for n in range(5000):
        queue.began(Flow(f"key-{n}"))
    waiter = Waiter(Flow("last"), loop.create_future())
    queue.push(waiter)
    assert queue.first() is waiter
