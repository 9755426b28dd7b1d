"""The only HTTP of room 2: to the gateway, with a key of its own that is never sampled, and to scorer services.

It opens connections and reads answers; what is asked, and what an answer means, is its callers'.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2
import orjson

from gateway.core.completion import assemble, usage_of
from gateway.core.exchange import Target, Usage

MOST_BYTES = 16 << 20  # of one answer; a judge's is a thousandth of it, embeddings and replays may be large
CONNECT_S = 5.0
CONNECTIONS = 64
_NOTHING: Mapping[str, str] = MappingProxyType({})


class Unreachable(Exception):
    """No answer came: refused, lost, late, or larger than allowed. The message names the place, never a key."""


class DeadlinePassed(Unreachable):
    """No answer came within the deadline."""


@dataclass(frozen=True, slots=True)
class HttpReply:
    """An answer, of any status. seconds: from asking to its last byte. headers: names in lower case.

    exchange_id: the gateway's name for the call. target: who answered. usage: as the upstream counted it. Each is None
    where the answer does not say.
    """

    status: int
    body: bytes
    headers: Mapping[str, str]
    seconds: float
    exchange_id: str | None = None
    target: Target | None = None
    usage: Usage | None = None

    def object(self) -> dict[str, Any]:
        """The body as a JSON object. Raises ValueError, with the beginning of the body, when it is none."""
        try:
            value = orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise ValueError(f"the answer is not JSON ({error}): {self._beginning()}") from None
        if not isinstance(value, dict):
            raise ValueError(f"the answer is no JSON object: {self._beginning()}")
        return value

    def _beginning(self) -> str:
        return repr(self.body[:200].decode(errors="replace"))


class HttpConnections:
    """HTTP connections, kept open between calls. An async context manager.

    send() also works outside of it, and on another event loop (where golden cases run): then each call has a
    connection of its own.
    """

    def __init__(self, connect_s: float = CONNECT_S) -> None:
        self._connect_s = connect_s
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
    ) -> HttpReply:
        """Raises Unreachable."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        try:
            async with asyncio.timeout(deadline_s), self._session() as http:
                request = http.build_request(method, url, content=content, headers=dict(headers))
                response = await http.send(request, stream=True)
                try:
                    body = await _whole(response, most_bytes)
                finally:
                    await response.aclose()
        except TimeoutError:
            raise DeadlinePassed(f"{_place(url)} has not answered after {deadline_s:g} s") from None
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            said = str(error) or type(error).__name__
            raise Unreachable(f"{_place(url)} cannot be asked: {said}") from error
        return _reply(response, body, loop.time() - began)

    @asynccontextmanager
    async def _session(self) -> AsyncIterator[httpx2.AsyncClient]:
        if self._http is not None and self._loop is asyncio.get_running_loop():
            yield self._http
            return
        async with self._opened() as http:
            yield http

    def _opened(self) -> httpx2.AsyncClient:
        """No proxies of the environment, no redirects: what goes to the gateway goes nowhere else."""
        limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=3.5)
        timeout = httpx2.Timeout(None, connect=self._connect_s)
        return httpx2.AsyncClient(limits=limits, timeout=timeout, trust_env=False, follow_redirects=False)


class GatewayClient:
    """Asks the gateway. An async context manager.

    base_url: as in "http://127.0.0.1:8000/v1". api_key: of the gateway; None: it asks for none.
    """

    def __init__(self, base_url: str, api_key: str | None = None, connections: HttpConnections | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._connections = connections or HttpConnections()
        # A key that may ask for it (or an open gateway) leaves the calls out of the sample; a key with `sample: never`
        # does so in any case.
        self._headers = {
            "content-type": "application/json", "accept-encoding": "identity", "x-gateway-sample": "never",
            **({"authorization": f"Bearer {api_key}"} if api_key else {}),
        }  # fmt: skip

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._connections.__aexit__(*error)

    async def ask(
        self, path: str, body: Mapping[str, Any], *, deadline_s: float, headers: Mapping[str, str] = _NOTHING
    ) -> HttpReply:
        """What the gateway answers, whatever its status. path: as in "/chat/completions".

        The gateway hears of the deadline too, and gives up at it. Raises Unreachable.
        """
        sent = {**self._headers, "x-gateway-timeout-s": f"{deadline_s:.3f}", **headers}
        url = f"{self.base_url}/{path.lstrip('/')}"
        return await self._connections.send("POST", url, orjson.dumps(body), deadline_s=deadline_s, headers=sent)


async def _whole(response: httpx2.Response, most_bytes: int) -> bytes:
    pieces, size = [], 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > most_bytes:
            raise Unreachable(f"{_place(str(response.url))} answered with more than {most_bytes} bytes")
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
    try:
        said = orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    return usage_of(said.get("usage")) if isinstance(said, dict) else None


def _place(url: str) -> str:
    """A URL for messages: without a password, and without a query, which may hold a key."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
