"""The limits of time of calls: one ticker, moved by assignment."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.proxy.relay.deadlines import TICK_S, DeadlineExceeded, Deadlines, Ticker, Timer

LATE_S = 0.2  # a slow machine's; what is exact is tested on a clock of our own


@pytest.fixture
async def ticker() -> Ticker:
    return Ticker()


async def never() -> None:
    """Longer than any limit here."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()
    loop.call_later(1.0, lambda: future.done() or future.set_result(None))
    await future


async def passed(limit: Deadlines) -> DeadlineExceeded:
    """Waits for ever, which a limit must end; gives what it says."""
    with pytest.raises(asyncio.CancelledError):
        await never()
    assert limit.passed
    return limit.taken()


async def test_a_phase_that_takes_too_long_is_named_with_its_limit(ticker: Ticker) -> None:
    with Deadlines(5.0, ticker) as limit:
        limit.phase("first token", 0.005)
        error = await passed(limit)
    assert (error.phase, error.seconds, str(error)) == ("first token", 0.005, "no first token within 0.005 s")


async def test_the_whole_ends_a_phase_that_is_moved_again_and_again(ticker: Ticker) -> None:
    """A drip of headers, endless comments: each one in time, the whole is not."""
    loop = asyncio.get_running_loop()

    async def drip(limit: Deadlines) -> None:
        while True:
            limit.phase("event", 0.02)
            moved = loop.create_future()
            loop.call_later(0.002, moved.set_result, None)
            await moved

    with Deadlines(0.03, ticker) as limit:
        with pytest.raises(asyncio.CancelledError):
            await drip(limit)
        error = limit.taken()
        assert limit.spent
        assert limit.left_s <= 0
    assert (error.phase, error.seconds) == ("end of the call", 0.03)


async def test_an_earlier_limit_is_not_kept_waiting_by_a_later_one(ticker: Ticker) -> None:
    begun = asyncio.get_running_loop().time()
    with Deadlines(60.0, ticker) as limit:
        limit.phase("answer", 30.0)
        limit.phase("event", 0.005)
        assert (await passed(limit)).phase == "event"
    assert asyncio.get_running_loop().time() - begun < LATE_S


async def test_at_rest_only_the_whole_is_limited(ticker: Ticker) -> None:
    loop = asyncio.get_running_loop()
    with Deadlines(0.03, ticker) as limit:
        limit.phase("event", 0.005)
        limit.pause()
        begun = loop.time()
        assert (await passed(limit)).phase == "end of the call"
        assert loop.time() - begun >= 0.02


async def test_after_a_rest_the_phase_begins_anew(ticker: Ticker) -> None:
    with Deadlines(1000.0, ticker) as limit:
        limit.phase("answer", 5.0)
        whole, before = limit.left_s, limit.at
        limit.pause()
        assert limit.at > before + whole / 2
        limit.resume()
        assert before <= limit.at < before + 1
        limit.phase("answer", 0.01)
        limit.pause()
        limit.resume()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.Event().wait()
        assert str(limit.taken()) == "no answer within 0.01 s"


async def test_the_whole_is_limited_before_any_phase_has_begun_and_after_one_has_passed(ticker: Ticker) -> None:
    with Deadlines(0.005, ticker) as limit:
        assert (await passed(limit)).phase == "end of the call"
    with Deadlines(0.04, ticker) as limit:
        limit.phase("event", 0.005)
        await passed(limit)
        assert (await passed(limit)).phase == "end of the call"


async def test_a_phase_can_be_limited_again_after_one_was_passed(ticker: Ticker) -> None:
    with Deadlines(60.0, ticker) as limit:
        for name in ("first token", "event"):
            limit.phase(name, 0.005)
            assert (await passed(limit)).phase == name
            assert not limit.passed
        assert not limit.spent
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_nothing_is_cancelled_once_the_call_is_over(ticker: Ticker) -> None:
    with Deadlines(0.01, ticker) as limit:
        limit.phase("answer", 0.005)
    assert ticker.waiting == 0
    await asyncio.sleep(2.5 * TICK_S)
    assert not limit.passed


async def test_a_cancellation_from_outside_is_not_the_limits(ticker: Ticker) -> None:
    async def ask() -> bool:
        with Deadlines(60.0, ticker) as limit:
            limit.phase("answer", 30.0)
            try:
                await never()
            except asyncio.CancelledError:
                return limit.passed
        return True

    task = asyncio.get_running_loop().create_task(ask())
    await asyncio.sleep(0)
    task.cancel()
    assert await task is False
    assert ticker.waiting == 0


async def test_of_many_calls_only_those_that_are_late_are_ended(ticker: Ticker) -> None:
    async def call(total_s: float) -> str:
        with Deadlines(total_s, ticker) as limit:
            try:
                await never()
            except asyncio.CancelledError:
                return limit.taken().phase
        return "answered"

    async with asyncio.TaskGroup() as group:
        late = [group.create_task(call(0.005)) for _ in range(50)]
        long = [group.create_task(call(60.0)) for _ in range(50)]
        await asyncio.wait(late)
        assert not any(task.done() for task in long)
        assert ticker.waiting == 50
        for task in long:
            task.cancel()
    assert {task.result() for task in late} == {"end of the call"}


# ── the ticker, on a clock of our own ──


class Loop:
    """As much of an event loop as a ticker needs."""

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
    made = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: made)
    return made


def test_what_is_due_happens_once_never_early_and_at_most_a_tick_late(loop: Loop) -> None:
    ticker, fired = Ticker(), []
    for at in (100.001, 100.01, 100.0333, 100.5):
        Timer(ticker, at, lambda at=at: fired.append((at, loop.now)))  # type: ignore[misc]
    loop.run_to(101.0)
    assert sorted(at for at, _ in fired) == [100.001, 100.01, 100.0333, 100.5]
    assert all(at <= when < at + TICK_S + 1e-9 for at, when in fired)


def test_the_ticker_runs_only_while_something_waits_and_as_one_timer(loop: Loop) -> None:
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


def test_a_limit_needs_a_task_to_cancel(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asyncio, "current_task", lambda: None)
    with pytest.raises(RuntimeError):
        Deadlines(1.0, Ticker())
