"""A guarded call without sockets: what the client gets of what the relay sends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from gateway.config.guards import GuardConfig
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.guards.client import GuardedBytes, GuardedClient
from gateway.proxy.guards.guard import Guard, GuardSet
from gateway.proxy.guards.guarded_call import GuardedCall
from gateway.proxy.relay.state import CallContext
from gateway.proxy.request.call import Call, Caller
from gateway.runtime.tasks import Tasks


class Sent:
    """A ClientConnection that keeps what it gets."""

    def __init__(self) -> None:
        self.started = self.ended = False
        self.status = 0
        self.lines = b""
        self.body = b""
        self.writable = True

    def start(self, status: int, headers: Any, length: int | None = None, extra_lines: bytes = b"") -> None:
        self.started, self.status, self.lines = True, status, extra_lines

    async def write(self, data: bytes) -> None:
        self.body += data

    def write_nowait(self, data: bytes) -> None:
        self.body += data

    async def end(self, data: bytes = b"") -> None:
        self.body += data
        self.ended = True

    async def end_nowait(self, data: bytes) -> None:
        await self.end(data)


class Guarded:
    """One call, the client that the relay sends to, and what the caller got."""

    def __init__(self, tasks: Tasks, api: Any, guards: dict[str, dict[str, Any]], scorers: Any = None) -> None:
        metrics = ProxyMetrics(CollectorRegistry())
        made = [Guard(name, GuardConfig.model_validate(given), metrics, scorers, {}) for name, given in guards.items()]
        self.call = Call("call-1", 0.0, 0.0, Caller("web"), api, b"POST", b"/x", "chat", True, b"{}")
        self.sent, self.response = Sent(), GuardedBytes(1 << 20)
        self.context = CallContext(self.response)
        self.guarded = GuardedCall(self.call, self.sent, self.context, GuardSet(made, {}), tasks)
        self.client = GuardedClient(self.guarded, self.response, tasks)

    def start(self) -> None:
        self.client.start(200, [(b"content-type", b"text/event-stream")], None, b"x-request-id: call-1")


@pytest.fixture
async def make() -> AsyncIterator[Callable[..., Guarded]]:
    """Makes guarded calls: make(api, guards)."""
    async with Tasks() as tasks:
        yield lambda api, guards, scorers=None: Guarded(tasks, api, guards, scorers)
