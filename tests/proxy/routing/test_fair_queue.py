"""The queue of one upstream: round-robin by key, and who gives way when it is full."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.routing.fair_queue import FairQueue, Turn


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
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


def test_what_left_the_queue_is_not_served(waiting: Waiting) -> None:
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
