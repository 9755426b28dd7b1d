"""A task's loop: what it does after failures and outages, what its log has, and the time that steps may take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from gateway.core.errors import StreamDown
from gateway.features.isolation import IsolatedWork, WorkLimits
from gateway.features.task import PeriodicWork, keep_working
from gateway.store.store import StoreDown

AT_ONCE = WorkLimits(tries=3, failing_s=0.0, retry_s=0.0, deadline_s=60.0)


def steps(*outcomes: BaseException | str) -> Callable[[], Awaitable[str]]:
    """A step that raises or returns these, one each time, and then ends the loop."""
    left = [*outcomes, asyncio.CancelledError()]

    async def step() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return step


async def kept(of: Any, isolated: IsolatedWork | None = None) -> IsolatedWork:
    isolated = isolated or IsolatedWork(limits=AT_ONCE)
    await keep_working("watch", lambda: of, isolated)
    return isolated


async def test_the_first_of_outages_in_a_row_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    step = steps(*(StreamDown("a"), StoreDown("b")) * 9, "done", StreamDown("c"))
    with pytest.raises(asyncio.CancelledError):
        await kept(PeriodicWork(step, 0.0, "nothing is watched now"))
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [f"nothing is watched now; tried again in 0 s: {why}" for why in ("a", "c")]


async def test_failures_in_a_row_stop_a_task(caplog: pytest.LogCaptureFixture) -> None:
    closed: list[bool] = []

    async def close() -> None:
        closed.append(True)

    failing = [ValueError("a"), ValueError("b"), "done", *(ValueError("a bug") for _ in range(3)), "never"]
    isolated = await kept(PeriodicWork(steps(*failing), 0.0, close=close))
    (name, stopped), *others = isolated.stopped().items()
    assert (name, stopped.why, stopped.kind, others) == ("watch", "ValueError: a bug", "ValueError", [])
    assert "restart the consumer" in stopped.resume
    assert closed == [True]
    texts = [record.getMessage() for record in caplog.records]
    assert texts[:2] == ["watch: a step failed; retrying"] * 2
    assert texts[2].startswith("watch is stopped after 3 failures: ValueError; ")


async def test_a_step_that_makes_no_progress_has_failed() -> None:
    async def hang() -> None:
        await asyncio.Event().wait()

    isolated = IsolatedWork(limits=WorkLimits(failing_s=0.0, retry_s=0.0, deadline_s=0.01))
    await kept(PeriodicWork(hang, 0.0), isolated)
    assert isolated.stopped()["watch"].why == "no progress within 0.01 s"


async def test_a_maker_and_a_server_that_raise_stop_too() -> None:
    isolated = IsolatedWork(limits=AT_ONCE)

    async def server() -> None:
        raise OSError("the port is gone")

    def broken() -> None:
        raise KeyError("section")

    await keep_working("receiver", server, isolated)
    await keep_working("maker", broken, isolated)
    assert {name: of.kind for name, of in isolated.stopped().items()} == {"receiver": "OSError", "maker": "KeyError"}


async def test_a_task_that_the_config_does_not_need_ends() -> None:
    assert (await kept(None)).stopped() == {}


async def test_failures_of_a_moment_stop_nothing() -> None:
    now = [0.0]
    isolated = IsolatedWork(limits=WorkLimits(retry_s=0.0), pace=lambda: now[0])
    with pytest.raises(asyncio.CancelledError):
        await kept(PeriodicWork(steps(*(ValueError() for _ in range(20))), 0.0), isolated)
    assert isolated.stopped() == {}
    now[0] = 60.0
    await kept(PeriodicWork(steps(ValueError("still")), 0.0), isolated)
    assert isolated.stopped()["watch"].why == "ValueError: still"


async def test_long_steps_are_rarer() -> None:
    """Only a lower bound is checked, which holds on a busy machine too."""
    began: list[float] = []
    ended: list[float] = []

    async def step() -> None:
        began.append(time.monotonic())
        if len(began) == 3:
            raise asyncio.CancelledError
        await asyncio.sleep(0.01)
        ended.append(time.monotonic())

    with pytest.raises(asyncio.CancelledError):
        await kept(PeriodicWork(step, 0.0, at_most=0.25))
    for i in (0, 1):
        assert began[i + 1] - ended[i] >= 3.9 * (ended[i] - began[i])
