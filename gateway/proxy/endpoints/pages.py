"""The paths that are not on the hot path: one router for /, models, health, metrics, feedback and other /v1/ paths."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from gateway.config.metric_labels import OTHER
from gateway.core.errors import ErrorShape, GatewayError
from gateway.core.exchange import new_id
from gateway.core.reasons import Reason
from gateway.proxy.app import Gateway, unknown_path
from gateway.proxy.endpoints.feedback import Recall, feedback_page
from gateway.proxy.endpoints.front_page import FrontPage
from gateway.proxy.endpoints.health import HealthPages
from gateway.proxy.endpoints.metrics import MetricsAccess, MetricsPage
from gateway.proxy.endpoints.models import ModelPages
from gateway.proxy.endpoints.passthrough import METHODS, PassthroughCall, forward_or_refuse
from gateway.proxy.endpoints.responses_by_id import METHODS_BY_PATH, response_by_id
from gateway.proxy.recording.access_log import PageCall
from gateway.proxy.request.auth import PAGE
from gateway.proxy.request.vendor_paths import VENDOR_PREFIXES, api_of
from gateway.proxy.types import ClientGone

Page = Callable[[Request], Awaitable[Response | dict[str, Any]]]
"""A handler. A dict is the JSON of a response with status 200."""

GatewayPage = Callable[[Gateway, Any, Any, Any], Awaitable[None]]
"""An ASGI application of one Gateway: (gateway, scope, receive, send)."""


@dataclass
class OtherPages:
    """The ASGI applications of these paths, for the main port and for a listener of the metrics."""

    gateway: Callable[[], Gateway]
    """Returns the Gateway in force."""
    show: Callable[[], None]
    """Brings the Gateway's metrics up to date."""
    registry: CollectorRegistry
    loopback: bool
    """Whether the main port is reachable only from this machine."""
    recall: Recall
    """Reads verdicts on feedback."""
    reasons: Callable[[], Sequence[Reason]]
    """Returns what does not work now, for /health."""

    def app(self) -> ASGIApp:
        """Builds the application of the main port, behind Starlette's router."""
        models = ModelPages(self.gateway)
        routes = [
            *(Route(f"{version}/models", self._said(models.models), methods=["GET"]) for version in _VERSIONS),
            Route("/v1/models/{model}/operations/{id}", _Asgi(forward_or_refuse, self.gateway), methods=METHODS),
            Route("/v1/models/{name:path}", self._said(models.model), methods=["GET"]),
            *(Route(f"{version}/models/{{name}}", self._said(models.model), methods=["GET"]) for version in _VERSIONS),
            Route("/v1/key", self._said(models.key), methods=["GET"]),
            Route("/v1/feedback", self._said(feedback_page(self.gateway, self.recall)), methods=["POST"]),
            *self._observed(private=False),
            *(
                Route(f"/v1/responses/{{id}}{below}", _Asgi(response_by_id, self.gateway), methods=METHODS)
                for below in METHODS_BY_PATH
            ),
            Route("/v1/{path:path}", _Asgi(forward_or_refuse, self.gateway), methods=METHODS),
            *(
                Route(f"{prefix}{{path:path}}", _Asgi(forward_or_refuse, self.gateway), methods=METHODS)
                for prefix in VENDOR_PREFIXES
            ),
            Route("/", self._said(FrontPage(self.gateway)), methods=["GET"]),
            Route("/{path:path}", self._said(_unknown), methods=METHODS),
        ]
        return _Logged(Router(routes, redirect_slashes=False), self.gateway)

    def private(self) -> ASGIApp:
        """Metrics and readiness for a listener of their own, open to everyone who reaches it."""
        return Router(self._observed(private=True))

    def _observed(self, *, private: bool) -> list[Route]:
        access = MetricsAccess(self.gateway, self.loopback, private)
        health = HealthPages(self.gateway, access, self.reasons)
        metrics = MetricsPage(access, self.show, self.registry)
        return [
            Route("/health", self._said(health.health), methods=["GET"]),
            Route("/ready", self._said(health.ready), methods=["GET"]),
            Route("/metrics", self._said(metrics), methods=["GET"]),
        ]

    def _said(self, page: Page) -> Callable[[Request], Awaitable[Response]]:
        """Wraps a page so that its errors have OpenAI's shape and every response has a request id."""

        async def answer(request: Request) -> Response:
            request_id = new_id()
            try:
                made = await page(request)
                response = made if isinstance(made, Response) else json_response(made)
            except GatewayError as error:
                _note_refused(self.gateway(), request.scope, error)
                response = error_response(error, _shape(request), request_id)
            response.headers["x-request-id"] = request_id
            return response

        return answer


