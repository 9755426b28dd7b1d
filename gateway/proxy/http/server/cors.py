"""CORS: the headers with which browsers let the pages of other origins read answers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from starlette.middleware.cors import CORSMiddleware

from gateway.proxy.http.server.protocol import DirectApp
from gateway.proxy.http.server.response_writer import ResponseWriter
from gateway.proxy.request.endpoints import Endpoint
from gateway.proxy.types import Headers, HttpRequest


def pages_with_cors(pages: Any, origins: Collection[str]) -> Any:
    """The ASGI application with CORS headers for these origins, and an answer to browsers that ask first."""
    return CORSMiddleware(pages, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"])


class DirectAppWithCors:
    """A DirectApp whose answers have the same headers."""

    def __init__(self, app: DirectApp, origins: Collection[str]) -> None:
        self.outbox, self.find, self.canonical = app.outbox, app.find, app.canonical
        self._app = app
        self._origins = frozenset(origins)

    async def answer(self, endpoint: Endpoint, request: HttpRequest, client: ResponseWriter) -> None:
        client.more_headers = self._headers(request.fields.get(b"origin"))
        await self._app.answer(endpoint, request, client)

    def _headers(self, origin: bytes | None) -> Headers:
        found = [(b"vary", b"Origin")]
        if origin is not None:
            found.append((b"access-control-expose-headers", b"*"))
            allowed = b"*" if "*" in self._origins else origin
            if allowed == b"*" or origin.decode("latin-1") in self._origins:
                found.append((b"access-control-allow-origin", allowed))
        return found
