"""Forwards other paths (files, batches, fine-tuning, …) to the upstream of the client's API, unchanged and unrecorded.

One attempt, no fallback: such calls change the state of that upstream.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson

from gateway.core.errors import (
    NotAllowed,
    NotImplementedHere,
    Overloaded,
    QueueFull,
    TransportError,
    UpstreamFailed,
    UpstreamTimedOut,
    WrongMethod,
)
from gateway.core.exchange import new_id
from gateway.core.json_values import as_object
from gateway.core.traffic_class import RANKS
from gateway.proxy.app import ALLOWED, ROUTES, Gateway, unknown_path
from gateway.proxy.http.auth.secret_mask import MaskedStream
from gateway.proxy.http.client.transport import UpstreamReply, UpstreamRequest
from gateway.proxy.http.server.asgi import DisconnectWatcher
from gateway.proxy.http.server.drain import absorb_cancellation, stopping
from gateway.proxy.relay.state import CallContext, HeldBytes
from gateway.proxy.request.auth import PAGE, caller_of
from gateway.proxy.request.call import Caller
from gateway.proxy.request.header_rules import for_passthrough, from_passthrough, without_provider
from gateway.proxy.request.paths import path_allowed, resolved, segments
from gateway.proxy.request.vendor_paths import (
    api_of,
    asks_model,
    below_base,
    check_key_in_query,
    is_vertex,
    names_routed_model,
)
from gateway.proxy.routing.fair_queue import Flow
from gateway.proxy.routing.response_ids import Replacer
from gateway.proxy.routing.state_owners import StateOwners
from gateway.proxy.routing.target_state import UpstreamState
from gateway.proxy.types import ClientGone, Headers, Receive, Send

log = logging.getLogger(__name__)

METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
_PREFLIGHT = b"access-control-request-method"
CONTEXT = "gateway.context"
"""The key in the scope of a PassthroughCall that holds its CallContext."""
_CONNECT_S = 5.0
_INERT: Headers = [(b"x-content-type-options", b"nosniff"), (b"content-security-policy", b"sandbox")]
"""An upstream's page runs no script on the gateway's own origin."""
_LAST_STATUS = 599  # the highest valid one (RFC 9110, section 15); uvicorn cannot send a higher one


async def forward_or_refuse(gateway: Gateway, scope: Any, receive: Receive, send: Send) -> None:
    """Forwards other paths below /v1/ unchanged to the configured upstream, for keys that allow it."""
    path = scope["path"]
    raw: bytes = scope.get("raw_path") or path.encode()
    refuse_upgrade_and_preflight(scope)
    if is_own(raw, scope["method"]):
        raise unknown_path(path, scope["method"])
    leads_out = not {b".", b".."}.isdisjoint(segments(raw))  # of the upstream's base path, with its credential
    api = api_of(path, scope["headers"])
    upstream = gateway.config.passthrough_of(api)
    if upstream is None or leads_out or is_reserved(raw):
        raise unknown_path(path, scope["method"], api)
    if api == "gemini":
        check_key_in_query(scope["query_string"])
    caller = caller_of(gateway.keys, scope)
    scope[CONTEXT].key = caller.name
    if "passthrough" not in caller.allow:
        raise NotAllowed("this key may not use passthrough paths: its keys[].allow does not name `passthrough`")
    _check_paths(caller, scope["method"], raw)
    scope = without_secrets(gateway, scope)
    if gateway.guards is not None:
        gateway.guards.check_forwarded(caller, raw)
    await gateway.affinity.owners.check_path(caller, raw, files=gateway.config.files_have_owners)
    scope[PAGE].upstream = upstream
    costs = scope["method"] in ("POST", "PUT", "PATCH")
    priced = f"{upstream}{path}" if caller.sees_upstreams else path
    async with counted(gateway, caller, upstream, priced if costs else None):
        silence_s = gateway.config.limits.passthrough_s
        made = MadeState(gateway.affinity.owners, caller) if makes_state(scope["method"], raw) else None
        await forward(gateway.upstreams[upstream], scope, receive, send, silence_s, caller, made=made)


def without_secrets(gateway: Gateway, scope: dict[str, Any]) -> dict[str, Any]:
    """The request without the parameters of its query that are keys of this gateway."""
    query = scope["query_string"]
    return {**scope, "query_string": gateway.keys.without_secrets(query)} if query else scope


def _check_paths(caller: Caller, method: str, raw: bytes) -> None:
    """Raises NotAllowed for a path that the key does not name. Both spellings must fit: the one received, and the one
    that a server may read it as."""
    if caller.paths is None:
        if caller.models is not None and asks_model(method, resolved(raw).lower()):
            path = raw[:200].decode("latin-1")
            raise NotAllowed(
                f"this key may not use {method} {path}: it asks a model, and the models of this key are limited; "
                "keys[].paths may name the path",
                retry=False,
            )
        return
    spellings = (raw.decode("latin-1"), resolved(raw).decode("latin-1"))
    if not all(path_allowed(caller.paths, method, path) for path in spellings):
        named = ", ".join(caller.paths) or "none"
        text = f"this key may not use {method} {spellings[0][:200]}: its keys[].paths are {named}"
        raise NotAllowed(text, retry=False)


@asynccontextmanager
async def counted(gateway: Gateway, caller: Caller, upstream: str, priced: str | None) -> AsyncIterator[None]:
    """Counts a forwarded call for its caller's limits and usage while it is in flight.

    upstream: "" where it is not counted as one's. priced: the path whose price is charged; None if the call is free."""
    async with AsyncExitStack() as stack:
        if caller.limit is not None:
            stack.enter_context(caller.limit)
        on_engine = upstream in gateway.settler.prices.engines
        await stack.enter_async_context(gateway.limiter.passing(caller, priced, on_engine=on_engine))
        stack.enter_context(gateway.settler.books.passing(caller, upstream, costs=priced is not None))
        yield


