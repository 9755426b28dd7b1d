"""TCP connections to servers: straight, or through a tunnel of an HTTP proxy (CONNECT: RFC 9110, section 9.3.6).

A tunnel costs one round trip when a connection is opened, and nothing for a request.
"""

from __future__ import annotations

import asyncio
import re
import socket
from base64 import b64encode
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from gateway.proxy.http.client.resolver import NO_FILES, Resolver, open_socket

_MOST_BYTES = 16_384
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: ([^\r\n]*))?")


@dataclass(frozen=True, slots=True)
class OutboundProxy:
    """An HTTP proxy."""

    hostname: str
    port: int
    credential: bytes = b""
    """Value of `proxy-authorization`; b"" if it asks for none."""

    @classmethod
    def parse(cls, url: str) -> OutboundProxy:
        """Raises ValueError if `url` is not http://[user:password@]host[:port]; the message names no password."""
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname:
            raise ValueError(f'proxy "{parts.scheme}://{parts.hostname}" is not http://[user:password@]host[:port]')
        credential = b""
        if parts.username is not None:
            login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            credential = b"Basic " + b64encode(login.encode())
        return cls(parts.hostname, parts.port or 80, credential)

    def __str__(self) -> str:
        return f"{self.hostname}:{self.port}"


class Dialer:
    """Opens connections. proxy: None for direct ones."""

    def __init__(self, resolver: Resolver, proxy: OutboundProxy | None = None) -> None:
        self._resolver = resolver
        self._proxy = proxy

    async def connect(self, hostname: str, port: int) -> socket.socket:
        """A socket on which the server's bytes begin. Raises OSError."""
        proxy = self._proxy
        if proxy is None:
            return await open_socket(await self._resolver.addresses(hostname, port))
        try:
            sock = await open_socket(await self._resolver.addresses(proxy.hostname, proxy.port))
        except OSError as error:
            if error.errno in NO_FILES:
                raise
            raise OSError(f"the proxy {proxy} cannot be reached: {error}") from error
        try:
            await _open_tunnel(sock, proxy, hostname, port)
        except BaseException:
            sock.close()
            raise
        return sock


async def _open_tunnel(sock: socket.socket, proxy: OutboundProxy, hostname: str, port: int) -> None:
    host = f"[{hostname}]" if ":" in hostname else hostname
    server = f"{host}:{port}".encode("ascii")  # a name outside ASCII is in its IDNA form here
    lines = [b"CONNECT %b HTTP/1.1" % server, b"host: %b" % server]
    if proxy.credential:
        lines.append(b"proxy-authorization: " + proxy.credential)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"\r\n".join(lines) + b"\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = await loop.sock_recv(sock, 4096)
        head += data
        if not data or len(head) > _MOST_BYTES:
            raise OSError(f"the proxy {proxy} ended the connection instead of opening a tunnel to {host}:{port}")
        if b"\r\n\r\n" in head[:-4]:
            break
    status = _STATUS.match(head)
    if status is None:
        raise OSError(f"the proxy {proxy} did not answer by HTTP; is it an HTTP proxy?")
    if not status[1].startswith(b"2"):
        reason = (status[2] or b"").decode("latin-1")[:100]
        raise OSError(
            f"the proxy {proxy} refused a tunnel to {host}:{port}: HTTP {status[1].decode()} {reason}".rstrip()
        )
    if not head.endswith(b"\r\n\r\n"):
        raise OSError(f"the proxy {proxy} sent bytes before the tunnel to {host}:{port} was used")
