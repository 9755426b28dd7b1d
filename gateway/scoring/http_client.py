"""The evaluation side's only HTTP client: to the gateway, with a key that is never sampled, and to scorer services.

It opens connections and reads replies; the caller interprets them.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlsplit

import orjson

from gateway.config.egress import Egress
from gateway.core.completion import assemble, usage_of
from gateway.core.exchange import Target, Usage
from gateway.core.json_values import parse_object

if TYPE_CHECKING:
    import httpx2

MOST_BYTES = 16 << 20  # of one answer; a judge's is a thousandth of it, embeddings and replays may be large
CONNECT_S = 5.0
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Unreachable(Exception):
    """The server gave no reply: refused, lost, late, or larger than allowed. The message names the URL, never a key."""


class DeadlinePassed(Unreachable):
    """The deadline passed without a reply."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """A reply of any status. A field is None where the reply does not have it."""

    status: int
    body: bytes
    headers: Mapping[str, str]
    """Names in lower case."""
    seconds: float
    """Seconds from sending the request to the last byte."""
    exchange_id: str | None = None
    """The gateway's id of the call."""
    target: Target | None = None
    """The upstream and model that answered."""
    usage: Usage | None = None
    """Usage as the upstream counted it."""

    def object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ValueError, with the beginning of the body, for anything else."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"the answer is not JSON ({error}): {self._beginning()}") from None
        if not isinstance(value, dict):
            raise ValueError(f"the answer is not a JSON object: {self._beginning()}")
        return value

    def _beginning(self) -> str:
        return repr(self.body[:200].decode(errors="replace"))


class StreamedReply:
    """A reply of any status that is still arriving."""

    def __init__(self, response: httpx2.Response, most_bytes: int) -> None:
        self._response = response
        self._most_bytes = most_bytes
        self.status = response.status_code
        self.headers = {name.lower(): value for name, value in response.headers.items()}

    async def pieces(self) -> AsyncIterator[bytes]:
        """The body as it arrives. Raises Unreachable where it is larger than allowed."""
        size = 0
        async for piece in self._response.aiter_raw():
            size += len(piece)
            if size > self._most_bytes:
                raise Unreachable(f"{_shown(str(self._response.url))} answered with more than {self._most_bytes} bytes")
            yield piece

    def reply(self, body: bytes, seconds: float) -> HttpReply:
        """The whole reply, once all pieces are there."""
        return _reply(self._response, body, seconds)


class HttpConnections:
    """HTTP connections, kept open between calls. An async context manager.

    send() also works outside of it, and on another event loop (where golden cases run): then each call has a
    connection of its own.
    """

    def __init__(self, connect_s: float = CONNECT_S, egress: Egress | None = None) -> None:
        """egress: the proxy of servers outside; None if there is none."""
        self._connect_s = connect_s
        self._egress = egress
        self._http: httpx2.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._http, self._loop = self._opened(), asyncio.get_running_loop()
        return self

    async def __aexit__(self, *error: object) -> None:
        http, self._http, self._loop = self._http, None, None
        if http is not None:
            await http.aclose()

    async def send(
        self,
        method: str,
        url: str,
        content: bytes | None = None,
        *,
        deadline_s: float,
        headers: Mapping[str, str] = _NOTHING,
        most_bytes: int = MOST_BYTES,
        address: str | None = None,
    ) -> HttpReply:
        """address: the IP address to connect to; None means that the host name is looked up. Raises Unreachable."""
        began = time.perf_counter()  # and not the loop's time: uvloop, which others may bring, rounds it to 1 ms
        async with self._response(method, url, content, headers, deadline_s, address) as response:
            body = await _whole(response, most_bytes)
        return _reply(response, body, time.perf_counter() - began)

    @asynccontextmanager
    async def streaming(
        self,
        url: str,
        content: bytes,
        *,
        deadline_s: float,
        headers: Mapping[str, str] = _NOTHING,
        most_bytes: int = MOST_BYTES,
    ) -> AsyncIterator[StreamedReply]:
        """A POST whose reply is read while it arrives. The deadline is that of the whole context. Raises Unreachable,
        also while the pieces are read."""
        async with self._response("POST", url, content, headers, deadline_s) as response:
            yield StreamedReply(response, most_bytes)

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        url: str,
        content: bytes | None,
        headers: Mapping[str, str],
        deadline_s: float,
        address: str | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        from gateway.scoring.http_opening import FAILURES

        try:
            async with asyncio.timeout(deadline_s), self._session() as http:
                request = http.build_request(method, url, content=content, headers=dict(headers))
                if address is not None:
                    request.extensions["sni_hostname"] = request.url.host  # and the name in the certificate
                    request.url = request.url.copy_with(host=address)
                response = await http.send(request, stream=True)
                try:
                    yield response
                finally:
                    await response.aclose()
        except TimeoutError:
            raise DeadlinePassed(f"{_shown(url)} did not answer within {deadline_s:g} s") from None
        except (*FAILURES, OSError) as error:
            cause = str(error) or type(error).__name__
            raise Unreachable(f"{_shown(url)} cannot be reached: {cause}") from error

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[httpx2.AsyncClient]:
        if self._http is not None and self._loop is asyncio.get_running_loop():
            yield self._http
            return
        async with self._opened() as http:
            yield http

    def _opened(self) -> httpx2.AsyncClient:
        from gateway.scoring.http_opening import opened

        return opened(self._connect_s, self._egress)