async def _unknown(request: Request) -> Response:
    # Not request.url, which is built from the client's Host header and fails for some.
    raise unknown_path(request.scope["path"], request.method)


_VERSIONS = ("/v1", "/v1beta", "/v1alpha")
"""Versions of the APIs whose clients list models."""
_APIS = (
    *((f"{version}/models", "models") for version in _VERSIONS),
    ("/v1/key", "key"),
    ("/v1/feedback", "feedback"),
    ("/v1/responses", "responses"),
    ("/v1/", "passthrough"),
    ("/health", "operational"),
    ("/ready", "operational"),
    ("/metrics", "operational"),
    *((prefix, "passthrough") for prefix in VENDOR_PREFIXES),
)


def _note_refused(gateway: Gateway, scope: Any, error: GatewayError) -> None:
    code = error.code or error.type
    gateway.metrics.counts.of(gateway.metrics.refused, OTHER, str(error.status), code).n += 1
    page: PageCall | None = scope.get(PAGE)
    if page is not None:
        page.error = code


class _Logged:
    """Writes an access line for each call; of probes and scrapes only for those that are refused."""

    def __init__(self, app: ASGIApp, gateway: Callable[[], Gateway]) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        started = time.monotonic()
        api = next((name for prefix, name in _APIS if scope["path"].startswith(prefix)), "other")
        page = scope[PAGE] = PageCall(api, (scope.get("client") or ("",))[0])

        async def noted(message: Any) -> None:
            if message["type"] == "http.response.start":
                page.status = message["status"]
                page.id = next((v.decode("latin-1") for n, v in message["headers"] if n == b"x-request-id"), "")
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except ClientDisconnect:
            pass  # the client left before its request was complete
        finally:
            access = self._gateway().access
            if access is not None and not (api == "operational" and page.status < 400):
                access.note_page(page, scope["headers"], started)


class _Asgi:
    """An ASGI application, which Starlette recognises by its being an instance; functions are pages to it.

    Errors have OpenAI's shape; a client that left gets no response.
    """

    def __init__(self, page: GatewayPage, gateway: Callable[[], Gateway]) -> None:
        self._page = page
        self._gateway = gateway

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        gateway = self._gateway()
        call = PassthroughCall(gateway, receive, send)
        try:
            await call.run(partial(self._page, gateway), scope)
        except GatewayError as error:
            _note_refused(gateway, scope, error)
            if call.started:
                return  # too late for a status: the connection closes before the response's end
            request_id = new_id()
            response = error_response(error, _shape(Request(scope)), request_id)
            response.headers["x-request-id"] = request_id
            await response(scope, receive, send)
        except ClientGone:
            pass


def json_response(body: Any) -> Response:
    return Response(orjson.dumps(body), media_type="application/json")


def error_response(error: GatewayError, shape: ErrorShape, request_id: str) -> Response:
    found = (*error.headers(), *error.headers_for(shape, request_id))
    headers = {name.decode(): value.decode() for name, value in found}
    return Response(error.body_for(shape), error.status, headers, media_type="application/json")


def _shape(request: Request) -> ErrorShape:
    return api_of(request.scope["path"], request.scope["headers"])
