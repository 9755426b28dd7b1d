"""The bytes of a right answer: framing, and where scripts break it off."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import httpx2
import pytest

from gateway.fake import CUT, HOLD, FakeUpstream, Received

Chat = Callable[..., dict[str, Any]]
WireTo = Callable[[FakeUpstream], AbstractAsyncContextManager[Any]]


async def test_each_event_is_a_chunk_of_its_own(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=True))
        body = (await wire.until(b"\r\n0\r\n\r\n")).split(b"\r\n\r\n", 1)[1]
    lines = body.split(b"\r\n")
    sizes, chunks = lines[0:-2:2], lines[1:-2:2]
    assert [int(size, 16) for size in sizes[:-1]] == [len(c) for c in chunks[: len(sizes) - 1]]
    assert all(c.startswith(b"data: ") and c.endswith(b"\n\n") for c in chunks[: len(sizes) - 1])


async def test_an_empty_stream_piece_does_not_end_the_body(
    http: httpx2.AsyncClient, upstream: FakeUpstream, chat: Chat
) -> None:
    upstream.streams([b"one", b"", b"two"])
    assert (await http.post("/chat/completions", json=chat(stream=True))).content == b"onetwo"


async def test_a_plain_answer_makes_its_pauses_first(upstream: FakeUpstream, chat: Chat, wire_to: WireTo) -> None:
    upstream.says("one ", HOLD, "two")
    async with wire_to(upstream) as wire:
        wire.ask(chat())
        await upstream.next_received()
        upstream.release()
        assert b'"one two"' in await wire.until(b"}}}")


@pytest.mark.parametrize("stream", [False, True])
async def test_a_cut_in_a_script_ends_the_connection(
    upstream: FakeUpstream, stream: bool, chat: Chat, wire_to: WireTo
) -> None:
    upstream.says("one ", CUT, "two ")
    async with wire_to(upstream) as wire:
        wire.ask(chat(stream=stream))
        received = await wire.rest()
    assert b'"finish_reason":"' not in received
    assert not received.endswith(b"}")
    assert not received.endswith(b"0\r\n\r\n")
    assert upstream.cancelled == 0


def test_received_is_compared_by_identity() -> None:
    one, two = (Received("GET", "/", "", [], 1, 1) for _ in range(2))
    assert one != two
