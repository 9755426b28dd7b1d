"""ASGI in both directions: applications on our connections, and the hot path under another server or middleware."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any

from gateway.core.errors import GatewayError
from gateway.proxy.http.server.connection_limits import BodyMemory
from gateway.proxy.http.server.request import COUNTED_BYTES, ServerRequest
from gateway.proxy.http.server.response_writer import ResponseWriter
from gateway.proxy.types import ClientGone, Headers, Receive, Send, too_large
from gateway.runtime.tasks import Tasks

log = logging.getLogger(__name__)

_WATCH_AFTER_S = 0.02


async def run_asgi(app: Any, scope: dict[str, Any], request: ServerRequest, answer: ResponseWriter) -> None:
    """Runs an application for one request. Its exceptions become a 500, or a response that stays incomplete."""
    sender = _AsgiSend(answer)
    try:
        await app(scope, request.receive, sender.send)
    except Exception:
        log.exception("an endpoint failed with an internal error")
        if not answer.started:
            body = GatewayError("the gateway failed; its log says why", code="internal_error", retry=False).body()
            answer.close_after()
            answer.start(500, [(b"content-type", b"application/json")], len(body))
            await answer.end(body)


class _AsgiSend:
    """ASGI's send, on a ResponseWriter. The head is sent with the first body message, which follows immediately."""

    def __init__(self, answer: ResponseWriter) -> None:
        self._answer = answer

    async def send(self, message: Any) -> None:
        answer = self._answer
        if message["type"] == "http.response.start" and not answer.started:
            self._start(message["status"], message.get("headers", ()))
        elif message["type"] == "http.response.body" and answer.started and not answer.ended:
            data = message.get("body", b"")
            if message.get("more_body", False):
                await answer.write(data)
            else:  # "now" is our extension: a last message that must not wait for the client
                await (answer.end_nowait(data) if message.get("now") else answer.end(data))
        else:
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")

    def _start(self, status: int, headers: Any) -> None:
        length: int | None = None
        kept: Headers = []
        for name, value in headers:
            name = name.lower()
            if name == b"content-length":
                length = int(value)
            elif name == b"connection":
                if value.lower() == b"close":
                    self._answer.close_after()
            elif name != b"transfer-encoding":
                kept.append((name, value))
        self._answer.start(status, kept, length)


class AsgiRequest:
    """An HttpRequest from an ASGI scope and receive. memory: where its body is counted until release()."""

    def __init__(
        self, scope: Mapping[str, Any], receive: Receive, tasks: Tasks, memory: BodyMemory | None = None
    ) -> None:
        self.method: bytes = scope["method"].encode()
        self.path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope["query_string"]
        self.peer: str = (scope.get("client") or ("",))[0]
        self.headers: Headers = scope["headers"]
        self.fields: Mapping[bytes, bytes] = dict(self.headers)
        self._receive = receive
        self._tasks = tasks
        self._watch: DisconnectWatcher | None = None
        self.holder = ""
        self._memory = memory
        self._taken = 0  # bytes counted in it

    async def receive(self) -> Any:
        return await self._receive()

    async def body(self, limit_bytes: int) -> bytes:
        given = self.fields.get(b"content-length", b"0")
        length = int(given) if given.isdigit() else 0
        if length > limit_bytes:
            raise too_large(limit_bytes)
        self._count(length)
        pieces, size, more = [], 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit_bytes:
                raise too_large(limit_bytes)
            self._count(size - self._taken)
            more = message.get("more_body", False)
        return b"".join(pieces)

    def _count(self, size: int) -> None:
        """Counts a large piece. Raises Overloaded if all bodies together are too large."""
        if self._memory is not None and size > COUNTED_BYTES:
            self.hold(size)

    def hold(self, size: int) -> None:
        """Counts bytes in the memory of all bodies, until release(). Raises Overloaded if they are too many."""
        if self._memory is not None:
            self._memory.take(size, self.holder)
            self._taken += size

    def release(self) -> None:
        """The body is no longer held. Idempotent."""
        if self._memory is not None and self._taken:
            self._memory.give_back(self._taken, self.holder)
            self._taken = 0

    def watch(self, on_client_gone: Callable[[], None]) -> None:
        self._watch = DisconnectWatcher(self._receive, on_client_gone, self._tasks)
        self._watch.start_later()

    def unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()


class DisconnectWatcher:
    """Calls `on_client_gone` when an ASGI client disconnects while its answer is being made."""

    __slots__ = ("_on_client_gone", "_receive", "_start", "_task", "_tasks")

    def __init__(self, receive: Receive, on_client_gone: Callable[[], None], tasks: Tasks) -> None:
        self._receive = receive
        self._on_client_gone = on_client_gone
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None
        self._start: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._task = self._tasks.start(self._watch(), "client watch")

    def start_later(self) -> None:
        """Starts after 20 ms: a call that is answered sooner needs no watch, and so no task."""
        self._start = asyncio.get_running_loop().call_later(_WATCH_AFTER_S, self.start)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._on_client_gone()

    def stop(self) -> None:
        if self._start is not None:
            self._start.cancel()
        task, self._task = self._task, None  # the task's last exception refers to its frame, and that to this watcher
        if task is not None:
            task.cancel()


class AsgiClient:
    """A ClientConnection on an ASGI send, which waits while a slow client's socket is full: that paces the upstream."""

    __slots__ = ("_head", "_send", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: dict[str, Any] | None = None  # until it has been sent
        self.started = False

    def start(self, status: int, headers: Headers, length: int | None = None, extra_lines: bytes = b"") -> None:
        self.started = True
        lines = extra_lines.split(b"\r\n") if extra_lines else []
        headers = [*headers, *((name, value) for name, _, value in (line.partition(b": ") for line in lines))]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    @property
    def writable(self) -> bool:
        return False  # ASGI can only send by awaiting

    def write_nowait(self, data: bytes) -> None:
        raise NotImplementedError("an ASGI client is never writable without waiting")

    async def write(self, data: bytes) -> None:
        await self._send_body(body=data, more_body=True)

    async def end(self, data: bytes = b"") -> None:
        await self._send_body(body=data, more_body=False)

    async def end_nowait(self, data: bytes) -> None:
        await self._send_body(body=data, more_body=False, now=True)

    async def _send_body(self, **body: Any) -> None:
        head, self._head = self._head, None
        if head is not None:
            await self._send(head)
        await self._send({"type": "http.response.body", **body})
