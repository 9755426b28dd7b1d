"""One TCP connection: reads requests, and writes the steps of their answers. upstream.py chooses the answers."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from collections.abc import Iterable, Iterator
from typing import Protocol
from urllib.parse import unquote

import httptools

from gateway.fake.answers import CUT, HOLD, Delay
from gateway.fake.wire import NEVER, RESET, Received, Step

WRITE_BYTES = 65_536  # neighbouring steps go out in writes of about this size


class ExchangeHandler(Protocol):
    """A connection's view of the upstream that it belongs to."""

    def connection_opened(self, connection: FakeConnection) -> int:
        """Returns the connection's number, from 1."""
        ...

    def connection_closed(self, connection: FakeConnection, unanswered: Received | None) -> None:
        """unanswered: the request whose answer was not complete; None if there was none."""
        ...

    def next_serial(self) -> int: ...
    def steps_for(self, received: Received) -> Iterable[Step]: ...
    def hold(self, connection: FakeConnection) -> None: ...
    def request_answered(self, received: Received) -> None: ...


class FakeConnection(asyncio.Protocol):
    """Reads requests, and writes one answer after another, step by step."""

    def __init__(self, upstream: ExchangeHandler) -> None:
        self._upstream = upstream
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._serial = 0
        self._waiting: deque[tuple[Received, bool]] = deque()
        self._playing: Received | None = None
        self._keep_alive = True
        self._steps: Iterator[Step] = iter(())
        self._timer: asyncio.TimerHandle | None = None
        self._due = 0.0
        self._full = False
        self._stopped_by_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: asyncio.Transport = transport  # type: ignore[assignment]  # asyncio passes a Transport to a stream protocol
        self._serial = self._upstream.connection_opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._parser = httptools.HttpRequestParser(self)  # an upgrade is answered by HTTP
        except httptools.HttpParserError:
            self._transport.abort()
            return
        if self._playing is None:
            self._answer_next()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._timer is not None:
            self._timer.cancel()
        received, self._playing = self._playing, None
        self._upstream.connection_closed(self, received)

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._stopped_by_full:
            self._stopped_by_full = False
            self.resume()

    def on_message_begin(self) -> None:
        self._url = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        if ("expect", "100-continue") in self._headers:
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        url = httptools.parse_url(self._url)
        received = Received(
            method=self._parser.get_method().decode(),
            path=unquote(url.path.decode("latin-1")),
            query=(url.query or b"").decode("latin-1"),
            headers=self._headers,
            serial=self._upstream.next_serial(),
            connection=self._serial,
            body=b"".join(self._body),
        )
        self._waiting.append((received, self._parser.should_keep_alive()))

    def _answer_next(self) -> None:
        if not self._waiting or self._transport.is_closing():
            return
        self._playing, self._keep_alive = self._waiting.popleft()
        self._steps = self._joined(self._upstream.steps_for(self._playing))
        self.resume()

    @property
    def idle(self) -> bool:
        return self._playing is None

    def close(self) -> None:
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def resume(self) -> None:
        """Resumes a stopped answer; its next pause counts from now."""
        self._due = self._loop.time()
        self._play()

    def _play(self) -> None:
        for step in self._steps:
            if isinstance(step, bytes):
                self._transport.write(step)
                if self._full:
                    self._stopped_by_full = True
                    return
            elif isinstance(step, Delay):
                # Counted from the end of the last pause, not from now: a late event loop does not slow a stream down.
                self._due += step.seconds
                self._timer = self._loop.call_at(self._due, self._play)
                return
            else:
                self._stop(step)
                return
        self._answered()

    def _joined(self, steps: Iterable[Step]) -> Iterator[Step]:
        """The same steps with adjacent bytes joined into one write, which saves system calls."""
        pending: list[bytes] = []
        size = 0
        for step in steps:
            if isinstance(step, bytes):
                pending.append(step)
                size += len(step)
                if size < WRITE_BYTES:
                    continue
            elif isinstance(step, Delay) and self._is_over(step):
                self._due += step.seconds
                continue
            if pending:
                yield b"".join(pending)
                pending, size = [], 0
            if not isinstance(step, bytes):
                yield step
        if pending:
            yield b"".join(pending)

    def _is_over(self, pause: Delay) -> bool:
        """Whether the event loop is already late by more than this pause. A pause of 0 s is never over."""
        return pause.seconds > 0 and self._due + pause.seconds < self._loop.time()

    def _stop(self, step: type[HOLD] | type[CUT] | type[NEVER] | type[RESET]) -> None:
        if step is HOLD:
            self._upstream.hold(self)
        elif step is CUT:
            self._answered(close=True)
        elif step is RESET:
            linger_no_time = struct.pack("ii", 1, 0)
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_no_time)
            self._transport.abort()
            self._answered(close=True)

    def _answered(self, close: bool = False) -> None:
        received, self._playing = self._playing, None
        if close or not self._keep_alive:
            self._transport.close()
        if received is not None:
            self._upstream.request_answered(received)
        self._answer_next()
