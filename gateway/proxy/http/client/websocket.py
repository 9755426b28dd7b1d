"""Opens WebSockets to upstreams. A connection is opened for one lane of a client's connection, and lives no longer than
that."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

from gateway.core.errors import ConnectFailed, ConnectTimeout, NoFilesLeft
from gateway.proxy.http.client.dialer import Dialer, OutboundProxy
from gateway.proxy.http.client.pool import Origin
from gateway.proxy.http.client.resolver import NO_FILES, Resolver
from gateway.proxy.http.client.tls import UpstreamTls
from gateway.proxy.types import Headers

if TYPE_CHECKING:
    from gateway.proxy.http.client.upstream_websocket import UpstreamWebSocket


class WebSocketConnector:
    """Opens WebSockets to one upstream."""

    def __init__(self, tls: UpstreamTls, resolver: Resolver, proxy: str | None = None) -> None:
        """proxy: URL of an HTTP proxy; raises ValueError if it is none."""
        self._files = tls
        self._dialer = Dialer(resolver, OutboundProxy.parse(proxy) if proxy else None)
        self.rests_until = 0.0
        """Loop time until which the upstream is not asked for a WebSocket, as it has said that it has none."""
        self._context: ssl.SSLContext | None = None

    async def open(self, origin: str, path: bytes, headers: Headers, connect_s: float) -> UpstreamWebSocket:
        """Returns once the handshake is complete.

        Raises ConnectFailed, ConnectTimeout, ConnectionLost, BadResponse, and UpgradeRefused.
        """
        # Imported here: most processes open no WebSocket, and the library takes 1 MB.
        from gateway.proxy.http.client.upstream_websocket import UpstreamWebSocket

        parsed = Origin.parse(origin, self._tls)
        socket = UpstreamWebSocket(asyncio.get_running_loop(), _uri(origin, path), headers)
        try:
            async with asyncio.timeout(connect_s):
                await self._connect(parsed, socket)
        except TimeoutError as error:
            raise ConnectTimeout(f"no connection to {origin} within {connect_s:g} s") from error
        except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded for DNS or TLS
            own = isinstance(error, OSError) and error.errno in NO_FILES
            kind = NoFilesLeft if own else ConnectFailed
            raise kind(f"cannot connect to {origin}: {error}") from error
        try:
            await socket.opened()
        except BaseException:
            socket.abort()
            raise
        return socket

    async def _connect(self, origin: Origin, socket: UpstreamWebSocket) -> None:
        sock = await self._dialer.connect(origin.hostname, origin.port)
        name = origin.hostname if origin.tls else None
        loop = asyncio.get_running_loop()
        try:
            await loop.create_connection(lambda: socket, sock=sock, ssl=origin.tls, server_hostname=name)
        except BaseException:
            sock.close()
            raise

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = self._files.context()
            self._context.set_alpn_protocols(["http/1.1"])
        return self._context


def _uri(origin: str, path: bytes) -> str:
    return "ws" + origin.removeprefix("http") + path.decode("latin-1")
