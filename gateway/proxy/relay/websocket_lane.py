"""A client's WebSocket on the way to an upstream that has WebSockets too (`upstreams.NAME.websocket`).

To the relay it is one more transport: a request goes out as a message, and its events come back as the bytes of an
event stream. So deadlines, fallbacks and records are those of HTTP. Where the upstream has just answered the turn that
a request continues, on the same connection, it gets only the new items.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from gateway.core.errors import BodyCut, ConnectionLost, MessageTooLarge
from gateway.core.json_values import as_object, parse_object
from gateway.proxy.dialects.responses_events import ENDS, ended_response, kind_of
from gateway.proxy.http.client.transport import Transport, UpgradeRefused, UpstreamReply, UpstreamRequest
from gateway.proxy.http.client.websocket import WebSocketConnector
from gateway.proxy.request.json_members import Change, edited, read_members
from gateway.proxy.routing.target_state import UpstreamState
from gateway.proxy.types import Headers

if TYPE_CHECKING:
    from gateway.proxy.http.client.upstream_websocket import UpstreamWebSocket

log = logging.getLogger("gateway")

_HAS_NONE = frozenset({400, 403, 404, 405, 426, 501})
"""Answers of a server without WebSockets to a handshake: it gets the request by HTTP, which says if it is at fault."""
_ASK_AGAIN_S = 60.0  # after such an answer
_FORGOTTEN = frozenset({"previous_response_not_found", "websocket_connection_limit_reached"})
"""Codes of errors after which the same request with the whole conversation, on a new connection, may succeed."""
_EVENTS: Headers = [(b"content-type", b"text/event-stream")]
_JSON: Headers = [(b"content-type", b"application/json")]


@dataclass(frozen=True, slots=True)
class Continuation:
    """The turn that another one continues."""

    previous: str
    """The id of the turn before it, as the client knows it."""
    new_items: bytes
    """Items of this turn, separated by commas."""


class WebSocketLane:
    """The connections to upstreams of one lane of a client's connection, which has one response in flight."""

    __slots__ = ("_continuation", "_last", "_transports")

    def __init__(self) -> None:
        self._transports: dict[str, LaneTransport] = {}
        self._last: LaneTransport | None = None  # that sent the latest request
        self._continuation: Continuation | None = None

    def begin(self, continuation: Continuation | None) -> None:
        """Begins a request. continuation: None: it begins a conversation, or continues none of this connection."""
        self._continuation, self._last = continuation, None

    @property
    def continues(self) -> str | None:
        """The response that the request continues, as the client knows it; None: none that is kept here."""
        return None if self._continuation is None else self._continuation.previous

    def answered(self, response_id: str) -> None:
        """The client has got a complete response with this id."""
        if self._last is not None:
            self._last.answered(response_id)

    def transport(self, upstream: UpstreamState) -> Transport:
        """The way to an upstream: a WebSocket where it has one, otherwise its own transport."""
        if upstream.websockets is None:
            self._last = None
            return upstream.transport
        known = self._transports.get(upstream.name)
        if known is None or known.upstream is not upstream:
            if known is not None:
                known.close()
            known = self._transports[upstream.name] = LaneTransport(upstream, upstream.websockets)
        known.continuation = self._continuation
        self._last = known
        return known

    def close(self) -> None:
        """The client has left."""
        for transport in self._transports.values():
            transport.close()
        self._transports.clear()


