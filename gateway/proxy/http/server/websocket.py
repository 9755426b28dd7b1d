"""One client connection after its upgrade: WebSocket messages in and out. The framing is the library `websockets`'s.

Everything a client controls is bounded: the size of a message and the pause between two pieces of one, the bytes that
wait for a client that does not read, and the age of the connection. There is no task of its own: an idle connection
has one timer. Compression (permessage-deflate) is not offered.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

from websockets.frames import CloseCode, Frame, Opcode
from websockets.protocol import OPEN, Side
from websockets.protocol import Protocol as Framing

from gateway.core.errors import GatewayError
from gateway.proxy.http.server.connection_limits import BodyMemory
from gateway.proxy.http.server.request import COUNTED_BYTES
from gateway.proxy.http.server.unsent import unacknowledged_bytes
from gateway.proxy.http.server.upgrade import UpgradedTransport, WebSocketLimits, WebSocketSession

MOST_REPLIES = 256 * 1024  # bytes of pongs and errors that wait for a client that sends and does not read
FREE_FRAGMENTS, LEAST_FRAGMENT_BYTES = 8192, 64
"""Fragments that a message may have, whatever their size, and the bytes that it must have for each further one: a frame
costs as much as hundreds of bytes."""
MOST_REASON = 123  # bytes of a close frame's reason (RFC 6455, section 5.5)


# A logger of our own, as the library logs each end of a connection.
_QUIET = logging.Logger("websockets", logging.CRITICAL)


class WebSocketConnection(asyncio.Protocol):
    """One WebSocket, from the upgrade to its end."""

    __slots__ = (
        "_drainers",
        "_fragments",
        "_framing",
        "_held",
        "_limits",
        "_message",
        "_opened",
        "_piece_at",
        "_replied",
        "_session",
        "_silent_since",
        "_text",
        "_timer",
        "_unread",
        "_was",
        "gone",
        "holder",
        "paused",
    )

    def __init__(self, was: UpgradedTransport, most_bytes: int, limits: WebSocketLimits) -> None:
        now = was.loop.time()
        self.gone = False
        self.paused = False
        self.holder = ""
        """The name of the key that its bytes are counted for."""
        self._was = was
        self._limits = limits
        self._framing = Framing(Side.SERVER, state=OPEN, max_size=most_bytes, logger=_QUIET)
        self._session: WebSocketSession | None = None
        self._message = bytearray()  # the fragments of an incomplete message
        self._fragments = 0  # their number
        self._text = True  # it is a text
        self._held = 0  # bytes of an incomplete message that are counted in the memory of all bodies
        self._replied = 0  # bytes of pongs and errors since the client has stopped reading
        self._unread = (0, 0.0)  # bytes that the client has not taken, and since when their number is the same
        self._opened = self._silent_since = self._piece_at = now
        self._drainers: list[asyncio.Future[None]] = []
        self._timer = was.loop.call_later(min(limits.ping_s, limits.age_s), self._check)

    def begin(self, session: WebSocketSession, early: bytes) -> None:
        """Takes the connection over. early: bytes that the client has sent after its request."""
        self._session = session
        self._was.state.connections.add(self)  # type: ignore[arg-type]  # uvicorn only asks it to shut down
        self._was.transport.set_protocol(self)
        if early:
            self.data_received(early)

    @property
    def writable(self) -> bool:
        return not (self.paused or self.gone) and self._framing.state is OPEN

    @property
    def open(self) -> bool:
        """Messages can still be sent."""
        return not self.gone and self._framing.state is OPEN

    def send(self, texts: Iterable[bytes]) -> None:
        """Sends text messages, in UTF-8. A connection that is closing drops them."""
        if not self.open:
            return
        for text in texts:
            self._framing.send_text(text)
        self._silent_since = self._was.loop.time()
        self._flush()

    def reply(self, text: bytes) -> None:
        """Sends the answer to a message that nothing else bounds. A client that does not read is disconnected."""
        self._count_reply(len(text))
        self.send((text,))

    async def drain(self) -> None:
        """Waits until the client has read, or left."""
        waiter: asyncio.Future[None] = self._was.loop.create_future()
        self._drainers.append(waiter)
        await waiter

    def hold(self, task: asyncio.Task[Any]) -> None:
        """Makes the server wait for a task when it stops, and cancel it after `drain_s`."""
        self._was.state.tasks.add(task)
        task.add_done_callback(self._was.state.tasks.discard)

    @property
    def memory(self) -> BodyMemory | None:
        return self._was.memory

    @property
    def limits(self) -> WebSocketLimits:
        return self._limits

    def close(self, code: int, reason: str) -> None:
        """Sends a close frame, and ends the connection when the client has answered it."""
        if not self.open:
            return
        self._framing.send_close(code, short(reason))
        self._flush()
        self._end_within(self._limits.close_s)

    def abort(self) -> None:
        self._was.transport.abort()

    def shutdown(self) -> None:
        """Called by uvicorn when it stops."""
        session = self._session
        if session is not None and session.busy:
            session.drain()
        else:
            self._was.loop.call_later(self._limits.grace_s, self._drain)

    def _drain(self) -> None:
        if self._session is not None:
            self._session.drain()

    def data_received(self, data: bytes) -> None:
        self._silent_since = self._piece_at = self._was.loop.time()
        framing = self._framing
        framing.receive_data(data)
        for event in framing.events_received():
            if isinstance(event, Frame):
                self._frame(event)
        self._flush(replies=True)
        if framing.state is OPEN:
            self._count_pending()
            return
        self._message = bytearray()
        self._count(0)
        if self._session is not None:
            self._leave()
            self._end_within(self._limits.close_s)

    def eof_received(self) -> None:
        if not self._was.transport.is_closing():
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._timer.cancel()
        self._was.state.connections.discard(self)
        self._was.closed()
        self._count(0)
        self._message.clear()
        self.resume_writing()
        self._leave()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        self._replied = 0
        drainers, self._drainers = self._drainers, []
        for waiter in drainers:
            if not waiter.done():
                waiter.set_result(None)

    def _frame(self, frame: Frame) -> None:
        """A frame of a message; the library has answered all others."""
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            self._text = opcode is Opcode.TEXT
            if frame.fin:
                self._complete(bytes(frame.data))
            else:
                self._fragment(frame)
        elif opcode is Opcode.CONT:
            self._fragment(frame)
            if frame.fin:
                message, self._fragments = bytes(self._message), 0
                self._message = bytearray()
                self._complete(message)

    def _fragment(self, frame: Frame) -> None:
        self._message += frame.data
        self._fragments += 1
        if self._fragments > FREE_FRAGMENTS + len(self._message) // LEAST_FRAGMENT_BYTES:
            self._fail(CloseCode.POLICY_VIOLATION, "a message has too many fragments; send larger ones")

    def _complete(self, message: bytes) -> None:
        session = self._session
        if session is None or self._framing.state is not OPEN:
            return
        if not self._text:
            self._fail(CloseCode.UNSUPPORTED_DATA, "messages are JSON objects, sent as text")
            return
        try:
            str(message, "utf-8")
        except UnicodeDecodeError as error:
            self._fail(CloseCode.INVALID_DATA, f"a text message is not UTF-8 ({error.reason})")
            return
        session.message(message)

    def _count_pending(self) -> None:
        """Counts an incomplete message in the memory of all bodies."""
        pending = len(self._framing.reader.buffer) + len(self._message)
        try:
            self._count(pending if pending > COUNTED_BYTES else 0)
        except GatewayError as error:
            self._fail(CloseCode.TRY_AGAIN_LATER, error.message)

    def _count(self, size: int) -> None:
        """Raises Overloaded if all bodies are too many bytes."""
        memory, change = self._was.memory, size - self._held
        if memory is None or not change:
            return
        if change > 0:
            memory.take(change, self.holder)
        else:
            memory.give_back(-change, self.holder)
        self._held = size

    def _fail(self, code: int, reason: str) -> None:
        """Ends the connection because of an error in the client's data."""
        if self._framing.state is not OPEN:
            return
        self._message = bytearray()
        self._count(0)
        self._framing.fail(code, short(reason))
        self._flush()
        self._leave()

    def _leave(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            session.left()

    def _flush(self, *, replies: bool = False) -> None:
        pieces = self._framing.data_to_send()
        if not pieces:
            return
        ends = pieces[-1] == b""  # the library's sign for the end of our direction
        data = b"".join(pieces)
        if replies:
            self._count_reply(len(data))
        if data and not self.gone:
            self._was.transport.write(data)
        if ends:
            self._close_transport()

    def _close_transport(self) -> None:
        """Closes the connection. While the client may still send, only our direction: closing would reset it, and the
        client would not read why."""
        transport = self._was.transport
        if self._framing.close_rcvd is None and transport.can_write_eof() and not self.gone:
            transport.write_eof()
            self._end_within(self._limits.close_s)
        else:
            transport.close()

    def _count_reply(self, size: int) -> None:
        if self.paused:
            self._replied += size
            if self._replied > MOST_REPLIES:
                self.abort()

    def _end_within(self, seconds: float) -> None:
        self._timer.cancel()
        if not self.gone:
            self._timer = self._was.loop.call_later(seconds, self._check_closing)

    def _check_closing(self) -> None:
        """Ends a connection that is closing, unless its client still reads."""
        if self._was.transport.get_write_buffer_size() and not self._stuck(self._was.loop.time()):
            self._end_within(self._limits.close_s)
        else:
            self.abort()

    def _check(self) -> None:
        """The timer of an open connection."""
        now, limits = self._was.loop.time(), self._limits
        if self._stuck(now):  # also of a ping: then no machine is there that would acknowledge it
            self.abort()
            return
        if self._incomplete and now - self._piece_at >= limits.piece_s:
            self._fail(CloseCode.POLICY_VIOLATION, "the rest of a message did not arrive in time")
            return
        left_s = self._opened + limits.age_s - now
        self._timer = self._was.loop.call_later(
            min(limits.ping_s, left_s) if left_s > 0 else limits.ping_s, self._check
        )
        if left_s <= 0:
            if self._session is not None:
                self._session.expire()
        elif now - self._silent_since >= limits.ping_s and not self._unread[0]:
            self._framing.send_ping(b"")
            self._silent_since = now
            self._flush()

    @property
    def _incomplete(self) -> bool:
        return bool(self._message or self._framing.reader.buffer)

    def _stuck(self, now: float) -> bool:
        """Whether the client has read nothing that was sent to it for `write_s`."""
        transport = self._was.transport
        unread = transport.get_write_buffer_size() + unacknowledged_bytes(transport)
        size, since = self._unread
        if unread == 0 or unread != size:
            self._unread = (unread, now)
            return False
        return now - since >= self._limits.write_s


def short(reason: str) -> str:
    """The reason as a close frame can hold it."""
    return reason.encode()[:MOST_REASON].decode("utf-8", "ignore")