_STORED_CHATS = (b"/v1/chat/completions", "GET")  # OpenAI's list of stored chats


def is_own(raw: bytes, method: str) -> bool:
    """Whether a path is one of the gateway's own, which it serves with other methods: no upstream is asked for it."""
    return raw in ALLOWED and (raw, method) != _STORED_CHATS


def refuse_upgrade_and_preflight(scope: Any) -> None:
    """Raises NotImplementedHere for a WebSocket, and WrongMethod for a browser's question before a request."""
    if (b"upgrade", b"websocket") in ((name, value.lower()) for name, value in scope["headers"]):
        raise _no_websocket(scope["path"])
    if scope["method"] == "OPTIONS" and any(n == _PREFLIGHT for n, _ in scope["headers"]):
        asked = WrongMethod("a browser asks whether it may send a request; name its origin under `cors`", retry=False)
        methods = ", ".join(method for method in METHODS if method != "OPTIONS")
        asked.more_headers.append((b"allow", methods.encode()))
        raise asked


def is_reserved(raw: bytes) -> bool:
    """Whether a server could read this path as one that is never forwarded: `keys[].models` limits the endpoints."""
    meant = resolved(raw).lower()
    if meant == b"/v1/realtime" or meant.startswith((b"/v1/v1/", b"/model/")):
        return True
    return (meant in ROUTES and meant != raw) or names_routed_model(meant) or is_vertex(meant)


def _no_websocket(path: str) -> NotImplementedHere:
    if path.startswith("/v1/realtime"):
        return NotImplementedHere("realtime sessions (WebSocket) are not relayed", retry=False)
    if path == "/v1/responses":
        return NotImplementedHere(
            "a WebSocket to /v1/responses is opened by GET with `Connection: Upgrade`, without a body and without a "
            "request before it on its connection that has no answer yet",
            retry=False,
        )
    return NotImplementedHere(f"{path[:200]} is not served by WebSocket; send it by HTTP", retry=False)


