"""The held bytes of a response, and the effect of a leaving client on its call."""

from __future__ import annotations

import asyncio
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.relay.state import CallContext, HeldBytes


@given(pieces=st.lists(st.binary(max_size=20), max_size=12), cap=st.integers(0, 80))
def test_the_beginning_is_held_up_to_the_cap(pieces: list[bytes], cap: int) -> None:
    held = HeldBytes(True, cap)
    for piece in pieces:
        held.add(piece)
    complete = b"".join(pieces)
    assert held.bytes() == complete[:cap]
    assert held.truncated == (len(complete) > cap)


def test_nothing_is_held_unless_it_is_enabled() -> None:
    held = HeldBytes(False, 100)
    held.add(b"x")
    assert held.bytes() == b""
    assert not held.truncated


def test_pieces_are_held_by_reference() -> None:
    pieces = [bytes([at]) * 100_000 for at in range(50)]
    held = HeldBytes(True, 1 << 30)
    tracemalloc.start()
    for piece in pieces:
        held.add(piece)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 50_000, "5 MB were copied"
    assert held.bytes() == b"".join(pieces)


@pytest.mark.parametrize("ended", [False, True])
async def test_a_client_that_leaves_cancels_an_unfinished_call(ended: bool) -> None:
    task = asyncio.get_running_loop().create_task(asyncio.Event().wait())
    context = CallContext(HeldBytes(False, 0), ended=ended, task=task)
    context.client_left()
    assert (context.client_gone, bool(task.cancelling())) == (not ended, not ended)
    task.cancel()