class GatewayClient:
    """Calls the gateway. An async context manager.

    base_url: as in "http://127.0.0.1:8000/v1". api_key: None: the gateway is open.
    """

    def __init__(self, base_url: str, api_key: str | None = None, connections: HttpConnections | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._connections = connections or HttpConnections()
        # The gateway honours the header for keys that may send it and where it is open; a key with `sample: never` is
        # left out of the sample in any case.
        self._headers = {
            "content-type": "application/json",
            "accept-encoding": "identity",
            "x-gateway-sample": "never",
            **({"authorization": f"Bearer {api_key}"} if api_key else {}),
        }

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connections.__aexit__(*error)

    async def ask(
        self, path: str, body: Mapping[str, Any], *, deadline_s: float, headers: Mapping[str, str] = _NOTHING
    ) -> HttpReply:
        """Sends one request and returns the reply, whatever its status. path: as in "/chat/completions".

        The gateway is told the deadline and gives up at it. Raises Unreachable.
        """
        sent = {**self._headers, "x-gateway-timeout-s": f"{deadline_s:.3f}", **headers}
        url = f"{self.base_url}/{path.lstrip('/')}"
        return await self._connections.send("POST", url, orjson.dumps(body), deadline_s=deadline_s, headers=sent)

    @asynccontextmanager
    async def streaming(
        self,
        path: str,
        body: Mapping[str, Any],
        *,
        deadline_s: float,
        headers: Mapping[str, str] = _NOTHING,
        most_bytes: int = MOST_BYTES,
    ) -> AsyncIterator[StreamedReply]:
        """Sends one request as `ask`, for a reply that is read while it arrives; see HttpConnections.streaming."""
        sent = {**self._headers, "x-gateway-timeout-s": f"{deadline_s:.3f}", **headers}
        url = f"{self.base_url}/{path.lstrip('/')}"
        async with self._connections.streaming(
            url, orjson.dumps(body), deadline_s=deadline_s, headers=sent, most_bytes=most_bytes
        ) as reply:
            yield reply


async def _whole(response: httpx2.Response, most_bytes: int) -> bytes:
    pieces, size = [], 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > most_bytes:
            raise Unreachable(f"{_shown(str(response.url))} answered with more than {most_bytes} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _reply(response: httpx2.Response, body: bytes, seconds: float) -> HttpReply:
    headers = {name.lower(): value for name, value in response.headers.items()}
    upstream, model = headers.get("x-gateway-upstream"), headers.get("x-gateway-model")
    return HttpReply(
        status=response.status_code,
        body=body,
        headers=headers,
        seconds=seconds,
        exchange_id=headers.get("x-request-id"),
        target=Target(upstream, model) if upstream and model else None,
        usage=_usage(headers.get("content-type", ""), body),
    )


def _usage(content_type: str, body: bytes) -> Usage | None:
    if "event-stream" in content_type:
        return assemble("chat", True, body).usage
    return usage_of((parse_object(body) or {}).get("usage"))


def _shown(url: str) -> str:
    """A URL for messages: without a password, and without a query, which may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