async def forward(
    upstream: UpstreamState,
    scope: dict[str, Any],
    receive: Receive,
    send: Send,
    silence_s: float,
    caller: Caller,
    replacer: Replacer | None = None,
    made: MadeState | None = None,
) -> None:
    """Forwards a request and its response, both as they arrive, within the upstream's `concurrency`.

    caller: the one in whose turn it is served if it has to wait. silence_s: longest time without a byte from the
    upstream once it has the request. replacer: changes texts of the response. made: reads a successful one as it
    passes. Raises UpstreamFailed, UpstreamTimedOut and QueueFull before the response's head.
    """
    try:
        flow = Flow(caller.name, caller.team or "", RANKS[caller.traffic_class])
        admission = await upstream.limiter.acquire(flow)
    except Overloaded as error:
        raise QueueFull(error.message, retry_after_s=1) from None
    try:
        reply = await _open_reply(upstream, scope, receive, silence_s, _shown(upstream, caller))
        head = _head(upstream, reply.headers, caller)
        changes: list[Replacer | MaskedStream | MadeState] = [] if replacer is None else [replacer]
        if reply.status >= 400 and upstream.mask.longest:
            changes.append(MaskedStream(upstream.mask))
        if not changes:  # the length stays
            head += [(n, v) for n, v in reply.headers if n == b"content-length"]
        if made is not None and 200 <= reply.status < 300:
            changes.append(made)
        await _send_on(upstream, reply, head, send, silence_s, changes)
    finally:
        upstream.limiter.release(admission, 0)


def _shown(upstream: UpstreamState, caller: Caller) -> str:
    """The name of the upstream in error messages."""
    return upstream.name if caller.sees_upstreams else "the upstream"


def _head(upstream: UpstreamState, headers: Headers, caller: Caller) -> Headers:
    head = from_passthrough(headers, upstream.config.url)
    if not caller.sees_upstreams:
        return [*without_provider(head), (b"x-request-id", new_id().encode()), *_INERT]
    return [*head, (b"x-request-id", new_id().encode()), (b"x-gateway-upstream", upstream.name.encode()), *_INERT]


async def _open_reply(
    upstream: UpstreamState, scope: dict[str, Any], receive: Receive, silence_s: float, shown: str
) -> UpstreamReply:
    """Sends the request and returns the reply once its head has arrived. Raises UpstreamFailed and UpstreamTimedOut.

    shown: the upstream's name in error messages."""
    path: bytes = below_base(scope.get("raw_path") or scope["path"].encode())
    if scope["query_string"]:
        path += b"?" + scope["query_string"]
    try:
        async with asyncio.timeout(silence_s) as deadline:
            body = _body(receive, deadline, silence_s) if _has_body(scope) else b""
            headers = for_passthrough(scope["headers"], upstream.config.pass_headers)
            request = UpstreamRequest(scope["method"].encode(), "", path, headers, body, _length(scope))
            reply = await upstream.transport.send(upstream.dialect.raw(request), _CONNECT_S)
    except TimeoutError as error:
        raise UpstreamTimedOut(f"{shown} did not answer within {silence_s:g} s", retry=False) from error
    except TransportError as error:
        raise UpstreamFailed(f"{shown} could not be reached ({type(error).__name__})") from error
    if reply.status > _LAST_STATUS:
        reply.close()
        raise UpstreamFailed(f"{shown} answered with HTTP status {reply.status}; valid ones are 100 to 599")
    return reply


async def _send_on(
    upstream: UpstreamState,
    reply: UpstreamReply,
    head: Headers,
    send: Send,
    silence_s: float,
    changes: Sequence[Replacer | MaskedStream | MadeState],
) -> None:
    """Sends the reply to the client, changed by each of `changes` in turn. If it breaks off, the client's connection
    closes before the response's end."""
    try:
        await send({"type": "http.response.start", "status": reply.status, "headers": head})
        while data := await _chunk(reply, silence_s):
            for change in changes:
                data = change.feed(data)
            if data:
                await send({"type": "http.response.body", "body": data, "more_body": True})
        last = b""
        for change in changes:
            last = change.feed(last) + change.end()
        await send({"type": "http.response.body", "body": last, "more_body": False})
    except TransportError as error:
        log.warning("upstream %s broke off its response: %s; the client's connection is closed", upstream.name, error)
    finally:
        reply.close()


async def _chunk(reply: UpstreamReply, silence_s: float) -> bytes:
    """Raises TransportError, also after this silence."""
    try:
        async with asyncio.timeout(silence_s):
            return await reply.chunk()
    except TimeoutError as error:
        raise TransportError(f"nothing came for {silence_s:g} s") from error


