"""One client connection: requests in, responses out, one at a time. uvicorn's `http` setting.

Everything a client controls is bounded: the number and size of a request's headers and their duration, the buffered
part of a body, idle time, and how long it may leave a response unread. Pipelined requests wait, unparsed, until the
previous response is complete.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast
from urllib.parse import unquote

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser, parse_url
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.core.errors import BadRequest, GatewayError
from gateway.proxy.http.server.asgi import run_asgi
from gateway.proxy.http.server.connection_limits import BodyMemory, ConnectionLimits
from gateway.proxy.http.server.request import ServerRequest
from gateway.proxy.http.server.response_writer import STATUS_LINES, ResponseWriter
from gateway.proxy.http.server.unsent import unacknowledged_bytes
from gateway.proxy.http.server.upgrade import UpgradedTransport, WebSocketLimits, WebSocketSession
from gateway.proxy.http.write_batching import WriteBatcher, WriteQueue
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.types import Headers, HttpRequest

if TYPE_CHECKING:
    from gateway.proxy.http.server.websocket import WebSocketConnection

HIGH_WATER = 64 * 1024  # buffered body bytes; above, the socket is not read
BULK_BYTES = 128 * 1024  # a body of at least this length bypasses the parser, which would copy it
SLICE_BYTES = 4096  # the parser gets larger reads in slices, and nothing beyond the one in which a request ends
MAX_HEADERS = 200  # as of an upstream's response
_CHECKED = frozenset({b"host", b"transfer-encoding"})


class DirectApp(Protocol):
    """An application that answers some requests without ASGI: those for which find() returns an endpoint."""

    @property
    def outbox(self) -> WriteBatcher:
        """The batcher of the responses of all its connections."""
        ...

    def find(self, method: bytes, path: bytes) -> Endpoint | None: ...
    def canonical(self, path: bytes) -> bytes: ...
    def answer(self, endpoint: Endpoint, request: HttpRequest, client: ResponseWriter) -> Coroutine[Any, Any, None]: ...


class WebSocketApp(Protocol):
    """An application that takes WebSockets."""

    def serves(self, path: bytes) -> bool: ...

    def accept(self, request: ServerRequest) -> bytes:
        """The header lines of the answer that opens a WebSocket. Raises GatewayError: its key is unknown, or the
        request is not a handshake."""
        ...

    def session(self, request: ServerRequest, connection: WebSocketConnection) -> WebSocketSession:
        """The session of a connection whose request was accepted."""
        ...

    @property
    def most_bytes(self) -> int:
        """The largest message."""
        ...


class HttpProtocol(asyncio.Protocol):
    """One connection. The application is an ASGI one; its attribute `direct`, if it has one, is a DirectApp, and its
    attribute `websockets` a WebSocketApp."""

    __slots__ = (
        "_address",
        "_answer",
        "_app_state",
        "_bulk",
        "_closing",
        "_common",
        "_common_source",
        "_continue",
        "_counted",
        "_direct",
        "_drained",
        "_early",
        "_explained",
        "_fresh",
        "_has_host",
        "_head_bytes",
        "_head_too_large",
        "_headers",
        "_idle_s",
        "_limits",
        "_lingering",
        "_non_body_bytes",
        "_out",
        "_parser",
        "_reading",
        "_received",
        "_receiving",
        "_refusal",
        "_request",
        "_since",
        "_state",
        "_target",
        "_task",
        "_timer",
        "_transport",
        "_unparsed",
        "_unread",
        "_upgrading",
        "_waiting",
        "app",
        "gone",
        "loop",
        "memory",
        "paused",
        "peer",
    )

    max_head_bytes = 64 * 1024
    body_s = 60.0  # between two pieces of a body
    write_s = 60.0  # in which a client must have read something of what is waiting for it
    linger_s = 2.0  # how long the rest of a refused request is still read
    fresh_grace_s = 0.1  # in which a new connection may still send a request when the server stops
    idle_grace_s = 0.5  # the same for one that has carried requests: one may be on its way, and is not retried
    handshake_s = 10.0  # of TLS
    head_s = 20.0  # from the connection, or the first bytes of a head, to the end of the head
    websocket_limits = WebSocketLimits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        self.loop = _loop or asyncio.get_running_loop()
        self.app = config.loaded_app
        self.peer = ""
        self.paused = False
        self.gone = False
        self._direct: DirectApp | None = getattr(self.app, "direct", None)
        self._limits: ConnectionLimits | None = getattr(self.app, "connections", None)
        self.memory: BodyMemory | None = getattr(self.app, "bodies", None)
        self._address = ""
        self._counted = False
        self._refusal: GatewayError | None = None
        self._explained = False  # the client is told the reason
        self._app_state = app_state
        self._state = server_state
        self._idle_s = float(config.timeout_keep_alive)
        self._transport: asyncio.Transport
        self._out: WriteQueue
        self._parser: Any = HttpRequestParser(self)  # None between unending() and answered()
        self._headers: Headers = []
        self._has_host = False
        self._target = b""
        self._receiving: ServerRequest | None = None  # the request whose body is incomplete
        self._bulk = 0  # bytes of its body that still bypass the parser
        self._request: ServerRequest | None = None  # the one being answered
        self._answer: ResponseWriter | None = None
        self._task: asyncio.Task[None] | None = None  # the latest that answers
        self._waiting: list[ServerRequest] = []  # rarely more than one, and an empty deque takes ten times the memory
        self._unparsed = b""  # what arrived behind the request that is being answered
        self._unread = (0, 0.0)  # bytes that the client has not taken, and since when their number is the same
        self._received = 0  # bytes of the current read
        self._head_too_large = False
        self._non_body_bytes = 0  # bytes since the last body byte
        self._head_bytes = 0  # of an incomplete head; 0 if none has started
        self._since = 0.0  # loop time at which that head, or the idle time, started
        self._timer: asyncio.TimerHandle | None = None
        self._reading = True
        self._fresh = True  # no request has arrived yet
        self._continue = False  # the client waits for 100 Continue
        self._lingering = False  # our direction is closed
        self._upgrading = False  # the next request asks for a WebSocket
        self._early = b""  # what arrived behind that request
        self._closing = False  # after the current response
        self._drained: asyncio.Future[None] | None = None
        self._common_source: list[tuple[bytes, bytes]] | None = None
        self._common = b""

    @property
    def connections(self) -> Collection[object]:
        return self._state.connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self.peer = peer[0] if isinstance(peer, tuple) else ""
        self._out = WriteQueue(self._direct.outbox if self._direct is not None else WriteBatcher(), self._transport)
        self._state.connections.add(self)  # type: ignore[arg-type]  # uvicorn only asks it to shut down
        self._since = self.loop.time()
        if not self._counted:
            self.admit(transport)
        if self._refusal is None:
            self._timer = self.loop.call_later(self._check_s, self._check_timeouts)
        elif self._explained:
            self._send_error(self._refusal)
        else:
            self._transport.abort()

    def admit(self, transport: asyncio.BaseTransport) -> bool:
        """Counts the connection, once; False if it is refused, and no files are left to tell its client why. Until
        connection_made() has been called, not_made() must follow if it ends."""
        self._counted = True
        if self._limits is None:
            return True
        peer, sock = transport.get_extra_info("peername"), transport.get_extra_info("socket")
        self._address = peer[0] if isinstance(peer, tuple) else ""
        descriptor = -1 if sock is None else sock.fileno()
        self._refusal = self._limits.admit(self._address, descriptor)
        self._explained = self._refusal is not None and self._limits.can_explain(descriptor)
        return self._refusal is None or self._explained

    def not_made(self) -> None:
        """A connection that admit() has counted has ended."""
        if self._limits is not None:
            self._limits.closed(self._address, admitted=self._refusal is None)

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone = True
        self._out.drop()
        self._state.connections.discard(self)
        self.not_made()
        if self._timer is not None:
            self._timer.cancel()
        self._unparsed = b""
        self.resume_writing()
        for request in (self._receiving, self._request):
            if request is not None:
                request.leave()
                request.release()
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._lingering:
            return
        if self._bulk:
            data = self._bypass_parser(data)
            if not data:
                return
        size = len(data)
        if self._unparsed or (self._request is not None and self._receiving is None):
            self._hold_back(data)
        elif size > SLICE_BYTES:
            self._parse_in_slices(data)
        elif self._parse(data, size):
            self._begin_next()

    def _parse_in_slices(self, data: bytes) -> None:
        """Parses up to the end of the slice in which a request ends; the rest waits until that one is answered."""
        view, at = memoryview(data), 0
        while at < len(data):
            piece = view[at : at + (SLICE_BYTES if self._receiving is None else self._receiving.lacks or SLICE_BYTES)]
            if not self._parse(piece, len(piece)):
                return
            at += len(piece)
            if self._waiting and self._receiving is None:
                self._hold_back(data[at:])
                break
        self._begin_next()

    def _hold_back(self, data: bytes) -> None:
        """Keeps the bytes after a request until it is answered. A little of it does not stop the reading, as only a
        connection that is read tells that its client has left."""
        self._unparsed += data
        if len(self._unparsed) > SLICE_BYTES:
            self._pause()

    def _parse(self, data: bytes | memoryview, size: int) -> bool:
        """Gives bytes to the parser. Returns False if they are refused.

        A request that offers an upgrade (Java's clients offer h2c) is answered in HTTP/1.1; the parser stops after its
        head.
        """
        if self._head_bytes:
            self._head_bytes += size
        receiving = self._receiving
        size_before = receiving.size if receiving is not None else 0
        self._received = size
        try:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as upgrade:
                self._continue_behind(bytes(data), upgrade)
        except HttpParserError:
            if self._head_too_large:
                self._refuse_head()
            else:
                self._refuse(400, "the bytes are not an HTTP/1.1 request")
            return False
        if receiving is not None:
            if receiving is self._receiving:
                self._received_body(size, receiving.size - size_before)
        elif self._head_bytes == 1 and not self._waiting:
            self._head_bytes = size  # all of it belongs to one head
        if (self._head_bytes > self.max_head_bytes or self._headers[MAX_HEADERS:]) and not self._lingering:
            self._refuse_head()
            return False
        return True

    def _continue_behind(self, data: bytes, upgrade: HttpParserUpgrade) -> None:
        """Parses the bytes after the head of a request that offered an upgrade. Raises HttpParserError."""
        data = self._behind_upgrade(data[upgrade.args[0] :])
        while data:
            try:
                self._parser.feed_data(data)
            except HttpParserUpgrade as another:
                data = self._behind_upgrade(data[another.args[0] :])
            else:
                return

    def _refuse_head(self) -> None:
        if self._headers[MAX_HEADERS:]:
            self._refuse(431, f"the request has more than {MAX_HEADERS} headers")
        else:
            self._refuse(431, f"the request's headers are above {self.max_head_bytes >> 10} KB")

    def _received_body(self, received: int, body_bytes: int) -> None:
        """Bytes of an incomplete body have arrived: `received` in all, `body_bytes` of them the body itself."""
        if self._request is not None:  # once it is answered, the rest has `head_s` altogether
            self._since = self.loop.time()
        self._non_body_bytes = 0 if body_bytes else self._non_body_bytes + received
        if self._non_body_bytes > self.max_head_bytes:  # endless chunk extensions or trailers
            self._close()

    def pause_writing(self) -> None:
        self.paused = True
        if self._answer is not None:
            self._answer.writable = False

    def resume_writing(self) -> None:
        self.paused = False
        if self._answer is not None:
            self._answer.writable = not self.gone
        drained, self._drained = self._drained, None
        if drained is not None and not drained.done():
            drained.set_result(None)

    def on_message_begin(self) -> None:
        self._headers = []
        self._has_host = False
        self._target = b""
        self._head_bytes = 1
        self._since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._receiving is None:  # otherwise they are trailers, which must not be taken for headers
            name = name.lower()
            if name in _CHECKED:
                if name == b"transfer-encoding":
                    if value.lower() != b"chunked":
                        raise HttpParserError("a transfer coding that is not known here (RFC 9112, section 6.1)")
                elif self._has_host:
                    raise HttpParserError("more than one Host (RFC 9112, section 3.2)")
                else:
                    self._has_host = True
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser, target = self._parser, self._target
        if self._received > self.max_head_bytes:  # the head arrived in one piece
            self._head_too_large = len(target) + sum(len(n) + len(v) for n, v in self._headers) > self.max_head_bytes
            if self._head_too_large:
                raise HttpParserError("too large")
        if target[:1] != b"/":
            target, self._headers = _origin_form(target, self._headers)
        if b"#" in target:
            raise HttpParserError("a fragment in the target (RFC 9112, section 3.2)")
        path, _, query = target.partition(b"?")
        version = parser.get_http_version()
        http10 = version == "1.0"
        if version != "1.1":
            _check_version(version, self._headers)
        keep_alive = parser.should_keep_alive()
        self._receiving = request = ServerRequest(
            self, parser.get_method(), path, query, self._headers, keep_alive=keep_alive, http10=http10
        )
        self._waiting.append(request)
        self._head_bytes = 0
        self._fresh = False

    def on_body(self, body: bytes) -> None:
        request = self._receiving
        if request is not None:
            request.add(body)
            if request.held > HIGH_WATER and not request.wanted:
                self._pause()

    def on_message_complete(self) -> None:
        request, self._receiving = self._receiving, None
        if request is not None:
            request.complete = True

    def _begin_next(self) -> None:
        """Called after a read: answers the next request, or wakes the one being answered."""
        if self._request is not None:
            self._request.wake()
            if self._waiting:
                self._pause()
            return
        if not self._waiting:
            return
        self._request = request = self._waiting.pop(0)
        if self._upgrading:
            self._upgrade(request)
            return
        keep = request.keep_alive and not self._closing
        self._answer = answer = ResponseWriter(
            self, keep=keep, bodiless=request.method == b"HEAD", chunks=not request.http10
        )
        if request is self._receiving:
            self._continue = request.fields.get(b"expect", b"").lower() == b"100-continue"
            length = request.fields.get(b"content-length")
            if length is not None and int(length) > BULK_BYTES:
                self._bulk = int(length) - request.size
        direct = self._direct
        endpoint = None
        if direct is not None:
            endpoint = direct.find(request.method, request.path)
            if endpoint is None:
                request.path = direct.canonical(request.path)
                endpoint = direct.find(request.method, request.path)
        if direct is not None and endpoint is not None:
            making = direct.answer(endpoint, request, answer)
        else:
            making = run_asgi(self.app, self._scope(request), request, answer)
        request.task = self._task = task = self.loop.create_task(making)
        self._state.tasks.add(task)
        task.add_done_callback(self._answer_done)

    def _answer_done(self, task: asyncio.Task[None]) -> None:
        self._state.tasks.discard(task)
        if not task.cancelled():
            task.exception()  # marks it as retrieved; the application has logged it
        if self._task is not task:  # the next request is being answered
            return
        self._task = None
        if self._request is not None:  # its response is incomplete, and must not look complete
            self._request.release()
            self._request = self._answer = None
            self._close()

    def answered(self, *, keep: bool) -> None:
        """The response is complete: the next request may start while this one is still being settled."""
        self._state.total_requests += 1
        if self._parser is None:
            self._parser = HttpRequestParser(self)
        if self._request is not None:
            self._request.close()
        self._request = self._answer = None
        if not keep or self._closing:
            self._close_after_rest(more=self._receiving is not None)
            return
        self._since = self.loop.time()
        if self._waiting or self._unparsed:
            self.loop.call_soon(
                self._continue_with_next
            )  # not a direct call: a hundred pipelined requests would recurse
        elif not self._reading:
            self._resume()

    def _continue_with_next(self) -> None:
        if self._lingering or self.gone or self._transport.is_closing():
            return
        if self._waiting:
            self._begin_next()
        else:
            data, self._unparsed = self._unparsed, b""
            self._resume()
            self.data_received(data)

    def unending(self) -> None:
        """Frees the parser, which takes 1 KB: the response has begun and may be long, and no request is parsed until
        its end."""
        if self._receiving is None:
            self._parser = None

    def read_more(self) -> None:
        if self._continue and not self.gone:
            self._continue = False
            self._out.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self._resume()

    def shutdown(self) -> None:
        """Called by uvicorn when it stops: the next response, if one is still asked for, is this connection's last."""
        self._closing = True
        if self._request is None:
            self.loop.call_later(self.fresh_grace_s if self._fresh else self.idle_grace_s, self._close_if_unused)
        elif self._answer is not None:
            self._answer.close_after()

    def _close_if_unused(self) -> None:
        if self._request is None and not (self.gone or self._lingering):
            self._close()

    def _bypass_parser(self, data: bytes) -> bytes:
        """Adds a piece of a large body to its request. Returns the bytes after the body, which a new parser reads."""
        request, rest = self._receiving, b""
        if self._request is not None:
            self._since = self.loop.time()
        if len(data) > self._bulk:
            data, rest = data[: self._bulk], data[self._bulk :]
        self._bulk -= len(data)
        if request is not None:
            request.add(data)
            if not self._bulk:
                request.complete, self._receiving = True, None
                self._parser = HttpRequestParser(self)
            elif request.held > HIGH_WATER and not request.wanted:
                self._pause()
            request.wake()
        return rest

    def _websockets_for(self, request: ServerRequest) -> WebSocketApp | None:
        """The application, if it answers this request with a WebSocket: only as the first and last of a connection's
        requests that are known now, and without a body."""
        app: WebSocketApp | None = getattr(self.app, "websockets", None)
        fields = request.fields
        if app is None or self._request is not None or self._waiting[1:] or request.method != b"GET":
            return None
        if b"transfer-encoding" in fields or fields.get(b"content-length", b"0") != b"0":
            return None
        return app if fields.get(b"upgrade", b"").lower() == b"websocket" and app.serves(request.path) else None

    def _upgrade(self, request: ServerRequest) -> None:
        """Makes the connection a WebSocket, or refuses to."""
        from gateway.proxy.http.server.websocket import WebSocketConnection

        app: WebSocketApp = self.app.websockets
        try:
            lines = app.accept(request)
        except GatewayError as error:
            self._send_error(error)
            return
        self._resume()
        self._state.total_requests += 1
        self._state.connections.discard(self)
        if self._timer is not None:
            self._timer.cancel()
        limits, address = self._limits, self._address
        closed = _nothing if limits is None else partial(limits.closed, address, admitted=True)
        kept = UpgradedTransport(self._transport, self.loop, self._state, self.memory, closed)
        self._out.write(STATUS_LINES[101] + self.common + lines + b"\r\n")
        connection = WebSocketConnection(kept, app.most_bytes, self.websocket_limits)
        connection.begin(app.session(request, connection), self._early + self._unparsed)
        if self._closing:  # a refusal would reach the client, for whom a proxy keeps this connection
            connection.shutdown()

    def _behind_upgrade(self, rest: bytes) -> bytes:
        """Continues after the head of the last request, and returns the bytes after that request; nothing follows one
        that becomes a WebSocket."""
        self._parser = HttpRequestParser(self)
        request = self._waiting[-1]
        if self._websockets_for(request) is not None:
            self._upgrading, self._early = True, rest
            request.complete, self._receiving = True, None
            return b""
        length = request.fields.get(b"content-length", b"0")
        if b"transfer-encoding" in request.fields or not length.isdigit():
            raise HttpParserError("an upgrade with a body of unknown length")
        self._bulk = int(length)
        request.complete = not self._bulk
        self._receiving = None if request.complete else request
        return self._bypass_parser(rest) if self._bulk else rest

    def _pause(self) -> None:
        if self._reading and not self.gone:
            self._reading = False
            self._transport.pause_reading()

    def _resume(self) -> None:
        if not self._reading and not self.gone:
            self._reading = True
            self._since = self.loop.time()
            self._transport.resume_reading()

    @property
    def common(self) -> bytes:
        headers = self._state.default_headers
        if headers is not self._common_source:  # uvicorn builds a new list when the date changes
            self._common_source = headers
            self._common = b"".join(b"%b: %b\r\n" % header for header in headers)
        return self._common

    def put(self, data: bytes, *, last: bool = False) -> None:
        if last:
            self._out.put(data, len(self._state.tasks))
        elif self._out.waiting:  # the end of the previous response
            self._out.write(data)
        else:
            self._transport.write(data)

    async def drain(self) -> None:
        """Waits until the client has read, or left."""
        self._drained = self.loop.create_future()
        await self._drained

    def abort(self) -> None:
        self._out.drop()
        self._transport.abort()

    def _close(self) -> None:
        """Closes the connection after the buffered bytes have been written."""
        self._out.send()
        self._transport.close()

    def _check_timeouts(self) -> None:
        """One timer for the life of the connection: checks the current limit, and sleeps until it can have passed."""
        now, limit_s = self.loop.time(), self._current_limit_s()
        if self._stuck(now):
            self.abort()
            return
        if limit_s is not None and now - self._since >= limit_s:
            if self._lingering:
                return
            if self._head_bytes or self._fresh:
                self._refuse(408, "the request's headers did not arrive in time")
            else:
                self._close()
            limit_s = None
        if not self._lingering:
            wait_s = self._check_s if limit_s is None else min(self._check_s, self._since + limit_s - now)
            self._timer = self.loop.call_later(wait_s, self._check_timeouts)

    @property
    def _check_s(self) -> float:
        return min(self.head_s, self.write_s)

    def _stuck(self, now: float) -> bool:
        """Whether the client has read nothing that was sent to it for `write_s`."""
        unread = self._transport.get_write_buffer_size()
        if unread:
            unread += unacknowledged_bytes(self._transport)
        size, since = self._unread
        if unread == 0 or unread != size:
            self._unread = (unread, now)
            return False
        return now - since >= self.write_s

    def _current_limit_s(self) -> float | None:
        """Seconds that the present state may last; None: unlimited, a response is being made."""
        if self._request is not None:
            return self.body_s if self._receiving is not None and self._reading else None
        if (
            self._head_bytes or self._fresh or self._receiving is not None
        ):  # the last: the unread rest of an answered request
            return self.head_s
        return self._idle_s

    def _refuse(self, status: int, message: str) -> None:
        """Sends an error, unless a response is being written, and closes."""
        if self._request is None:
            error = BadRequest(message)
            error.status = status
            self._send_error(error)
        else:
            self._close()

    def _send_error(self, error: GatewayError) -> None:
        body = error.body()
        lines = [b"%b: %b\r\n" % header for header in error.headers()]
        lines.append(b"content-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(body))
        self._out.write(STATUS_LINES[error.status] + b"".join(lines) + body)
        self._close_after_rest(more=True)

    def _close_after_rest(self, *, more: bool) -> None:
        """Closes the connection. more: bytes of the request may still arrive.

        Closing then would reset the connection and lose the response, so only our direction is closed first, and
        what arrives is discarded for `linger_s`.
        """
        if not (more and self._transport.can_write_eof()):
            self._close()
            return
        self._lingering = True
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
            "http_version": "1.0" if request.http10 else "1.1",
            "server": self._transport.get_extra_info("sockname"),
            "client": self._transport.get_extra_info("peername"),
            "scheme": "http" if self._transport.get_extra_info("sslcontext") is None else "https",
            "root_path": "",
            "method": request.method.decode("ascii"),
            "path": unquote(path) if "%" in path else path,
            "raw_path": request.path,
            "query_string": request.query,
            "headers": request.headers,
            "state": self._app_state.copy(),
        }


def _nothing() -> None:
    pass


def _origin_form(target: bytes, headers: Headers) -> tuple[bytes, Headers]:
    """Path and query of a target in another form, and the headers with the host that it names, which goes before the
    header's (RFC 9112, section 3.2.2). Raises HttpParserError."""
    parts = parse_url(target)
    if parts.userinfo:
        raise HttpParserError("a user in the target (RFC 9110, section 4.2.4)")
    if parts.host is not None:
        port = b"" if parts.port is None else b":%d" % parts.port
        host = b"[%b]" % parts.host if b":" in parts.host else parts.host
        headers = [*((n, v) for n, v in headers if n != b"host"), (b"host", host + port)]
    return (parts.path or b"/") + (b"?" + parts.query if parts.query else b""), headers


def _check_version(version: str, headers: Headers) -> None:
    """Raises HttpParserError for a request that is neither HTTP/1.1 nor a whole HTTP/1.0: an older proxy in front does
    not know chunked bodies, and would see another end of this request (RFC 9112, section 6.1)."""
    if version != "1.0" or any(name == b"transfer-encoding" for name, _ in headers):
        raise HttpParserError("not HTTP/1.1")
