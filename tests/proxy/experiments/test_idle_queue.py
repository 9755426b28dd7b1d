"""Queued work runs between calls, and delays none of them by more than one task."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import pytest

from gateway.proxy.experiments.idle_queue import CAPACITY, GATHER_S, NEXT_S, PATIENCE_S, TURN_S, IdleQueue


@dataclass
class Loop:
    """Time, and the one timer that may be set. piece_s: what each task takes."""

    busy: bool = False
    piece_s: float = 1.5 * TURN_S
    now: float = 0.0
    timers: list[tuple[float, Callable[[], None]]] = field(default_factory=list)
    done: list[int] = field(default_factory=list)

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        assert not self.timers, "one timer for all that waits"
        self.timers.append((self.now + seconds, act))

    def tick(self) -> list[int]:
        """Lets the timer fire; what was done."""
        self.now, act = self.timers.pop()
        before = len(self.done)
        act()
        return self.done[before:]


@pytest.fixture
def loop() -> Loop:
    """A loop that the test turns."""
    return Loop()


@pytest.fixture
def idle_queue(loop: Loop) -> IdleQueue:
    """The queue on that loop."""
    return IdleQueue(lambda: loop.busy, lambda: loop.now, loop.later)


def put(idle_queue: IdleQueue, loop: Loop, *tasks: int) -> list[bool]:
    def task(n: int) -> None:
        loop.done.append(n)
        loop.now += loop.piece_s

    return [idle_queue.later(partial(task, n)) for n in tasks]


def test_nothing_is_done_at_once_and_then_turns_are_short(idle_queue: IdleQueue, loop: Loop) -> None:
    assert put(idle_queue, loop, 1, 2, 3) == [True] * 3
    assert loop.done == []
    assert [loop.tick(), loop.tick(), loop.tick()] == [[1], [2], [3]]
    assert loop.timers == [], "an idle gateway has no timer"
    assert loop.now == pytest.approx(GATHER_S + 2 * NEXT_S + 4.5 * TURN_S)


def test_small_pieces_share_a_turn(idle_queue: IdleQueue, loop: Loop) -> None:
    loop.piece_s = TURN_S / 2.5
    put(idle_queue, loop, *range(4))
    assert [loop.tick(), loop.tick()] == [[0, 1, 2], [3]]


def test_it_waits_while_a_call_is_in_progress(idle_queue: IdleQueue, loop: Loop) -> None:
    put(idle_queue, loop, 1)
    loop.busy = True
    assert [loop.tick() for _ in range(5)] == [[]] * 5
    loop.busy = False
    assert loop.tick() == [1]


def test_under_constant_load_work_waits_at_most_its_patience(idle_queue: IdleQueue, loop: Loop) -> None:
    loop.busy = True
    put(idle_queue, loop, 1)
    while not loop.done:
        loop.tick()
    assert loop.now == pytest.approx(PATIENCE_S, abs=2 * NEXT_S)


def test_a_queue_that_is_half_full_continues_until_it_is_not(idle_queue: IdleQueue, loop: Loop) -> None:
    put(idle_queue, loop, *range(CAPACITY // 2 + 7))
    assert loop.tick() == list(range(7)), "in order"
    assert loop.tick() == [7]


def test_it_never_holds_more_than_its_room(idle_queue: IdleQueue, loop: Loop) -> None:
    assert put(idle_queue, loop, *range(CAPACITY + 1)) == [True] * CAPACITY + [False]
    assert idle_queue.full
    idle_queue.do(lambda: loop.done.append(-1))
    assert loop.done == [-1], "what must be done is done at once"
    assert len(idle_queue) == CAPACITY


def test_at_the_end_all_is_done_also_what_comes_of_it(idle_queue: IdleQueue, loop: Loop) -> None:
    idle_queue.later(lambda: idle_queue.do(lambda: loop.done.append(2)))
    put(idle_queue, loop, 1)
    idle_queue.empty()
    assert (loop.done, len(idle_queue)) == ([1, 2], 0)
    assert loop.tick() == []
    put(idle_queue, loop, 3)
    assert loop.tick() == [3]


def test_a_piece_that_fails_is_logged_and_the_next_is_done(
    idle_queue: IdleQueue, loop: Loop, caplog: pytest.LogCaptureFixture
) -> None:
    idle_queue.later(lambda: 1 / 0)
    put(idle_queue, loop, 1)
    with caplog.at_level(logging.ERROR):
        assert loop.tick() == [1]
    assert "failed" in caplog.text