_LONGEST_ANSWER = 1 << 18  # bytes; the object that a provider has made is much shorter


def makes_state(method: str, path: bytes) -> bool:
    """Whether the answer describes a new object: a member of a collection, or the file of a complete upload.

    A member of another object does not count: a file in a vector store has the id of a file that may be another key's.
    """
    parts = segments(path)
    return method == "POST" and (len(parts) == 2 or (len(parts) == 4 and (parts[1], parts[3]) == _COMPLETE))


_COMPLETE = (b"uploads", b"complete")


class MadeState:
    """Reads an answer as it passes, and notes the object that was made."""

    def __init__(self, owners: StateOwners, caller: Caller) -> None:
        self._owners = owners
        self._caller = caller
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> bytes:
        """Returns the data. Notes the object of a complete answer at once: its client has the answer as soon as this is
        sent."""
        self._size += len(data)
        if self._size > _LONGEST_ANSWER:
            self._pieces.clear()
            return data
        self._pieces.append(data)
        if data.rstrip().endswith(b"}"):
            self._read(b"".join(self._pieces))
        return data

    def end(self) -> bytes:
        return b""

    def _read(self, answer: bytes) -> None:
        try:
            made = orjson.loads(answer)
        except ValueError:  # more follows
            return
        if isinstance(made, dict):
            self._note(made)
            self._note(made.get("file"))

    def _note(self, made: Any) -> None:
        made_id = as_object(made).get("id")
        if isinstance(made_id, str):
            self._owners.made(self._caller, made_id)


class PassthroughCall:
    """A request in flight outside the hot path: it keeps its gateway open, and ends when its client leaves."""

    def __init__(self, gateway: Gateway, receive: Receive, send: Send) -> None:
        self.started = False
        """The response's head has been sent."""
        self._calls = gateway.calls
        self._running = gateway.running
        self._receive = receive
        self._send = send
        self._context = CallContext(HeldBytes(False, 0), task=asyncio.current_task())
        self._watch = DisconnectWatcher(receive, self._context.client_left, gateway.tasks)

    async def run(self, app: Any, scope: dict[str, Any]) -> None:
        """Raises ClientGone, and whatever the application raises."""
        scope[CONTEXT] = self._context
        self._calls["passthrough"] += 1
        self._running[self._context.task] = self._context
        if not _has_body(scope):
            self._watch.start()
        try:
            await app(scope, self._receive_watched, self._send_noted)
        except asyncio.CancelledError:
            absorb_cancellation()
            raise (ClientGone() if self._context.client_gone else self._context.notes.ended_by or stopping()) from None
        finally:
            self._calls["passthrough"] -= 1
            del self._running[self._context.task]
            self._watch.stop()

    async def _receive_watched(self) -> Any:
        """Starts the watch once the body is complete; until then the reader of the body sees the client leave."""
        message = await self._receive()
        if not message.get("more_body", False):
            self._watch.start()
        return message

    async def _send_noted(self, message: Any) -> None:
        self.started = True
        self._context.ended = message["type"] == "http.response.body" and not message.get("more_body", False)
        await self._send(message)


def _has_body(scope: dict[str, Any]) -> bool:
    return any(n in (b"content-length", b"transfer-encoding") for n, _ in scope["headers"])


def _length(scope: dict[str, Any]) -> int | None:
    """The length of the request's body in bytes; the server has validated it. None if it is not known, or there is no
    body."""
    return next((int(value) for name, value in scope["headers"] if name == b"content-length"), None)


async def _body(receive: Receive, deadline: asyncio.Timeout, silence_s: float) -> AsyncIterator[bytes]:
    """The request body; each piece of it restarts the deadline of the response's head."""
    more = True
    while more:
        deadline.reschedule(None)
        message = await receive()
        deadline.reschedule(asyncio.get_running_loop().time() + silence_s)
        if message["type"] == "http.disconnect":
            raise ClientGone  # ending the body here would make half a file look complete
        more = message.get("more_body", False)
        if message.get("body"):
            yield message["body"]
