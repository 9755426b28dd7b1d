"""An answer on the wire: framed by length, in chunks, or by the connection's end; never whole when it is not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.http.server.response_writer import STATUS_LINES, ResponseWriter


class Wire:
    """A connection that keeps what was written. kept: whether it may carry another answer; None if none has ended."""

    common = b"server: x\r\n"

    def __init__(self) -> None:
        self.paused = self.gone = self.aborted = self.last = False
        self.writes: list[bytes] = []
        self.kept: bool | None = None

    def put(self, data: bytes, *, last: bool = False) -> None:
        self.writes.append(data)
        self.last = last

    def unending(self) -> None: ...

    async def drain(self) -> None:
        self.paused = False

    def abort(self) -> None:
        self.aborted = True

    def answered(self, *, keep: bool) -> None:
        self.kept = keep

    @property
    def came(self) -> bytes:
        return b"".join(self.writes)


def begin(wire: Wire, *, keep: bool = True, bodiless: bool = False, chunks: bool = True) -> ResponseWriter:
    return ResponseWriter(wire, keep=keep, bodiless=bodiless, chunks=chunks)


async def test_an_answer_of_known_length_is_one_write() -> None:
    wire = Wire()
    answer = begin(wire)
    answer.start(200, [(b"a", b"b")], 2)
    assert wire.writes == []
    await answer.end(b"hi")
    assert wire.writes == [b"HTTP/1.1 200 OK\r\nserver: x\r\na: b\r\ncontent-length: 2\r\n\r\nhi"]
    assert (answer.ended, wire.kept) == (True, True)


@given(st.lists(st.binary(max_size=20), max_size=6), st.binary(max_size=20))
async def test_pieces_of_unknown_length_are_sent_chunked(pieces: list[bytes], last: bytes) -> None:
    wire = Wire()
    answer = begin(wire)
    answer.start(200, [])
    for piece in pieces:
        await answer.write(piece)
    await answer.end(last)
    head, _, rest = wire.came.partition(b"\r\n\r\n")
    assert head.endswith(b"transfer-encoding: chunked")
    body = b""
    while not rest.startswith(b"0\r\n"):
        size, _, rest = rest.partition(b"\r\n")
        body, rest = body + rest[: int(size, 16)], rest[int(size, 16) + 2 :]
    assert rest == b"0\r\n\r\n"
    assert body == b"".join(pieces) + last


async def test_a_client_that_knows_no_chunks_sees_the_end_in_the_close() -> None:
    wire = Wire()
    answer = begin(wire, chunks=False)
    answer.start(200, [])
    await answer.write(b"one")
    await answer.end(b"two")
    assert wire.came.endswith(b"connection: close\r\n\r\nonetwo")
    assert wire.kept is False


async def test_a_head_has_the_length_of_what_is_not_sent() -> None:
    wire = Wire()
    answer = begin(wire, bodiless=True)
    answer.start(200, [], 2)
    await answer.end(b"hi")
    assert wire.came.endswith(b"content-length: 2\r\n\r\n")


@pytest.mark.parametrize("length", [1, 3])
async def test_another_length_than_was_said_is_never_written_as_whole(length: int) -> None:
    wire = Wire()
    answer = begin(wire)
    answer.start(200, [], length)
    with pytest.raises(ValueError, match="than its content-length"):
        await answer.end(b"hi")
    assert not answer.ended
    assert wire.kept is None


@pytest.mark.parametrize("header", [(b"a", b"b\r\nc: d"), (b"a\r\nb", b"c"), (b"a", b"b\n"), (b"a", b"\rb")])
async def test_no_header_hides_another(header: tuple[bytes, bytes]) -> None:
    answer = begin(Wire())
    with pytest.raises(ValueError, match="line break"):
        answer.start(200, [header], 0)
    assert not answer.started, "an error can still be sent"


async def test_a_full_buffer_is_waited_for_but_not_with_the_last_word() -> None:
    wire = Wire()
    answer = begin(wire)
    answer.start(200, [])
    wire.paused = True
    await answer.write(b"x")
    assert not wire.paused
    wire.paused = True
    await answer.end_nowait(b"last")
    assert wire.aborted
    assert b"last" not in wire.came


async def test_nothing_is_written_to_who_has_left() -> None:
    wire = Wire()
    wire.gone = True
    answer = begin(wire)
    answer.start(200, [], 2)
    await answer.write(b"hi")
    await answer.end()
    assert wire.writes == []
    assert not answer.ended


async def test_the_last_answer_of_a_connection_says_so() -> None:
    wire = Wire()
    answer = begin(wire)
    answer.close_after()
    answer.start(204, [])
    await answer.end()
    assert wire.came == b"HTTP/1.1 204 No Content\r\nserver: x\r\nconnection: close\r\n\r\n"
    assert wire.kept is False


def test_every_status_has_its_line() -> None:
    assert set(STATUS_LINES) == set(range(100, 600))
    assert STATUS_LINES[299] == b"HTTP/1.1 299 \r\n"
