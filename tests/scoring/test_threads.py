"""Threads that never come back are left behind, replaced and, when there are too many, not replaced."""

from __future__ import annotations

import asyncio
import threading

import pytest

from gateway.core.score import Score
from gateway.scoring.threads import ScorerBlocked, ScorerDied, ScoringThreads, ScoringTimeout

ONE = Score(1.0)


async def one():
    return ONE


async def test_a_scoring_runs_on_another_thread_the_same_each_time(threads):
    seen = []

    async def where():
        seen.append(threading.get_ident())
        await asyncio.sleep(0)
        return ONE

    assert [await threads.run("a", where, 5, heavy=False) for _ in range(2)] == [ONE, ONE]
    assert len(set(seen)) == 1
    assert threading.get_ident() not in seen


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("its own"), KeyError("x")])
async def test_its_exceptions_are_raised(threads, error):
    async def fail():
        raise error

    with pytest.raises(type(error)):
        await threads.run("a", fail, 5, heavy=True)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()])
async def test_an_exception_that_ends_programs_ends_only_the_scoring(threads, error):
    async def fail():
        raise error

    with pytest.raises(ScorerDied, match=type(error).__name__):
        await threads.run("a", fail, 5, heavy=True)
    assert await threads.run("a", one, 5, heavy=True) == ONE


async def test_a_timed_out_call_is_cancelled_and_its_thread_kept(threads):
    began, ended = [], []

    async def hang():
        began.append(1)
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(1)

    while not began:  # a busy machine may not even begin in time
        with pytest.raises(ScoringTimeout, match=r"not done after 0\.01 s"):
            await threads.run("a", hang, 0.01, heavy=False)
    assert began == ended
    assert threads.lost("a") == 0


async def test_the_deadline_of_a_patient_call_counts_from_its_turn(threads):
    free = threading.Event()

    async def hold():
        while not free.is_set():
            await asyncio.sleep(0.01)
        return ONE

    first = asyncio.ensure_future(threads.run("a", hold, 60, heavy=True))  # noqa: TID251 - awaited below
    await asyncio.sleep(0)
    with pytest.raises(ScoringTimeout, match="for its turn"):
        await threads.run("a", one, 0.05, heavy=True)
    late = asyncio.ensure_future(threads.run("a", one, 2, heavy=True, patient=True))  # noqa: TID251 - awaited below
    await asyncio.sleep(2.1)
    assert not late.done()
    free.set()
    assert (await first, await late) == (ONE, ONE)


async def test_a_blocked_thread_is_abandoned_and_replaced():
    threads, free = ScoringThreads(grace_s=0.01), threading.Event()

    async def block():
        free.wait()
        return ONE

    while not threads.lost("a"):  # a busy machine may not even begin in time, and then nothing is lost
        with pytest.raises(ScoringTimeout):
            await threads.run("a", block, 0.01, heavy=True)
    assert await threads.run("a", one, 5, heavy=True) == ONE
    free.set()
    threads.close()


async def test_a_call_that_ignores_cancellation_is_abandoned():
    threads, free = ScoringThreads(grace_s=0.01), threading.Event()

    async def stubborn():
        while not free.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return ONE

    with pytest.raises(ScoringTimeout):
        await threads.run("a", stubborn, 0.01, heavy=False)
    assert await threads.run("a", one, 5, heavy=False) == ONE
    free.set()
    threads.close()


async def test_too_many_lost_threads_block_until_one_returns():
    threads, free = ScoringThreads(max_lost=3, grace_s=0.01), threading.Event()

    async def block():
        free.wait()
        return ONE

    while threads.lost("a") < 3:
        with pytest.raises(ScoringTimeout):
            await threads.run("a", block, 0.01, heavy=True)
    with pytest.raises(ScorerBlocked, match="3 of its threads did not return"):
        await threads.run("a", one, 5, heavy=True)
    assert await threads.run("b", one, 5, heavy=True) == ONE, "others have their own"
    free.set()
    for thread in [t for t in threading.enumerate() if t.name == "scorer a"]:
        await asyncio.to_thread(thread.join, 10)
    assert threads.lost("a") == 0
    assert await threads.run("a", one, 5, heavy=True) == ONE
    threads.close()


async def test_a_heavy_scorer_has_one_turn_and_waiting_for_it_counts():
    threads, free = ScoringThreads(grace_s=5), threading.Event()

    async def block():
        free.wait()
        return ONE

    async with asyncio.TaskGroup() as group:
        first = group.create_task(threads.run("a", block, 30, heavy=True))
        await asyncio.sleep(0)
        with pytest.raises(ScoringTimeout, match=r"waited 0\.01 s for its turn"):
            await threads.run("a", one, 0.01, heavy=True)
        free.set()
    assert first.result() == ONE
    threads.close()


async def test_a_caller_that_is_cancelled_cancels_the_scoring(threads):
    begun, ended = threading.Event(), threading.Event()

    async def hang():
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with asyncio.TaskGroup() as group:
        call = group.create_task(threads.run("a", hang, 30, heavy=False))
        assert await asyncio.to_thread(begun.wait, 5)
        call.cancel()
    assert ended.wait(5)


@pytest.mark.parametrize("begun", [False, True])
async def test_calls_in_flight_end_when_the_threads_are_closed(begun):
    threads, running = ScoringThreads(), threading.Event()

    async def hang():
        running.set()
        await asyncio.Event().wait()

    async def close():
        if begun:
            assert await asyncio.to_thread(running.wait, 5)
        threads.close()

    results = await asyncio.gather(threads.run("a", hang, 30, heavy=False), close(), return_exceptions=True)
    assert isinstance(results[0], ScorerDied)