class LaneTransport:
    """A Transport to one upstream, over one WebSocket that stays open between requests."""

    def __init__(self, upstream: UpstreamState, connector: WebSocketConnector) -> None:
        self.upstream = upstream
        self.continuation: Continuation | None = None
        """The continuation that the next request makes."""
        self._connector = connector
        self._socket: UpstreamWebSocket | None = None
        self._upstreams_id = ""  # of the latest response on this connection, as the upstream knows it
        self._clients_id = ""  # the same, as the client knows it

    async def send(self, request: UpstreamRequest, connect_s: float) -> UpstreamReply:
        rests = self._connector.rests_until > asyncio.get_running_loop().time()
        if rests or not request.stream or not isinstance(body := request.join(), bytes):
            return await self.upstream.transport.send(request, connect_s)
        try:
            return await self._exchange(request, body, connect_s)
        except UpgradeRefused as refused:
            if refused.status not in _HAS_NONE:
                return WholeReply(refused.status, refused.headers, refused.body)
            self._connector.rests_until = asyncio.get_running_loop().time() + _ASK_AGAIN_S
            log.warning("upstream %s has no WebSocket (HTTP %d); it is asked by HTTP for %g s", self.upstream.name,
                        refused.status, _ASK_AGAIN_S)  # fmt: skip
            return await self.upstream.transport.send(request, connect_s)

    async def _exchange(self, request: UpstreamRequest, body: bytes, connect_s: float) -> UpstreamReply:
        """The reply to one message. A message that an older connection has lost is sent again on a new one."""
        reused = self._socket is not None and self._socket.open
        reply = await self._ask(request, body, connect_s, reused=reused)
        if reply is None and reused:
            self.close()
            reply = await self._ask(request, body, connect_s, reused=False)
        if reply is None:
            raise ConnectionLost("the WebSocket ended before the first event")
        return reply

    async def _ask(
        self, request: UpstreamRequest, body: bytes, connect_s: float, *, reused: bool
    ) -> UpstreamReply | None:
        """Sends the request; None if another connection may serve it."""
        socket = self._socket
        if socket is None or not socket.open:
            self.close()
            request.connecting = True
            socket = self._socket = await self._connector.open(request.origin, request.path, request.headers, connect_s)
            request.connecting = False
        socket.send(self._message(body))
        try:
            first = await socket.messages()
        except MessageTooLarge:  # another connection would get the same answer, which is paid for again
            self.close()
            raise
        except BodyCut:
            return None
        except BaseException:
            self.close()
            raise
        refused = _refusal(first[0])
        if refused is None:
            return EventReply(socket, first, self._ended)
        return None if reused and refused.code in _FORGOTTEN else refused

    def _message(self, body: bytes) -> bytes:
        changes: dict[str, Change] = {"type": b'"response.create"', "stream": None}
        following = self.continuation
        if following is not None and self._upstreams_id and following.previous == self._clients_id:
            changes["previous_response_id"] = orjson.dumps(self._upstreams_id)
            changes["input"] = b"[" + following.new_items + b"]"
        return edited(body, read_members(body), changes)

    def _ended(self, upstreams_id: str) -> None:
        self._upstreams_id, self._clients_id = upstreams_id, ""

    def answered(self, clients_id: str) -> None:
        self._clients_id = clients_id

    def close(self) -> None:
        socket, self._socket = self._socket, None
        self._upstreams_id = self._clients_id = ""
        if socket is not None:
            socket.abort()

    async def aclose(self) -> None:
        self.close()


class EventReply:
    """An UpstreamReply: the messages of one response as an event stream."""

    def __init__(self, socket: UpstreamWebSocket, first: list[bytes], on_end: Callable[[str], None]) -> None:
        self.status = 200
        self.headers = list(_EVENTS)
        self.sink: Callable[[bytes], bool] | None = None
        self._socket = socket
        self._waiting = first
        self._on_end = on_end
        self._ended = False

    async def chunk(self) -> bytes:
        if self._ended:
            return b""
        messages, self._waiting = self._waiting or await self._socket.messages(), []
        out = []
        for message in messages:
            out.append(_event(message))
            if (kind := kind_of(message)) in ENDS or kind == "error":
                self._end(message)
                break
        return b"".join(out)

    def complete_body(self) -> None:
        return None

    def close(self) -> None:
        if not self._ended:
            self._ended = True
            self._socket.abort()

    def _end(self, message: bytes) -> None:
        self._ended = True
        response = ended_response(message)
        self._on_end("" if response is None else response.id)


class WholeReply:
    """An UpstreamReply whose body is complete: an error that came in place of the first event."""

    def __init__(self, status: int, headers: Headers, body: bytes, code: str = "") -> None:
        self.status = status
        self.headers = headers
        self.code = code
        self.sink: Callable[[bytes], bool] | None = None
        self._body: bytes | None = body

    async def chunk(self) -> bytes:
        body, self._body = self._body, None
        return body or b""

    def complete_body(self) -> bytes | None:
        body, self._body = self._body, None
        return body

    def close(self) -> None:
        pass


def _refusal(message: bytes) -> WholeReply | None:
    """The error that a first message is, as the HTTP answer that it stands for; None if it is an event of a
    response.
    """
    if kind_of(message) != "error":
        return None
    event = parse_object(message) or {}
    error, status = as_object(event.get("error")), event.get("status")
    given = as_object(event.get("headers")) or as_object(error.get("headers"))
    headers = [
        (str(n).lower().encode("latin-1", "replace"), str(v).encode("latin-1", "replace")) for n, v in given.items()
    ]
    body = orjson.dumps({"error": {n: v for n, v in error.items() if n != "headers"} or {"message": "no reason given"}})
    code = error.get("code")
    return WholeReply(
        status if isinstance(status, int) and 400 <= status <= 599 else 500,
        [*_JSON, *(h for h in headers if h[0] not in (b"content-type", b"content-length"))],
        body,
        code if isinstance(code, str) else "",
    )


def _event(message: bytes) -> bytes:
    """A message as an event of a stream. A line break within it would end the event."""
    if b"\n" in message or b"\r" in message:
        message = message.replace(b"\r", b" ").replace(b"\n", b"\ndata: ")
    return b"data: " + message + b"\n\n"
