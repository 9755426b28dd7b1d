"""A transport over the package httpx2, for HTTP/2 and outbound proxies, at ten times the cost of http1.py.

Imported only if an upstream is configured to use it. It uses httpx2's transport, not its client: no cookies shared
between callers, no redirects, no added headers, no decoding. Differences from http1.py: an early reply to a streamed
upload is seen only when the upload has ended; `connect_s` applies to TCP and to TLS separately; a reused connection
that dies inside a response head is retried too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import httpx2

from gateway.core.errors import BadResponse, BodyCut, ConnectFailed, ConnectionLost, ConnectTimeout, TransportError
from gateway.proxy.http.client.framing import MAX_HEADERS, counted
from gateway.proxy.http.client.tls import UpstreamTls
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.types import Headers


class HttpxReply:
    def __init__(self, response: httpx2.Response, closing: set[asyncio.Task[None]]) -> None:
        self.status = response.status_code
        self.headers: Headers = [(name.lower(), value) for name, value in response.headers.raw]
        self.sink: Callable[[bytes], bool] | None = None
        self._stream = cast(httpx2.AsyncByteStream, response.stream)
        self._parts = cast(AsyncGenerator[bytes], aiter(self._stream))
        self._closing = closing
        self._over: TransportError | None = None  # what further chunk() calls raise
        self._closed = False

    async def chunk(self) -> bytes:
        if self._over is not None:
            raise self._over
        if self._closed:
            return b""
        try:
            with _wire_errors(BodyCut):
                return await self._next()
        except TransportError as error:
            self._over = error
            raise
        except asyncio.CancelledError:
            self.close()
            raise

    def complete_body(self) -> bytes | None:
        return None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._over = BodyCut("the reply was closed before its end")
        # httpx2 can only close by awaiting, and close() must not wait: the transport holds the task until it is done.
        task = asyncio.get_running_loop().create_task(self._aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def _next(self) -> bytes:
        async for part in self._parts:
            if part:
                return part
        self._closed = True
        await self._stream.aclose()
        return b""

    async def _aclose(self) -> None:
        try:
            await self._parts.aclose()
            await self._stream.aclose()
        except httpx2.HTTPError:
            return  # it was being thrown away


class HttpxTransport:
    """A Transport. proxy: "http://user:password@host:port" or socks5://; tls: the files of its connections."""

    def __init__(
        self,
        *,
        http2: bool = False,
        proxy: str | None = None,
        tls: UpstreamTls | None = None,
        idle_s: float = 3.5,
        max_connections: int | None = None,
    ) -> None:
        limits = httpx2.Limits(max_connections=max_connections, max_keepalive_connections=None, keepalive_expiry=idle_s)
        self._transport = httpx2.AsyncHTTPTransport(
            verify=(tls or UpstreamTls()).context(),
            trust_env=False,
            http2=http2,
            limits=limits,
            proxy=proxy,
        )
        self._closing: set[asyncio.Task[None]] = set()

    async def send(self, request: UpstreamRequest, connect_s: float) -> HttpxReply:
        try:
            return await self._attempt(request, connect_s)
        except _Stale as stale:
            if isinstance(request.body, AsyncIterator):
                raise ConnectionLost(str(stale)) from stale
        try:
            return await self._attempt(request, connect_s)
        except _Stale as stale:
            raise ConnectionLost(str(stale)) from stale

    @property
    def closing(self) -> int:
        """The number of closed replies that are still being cleaned up."""
        return len(self._closing)

    async def aclose(self) -> None:
        await asyncio.gather(*self._closing)
        await self._transport.aclose()

    async def _attempt(self, request: UpstreamRequest, connect_s: float) -> HttpxReply:
        """Raises _Stale if a reused connection ended without a reply."""
        opened: list[str] = []

        async def trace(event: str, _: dict[str, Any]) -> None:
            if event.startswith("connection.connect"):
                opened.append(event)

        with _wire_errors(ConnectionLost):
            try:
                response = await self._transport.handle_async_request(_translate(request, connect_s, trace))
            except (httpx2.RemoteProtocolError, httpx2.ReadError, httpx2.WriteError) as error:
                if opened or not _ended(error):
                    raise
                raise _Stale(f"a reused connection ended before a response head: {error}") from error
        reply = HttpxReply(response, self._closing)
        if reply.status == 101 or len(reply.headers) > MAX_HEADERS or _two_lengths(reply.headers):
            reply.close()
            raise BadResponse(f"HTTP {reply.status}: 101, two body lengths or over {MAX_HEADERS} headers")
        return reply


class _Stale(Exception):
    pass


def _translate(request: UpstreamRequest, connect_s: float, trace: Any) -> httpx2.Request:
    # "target" carries the path byte for byte; httpx2.URL would normalise its escapes.
    headers, body = request.headers, request.join()
    if request.length is not None and not isinstance(body, bytes):
        headers = [*headers, (b"content-length", b"%d" % request.length)]
        body = counted(body, request.length)
    return httpx2.Request(
        request.method.decode("ascii"),
        request.origin + "/",
        headers=headers,
        content=body,
        extensions={"timeout": {"connect": connect_s, "pool": connect_s}, "target": request.path, "trace": trace},
    )


def _two_lengths(headers: Headers) -> bool:
    names = [name for name, _ in headers]
    return b"transfer-encoding" in names and b"content-length" in names


def _ended(error: httpx2.HTTPError) -> bool:
    """httpx2 raises one class for a peer that sends garbage and for one that disconnects; only the message differs."""
    if isinstance(error, httpx2.RemoteProtocolError):
        return any(words in str(error) for words in ("disconnected", "closed connection", "ConnectionTerminated"))
    return True


@contextmanager
def _wire_errors(lost: type[ConnectionLost] | type[BodyCut]) -> Iterator[None]:
    try:
        yield
    except (httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
        raise ConnectTimeout(f"no connection within the limit: {error}") from error
    except (httpx2.ConnectError, httpx2.ProxyError, httpx2.UnsupportedProtocol, httpx2.InvalidURL) as error:
        raise ConnectFailed(f"cannot connect: {error}") from error
    except httpx2.LocalProtocolError as error:
        raise ValueError(f"not a request that HTTP can carry: {error}") from error
    except httpx2.TransportError as error:
        kind = lost if _ended(error) else BadResponse
        raise kind(str(error) or type(error).__name__) from error
