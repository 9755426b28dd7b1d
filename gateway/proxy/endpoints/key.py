"""GET /v1/key: what the caller's own key may use, what it has used, and what is left."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway.proxy.app import Gateway
from gateway.proxy.request.auth import caller_of
from gateway.proxy.request.call import Caller


def key_page(gateway: Callable[[], Gateway]) -> Callable[[Request], Awaitable[Response]]:
    """The handler. gateway: returns the Gateway in force."""

    async def page(request: Request) -> Response:
        now = gateway()
        caller = caller_of(now.keys, request.scope)
        return Response(orjson.dumps(await _key(now, caller)), media_type="application/json")

    return page


async def _key(gateway: Gateway, caller: Caller) -> dict[str, Any]:
    """Never a secret, nor its digest."""
    return {
        "object": "key",
        "id": caller.id or None,
        "name": caller.name,
        "team": caller.team,
        "organization": caller.organization,
        "tags": caller.tags,
        "models": [*gateway.router.aliases(caller), *gateway.router.patterns(caller)],
        "limits": await gateway.limiter.figures(caller) if caller.scopes else [],
    }
