"""What a client has been sent, and what is kept of it."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.relay.progress import CallContext, HeldBytes


@given(pieces=st.lists(st.binary(max_size=20), max_size=12), cap=st.integers(0, 80))
def test_what_is_kept_is_the_beginning_up_to_the_cap_and_says_when_it_was_cut(pieces: list[bytes], cap: int) -> None:
    kept = HeldBytes(True, cap)
    for piece in pieces:
        kept.add(piece)
    whole = b"".join(pieces)
    assert kept.bytes() == whole[:cap]
    assert kept.truncated == (len(whole) > cap)


def test_what_is_not_wanted_is_not_kept() -> None:
    kept = HeldBytes(False, 100)
    kept.add(b"x")
    assert kept.bytes() == b""
    assert not kept.truncated


def test_pieces_are_held_by_reference() -> None:
    piece = b"x" * 1000
    kept = HeldBytes(True, 1 << 20)
    kept.add(piece)
    assert kept.bytes() is not None
    assert any(held is piece for held in kept._pieces)


@pytest.mark.parametrize("ended", [False, True])
async def test_a_client_that_leaves_cancels_its_answer_unless_it_has_ended(ended: bool) -> None:
    making = asyncio.get_running_loop().create_task(asyncio.Event().wait())
    context = CallContext(HeldBytes(False, 0), ended=ended, making=making)
    context.client_left()
    assert (context.gone, bool(making.cancelling())) == (not ended, not ended)
    making.cancel()
