"""The seam between relay and vendors: a dialect builds requests and reads replies, and does no I/O.

One dialect object is built for each upstream when the config is read; everything that can be known then (origin,
path prefix, credentials, fixed headers) is computed then. Its methods are pure.
"""

from __future__ import annotations

from collections.abc import AsyncIterable
from typing import NamedTuple, Protocol

from gateway.core.errors import GatewayError
from gateway.core.exchange import Usage
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.types import Headers


class Cut(Exception):
    """A stream ended without saying that it was complete."""


class PlainReply(NamedTuple):
    """A whole plain answer: the client's body, and the tokens that it states."""

    body: bytes
    usage: Usage | None


class Reader(Protocol):
    """Reads one streamed reply as it arrives.

    feed: upstream bytes → whole events for this client; a bounded tail is held; raises Cut for an event beyond all
    bounds. After `complete`, and after an error event, it gives nothing more. passes: these bytes may go to the client
    as they are, for they are whole events in which nothing must be read, and count as fed; False: they must be fed.
    end: what the client is still owed when the upstream has ended (a supplied `[DONE]`, or b""); raises Cut when no
    finish was seen; owes nothing when called again.
    """

    first_content: bool  # some content has come: text, reasoning, refusal, tool call, or audio
    finished: bool  # the model said it was done (finish_reason, [DONE], message_stop, response.completed)
    complete: bool  # nothing more will come ([DONE] and its like): the relay need not wait for the connection's end
    error: str | None  # the message of an error event; None when there was none. feed gives that event on: before
    # anything was sent, the relay drops those bytes and asks elsewhere
    usage: Usage | None

    @property
    def text(self) -> str:
        """What was said so far; kept only when the reader was made with keep_text, and read out when asked for."""

    @property
    def continuable(self) -> bool:
        """Nothing but text of one choice has been said so far (known only with keep_text)."""

    def feed(self, data: bytes) -> bytes: ...
    def passes(self, data: bytes) -> bool: ...
    def end(self) -> bytes: ...


class Dialect(Protocol):
    """One vendor's way of saying it, for one upstream.

    request: raises BadRequest (naming the field as param) for what the vendor cannot express, NotImplementedHere for
    what nobody could express to it. answer: a whole plain 200 body → what its client gets; raises ValueError for what
    is no answer. error: an upstream's error body → the client's. broken: the bytes that end a stream which cannot go
    on, in the client's own form. raw: a request that is carried as it is, with this upstream's base path and
    credentials.
    """

    origin: str

    def request(self, call: Call, model: str) -> UpstreamRequest: ...
    def reader(self, call: Call, keep_text: bool) -> Reader: ...
    def answer(self, call: Call, body: bytes) -> PlainReply: ...
    def error(self, call: Call, status: int, body: bytes) -> bytes: ...
    def broken(self, call: Call, error: GatewayError) -> bytes: ...
    def raw(
        self, method: bytes, path: bytes, headers: Headers, body: bytes | AsyncIterable[bytes]
    ) -> UpstreamRequest: ...
