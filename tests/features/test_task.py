"""Loops of a consumer's tasks: which errors they survive, what they log of them, and the time that steps may take."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

import pytest

from gateway.core.errors import StreamDown
from gateway.features.task import LoopStep, repeat
from gateway.store.store import StoreDown


def steps(*outcomes: BaseException | str) -> Callable[[], Awaitable[str]]:
    """A step that raises or returns these, one each time, and then ends the loop."""
    left = [*outcomes, asyncio.CancelledError()]

    async def step() -> str:
        outcome = left.pop(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    return step


async def test_the_first_of_failures_in_a_row_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(asyncio.CancelledError):
        await repeat(steps(StreamDown("a"), StoreDown("b"), "done", StreamDown("c")), 0.0, "nothing is watched now")
    texts = [record.getMessage() for record in caplog.records]
    assert texts == [f"nothing is watched now; tried again in 0 s: {why}" for why in ("a", "c")]


async def test_an_error_of_another_kind_ends_the_loop() -> None:
    with pytest.raises(ValueError, match="a bug"):
        await repeat(steps("done", ValueError("a bug")), 0.0, "nothing is watched now")


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
        await repeat(step, 0.0, "nothing is watched now", at_most=0.25)
    for i in (0, 1):
        assert began[i + 1] - ended[i] >= 3.9 * (ended[i] - began[i])


async def test_a_step_survives_every_error(caplog: pytest.LogCaptureFixture) -> None:
    step = LoopStep("runs", 2.0)
    failing = steps(
        "one", ValueError("a"), ValueError("b"), StreamDown("gone"), StoreDown("gone"), "two", ValueError("c")
    )
    assert [await step.survive(failing) for _ in range(7)] == ["one", None, None, None, None, "two", None]
    assert [record.getMessage() for record in caplog.records] == ["runs: a step failed; retrying"] * 2
    with pytest.raises(asyncio.CancelledError):
        await step.survive(failing)
