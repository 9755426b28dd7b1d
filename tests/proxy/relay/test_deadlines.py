"""Deadlines of calls: one ticker, moved by assignment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from gateway.proxy.relay.deadlines import TICK_S, DeadlineExceeded, Deadlines, Ticker


@pytest.fixture
async def ticker() -> Ticker:
    """The clock of deadlines, on the test's loop."""
    return Ticker()


class Timer:
    """Calls `act` once, when the event loop's time reaches `at`; to the ticker, it is a deadline."""

    def __init__(self, ticker: Any, at: float, act: Callable[[], object]) -> None:
        self._ticker, self._act, self.at = ticker, act, at
        ticker.add(self)

    def fire(self) -> None:
        self.cancel()
        self._act()

    def cancel(self) -> None:
        self._ticker.remove(self)


async def never() -> None:
    await asyncio.Event().wait()


async def fired_error(deadlines: Deadlines) -> DeadlineExceeded:
    """Waits until the deadline fires, and returns its error."""
    with pytest.raises(asyncio.CancelledError):
        await never()
    assert deadlines.fired
    return deadlines.take_error()


async def test_a_phase_that_takes_too_long_is_named(ticker: Ticker) -> None:
    with Deadlines(600.0, ticker) as deadlines:
        deadlines.start_phase("first token", 0.005)
        error = await fired_error(deadlines)
    assert (error.phase, error.seconds, str(error)) == ("first token", 0.005, "no first token within 0.005 s")


async def test_the_total_ends_a_phase_that_keeps_restarting(ticker: Ticker) -> None:
    """Headers that drip in, endless comments: each is in time, the total is not."""
    loop = asyncio.get_running_loop()

    async def drip(deadlines: Deadlines) -> None:
        while True:
            deadlines.start_phase("event", 60.0)
            moved = loop.create_future()
            loop.call_later(0.002, moved.set_result, None)
            await moved

    with Deadlines(0.03, ticker) as deadlines:
        with pytest.raises(asyncio.CancelledError):
            await drip(deadlines)
        error = deadlines.take_error()
        assert deadlines.expired
        assert deadlines.remaining_s <= 0
    assert (error.phase, error.seconds) == ("end of the call", 0.03)


async def test_a_later_deadline_does_not_delay_an_earlier_one(ticker: Ticker) -> None:
    with Deadlines(6000.0, ticker) as deadlines:
        deadlines.start_phase("answer", 3000.0)
        deadlines.start_phase("event", 0.005)
        assert (await fired_error(deadlines)).phase == "event"


async def test_while_paused_only_the_total_applies(ticker: Ticker) -> None:
    loop = asyncio.get_running_loop()
    with Deadlines(0.03, ticker) as deadlines:
        deadlines.start_phase("event", 0.005)
        deadlines.pause()
        begun = loop.time()
        assert (await fired_error(deadlines)).phase == "end of the call"
        assert loop.time() - begun >= 0.02


async def test_resuming_restarts_the_phase(ticker: Ticker) -> None:
    with Deadlines(1000.0, ticker) as deadlines:
        deadlines.start_phase("answer", 5.0)
        whole, before = deadlines.remaining_s, deadlines.at
        deadlines.pause()
        assert deadlines.at > before + whole / 2
        deadlines.resume()
        assert before <= deadlines.at < before + 100
        deadlines.start_phase("answer", 0.01)
        deadlines.pause()
        deadlines.resume()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        assert str(deadlines.take_error()) == "no answer within 0.01 s"


async def test_the_total_applies_before_and_after_phases(ticker: Ticker) -> None:
    with Deadlines(0.005, ticker) as deadlines:
        assert (await fired_error(deadlines)).phase == "end of the call"
    with Deadlines(0.1, ticker) as deadlines:
        deadlines.start_phase("event", 0.005)
        phases = []
        while not deadlines.expired:
            phases.append((await fired_error(deadlines)).phase)
    assert phases[-1] == "end of the call"


