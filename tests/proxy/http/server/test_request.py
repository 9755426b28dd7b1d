"""A request as it arrives: its body complete or in pieces, bounded; and the report that its client has left."""

from __future__ import annotations

import asyncio
import random
import tracemalloc
from itertools import pairwise
from typing import Any

import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.errors import TooLarge
from gateway.proxy.http.server.request import ASSEMBLED_BYTES, ServerRequest
from gateway.proxy.types import ClientGone


class Source:
    """A connection that brings the next piece each time more is wanted. gone: after the last, the client leaves."""

    def __init__(self, *pieces: bytes, gone: bool = False) -> None:
        self.loop = asyncio.get_running_loop()
        self.peer = ""
        self.memory = None
        self.pieces = list(pieces)
        self.gone = gone
        self.request: ServerRequest

    def read_more(self) -> None:
        self.loop.call_soon(self._bring)

    def _bring(self) -> None:
        request = self.request
        if self.pieces:
            request.add(self.pieces.pop(0))
            request.complete = not self.pieces and not self.gone
            request.wake()
        else:
            request.leave()


def coming(*pieces: bytes, length: bytes | None = None, gone: bool = False) -> ServerRequest:
    return request_from(Source(*pieces, gone=gone), length)


def request_from(source: Source, length: bytes | None) -> ServerRequest:
    headers = [] if length is None else [(b"content-length", length)]
    source.request = ServerRequest(source, b"POST", b"/v1/x", b"", headers, keep_alive=True, http10=False)
    return source.request


PIECES = st.lists(st.binary(max_size=30), min_size=1, max_size=8)


@given(PIECES, st.integers(0, 120))
async def test_a_body_is_whole_in_any_split_or_refused_above_the_limit(pieces: list[bytes], limit: int) -> None:
    body = b"".join(pieces)
    if len(body) > limit:
        with pytest.raises(TooLarge):
            await coming(*pieces).body(limit)
    else:
        assert await coming(*pieces).body(limit) == body


async def test_a_body_in_one_piece_is_not_copied() -> None:
    piece = b"x" * 1000
    assert await coming(piece).body(2000) is piece


@given(st.lists(st.integers(0, 200_000), min_size=2, max_size=6), st.integers(1, 400_000))
@settings(deadline=None, max_examples=examples(40))
async def test_a_large_body_of_known_length_is_the_same_in_any_split(cuts: list[int], more: int) -> None:
    body = random.Random(more).randbytes(ASSEMBLED_BYTES + more)
    edges = [0, *sorted(cuts), len(body)]
    pieces = [body[a:b] for a, b in pairwise(edges)]
    assert await coming(*pieces, length=b"%d" % len(body)).body(len(body)) == body


async def test_a_large_body_is_in_memory_once() -> None:
    """There is one further piece at a time, as it came from the socket."""
    piece, n = 200_000, 50

    class Pieces(list[bytes]):
        """Made when they come."""

        def __bool__(self) -> bool:
            return request.size < n * piece

        def pop(self, _: Any = 0) -> bytes:
            return b"x" * piece

    source = Source()
    source.pieces = Pieces()
    request = request_from(source, b"%d" % (n * piece))
    tracemalloc.start()
    try:
        body = await request.body(n * piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert body == b"x" * piece * n
    assert peak < 1.1 * len(body)


async def test_a_large_body_whose_client_leaves_is_not_whole() -> None:
    with pytest.raises(ClientGone):
        await coming(b"x" * 1000, gone=True, length=b"%d" % (2 * ASSEMBLED_BYTES)).body(3 * ASSEMBLED_BYTES)


async def test_an_announced_length_above_the_limit_is_refused_unread() -> None:
    request = coming(b"x" * 1001, length=b"1001")
    with pytest.raises(TooLarge, match=r"above the limit of 0\.001 MB \(limits\.max_body_mb\)") as refused:
        await request.body(1000)
    assert refused.value.retry is False
    assert request.size == 0


@pytest.mark.parametrize("before", [[], [b"half "]])
async def test_a_client_that_leaves_mid_request_is_gone(before: list[bytes]) -> None:
    with pytest.raises(ClientGone):
        await coming(*before, gone=True).body(100)


@given(PIECES)
async def test_receive_gives_the_body_and_then_the_disconnect(pieces: list[bytes]) -> None:
    request, came, more = coming(*pieces), b"", True
    while more:
        message = await request.receive()
        came += message["body"]
        more = message["more_body"]
    assert came == b"".join(pieces)
    assert request.held == 0
    leaving = asyncio.get_running_loop().create_task(request.receive())
    await asyncio.sleep(0)
    assert not leaving.done(), "the client is there"
    request.leave()
    assert await leaving == {"type": "http.disconnect"}


async def test_after_its_answer_a_request_keeps_nothing_and_is_over() -> None:
    request = coming()
    request.add(b"x")
    request.close()
    request.add(b"y" * 1000)
    assert request.held == 0
    assert await request.receive() == {"type": "http.disconnect"}


async def test_a_client_that_leaves_is_reported_once() -> None:
    request, reports = coming(), []
    request.watch(lambda: reports.append("gone"))
    request.leave()
    assert reports == ["gone"]


async def test_a_client_that_left_before_the_watch_is_reported_at_once() -> None:
    request, reports = coming(), []
    request.leave()
    request.watch(lambda: reports.append("gone"))
    assert reports == ["gone"]


async def test_after_the_watch_nothing_is_reported() -> None:
    request, reports = coming(), []
    request.watch(lambda: reports.append("gone"))
    request.unwatch()
    request.leave()
    assert not reports
