"""A client's connection: requests in, one at a time, answers out. uvicorn's `http` setting.

What is not known by then is bounded: a request's head in bytes and time, what waits of a body, how long it may rest.
Requests that come before the answer to the one before wait unread.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Collection, Coroutine
from functools import partial
from typing import Any, Protocol, cast
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.core.errors import BadRequest
from gateway.proxy.http.server.asgi import run_asgi
from gateway.proxy.http.server.request import ServerRequest
from gateway.proxy.http.server.response_writer import STATUS_LINES, ResponseWriter
from gateway.proxy.http.write_batching import WriteBatcher, WriteQueue
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.types import ClientConnection, Headers, HttpRequest

HIGH_WATER = 64 * 1024  # body bytes that nobody has taken; above it the socket is not read
BULK = 128 * 1024  # a body from this length on passes by the parser, which would copy it


class DirectApp(Protocol):
    """An application that answers some requests without ASGI."""

    @property
    def outbox(self) -> WriteBatcher:
        """For the answers of all its connections."""
        ...

    def find(self, method: bytes, path: bytes) -> Endpoint | None: ...
    def answer(
        self, endpoint: Endpoint, request: HttpRequest, client: ClientConnection
    ) -> Coroutine[Any, Any, None]: ...


class HttpProtocol(asyncio.Protocol):
    """One connection. Its application is an ASGI one, and a Direct where it has an attribute `direct` of that kind."""

    max_head_bytes = 64 * 1024
    body_s = 60.0  # between two pieces of a body
    linger_s = 2.0
    fresh_grace_s = 0.1  # in which a new connection may still send a request when the server stops
    head_s = 20.0  # from the connection, or from a head's first bytes, to its end

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self.app = config.loaded_app
        self.paused = False
        self.gone = False
        self._direct: DirectApp | None = getattr(self.app, "direct", None)
        self._app_state = app_state
        self._state = server_state
        self._rest_s = float(config.timeout_keep_alive)
        self._transport: asyncio.Transport
        self._out: WriteQueue
        self._parser = HttpRequestParser(self)
        self._headers: Headers = []
        self._target = b""
        self._coming: ServerRequest | None = None  # whose body is not whole
        self._bulk = 0  # bytes of its body that still pass by the parser
        self._request: ServerRequest | None = None  # being answered
        self._answer: ResponseWriter | None = None
        self._waiting: deque[ServerRequest] = deque()
        self._came = 0  # bytes at once
        self._over = False  # a head was too large
        self._beside = 0  # bytes since the last of a body
        self._head_bytes = 0  # of a head that is not whole; 0: none has begun
        self._since = 0.0  # loop's time at which that head began, or this connection came to rest
        self._timer: asyncio.TimerHandle | None = None
        self._reading = True
        self._fresh = True  # no request has come yet
        self._continue = False  # the client waits for a word before it sends its body
        self._lingers = False  # our half is closed
        self._closing = False  # after the answer that is being made
        self._drained: asyncio.Future[None] | None = None
        self._common_of: list[tuple[bytes, bytes]] | None = None
        self._common = b""

    @property
    def connections(self) -> Collection[object]:
        """All that this process has open."""
        return self._state.connections

    # ── asyncio ──

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._out = WriteQueue(self._direct.outbox if self._direct is not None else WriteBatcher(), self._transport)
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn only asks it to shut down
        self._since = self.loop.time()
        self._timer = self.loop.call_later(self.head_s, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._out.drop()
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        self.resume_writing()
        for request in (self._coming, self._request):
            if request is not None:
                request.leave()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._lingers:
            return
        if self._bulk:
            data = self._pass_by(data)
            if not data:
                return
        if self._head_bytes:
            self._head_bytes += len(data)
        coming = self._coming
        taken = coming.size if coming is not None else 0
        self._came = len(data)
        try:
            self._feed(data)
        except HttpParserError:
            if self._over:
                self._refuse(431, f"the request's headers are above {self.max_head_bytes >> 10} KB")
            else:
                self._refuse(400, "the bytes are no HTTP/1.1 request")
            return
        if coming is not None:
            if coming is self._coming:
                self._keep_coming(len(data), coming.size - taken)
        elif self._head_bytes == 1 and not self._waiting:
            self._head_bytes = len(data)  # all of it is of one head
        self._begin_next()
        if self._head_bytes > self.max_head_bytes and not self._lingers:
            self._refuse(431, f"the request's headers are above {self.max_head_bytes >> 10} KB")

    def _keep_coming(self, came: int, taken: int) -> None:
        """Of a body that is not whole. came: bytes; taken: of them, the body's own."""
        self._since = self.loop.time()
        self._beside = 0 if taken else self._beside + came
        if self._beside > self.max_head_bytes:  # chunk extensions or trailers without end
            self._close()

    def pause_writing(self) -> None:
        self.paused = True

    def resume_writing(self) -> None:
        self.paused = False
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    # ── the parser ──

    def _feed(self, data: bytes) -> None:
        """Raises HttpParserError. A request that would rather speak another protocol (Java's clients offer h2c) is
        answered in this one; the parser has stopped after its head."""
        while data:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                data = self._not_upgraded(data[upgrade.args[0] :])
            else:
                return

    def on_message_begin(self) -> None:
        self._headers = []
        self._target = b""
        self._head_bytes = 1
        self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._coming is None:  # afterwards they are trailers, which nobody may take for headers
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        parser, target = self._parser, self._target
        if self._came > self.max_head_bytes:  # in one piece
            self._over = len(target) + sum(len(n) + len(v) for n, v in self._headers) > self.max_head_bytes
            if self._over:
                raise HttpParserError("too large")
        if target[:1] != b"/":
            target = _origin_form(target)
        path, _, query = target.partition(b"?")
        old = parser.get_http_version() == "1.0"
        keep = parser.should_keep_alive()
        self._coming = request = ServerRequest(
            self, parser.get_method(), path, query, self._headers, keep=keep, old=old
        )
        self._waiting.append(request)
        self._head_bytes = 0
        self._fresh = False

    def on_body(self, body: bytes) -> None:
        request = self._coming
        if request is not None:
            request.add(body)
            if request.held > HIGH_WATER and not request.wanted:
                self._pause()

    def on_message_complete(self) -> None:
        request, self._coming = self._coming, None
        if request is not None:
            request.whole = True

    # ── requests ──

    def _begin_next(self) -> None:
        """After what came has been read: answers the next request, or tells the one under way that more has come."""
        if self._request is not None:
            self._request.wake()
            if self._waiting:
                self._pause()
            return
        if not self._waiting:
            return
        self._request = request = self._waiting.popleft()
        keep = request.keep and not self._closing
        self._answer = answer = ResponseWriter(
            self, keep=keep, bodiless=request.method == b"HEAD", chunks=not request.old
        )
        if request is self._coming:
            self._continue = request.fields.get(b"expect", b"").lower() == b"100-continue"
            length = request.fields.get(b"content-length")
            if length is not None and int(length) > BULK:
                self._bulk = int(length) - request.size
        direct = self._direct
        endpoint = direct.find(request.method, request.path) if direct is not None else None
        if direct is not None and endpoint is not None:
            making = direct.answer(endpoint, request, answer)
        else:
            making = run_asgi(self.app, self._scope(request), request, answer)
        task = self.loop.create_task(making)
        self._state.tasks.add(task)
        task.add_done_callback(partial(self._made, request))

    def _made(self, request: ServerRequest, task: asyncio.Task[None]) -> None:
        self._state.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # said in the log by whoever made the answer
        if self._request is request:  # its answer has not ended: what is unfinished must not look whole
            self._request = self._answer = None
            self._close()

    def answered(self, *, keep: bool) -> None:
        """The next request may come, while whoever made this answer still has something to settle."""
        self._state.total_requests += 1
        if self._request is not None:
            self._request.close()
        self._request = self._answer = None
        if not keep or self._closing:
            self._hang_up(more=self._coming is not None)
            return
        self._since = self.loop.time()
        if self._waiting:
            self.loop.call_soon(self._rest)  # not from within: a hundred that wait would be a hundred calls deep
        else:
            self._resume()

    def _rest(self) -> None:
        if not (self._lingers or self.gone or self._transport.is_closing()):
            self._resume()
            self._begin_next()

    def go_on(self) -> None:
        if self._continue and not self.gone:
            self._continue = False
            self._out.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._resume()

    def shutdown(self) -> None:
        """uvicorn stops: no further request on this connection."""
        self._closing = True
        if self._request is None:
            if self._fresh:
                self.loop.call_later(self.fresh_grace_s, self._close_if_fresh)
            else:
                self._close()
        elif self._answer is not None:
            self._answer.last()

    def _close_if_fresh(self) -> None:
        if self._fresh and not self.gone:
            self._close()

    # ── bodies ──

    def _pass_by(self, data: bytes) -> bytes:
        """A large body, added as it came; gives what follows it. The parser stays within it: a new one goes on."""
        request, rest = self._coming, b""
        if len(data) > self._bulk:
            data, rest = data[: self._bulk], data[self._bulk :]
        self._bulk -= len(data)
        if request is not None:
            request.add(data)
            if not self._bulk:
                request.whole, self._coming = True, None
                self._parser = HttpRequestParser(self)
            elif request.held > HIGH_WATER and not request.wanted:
                self._pause()
            request.wake()
        return rest

    def _not_upgraded(self, rest: bytes) -> bytes:
        """Goes on after the head of the request that came last; gives what follows that request."""
        self._parser = HttpRequestParser(self)
        request = self._waiting[-1]
        length = request.fields.get(b"content-length", b"0")
        if b"transfer-encoding" in request.fields or not length.isdigit():
            raise HttpParserError("an upgrade with a body of unknown length")
        self._bulk = int(length)
        request.whole = not self._bulk
        self._coming = None if request.whole else request
        return self._pass_by(rest) if self._bulk else rest

    def _pause(self) -> None:
        if self._reading and not self.gone:
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._reading and not self.gone:
            self._reading = True
            self._since = self.loop.time()
            self._transport.resume_reading()

    # ── answers ──

    @property
    def common(self) -> bytes:
        headers = self._state.default_headers
        if headers is not self._common_of:  # uvicorn makes a new list when the date changes
            self._common_of = headers
            self._common = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._common

    def put(self, data: bytes, *, last: bool = False) -> None:
        if last:
            self._out.put(data, len(self._state.tasks))
        elif self._out.waiting:  # of the answer before
            self._out.write(data)
        else:
            self._transport.write(data)

    async def drain(self) -> None:
        """Until the client has read, or left."""
        self._drained = self.loop.create_future()
        await self._drained

    def abort(self) -> None:
        self._out.drop()
        self._transport.abort()

    def _close(self) -> None:
        """Once all that was put has been written."""
        self._out.send()
        self._transport.close()

    # ── limits of time ──

    def _look(self) -> None:
        """One timer for a connection's whole life: it looks whether something is late, and else sleeps until then."""
        now, limit_s = self.loop.time(), self._limit_s()
        if limit_s is not None and now - self._since >= limit_s:
            self._timer = None
            if self._head_bytes or self._fresh:
                self._refuse(408, "the request's headers did not come in time")
            else:
                self._close()
            return
        wait_s = self.head_s if limit_s is None else min(self.head_s, self._since + limit_s - now)
        self._timer = self.loop.call_later(wait_s, self._look)

    def _limit_s(self) -> float | None:
        """How long the present state may last; None: as long as an answer takes."""
        if self._request is not None:
            return self.body_s if self._coming is not None and self._reading else None
        if self._head_bytes or self._fresh or self._coming is not None:  # the last: of a body that nobody reads
            return self.head_s
        return self._rest_s

    def _refuse(self, status: int, message: str) -> None:
        """Says why, unless an answer is being written, and closes."""
        if self._request is None:
            body = BadRequest(message).body()
            head = b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body)
            self._out.write(STATUS_LINES[status] + head + body)
            self._hang_up(more=True)
        else:
            self._close()

    def _hang_up(self, *, more: bool) -> None:
        """more: of the request may still come. Closing upon it would reset the connection, and lose what was answered:
        so our half is closed first, and what comes is thrown away for a moment."""
        if not (more and self._transport.can_write_eof()):
            self._close()
            return
        self._lingers = True
        self._out.send()
        self._transport.write_eof()
        self._resume()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self.loop.call_later(self.linger_s, self._transport.abort)

    def _scope(self, request: ServerRequest) -> dict[str, Any]:
        path = request.path.decode("ascii")
        return {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.0" if request.old else "1.1",
            "server": self._transport.get_extra_info("sockname"),
            "client": self._transport.get_extra_info("peername"),
            "scheme": "http",
            "root_path": "",
            "method": request.method.decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": request.path,
            "query_string": request.query,
            "headers": request.headers,
            "state": self._app_state.copy(),
        }


def _origin_form(target: bytes) -> bytes:
    """Path and query of a target in another form (RFC 9112, section 3.2). Raises HttpParserError."""
    parts = parse_url(target)
    return (parts.path or b"/") + (b"?" + parts.query if parts.query else b"")
