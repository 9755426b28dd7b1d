"""A scorer that is denied what it needs, or is always late, is blocked; and let through again to see."""

from __future__ import annotations

import asyncio

import pytest

from gateway.core.backoff import Backoff
from gateway.scoring.gate import MAX_TIMEOUTS, GateClosed, ScorerGate
from gateway.scoring.threads import ScoringTimeout


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    """A clock that the test sets."""
    return Clock()


@pytest.fixture
def gate(clock):
    """The gate of a scorer, which is blocked for 60 to 200 s."""
    return ScorerGate("j", 2, Backoff(60, 200), clock)


async def enter(gate, deadline_s=1.0):
    async with gate.turn(deadline_s) as left_s:
        return left_s


async def test_a_denied_scorer_is_blocked_and_says_why(gate, clock):
    assert gate.reason is None
    gate.record_denied("HTTP 401: no key")
    assert gate.reason == "HTTP 401: no key"
    clock.now = 10
    with pytest.raises(GateClosed, match="blocked: HTTP 401: no key; tried again in 50 s"):
        await enter(gate)


async def test_a_probe_is_let_through_and_the_wait_doubles(gate, clock):
    gate.record_denied("no")
    for until, wait in ((60, 120), (180, 200), (380, 200)):
        clock.now = until
        async with gate.turn(1.0):
            with pytest.raises(GateClosed):
                await enter(gate)  # only one probe at a time
            gate.record_denied("still no")
        with pytest.raises(GateClosed, match=f"in {wait} s"):
            await enter(gate)


async def test_it_works_again_when_the_probe_is_answered(gate, clock):
    gate.record_denied("no")
    clock.now = 60
    async with gate.turn(1.0):
        gate.record_reply()
    assert gate.reason is None
    await enter(gate)


async def test_only_timeouts_in_a_row_block(gate):
    for _ in range(MAX_TIMEOUTS - 1):
        gate.record_timeout()
    gate.record_reply()
    for _ in range(MAX_TIMEOUTS - 1):
        gate.record_timeout()
    assert gate.reason is None
    gate.record_timeout()
    assert gate.reason == f"{MAX_TIMEOUTS} deadlines in a row were missed"


async def test_concurrency_is_limited_and_waiting_has_a_deadline(gate):
    async with gate.turn(1.0), gate.turn(1.0):
        with pytest.raises(ScoringTimeout, match=r"waited 0\.01 s for its turn"):
            await enter(gate, 0.01)
    assert await enter(gate) > 0.9


async def test_the_deadline_of_a_patient_call_counts_from_its_turn(gate):
    async def patient():
        async with gate.turn(0.01, patient=True) as left_s:
            return left_s

    async with gate.turn(1.0), gate.turn(1.0):
        waiting = asyncio.ensure_future(patient())  # noqa: TID251 - awaited below
        await asyncio.sleep(0.05)
        assert not waiting.done()
    assert await waiting == 0.01


async def test_calls_that_waited_during_a_block_are_refused(gate):
    async with gate.turn(1.0), gate.turn(1.0):
        waiting = asyncio.ensure_future(enter(gate))  # noqa: TID251 - awaited below
        await asyncio.sleep(0)
        gate.record_denied("no")
    with pytest.raises(GateClosed):
        await waiting
