"""The limits of time of one call: one timer, moved by assignment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from gateway.proxy.limit import Limit, LimitPassed


@pytest.fixture
async def armed(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[float]]:
    """How often a timer was set, and for when: the loop itself counts."""
    loop, times = asyncio.get_running_loop(), []
    real = loop.call_at

    def counted(when: float, callback: Any, *args: Any, **more: Any) -> asyncio.TimerHandle:
        if getattr(callback, "__self__", None).__class__ is Limit:
            times.append(when)
        return real(when, callback, *args, **more)

    monkeypatch.setattr(loop, "call_at", counted)
    yield times


async def never() -> None:
    await asyncio.get_running_loop().create_future()


async def passed(limit: Limit) -> LimitPassed:
    """Waits for ever, which a limit must end; gives what it says."""
    with pytest.raises(asyncio.CancelledError):
        await never()
    assert limit.passed
    return limit.taken()


async def test_a_phase_that_takes_too_long_is_named_with_its_limit() -> None:
    with Limit(5.0) as limit:
        limit.phase("first token", 0.01)
        error = await passed(limit)
    assert (error.phase, error.seconds, str(error)) == ("first token", 0.01, "no first token within 0.01 s")


async def test_the_whole_ends_a_phase_that_is_moved_again_and_again() -> None:
    """A drip of headers, endless comments: each one in time, the whole is not."""
    loop = asyncio.get_running_loop()
    with Limit(0.03) as limit:
        with pytest.raises(asyncio.CancelledError):
            while True:
                limit.phase("event", 0.02)
                moved = loop.create_future()
                loop.call_later(0.002, moved.set_result, None)
                await moved
        error = limit.taken()
        assert limit.spent
        assert limit.left_s <= 0
    assert (error.phase, error.seconds) == ("end of the call", 0.03)


async def test_a_thousand_chunks_arm_a_handful_of_timers(armed: list[float]) -> None:
    with Limit(60.0) as limit:
        limit.phase("first token", 30.0)
        for _ in range(1000):
            limit.phase("event", 30.0)
            limit.rest()
        await asyncio.sleep(0)
    assert len(armed) == 1


async def test_a_timer_that_fires_before_its_moved_limit_is_set_anew(armed: list[float]) -> None:
    with Limit(60.0) as limit:
        limit.phase("first token", 0.005)
        limit.phase("event", 0.02)
        error = await passed(limit)
    assert error.phase == "event"
    assert len(armed) == 2


async def test_an_earlier_limit_is_not_kept_waiting_by_a_later_timer() -> None:
    with Limit(60.0) as limit:
        limit.phase("answer", 30.0)
        limit.phase("event", 0.01)
        assert (await passed(limit)).phase == "event"


async def test_at_rest_only_the_whole_is_limited() -> None:
    loop = asyncio.get_running_loop()
    with Limit(0.03) as limit:
        limit.phase("event", 0.005)
        limit.rest()
        begun = loop.time()
        assert (await passed(limit)).phase == "end of the call"
        assert loop.time() - begun >= 0.02


async def test_the_whole_is_limited_before_any_phase_has_begun_and_after_one_has_passed() -> None:
    with Limit(0.01) as limit:
        limit.rest()
        assert (await passed(limit)).phase == "end of the call"
    with Limit(0.03) as limit:
        limit.phase("event", 0.005)
        await passed(limit)
        limit.rest()
        assert (await passed(limit)).phase == "end of the call"


async def test_a_phase_can_be_limited_again_after_one_was_passed() -> None:
    with Limit(60.0) as limit:
        for name in ("first token", "event"):
            limit.phase(name, 0.005)
            assert (await passed(limit)).phase == name
            assert not limit.passed
        assert not limit.spent
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_nothing_is_cancelled_once_the_call_is_over() -> None:
    with Limit(0.01) as limit:
        limit.phase("answer", 0.005)
    await asyncio.sleep(0.015)
    assert not limit.passed


async def test_a_cancellation_from_outside_is_not_the_limits() -> None:
    async def ask() -> bool:
        with Limit(60.0) as limit:
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


def test_a_limit_needs_a_task_to_cancel() -> None:
    with pytest.raises(RuntimeError):
        Limit(1.0)
