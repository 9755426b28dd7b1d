"""Opens the evaluation side's HTTP connections. Imported with the first of them: `gateway check` opens none."""

from __future__ import annotations

from http.cookiejar import CookieJar, DefaultCookiePolicy

import httpx2

from gateway.config.egress import Egress

CONNECTIONS = 64
FAILURES = (httpx2.HTTPError, httpx2.InvalidURL)


def opened(connect_s: float, egress: Egress | None) -> httpx2.AsyncClient:
    """A client without redirects and cookies, and with no proxy but that of `egress`: requests to the gateway go
    nowhere else, and no server can recognise a client between calls."""
    limits = httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS, keepalive_expiry=3.5)
    timeout = httpx2.Timeout(None, connect=connect_s)
    nobody = CookieJar(DefaultCookiePolicy(allowed_domains=[]))
    transport = None if egress is None else EgressTransport(egress, limits)
    return httpx2.AsyncClient(
        transport=transport, limits=limits, timeout=timeout, trust_env=False, follow_redirects=False, cookies=nobody
    )


class EgressTransport(httpx2.AsyncBaseTransport):
    """Requests through the proxy, but for servers that are reached without it."""

    def __init__(self, egress: Egress, limits: httpx2.Limits) -> None:
        self._egress = egress
        self._direct = httpx2.AsyncHTTPTransport(limits=limits, trust_env=False)
        self._proxied = httpx2.AsyncHTTPTransport(limits=limits, trust_env=False, proxy=egress.proxy)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        proxied = self._egress.proxy_to(str(request.url)) is not None
        return await (self._proxied if proxied else self._direct).handle_async_request(request)

    async def aclose(self) -> None:
        await self._direct.aclose()
        await self._proxied.aclose()
