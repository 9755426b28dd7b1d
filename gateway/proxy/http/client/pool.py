"""The connections to one origin: the idle ones, the number that may still be opened, and the age at which an idle one
is closed.

Last in, first out: a few connections stay in use, and the others grow old and close.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.core.errors import ConnectFailed, ConnectTimeout, NoFilesLeft
from gateway.proxy.http.client.connection import UpstreamConnection
from gateway.proxy.http.client.dialer import Dialer
from gateway.proxy.http.client.resolver import NO_FILES
from gateway.proxy.http.write_batching import WriteBatcher

MAX_IDLE_S = 60.0  # whatever the peer announces: proxies and NAT forget idle connections sooner


@dataclass(frozen=True, slots=True)
class Origin:
    url: str
    hostname: str
    port: int
    tls: ssl.SSLContext | None  # None: plain TCP
    host: bytes  # the Host header: with the port, unless it is the default of the scheme

    @classmethod
    def parse(cls, url: str, tls: Callable[[], ssl.SSLContext]) -> Origin:
        """Raises ValueError if `url` is not "http(s)://host[:port]". tls: called only for https."""
        parts = urlsplit(url)
        hostname, secure = parts.hostname, parts.scheme == "https"
        more = "@" in parts.netloc or parts.path not in ("", "/") or parts.query or parts.fragment
        if not hostname or parts.scheme not in ("http", "https") or more:
            raise ValueError(f'origin "{parts.scheme}://{hostname}" is not http(s)://host[:port]')
        hostname = hostname if hostname.isascii() else hostname.encode("idna").decode()
        default = 443 if secure else 80
        port = parts.port or default
        host = f"[{hostname}]" if ":" in hostname else hostname
        host += "" if port == default else f":{port}"
        return cls(url, hostname, port, tls() if secure else None, host.encode())


class ConnectionPool:
    """Connections to one origin. max_connections: above it, `open` waits; None: no limit."""

    def __init__(
        self,
        origin: Origin,
        idle_s: float,
        max_connections: int | None,
        clock: Callable[[], float],
        dialer: Dialer,
    ) -> None:
        self.origin = origin
        self._dialer = dialer
        self.outbox = WriteBatcher()
        self._idle_s = idle_s
        self._max = max_connections
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._idle: list[UpstreamConnection] = []
        self._alive = 0  # connections open or opening, and not dead
        self._sockets: set[UpstreamConnection] = set()  # from connection_made to connection_lost
        self._queue: deque[asyncio.Future[UpstreamConnection | None]] = deque()  # None: a new one may be opened
        self._sweeper: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    @property
    def idle(self) -> int:
        return len(self._idle)

    @property
    def busy(self) -> int:
        """The number of connections that are open or opening, and not free."""
        return self._alive - len(self._idle)

    def take(self) -> UpstreamConnection | None:
        """An idle connection that its peer still keeps open, or None. Never waits."""
        while self._idle:
            connection = self._idle.pop()
            if connection.idle_until > self._clock():
                return connection
            connection.abort()
        return None

    async def open(self, connect_s: float) -> UpstreamConnection:
        """A new connection or, at the limit, the first that becomes idle.

        Raises ConnectTimeout after `connect_s`, ConnectFailed, and NoFilesLeft where this process is at fault.
        """
        try:
            async with asyncio.timeout(connect_s):
                return await self._reserve() or await self._connect()
        except TimeoutError as error:
            raise ConnectTimeout(f"no connection to {self.origin.url} within {connect_s:g} s") from error
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded for DNS or TLS
            own = isinstance(error, OSError) and error.errno in NO_FILES
            kind = NoFilesLeft if own else ConnectFailed
            raise kind(f"cannot connect to {self.origin.url}: {error}") from error

    async def aclose(self) -> None:
        """Closes every connection, including those in use, and waits until their sockets are closed."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for connection in list(self._sockets):
            connection.abort_reply()
        if self._sockets:
            self._emptied = self._loop.create_future()
            await self._emptied

    def opened(self, connection: UpstreamConnection) -> None:
        self._sockets.add(connection)

    def give_back(self, connection: UpstreamConnection) -> None:
        idle_s = connection.idle_s if connection.idle_s < MAX_IDLE_S else MAX_IDLE_S
        if idle_s <= 0:
            connection.abort()
            return
        if self._queue and self._hand(connection):
            return
        connection.idle_until = self._clock() + idle_s
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = self._loop.call_later(self._idle_s, self._sweep)

    def forget(self, connection: UpstreamConnection) -> None:
        self._leave()
        if connection in self._idle:
            self._idle.remove(connection)

    def closed(self, connection: UpstreamConnection) -> None:
        self._sockets.discard(connection)
        if self._emptied is not None and not self._sockets and not self._emptied.done():
            self._emptied.set_result(None)

    async def _reserve(self) -> UpstreamConnection | None:
        """Waits until a connection may be opened (returns None) or becomes idle (returns it)."""
        if self._max is None or self._alive < self._max:
            self._alive += 1
            return None
        if self._idle:
            self._idle[0].abort()  # replaced instead of reused: it may be as dead as the one just tried
            self._alive += 1
            return None
        turn: asyncio.Future[UpstreamConnection | None] = self._loop.create_future()
        self._queue.append(turn)
        try:
            return await turn
        except BaseException:
            self._pass_on(turn)
            raise

    def _pass_on(self, turn: asyncio.Future[UpstreamConnection | None]) -> None:
        """Passes on what was assigned to a waiter that has been cancelled."""
        if not turn.done() or turn.cancelled():
            return
        if (connection := turn.result()) is None:
            self._leave()
        elif not connection.dead:
            self.give_back(connection)

    def _leave(self) -> None:
        if not self._hand(None):
            self._alive -= 1

    def _hand(self, what: UpstreamConnection | None) -> bool:
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(what)
                return True
        return False

    async def _connect(self) -> UpstreamConnection:
        origin, connection = self.origin, UpstreamConnection(self, self._loop, self._idle_s)
        try:
            sock = await self._dialer.connect(origin.hostname, origin.port)
            name = origin.hostname if origin.tls else None
            try:
                await self._loop.create_connection(lambda: connection, sock=sock, ssl=origin.tls, server_hostname=name)
            except BaseException:
                sock.close()
                raise
        except BaseException:
            connection.mark_dead()
            self.closed(connection)  # uvloop does not call connection_lost for a connection whose opening was cancelled
            raise
        return connection

    def _sweep(self) -> None:
        """Closes connections that have been idle too long; at the bottom of the stack nothing else would find them."""
        now = self._clock()
        for connection in [c for c in self._idle if c.idle_until <= now]:
            connection.abort()
        self._sweeper = self._loop.call_later(self._idle_s, self._sweep) if self._idle else None
