"""The default transport: HTTP/1.1 over asyncio and httptools, one pool per origin. No HTTP/2."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator, Callable

from gateway.core.errors import ConnectFailed
from gateway.proxy.http.client.connection import Http1Reply, UpstreamConnection
from gateway.proxy.http.client.dialer import Dialer, OutboundProxy
from gateway.proxy.http.client.pool import ConnectionPool, Origin
from gateway.proxy.http.client.resolver import Resolver
from gateway.proxy.http.client.tls import UpstreamTls
from gateway.proxy.http.client.transport import UpstreamRequest


class Http1Transport:
    """A Transport.

    tls: the files of its TLS connections. idle_s: how long a connection may be idle if its peer
    announces nothing (`Keep-Alive: timeout=`, minus one second); uvicorn and vLLM close after 5 s.
    max_connections: per origin; None: no limit. clock: monotonic seconds. resolver: shared with other transports.
    proxy: URL of an HTTP proxy, which opens a tunnel for each connection; raises ValueError if it is none.
    """

    def __init__(
        self,
        *,
        tls: UpstreamTls | None = None,
        idle_s: float = 3.5,
        max_connections: int | None = None,
        clock: Callable[[], float] = time.monotonic,
        resolver: Resolver | None = None,
        proxy: str | None = None,
    ) -> None:
        self.opened = 0  # connections
        self.reused = 0  # requests on a connection from the pool
        self.retried = 0  # requests repeated because a connection from the pool was dead
        self._idle_s = idle_s
        self._max_connections = max_connections
        self._clock = clock
        self._dialer = Dialer(resolver or Resolver(), OutboundProxy.parse(proxy) if proxy else None)
        self._pools: dict[str, ConnectionPool] = {}
        self._files = tls or UpstreamTls()
        # At start-up, where a wrong path can still be reported.
        self._ssl = self._context() if self._files.customized else None

    def idle(self, origin: str) -> int:
        """The number of open and idle connections to `origin`."""
        pool = self.pool(origin)
        return pool.idle if pool else 0

    def pool(self, origin: str) -> ConnectionPool | None:
        """The connections to `origin`; None before the first request to it."""
        return self._pools.get(origin)

    async def send(self, request: UpstreamRequest, connect_s: float) -> Http1Reply:
        origin, pools = request.origin, self._pools
        pool = pools[origin] if origin in pools else self._add_pool(origin)
        head = encode_head(request, pool.origin.host)
        connection = pool.take()
        if connection is None:
            request.connecting = True
            connection = await pool.open(connect_s)
            request.connecting = False
        reply = self._start(connection, request, head)
        if not reply.status:
            await reply.head()
            if reply.stale and not isinstance(request.body, AsyncIterator):
                self.retried += 1
                reply = self._start(await pool.open(connect_s), request, head)
                await reply.head()
            if reply.error is not None and not reply.status:
                raise reply.error
        return reply

    async def aclose(self) -> None:
        """Closes every connection immediately; replies in progress fail."""
        for pool in self._pools.values():
            await pool.aclose()

    def _start(self, connection: UpstreamConnection, request: UpstreamRequest, head: bytes) -> Http1Reply:
        if connection.requests:
            self.reused += 1
        else:
            self.opened += 1
        return connection.send(request.method, head, request.body, request.length, unbatched=request.stream)

    def _add_pool(self, url: str) -> ConnectionPool:
        try:
            origin = Origin.parse(url, self._tls)
        except ValueError as error:
            raise ConnectFailed(str(error)) from error
        self._pools[url] = pool = ConnectionPool(origin, self._idle_s, self._max_connections, self._clock, self._dialer)
        return pool

    def _tls(self) -> ssl.SSLContext:
        # Lazily: it takes 10 ms and some memory, and many gateways only use plain HTTP.
        self._ssl = self._ssl or self._context()
        return self._ssl

    def _context(self) -> ssl.SSLContext:
        context = self._files.context()
        context.set_alpn_protocols(["http/1.1"])
        return context


def encode_head(request: UpstreamRequest, host: bytes) -> bytes:
    """The request up to its body. Raises ValueError for a line break inside it, which would make two requests of it."""
    body, headers = request.body, request.headers
    lines = b"\r\n".join(map(b": ".join, headers)) + b"\r\n" if headers else b""
    if type(body) is not bytes:
        length = sum(map(len, body)) if type(body) is tuple else request.length
        framing = b"transfer-encoding: chunked\r\n" if length is None else b"content-length: %d\r\n" % length
    elif body or request.method not in (b"GET", b"HEAD"):
        framing = b"content-length: %d\r\n" % len(body)
    else:
        framing = b""
    head = b"%b %b HTTP/1.1\r\nhost: %b\r\n%b%b\r\n" % (request.method, request.path, host, lines, framing)
    breaks = len(headers) + (4 if framing else 3)
    if head.count(b"\n") != breaks or head.count(b"\r") != breaks:
        raise ValueError("a line break in a request's method, path or headers")
    return head
