"""ASGI on both sides: applications run on our connections, and our hot path under another server, or within CORS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any

from gateway.core.errors import GatewayError
from gateway.proxy.http.client import Headers
from gateway.proxy.http.server.answer import ResponseWriter
from gateway.proxy.http.server.request import ServerRequest
from gateway.proxy.relay.deadlines import Ticker, Timer
from gateway.proxy.relay.progress import CallContext, Send
from gateway.proxy.request.upload import ClientGone, Receive, too_large
from gateway.runtime.supervisor import Tasks

log = logging.getLogger(__name__)

_WATCH_AFTER_S = 0.02  # a call answered sooner needs nobody to watch whether its client left


# ── an ASGI application on our connection ──


async def run_asgi(app: Any, scope: dict[str, Any], request: ServerRequest, answer: ResponseWriter) -> None:
    """Never raises for what the application does: its fault is a 500, or an answer that stays unfinished."""
    sending = _Sending(answer)
    try:
        await app(scope, request.receive, sending.send)
    except Exception:
        log.exception("a page failed by the gateway's own fault")
        if not answer.started:
            body = GatewayError("the gateway failed; its log says why", code="internal_error", retry=False).body()
            answer.last()
            answer.start(500, [(b"content-type", b"application/json")], len(body))
            await answer.end(body)


class _Sending:
    """ASGI's send. The head waits for the first body message, which follows at once."""

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
            else:  # "now": our own word, for a last one that is not worth waiting for
                await (answer.cut(data) if message.get("now") else answer.end(data))
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
                    self._answer.last()
            elif name != b"transfer-encoding":
                kept.append((name, value))
        self._answer.start(status, kept, length)


# ── our hot path under ASGI ──


class AsgiRequest:
    """A request from a scope and a receive. See Asked."""

    def __init__(self, scope: Mapping[str, Any], receive: Receive, tasks: Tasks, ticker: Ticker, now: float) -> None:
        self.method: bytes = scope["method"].encode()
        self.path: bytes = scope.get("raw_path") or scope["path"].encode()
        self.query: bytes = scope["query_string"]
        self.headers: Headers = scope["headers"]
        self.fields: Mapping[bytes, bytes] = dict(self.headers)
        self._receive = receive
        self._tasks = tasks
        self._ticker = ticker
        self._now = now
        self._watch: DisconnectWatcher | None = None

    async def receive(self) -> Any:
        return await self._receive()

    async def body(self, limit_bytes: int) -> bytes:
        length = self.fields.get(b"content-length", b"0")
        if length.isdigit() and int(length) > limit_bytes:
            raise too_large(limit_bytes)
        pieces, size, more = [], 0, True
        while more:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ClientGone
            pieces.append(message.get("body", b""))
            size += len(pieces[-1])
            if size > limit_bytes:
                raise too_large(limit_bytes)
            more = message.get("more_body", False)
        return b"".join(pieces)

    def watch(self, progress: CallContext) -> None:
        self._watch = DisconnectWatcher(self._receive, progress, self._tasks, current_task())
        self._watch.begin_later(self._ticker, self._now)

    def unwatch(self) -> None:
        if self._watch is not None:
            self._watch.stop()


def current_task() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - whatever answers is run by a task
    return task


class DisconnectWatcher:
    """Sees the client leave while its answer is made, and then cancels the making."""

    __slots__ = ("_due", "_making", "_progress", "_receive", "_task", "_tasks")

    def __init__(self, receive: Receive, progress: CallContext, tasks: Tasks, making: asyncio.Task[Any]) -> None:
        self._receive = receive
        self._progress = progress
        self._tasks = tasks
        self._making = making
        self._task: asyncio.Task[None] | None = None
        self._due: Timer | None = None

    def begin(self) -> None:
        self._task = self._tasks.start(self._watch(), "client watch")

    def begin_later(self, ticker: Ticker, now: float) -> None:
        self._due = Timer(ticker, now + _WATCH_AFTER_S, self.begin)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._progress.ended:
            self._progress.gone = True
            self._making.cancel()

    def stop(self) -> None:
        if self._due is not None:
            self._due.cancel()
        task, self._task = self._task, None  # the task's last exception holds its frame, and so us: no ring of both
        if task is not None:
            task.cancel()


class AsgiClient:
    """The client behind an ASGI send. Waits while a slow client's socket is full, which is what paces the upstream."""

    __slots__ = ("_head", "_send", "started")

    def __init__(self, send: Send) -> None:
        self._send = send
        self._head: dict[str, Any] | None = None  # until it is sent
        self.started = False

    def start(self, status: int, headers: Headers, length: int | None = None, ours: bytes = b"") -> None:
        self.started = True
        lines = ours.split(b"\r\n") if ours else []
        headers = [*headers, *((name, value) for name, _, value in (line.partition(b": ") for line in lines))]
        if length is not None:
            headers.append((b"content-length", b"%d" % length))
        self._head = {"type": "http.response.start", "status": status, "headers": headers}

    @property
    def free(self) -> bool:
        return False  # ASGI has only what must be awaited

    def put(self, data: bytes) -> None:
        raise NotImplementedError("an ASGI client is never free")

    async def write(self, data: bytes) -> None:
        await self._say(body=data, more_body=True)

    async def end(self, data: bytes = b"") -> None:
        await self._say(body=data, more_body=False)

    async def cut(self, data: bytes) -> None:
        await self._say(body=data, more_body=False, now=True)

    async def _say(self, **body: Any) -> None:
        head, self._head = self._head, None
        if head is not None:
            await self._send(head)
        await self._send({"type": "http.response.body", **body})
