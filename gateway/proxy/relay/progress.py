"""How far one call has come: which targets were asked, what was recorded of the answer, and how the call ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

from gateway.core.exchange import Attempt, Outcome, Usage
from gateway.proxy.routing.target_state import TargetState


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
    target_state: TargetState | None = None
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

    def client_left(self) -> None:
        """Cancels the task that makes the answer, unless the answer has ended."""
        if not self.ended:
            self.gone = True
            if self.making is not None:
                self.making.cancel()