async def test_a_new_phase_may_follow_one_that_fired(ticker: Ticker) -> None:
    with Deadlines(600.0, ticker) as deadlines:
        for name in ("first token", "event"):
            deadlines.start_phase(name, 0.005)
            assert (await fired_error(deadlines)).phase == name
            assert not deadlines.fired
        assert not deadlines.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_nothing_is_cancelled_after_the_call(ticker: Ticker) -> None:
    with Deadlines(0.01, ticker) as deadlines:
        deadlines.start_phase("answer", 0.005)
    assert len(ticker.timers) == 0
    await asyncio.sleep(2.5 * TICK_S)
    assert not deadlines.fired


async def test_a_foreign_cancellation_does_not_set_fired(ticker: Ticker) -> None:
    async def ask() -> bool:
        with Deadlines(600.0, ticker) as deadlines:
            deadlines.start_phase("answer", 30.0)
            try:
                await never()
            except asyncio.CancelledError:
                return deadlines.fired
        return True

    task = asyncio.get_running_loop().create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    assert await task is False
    assert len(ticker.timers) == 0


async def test_only_late_calls_are_cancelled(ticker: Ticker) -> None:
    async def call(total_s: float) -> str:
        with Deadlines(total_s, ticker) as deadlines:
            try:
                await never()
            except asyncio.CancelledError:
                return deadlines.take_error().phase
        return "answered"

    async with asyncio.TaskGroup() as group:
        late = [group.create_task(call(0.005)) for _ in range(50)]
        long = [group.create_task(call(60.0)) for _ in range(50)]
        await asyncio.wait(late)
        assert not any(task.done() for task in long)
        assert len(ticker.timers) == 50
        for task in long:
            task.cancel()
    assert {task.result() for task in late} == {"end of the call"}


class Loop:
    """The part of an event loop that a ticker needs, with a clock of its own."""

    def __init__(self) -> None:
        self.now = 100.0
        self.timers: list[tuple[float, Any]] = []

    def time(self) -> float:
        return self.now

    def call_later(self, seconds: float, callback: Any) -> None:
        self.timers.append((self.now + seconds, callback))

    def run_to(self, end: float) -> None:
        while self.timers and self.timers[0][0] <= end:
            self.now, callback = self.timers.pop(0)
            callback()
        self.now = end


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    """A loop that the test turns, in place of the running one."""
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_a_timer_fires_once_never_early_at_most_a_tick_late(loop: Loop) -> None:
    ticker, fired = Ticker(), []
    for at in (100.001, 100.01, 100.0333, 100.5):
        Timer(ticker, at, lambda at=at: fired.append((at, loop.now)))  # type: ignore[misc]
    loop.run_to(101.0)
    assert sorted(at for at, _ in fired) == [100.001, 100.01, 100.0333, 100.5]
    assert all(at <= when < at + TICK_S + 1e-9 for at, when in fired)


def test_the_ticker_runs_only_while_it_has_timers(loop: Loop) -> None:
    ticker = Ticker()
    assert not loop.timers
    dues = [Timer(ticker, 200.0 + i, lambda: None) for i in range(1000)]
    loop.run_to(100.1)
    assert len(loop.timers) == 1
    for due in dues:
        due.cancel()
    loop.run_to(100.2)
    assert not loop.timers
    again = []
    Timer(ticker, 100.25, lambda: again.append(loop.now))
    loop.run_to(100.3)
    assert len(again) == 1


def test_with_many_timers_ticks_are_further_apart(loop: Loop) -> None:
    ticker = Ticker()
    fired = []
    dues = [Timer(ticker, 200.0 + i, lambda: None) for i in range(9_999)]
    loop.run_to(100.5)
    Timer(ticker, 100.55, lambda: fired.append(loop.now))
    loop.run_to(101.0)
    assert len(loop.timers) == 1
    [when] = fired
    assert 100.55 <= when <= 100.55 + 11 * TICK_S
    for due in dues:
        due.cancel()


def test_deadlines_need_a_task_to_cancel(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "current_task", lambda: None)
    with pytest.raises(RuntimeError):
        Deadlines(1.0, Ticker())
