"""Tasks are held until they end; the first signal cancels."""

from __future__ import annotations

import asyncio
import os
import signal

import pytest

from gateway.runtime.tasks import Tasks, cancel_on_signal


async def test_a_task_is_held_until_it_ends() -> None:
    async with Tasks() as tasks:
        task = tasks.start(asyncio.sleep(0, "done"), "one")
        assert len(tasks) == 1
        assert await task == "done"
        await asyncio.sleep(0)
        assert len(tasks) == 0


async def test_a_task_that_fails_is_logged_with_its_name(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("no")

    async with Tasks() as tasks:
        await asyncio.wait([tasks.start(fail(), "the failing one")])
    assert "the failing one" in caplog.text
    assert "ValueError: no" in caplog.text


async def test_closing_cancels_tasks_and_waits_for_their_end() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append(True)

    async with Tasks() as tasks:
        tasks.start(work(), "work")
        await asyncio.sleep(0)
    assert ended == [True]


async def test_the_first_signal_cancels_so_that_contexts_close() -> None:
    closed = []

    async def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGTERM)
            await asyncio.Event().wait()
        finally:
            closed.append(True)

    async with Tasks() as tasks:
        task = tasks.start(work(), "work")
        cancel_on_signal(task)
        await asyncio.wait([task])
    assert task.cancelled()
    assert closed == [True]
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL  # a second one kills the process
