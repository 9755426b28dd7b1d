"""What an HTTP connection and the WebSocket that it becomes know of each other.

The WebSocket itself (websocket.py) is imported with the first upgrade: most processes have none, and its library takes
1 MB.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from uvicorn.server import ServerState

from gateway.proxy.http.server.connection_limits import BodyMemory


@dataclass(frozen=True, slots=True)
class WebSocketLimits:
    """Times in seconds."""

    age_s: float = 3600.0
    """Longest age of a connection."""
    ping_s: float = 30.0
    """Silence after which the client is sent a ping, so that no proxy on the way forgets the connection. The answer is
    not waited for: programs that read only while they expect something do not send it."""
    piece_s: float = 60.0
    """The pause between two pieces of one message."""
    write_s: float = 60.0
    """Seconds within which a client must have read some of the bytes that wait for it."""
    close_s: float = 5.0
    """Time that the client has to answer a close frame."""
    grace_s: float = 0.5
    """Time that an idle connection stays open when the server stops: a message may be on its way."""


class WebSocketSession(Protocol):
    """The application's end of one connection."""

    @property
    def busy(self) -> bool:
        """Whether something is being answered."""
        ...

    def message(self, data: bytes) -> None:
        """A text message, in UTF-8."""
        ...

    def expire(self) -> None:
        """Ends the connection at its maximum age, once nothing is being answered."""
        ...

    def drain(self) -> None:
        """Ends the connection because the server stops, once nothing is being answered any more."""
        ...

    def left(self) -> None:
        """The client has left. Called once."""
        ...


@dataclass(frozen=True, slots=True)
class UpgradedTransport:
    """The parts of the HTTP connection that its WebSocket connection keeps."""

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop
    state: ServerState
    memory: BodyMemory | None
    """The count of all bodies; None means that they are not counted."""
    closed: Callable[[], None]
    """Called when the connection has ended."""
