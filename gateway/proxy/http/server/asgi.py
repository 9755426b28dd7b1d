"""ASGI applications on our connections: all paths but those of the hot path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from gateway.core.errors import GatewayError
from gateway.proxy.http.server.request import ServerRequest
from gateway.proxy.http.server.response_writer import ResponseWriter
from gateway.proxy.types import Headers, Receive
from gateway.runtime.tasks import Tasks

log = logging.getLogger(__name__)


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
            else:
                await answer.end(data)
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


class DisconnectWatcher:
    """Calls `on_client_gone` when an ASGI client disconnects while its answer is being made."""

    def __init__(self, receive: Receive, on_client_gone: Callable[[], None], tasks: Tasks) -> None:
        self._receive = receive
        self._on_client_gone = on_client_gone
        self._tasks = tasks
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._task = self._tasks.start(self._watch(), "client watch")

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._on_client_gone()

    def stop(self) -> None:
        task, self._task = self._task, None  # the task's last exception refers to its frame, and that to this watcher
        if task is not None:
            task.cancel()
