"""uvicorn's server on our connections: every port of the programs has bounds before the first request.

proxy/serve.py builds the gateway's own port; `page_settings` is for the console and the separate metrics port.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Callable, Generator
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any, cast

import uvicorn

from gateway.proxy.http.server.connection_limits import ConnectionLimits, default_limit
from gateway.proxy.http.server.drain import accept_queued
from gateway.proxy.http.server.protocol import HttpProtocol
from gateway.proxy.http.server.tls import CertificateFiles, CertificateReload, TlsConnection
from gateway.proxy.types import Receive, Send

log = logging.getLogger("gateway")

_MOST = 1000  # connections to pages, in all
_MOST_FROM_ONE = 100  # the same from one address; a browser opens six
_IDLE_S = 20
_STOP_S = 5


class ReusePortSocket(socket.socket):
    """A bound socket that reserves an address and never listens: each worker process listens with one of its own, and
    the kernel distributes connections by a hash of their addresses (on Linux only; figures: performance.md).

    Sent to a worker process (pickled), it becomes that process's own socket, bound to the same address.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return bind_reuse_port, (self.family, self.getsockname())


def bind_reuse_port(family: int, address: Any) -> socket.socket:
    """A socket bound to an address that other sockets of this user may share. Raises OSError."""
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


class GatewayServer(uvicorn.Server):
    """uvicorn's server, which stops differently: it first accepts what the kernel has queued, and it exits with code 0
    after a requested stop, not by the signal."""

    def __init__(self, config: uvicorn.Config, *, announced: bool = True) -> None:
        """announced: the log says where it listens."""
        super().__init__(config)
        self._announced = announced
        self._certificate: CertificateReload | None = None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        config, context = self.config, self.config.ssl
        if context is not None:
            kind = cast(type[HttpProtocol], config.http_protocol_class)
            config.http_protocol_class = partial(TlsConnection, context, kind)  # type: ignore[assignment]
            config.ssl = None  # else asyncio would do the handshakes
        try:
            await super().startup(sockets)
        finally:
            config.ssl = context
        if self._announced:
            log.info("%srunning on %s", f"worker {os.getpid()} " if config.workers > 1 else "", self._url())
        if config.ssl is not None and config.ssl_certfile and config.ssl_keyfile:
            files = CertificateFiles(Path(config.ssl_certfile), Path(config.ssl_keyfile))
            self._certificate = CertificateReload(files, config.ssl)

    def _url(self) -> str:
        """Return the addresses on which it listens, as configured, with the port that was assigned."""
        host = f"[{self.config.host}]" if ":" in self.config.host else self.config.host
        port = self.servers[0].sockets[0].getsockname()[1]
        return f"{'https' if self.config.ssl else 'http'}://{host}:{port}"

    async def on_tick(self, counter: int) -> bool:
        if self._certificate is not None and counter % 10 == 0:  # once a second
            self._certificate.look()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await accept_queued(sock.fileno() for server in self.servers for sock in server.sockets)
        await super().shutdown(sockets)

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        with super().capture_signals():
            yield
            self._captured_signals.clear()


class BoundedApp:
    """Pages with limits on their connections, which apply regardless of the config."""

    def __init__(
        self,
        app: Any,
        limits: Callable[[], tuple[int | None, int | None]] = lambda: (None, None),
        proxied: Callable[[str], bool] = lambda address: False,
    ) -> None:
        """limits: the config's, of connections in all and from one address; None: the default.
        proxied: whether an address is that of a proxy, which many people share, as a local address may be."""
        self._app = app
        self.connections = ConnectionLimits(
            lambda: _with_defaults(*limits()), shared=lambda address: _is_local(address) or proxied(address)
        )

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


def _with_defaults(most: int | None, most_from_one: int | None) -> tuple[int, int]:
    return most or min(_MOST, default_limit()), most_from_one or _MOST_FROM_ONE


def _is_local(address: str) -> bool:
    """Whether an address is local; a Unix socket's peer, which has none, is."""
    try:
        return ip_address(address).is_loopback
    except ValueError:
        return True


def page_settings(
    app: BoundedApp, host: str = "127.0.0.1", port: int = 0, tls: CertificateFiles | None = None
) -> uvicorn.Config:
    """uvicorn's settings for an application of pages, on its own port."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=HttpProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=False,
        ssl_certfile=None if tls is None else tls.certificate,
        ssl_keyfile=None if tls is None else tls.key,
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_STOP_S,
    )
