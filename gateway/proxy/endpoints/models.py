"""GET /v1/models and GET /v1/key: the models that the caller's own key may use, the amounts that it has used, and the
remainders."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request

from gateway.core.errors import ErrorShape
from gateway.proxy.app import Gateway
from gateway.proxy.request.auth import caller_of
from gateway.proxy.request.vendor_paths import api_of

OWNER = "assay-gateway"


class ModelPages:
    """The handlers. Clients of Anthropic's and of Gemini's APIs get their own lists, and their own forms of a model."""

    def __init__(self, gateway: Callable[[], Gateway]) -> None:
        """gateway: returns the Gateway in force."""
        self._gateway = gateway
        self._started = int(time.time())

    async def models(self, request: Request) -> dict[str, Any]:
        gateway = self._gateway()
        caller = caller_of(gateway.keys, request.scope)
        aliases = gateway.router.listed(caller)
        if (api := _api(request)) == "gemini":
            return {"models": [_gemini_model(alias) for alias in aliases if gateway.router.speaks(alias, "gemini")]}
        if api == "anthropic":
            data = [self._anthropic_model(alias) for alias in aliases]
            ends = {"first_id": aliases[0], "last_id": aliases[-1]} if aliases else {"first_id": None, "last_id": None}
            return {"data": data, "has_more": False, **ends}
        return {"object": "list", "data": [self._model(alias) for alias in aliases]}

    async def model(self, request: Request) -> dict[str, Any]:
        gateway = self._gateway()
        caller = caller_of(gateway.keys, request.scope)
        alias = request.path_params["name"]
        if gateway.router.pattern_for(alias, caller) is None:
            gateway.router.check(alias, caller)
        if (api := _api(request)) == "gemini":
            return _gemini_model(alias)
        return self._anthropic_model(alias) if api == "anthropic" else self._model(alias)

    async def key(self, request: Request) -> dict[str, Any]:
        """Describes the caller's key; never with a secret, nor its digest."""
        gateway = self._gateway()
        caller = caller_of(gateway.keys, request.scope)
        return {
            "object": "key",
            "id": caller.id or None,
            "name": caller.name,
            "team": caller.team,
            "organization": caller.organization,
            "person": caller.person,
            "tags": caller.tags,
            "models": [*gateway.router.aliases(caller), *gateway.router.patterns(caller)],
            "limits": await gateway.limiter.figures(caller) if caller.scopes else [],
        }

    def _model(self, alias: str) -> dict[str, Any]:
        model = self._gateway().config.models.get(alias)
        more = {} if model is None else model.listed
        return {**more, "id": alias, "object": "model", "created": self._started, "owned_by": OWNER}

    def _anthropic_model(self, alias: str) -> dict[str, Any]:
        created = datetime.fromtimestamp(self._started, UTC).isoformat()
        return {"type": "model", "id": alias, "display_name": alias, "created_at": created, "lifecycle": "active"}


def _api(request: Request) -> ErrorShape:
    return api_of(request.scope["path"], request.scope["headers"])


def _gemini_model(alias: str) -> dict[str, Any]:
    methods = ["generateContent", "streamGenerateContent", "countTokens"]
    return {"name": f"models/{alias}", "displayName": alias, "supportedGenerationMethods": methods}
