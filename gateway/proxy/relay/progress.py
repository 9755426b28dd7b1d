"""How far one call has come: what its client has been sent, who was asked, and how it ended. Mutable, one a call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from gateway.core.exchange import Attempt, Outcome, Usage
from gateway.proxy.http.client import Headers
from gateway.proxy.routing.target_state import TargetState

Send = Callable[[Any], Awaitable[None]]


class ClientConnection(Protocol):
    """Whoever gets the answer. started: its head has gone out, so that nothing can be asked elsewhere any more. free:
    what is written need not be waited for now."""

    started: bool

    @property
    def free(self) -> bool: ...

    def start(self, status: int, headers: Headers, length: int | None = None, ours: bytes = b"") -> None:
        """The head, which leaves with the first bytes. headers: without content-length, which is `length`; None: nobody
        knows it yet. ours: more header lines, as on the wire but for the last line's end."""
        ...

    async def write(self, data: bytes) -> None: ...
    def put(self, data: bytes) -> None:
        """As write(); only while `free`."""
        ...

    async def end(self, data: bytes = b"") -> None: ...
    async def cut(self, data: bytes) -> None:
        """Ends an answer that broke off, with these last words. Never waits: who does not read is hung up on."""
        ...


class DetachedClient:
    """Nobody waits: a shadow's answer is only kept."""

    __slots__ = ("started",)

    def __init__(self) -> None:
        self.started = False

    def start(self, status: int, headers: Headers, length: int | None = None, ours: bytes = b"") -> None:
        self.started = True

    @property
    def free(self) -> bool:
        return True

    async def write(self, data: bytes) -> None:
        pass

    def put(self, data: bytes) -> None:
        pass

    async def end(self, data: bytes = b"") -> None:
        pass

    async def cut(self, data: bytes) -> None:
        pass


class HeldBytes:
    """The answer's bytes, held by reference until it is known whether they are recorded.

    wanted: False keeps nothing. cap_bytes: beyond it the rest is left out, and `truncated` says so.
    """

    __slots__ = ("_left", "_pieces", "truncated", "wanted")

    def __init__(self, wanted: bool, cap_bytes: int) -> None:
        self.wanted = wanted
        self.truncated = False
        self._left = cap_bytes
        self._pieces: list[bytes] = []

    def add(self, data: bytes) -> None:
        if not self.wanted or self.truncated:
            return
        if len(data) > self._left:
            data = data[: self._left]
            self.truncated = True
        self._left -= len(data)
        self._pieces.append(data)

    def bytes(self) -> bytes:
        return b"".join(self._pieces)


@dataclass(slots=True)
class CallContext:
    """making: the task that makes the answer, where its maker knows it. place: the one that answered, or was asked
    last; None: nobody was asked. ended: nothing more goes to the client.

    first_content: monotonic time of the first content sent on. upstream_s: time spent waiting for upstreams;
    overhead_s: what else had passed when the answer's head went out. beginning: the answer's first bytes, by reference.
    """

    kept: HeldBytes
    outcome: Outcome = "ok"
    place: TargetState | None = None
    sent_body: bytes = b""
    status: int = 0
    attempts: list[Attempt] = field(default_factory=list)
    usage: Usage | None = None
    attempt_usage: Usage | None = None
    finish_seen: bool = False
    first_content: float | None = None
    upstream_s: float = 0.0
    overhead_s: float = 0.0
    beginning: bytes = b""
    spliced: bool = False
    gone: bool = False
    ended: bool = False
    making: asyncio.Task[Any] | None = None
    refused: str = ""  # the code of our own error; "": there was none
