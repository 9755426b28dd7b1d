"""WebSocket messages from bytes that arrive in any split, in any fragments, between any control frames."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.server import ServerState
from websockets.frames import Frame, Opcode

from gateway.proxy.http.server.connection_limits import BodyMemory
from gateway.proxy.http.server.upgrade import UpgradedTransport, WebSocketLimits
from gateway.proxy.http.server.websocket import (
    FREE_FRAGMENTS,
    MOST_REASON,
    MOST_REPLIES,
    WebSocketConnection,
    short,
)


class Loop:
    """A loop whose time stands still."""

    def time(self) -> float:
        return 0.0

    def call_later(self, delay: float, run: Any, *given: Any) -> Any:
        return _Timer()


class _Timer:
    def cancel(self) -> None:
        pass


class Wire:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def set_protocol(self, protocol: Any) -> None:
        pass

    def is_closing(self) -> bool:
        return self.closed

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.closed = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def get_write_buffer_size(self) -> int:
        return 0

    def get_extra_info(self, name: str) -> None:
        return None


class Messages:
    """A session that keeps what it gets."""

    busy = False

    def __init__(self) -> None:
        self.got: list[bytes] = []
        self.gone = 0

    def message(self, data: bytes) -> None:
        self.got.append(data)

    def expire(self) -> None:
        pass

    def drain(self) -> None:
        pass

    def left(self) -> None:
        self.gone += 1


def connected(most_bytes: int = 1_000_000) -> tuple[WebSocketConnection, Messages, Wire, BodyMemory]:
    wire, messages, memory = Wire(), Messages(), BodyMemory(lambda: 1e9)
    kept = UpgradedTransport(wire, Loop(), ServerState(), memory, lambda: None)  # type: ignore[arg-type]
    connection = WebSocketConnection(kept, most_bytes, WebSocketLimits())
    connection.begin(messages, b"")
    return connection, messages, wire, memory


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({cut % (len(data) + 1) for cut in cuts})
    return [data[a:b] for a, b in zip([0, *at], [*at, len(data)], strict=True)]


fragments = st.lists(st.text(max_size=40), min_size=1, max_size=4)


@given(st.lists(fragments, max_size=5), st.lists(st.integers(0, 10_000), max_size=60), st.booleans())
def test_any_split_and_any_fragments_give_the_same_messages(
    sent: list[list[str]], cuts: list[int], pings: bool
) -> None:
    data = b""
    for texts in sent:
        for number, text in enumerate(texts):
            opcode = Opcode.TEXT if number == 0 else Opcode.CONT
            data += Frame(opcode, text.encode(), number == len(texts) - 1).serialize(mask=True)
            if pings:
                data += Frame(Opcode.PING, b"p").serialize(mask=True)
    connection, messages, wire, memory = connected()
    for piece in pieces(data, cuts):
        if piece:
            connection.data_received(piece)
    assert messages.got == ["".join(texts).encode() for texts in sent]
    pong = Frame(Opcode.PONG, b"p").serialize(mask=False)
    assert wire.written == pong * (sum(map(len, sent)) if pings else 0)
    assert memory.held == 0


def test_cut_at_every_byte() -> None:
    message = ("é" * 300).encode()
    frames = Frame(Opcode.TEXT, message[:101], False).serialize(mask=True)  # within a character
    frames += Frame(Opcode.CONT, message[101:]).serialize(mask=True) + Frame(Opcode.TEXT, b"{}").serialize(mask=True)
    for cut in range(len(frames) + 1):
        connection, messages, _, _ = connected()
        for piece in (frames[:cut], frames[cut:]):
            if piece:
                connection.data_received(piece)
        assert messages.got == [message, b"{}"]


@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=10))
def test_no_bytes_raise(data: bytes, cuts: list[int]) -> None:
    connection, messages, _, memory = connected(1000)
    for piece in pieces(data, cuts):
        if piece:
            connection.data_received(piece)
    connection.connection_lost(None)
    assert messages.gone == 1
    assert memory.held == 0


def test_many_small_fragments_take_little_memory() -> None:
    connection, messages, _, memory = connected()
    connection.data_received(Frame(Opcode.TEXT, b"a" * 10, False).serialize(mask=True))
    for _ in range(7000):
        connection.data_received(Frame(Opcode.CONT, b"a" * 10, False).serialize(mask=True))
    assert memory.held == 70_010
    connection.data_received(Frame(Opcode.CONT, b"a").serialize(mask=True))
    assert messages.got == [b"a" * 70_011]
    assert memory.held == 0


@pytest.mark.parametrize("data", [b"", b"a"])
def test_a_message_of_very_small_fragments_ends_the_connection(data: bytes) -> None:
    connection, messages, wire, memory = connected()
    fragment = Frame(Opcode.CONT, data, False).serialize(mask=True)
    connection.data_received(Frame(Opcode.TEXT, data, False).serialize(mask=True))
    taken = 1
    while not messages.gone and taken < 2_000_000:
        connection.data_received(fragment)
        taken += 1
    assert FREE_FRAGMENTS < taken < 1.05 * FREE_FRAGMENTS
    assert b"too many fragments" in wire.written
    assert memory.held == 0


def test_a_long_message_may_have_a_fragment_for_every_64_bytes() -> None:
    connection, messages, _, _ = connected(2_000_000)
    sent = b"a" * 64
    connection.data_received(Frame(Opcode.TEXT, sent, False).serialize(mask=True))
    connection.data_received(Frame(Opcode.CONT, sent, False).serialize(mask=True) * 25_000)
    connection.data_received(Frame(Opcode.CONT, b"").serialize(mask=True))
    connection.data_received(Frame(Opcode.TEXT, b"{}").serialize(mask=True))
    assert messages.got == [sent * 25_001, b"{}"]


def test_pongs_and_errors_for_a_client_that_does_not_read_are_bounded() -> None:
    ping, pong = (
        Frame(opcode, b"a" * 125).serialize(mask=opcode is Opcode.PING) for opcode in (Opcode.PING, Opcode.PONG)
    )
    connection, _, wire, _ = connected()
    for _ in range(3000):
        connection.data_received(ping)
    assert not wire.closed, "it reads"
    connection.pause_writing()
    wire.written = b""
    while not wire.closed:
        connection.data_received(ping)
    assert len(wire.written) <= MOST_REPLIES + len(pong)
    connection, _, wire, _ = connected()
    connection.pause_writing()
    while not wire.closed:
        connection.reply(b"{}" * 100)
    assert len(wire.written) <= MOST_REPLIES * 1.05, "with the frames that it is in"


def test_after_the_close_frame_nothing_is_taken() -> None:
    connection, messages, wire, _ = connected()
    close = Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=True)
    connection.data_received(close + Frame(Opcode.TEXT, b"{}").serialize(mask=True))
    assert (messages.got, messages.gone, wire.closed) == ([], 1, True)
    connection.send([b"{}"])
    assert wire.written == Frame(Opcode.CLOSE, b"\x03\xe8").serialize(mask=False)


def test_a_long_reason_is_cut_between_characters() -> None:
    assert len(short("é" * 100).encode()) <= MOST_REASON
    assert short("é" * 100) == "é" * (MOST_REASON // 2)
