"""How long a call waits for the stream server where the loop cannot run."""

from __future__ import annotations

import asyncio
from itertools import count
from typing import Any

import pytest

from gateway.proxy.limits.patience import Patience

pytestmark = pytest.mark.quick


async def test_an_answer_after_stalls_of_the_loop_is_in_time() -> None:
    """The clock says that the loop stood still for ten seconds in each turn; the answer comes within the first few."""
    loop, readings = asyncio.get_running_loop(), count(step=10)
    event: asyncio.Future[Any] = loop.create_future()
    loop.call_later(0.012, event.set_result, None)
    patience = Patience(0.05, lambda: float(next(readings)))
    assert await patience.wait(event)
    assert patience.left_s > 0


async def test_a_wait_without_an_answer_ends_after_its_turns() -> None:
    readings: list[float] = []

    def clock() -> float:
        readings.append(0.0)
        return 0.0

    patience = Patience(0.05, clock)
    event: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    assert not await patience.wait(event)
    assert len(readings) == 2 * 20, "twenty turns of 2.5 ms"
    assert not await patience.wait(event), "nothing is left"
    assert not event.cancelled()


async def test_an_event_that_has_happened_costs_no_turn() -> None:
    patience = Patience(0.05)
    event: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    event.set_result(None)
    assert await patience.wait(event)
    assert patience.left_s == 0.05
