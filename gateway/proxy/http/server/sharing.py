"""Several workers on one listening socket: each takes its share of the connections.

The kernel wakes them all, and who is awake first takes most: of 64 connections that came at once, one of two workers
had 49, and they stay where they are for as long as their clients keep them. So each worker says in a file that all have
mapped how many it has, and one that has more than its share leaves the next to the others, but not for long: they may
be busy.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import logging
import mmap
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvloop

from gateway.config.environment import shared_metrics
from gateway.runtime.child import runs
from gateway.runtime.tasks import Tasks

log = logging.getLogger(__name__)

PATIENCE_S = 0.003  # how long a connection is left to others
LOOK_S = 0.001  # whether they have taken it
SLACK = 1  # connections more than the fewest; and one more for each sixteen of these
SLOTS = 256
_FULL_S = 1.0  # between two attempts where the process may open no more files
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class UnsharedSocket(socket.socket):
    """A listening socket that no other worker has."""


class ConnectionShares:
    """How many connections each worker has. In the file: for each its process's id, 0 for none, and its connections."""

    def __init__(self, path: Path) -> None:
        """Takes a slot for this process. Beyond SLOTS workers it has none, and leaves nothing to others."""
        with path.open("a+b") as file:
            file.truncate(SLOTS * 16)
            self._map = mmap.mmap(file.fileno(), SLOTS * 16)
            self._cells = memoryview(self._map).cast("q")
            fcntl.flock(file, fcntl.LOCK_EX)
            self._own = next((i for i in range(0, 2 * SLOTS, 2) if not _lives(self._cells[i])), None)
            if self._own is not None:
                self._cells[self._own + 1] = 0
                self._cells[self._own] = os.getpid()
            fcntl.flock(file, fcntl.LOCK_UN)  # by itself it would last as long as the map

    def ahead(self, mine: int) -> bool:
        """Whether others should have the next one. mine: connections of this process, which the others are told."""
        own, cells = self._own, self._cells
        if own is None:
            return False
        cells[own + 1] = mine
        fewest = min((cells[i + 1] for i in self._others()), default=mine)
        return mine > fewest + SLACK + fewest // 16

    def forget_the_dead(self) -> None:
        for i in self._others():
            if not _lives(self._cells[i]):
                self._cells[i] = 0

    def leave(self) -> None:
        """This process takes no more."""
        if self._own is not None:
            self._cells[self._own] = 0
            self._own = None

    def _others(self) -> list[int]:
        return [i for i in range(0, 2 * SLOTS, 2) if self._cells[i] and i != self._own]


def _lives(pid: int) -> bool:
    return pid != 0 and runs(pid)


class SharedSocketServer:
    """Takes connections of a socket that others take too; of asyncio's servers, what uvicorn asks of one.

    factory: makes protocols that know their `connections`, all that this process has, and take a `shutdown`.
    """

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, factory: Callable[[], Any], shares: ConnectionShares
    ) -> None:
        self._loop = loop
        self._sock = sock
        self._factory = factory
        self._shares = shares
        self._protocol: Any = None  # the newest, which knows how many there are
        self._opening = Tasks()
        self._left_at: float | None = None  # since when a connection is left to others
        self._pause: asyncio.TimerHandle | None = None
        self._open = True
        sock.setblocking(False)
        loop.add_reader(sock, self._ready)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        return (self._sock,)

    def close(self) -> None:
        if self._open:
            self._open = False
            self._shares.leave()
            self._loop.remove_reader(self._sock)
            if self._pause is not None:
                self._pause.cancel()

    async def wait_closed(self) -> None:
        await self._opening.aclose()

    def _ready(self) -> None:
        if self._shares.ahead(self._count()) and self._leave_it():
            return
        self._left_at = None
        try:
            connection, _ = self._sock.accept()
        except (BlockingIOError, InterruptedError, ConnectionAbortedError):
            return  # another has taken it, or its client has left
        except OSError as error:
            if error.errno not in _FULL:
                raise
            log.error("no connection can be taken for now: %s", error)
            self._rest(_FULL_S)
            return
        self._opening.start(self._opened(connection), "connection")

    def _leave_it(self) -> bool:
        """Whether it is left to others; False: it has been for long enough."""
        now = self._loop.time()
        if self._left_at is None:
            self._left_at = now
        if now - self._left_at >= PATIENCE_S:
            self._shares.forget_the_dead()
            return False
        self._rest(LOOK_S)
        return True

    def _rest(self, seconds: float) -> None:
        self._loop.remove_reader(self._sock)
        self._pause = self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._pause = None
        self._loop.add_reader(self._sock, self._ready)

    def _count(self) -> int:
        return len(self._opening) + (0 if self._protocol is None else len(self._protocol.connections))

    def _make(self) -> Any:
        self._protocol = protocol = self._factory()
        return protocol

    async def _opened(self, connection: socket.socket) -> None:
        try:
            _, protocol = await self._loop.connect_accepted_socket(self._make, connection)
        except OSError as error:
            log.warning("a connection could not be taken: %s", error)
            connection.close()
            return
        if not self._open:  # closed meanwhile: uvicorn has told those that were there
            protocol.shutdown()


class SharingLoop(uvloop.Loop):
    """A worker's loop: uvicorn's setting `loop`. Sockets that it is given to listen on are shared with the others."""

    async def create_server(self, protocol_factory: Any, *args: Any, **options: Any) -> Any:
        sock, shared = options.get("sock"), shared_metrics()
        if sock is None or shared is None or isinstance(sock, UnsharedSocket):
            return await super().create_server(protocol_factory, *args, **options)
        sock.listen(options.get("backlog", 100))
        return SharedSocketServer(self, sock, protocol_factory, ConnectionShares(shared / "connections"))
