"""One WebSocket to an upstream: messages out and in. The framing is the library `websockets`'s; knows no provider.

Compression is not offered.
"""

from __future__ import annotations

import asyncio
import logging
from typing import cast

from websockets.client import ClientProtocol
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response
from websockets.protocol import OPEN
from websockets.uri import parse_uri

from gateway.core.errors import BadResponse, BodyCut, ConnectionLost, MessageTooLarge
from gateway.proxy.http.client.transport import UpgradeRefused
from gateway.proxy.types import Headers

MOST_BYTES = 16 << 20  # of a message, as of an event of a stream
HIGH_WATER = 256 * 1024  # bytes of messages that wait; above, the socket is not read
_QUIET = logging.Logger("websockets", logging.CRITICAL)
_OWN = frozenset({b"host", b"content-type", b"content-length", b"connection", b"upgrade", b"accept-encoding"})


class UpstreamWebSocket(asyncio.Protocol):
    """One connection."""

    def __init__(self, loop: asyncio.AbstractEventLoop, uri: str, headers: Headers) -> None:
        """headers: of the handshake, besides its own."""
        self._loop = loop
        self._headers = headers
        self._framing = ClientProtocol(parse_uri(uri), max_size=MOST_BYTES, logger=_QUIET)
        self._transport: asyncio.Transport | None = None
        self._answer: Response | None = None  # to the handshake
        self._fragments = bytearray()  # of an incomplete message
        self._messages: list[bytes] = []
        self._size = 0  # of these
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    @property
    def open(self) -> bool:
        return not self._ended and self._framing.state is OPEN

    async def opened(self) -> None:
        """Waits for the answer to the handshake. Raises ConnectionLost, BadResponse and UpgradeRefused."""
        while self._answer is None and not self._ended and self._framing.handshake_exc is None:
            await self._wait()
        answer = self._answer
        if answer is not None and self._framing.handshake_exc is None:
            return
        if answer is not None and answer.status_code != 101:
            headers = [(n.lower().encode("latin-1"), v.encode("latin-1")) for n, v in answer.headers.raw_items()]
            raise UpgradeRefused(answer.status_code, headers, bytes(answer.body or b""))
        if self._framing.handshake_exc is not None and not self._ended:
            raise BadResponse(f"not a WebSocket handshake: {self._framing.handshake_exc}")
        raise ConnectionLost("the connection ended before the answer to the handshake")

    def send(self, text: bytes) -> None:
        """Sends a text message. On a connection that has ended nothing is sent, and messages() raises."""
        if self.open:
            self._take()
            self._framing.send_text(text)
            self._flush()

    async def messages(self) -> list[bytes]:
        """The messages that have arrived, at least one. Raises BodyCut when the connection has ended, and
        MessageTooLarge where a message above the limit has ended it."""
        while not self._messages:
            if not self.open:
                if (sent := self._framing.close_sent) is not None and sent.code == CloseCode.MESSAGE_TOO_BIG:
                    raise MessageTooLarge(f"sent an event larger than {MOST_BYTES >> 20} MB")
                raise BodyCut(f"the WebSocket ended{self._why()}")
            await self._wait()
        return self._take()

    def _take(self) -> list[bytes]:
        messages, self._messages, size = self._messages, [], self._size
        self._size = 0
        if size > HIGH_WATER and self._transport is not None and not self._ended:
            self._transport.resume_reading()
        return messages

    def abort(self) -> None:
        """Ends the connection at once, which tells the upstream that nobody waits for its answer."""
        self._ended = True
        self._messages.clear()
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        request = self._framing.connect()
        for name, value in self._headers:
            if name not in _OWN:
                request.headers[name.decode("latin-1")] = value.decode("latin-1")
        self._framing.send_request(request)
        self._flush()

    def data_received(self, data: bytes) -> None:
        self._framing.receive_data(data)
        for event in self._framing.events_received():
            if isinstance(event, Response):
                self._answer = event
            elif isinstance(event, Frame):
                self._frame(event)
        self._flush()
        self._wake()

    def eof_received(self) -> None:
        self._framing.receive_eof()
        self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end()

    def _end(self) -> None:
        self._ended = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT or frame.opcode is Opcode.CONT:
            self._fragments += frame.data
            if frame.fin:
                self._arrived(bytes(self._fragments))
                self._fragments.clear()
        elif frame.opcode is Opcode.BINARY:
            self._framing.fail(CloseCode.UNSUPPORTED_DATA, "messages are texts")

    def _arrived(self, message: bytes) -> None:
        before, self._size = self._size, self._size + len(message)
        self._messages.append(message)
        if before <= HIGH_WATER < self._size and self._transport is not None:
            self._transport.pause_reading()

    def _flush(self) -> None:
        transport = self._transport
        for data in self._framing.data_to_send():
            if transport is None:
                continue
            if data:
                transport.write(data)
            elif transport.can_write_eof():
                transport.write_eof()

    def _why(self) -> str:
        close = self._framing.close_rcvd
        return "" if close is None else f" with code {close.code}: {close.reason[:200]}"

    async def _wait(self) -> None:
        self._waiter = self._loop.create_future()
        await self._waiter

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
