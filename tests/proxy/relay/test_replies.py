"""Handling of good replies, without an upstream's faults (those are in test_faults.py)."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.proxy.relay import replies


class Reply:
    """An upstream's reply whose body arrives in pieces."""

    def __init__(self, *pieces: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
        self.status = 200
        self.headers = headers or []
        self.pieces = list(pieces)

    async def chunk(self) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


@pytest.mark.parametrize("pieces", [(), (b"abc",), (b"a", b"b", b"c")], ids=["empty", "one piece", "three pieces"])
async def test_a_body_is_read_completely(pieces: tuple[bytes, ...]) -> None:
    reply: Any = Reply(*pieces)
    assert await replies.read(reply, 3) == b"".join(pieces)


async def test_a_body_above_the_limit_is_not_read_on() -> None:
    reply: Any = Reply(*[b"xx"] * 1000)
    assert await replies.read(reply, 5) is None
    assert len(reply.pieces) > 900


EVENT_STREAMS = [
    (b"text/event-stream", True),
    (b"text/event-stream; charset=utf-8", True),
    (b"application/json", False),
    (b"text/plain; text/event-stream", False),
]


@pytest.mark.parametrize(("value", "expected"), EVENT_STREAMS, ids=[v.decode() for v, _ in EVENT_STREAMS])
def test_the_content_type_says_whether_it_is_an_event_stream(value: bytes, expected: bool) -> None:
    reply: Any = Reply(headers=[(b"content-type", value)])
    assert replies.is_event_stream(reply) is expected


def test_a_content_length_that_is_not_a_number_is_ignored() -> None:
    known: Any = Reply(headers=[(b"x", b"1"), (b"content-length", b"12")])
    odd: Any = Reply(headers=[(b"content-length", b"-1")])
    missing: Any = Reply()
    assert [replies.content_length(r) for r in (known, odd, missing)] == [12, None, None]
