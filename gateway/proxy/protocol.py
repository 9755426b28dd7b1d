"""uvicorn's HTTP protocol with a cheaper way out: an answer's head and its first bytes leave in one write.

A write is a system call, and costs more than building what is written. uvicorn writes the head at once and checks each
header by regular expression; here the head waits for the first body message, which follows at once, and one count of
its line breaks shows that no header hides another. In the other direction, a request's head has bounds here.
"""

from __future__ import annotations

import asyncio
from typing import Any

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from gateway.errors import BadRequest


class Cycle(RequestResponseCycle):
    """One request and its answer. head: encoded and not yet written."""

    head: bytes = b""

    async def send(self, message: Any) -> None:
        if self.flow.write_paused and not self.disconnected:
            if message.get("now"):  # our own word: the last one, and not worth waiting for
                self.disconnected = True
                self.transport.abort()
                return
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.body" and self.response_started and not self.response_complete:
            self._send_body(message.get("body", b""), message.get("more_body", False))
        elif message["type"] == "http.response.start" and not self.response_started:
            self._begin(message["status"], message.get("headers", ()))
        else:
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")

    def _begin(self, status: int, headers: Any) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [b"%b: %b" % h for h in (*self.default_headers, *headers)]
        for name, value in headers:
            if name == b"content-length":
                self.expected_content_length = int(value)
                self.chunked_encoding = False
            elif name == b"connection" and value.lower() == b"close":
                self.keep_alive = False
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in (204, 304):
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked")
        if not self.keep_alive:
            lines.append(b"connection: close")
        head = b"%b%b\r\n\r\n" % (STATUS_LINE[status], b"\r\n".join(lines))
        if head.count(b"\n") != len(lines) + 2 or head.count(b"\r") != len(lines) + 2:
            raise RuntimeError("a line break in a response header")
        self.head = head

    def _send_body(self, body: bytes, more: bool) -> None:
        head, self.head = self.head, b""
        if self.scope["method"] == "HEAD":
            self.expected_content_length = 0
            body = b""
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            body = body if more else body + b"0\r\n\r\n"
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("the response is longer than its content-length")
        self.transport.write(head + body if head else body)
        if not more:
            self._finish()

    def _finish(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("the response is shorter than its content-length")
        self.response_complete = True
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


class Protocol(HttpToolsProtocol):
    """For uvicorn's `http` setting. Bounds a request's head in bytes and time, as uvicorn does not: whoever sends it
    has shown no key yet. What arrives at once is bounded by asyncio's read, and counted only when more must follow."""

    max_head_bytes = 64 * 1024
    head_s = 20.0  # from the connection, or from a head's first bytes, to its end

    _head_bytes: int | None = None  # of a head that is not whole yet; None: no head has begun
    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        super().connection_made(transport)
        self._late = self.loop.call_later(self.head_s, self._refuse, 408, "the request's headers did not come in time")

    def connection_lost(self, exc: Exception | None) -> None:
        self._in_time()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._head_bytes is not None:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._head_bytes is None or self.transport.is_closing():
            return
        if self._head_bytes > self.max_head_bytes:
            self._refuse(431, f"the request's headers are above {self.max_head_bytes >> 10} KB")
        elif self._late is None:
            self._late = self.loop.call_later(self.head_s, self._refuse, 408, "the rest of the headers did not come")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._head_bytes = None
        if self._late is not None:
            self._in_time()
        if type(self.cycle) is RequestResponseCycle:
            self.cycle.__class__ = Cycle  # its task has not begun: uvicorn names its class nowhere one could replace it

    def _in_time(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _refuse(self, status: int, message: str) -> None:
        """Says why, unless an answer is being written, and closes."""
        if self.cycle is None or self.cycle.response_complete:
            body = BadRequest(message).body()
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self.transport.write(STATUS_LINE[status] + head + body)
        self.transport.close()
