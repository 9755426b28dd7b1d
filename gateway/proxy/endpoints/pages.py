"""The paths that are not on the hot path: one router for models, health, metrics, feedback and other /v1/ paths."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from gateway.core.errors import GatewayError
from gateway.core.exchange import new_id
from gateway.core.reasons import Reason
from gateway.proxy.app import Gateway, unknown_path
from gateway.proxy.endpoints.feedback import Recall, feedback_page, no_recall
from gateway.proxy.endpoints.health import HealthPages
from gateway.proxy.endpoints.metrics import MetricsAccess, MetricsPage
from gateway.proxy.endpoints.models import ModelPages, speaks_anthropic
from gateway.proxy.endpoints.passthrough import METHODS, PassthroughCall, forward_or_refuse
from gateway.proxy.endpoints.responses_by_id import response_by_id
from gateway.proxy.recording.access_log import PageCall
from gateway.proxy.request.auth import PAGE
from gateway.proxy.types import ClientGone

Page = Callable[[Request], Awaitable[Response | dict[str, Any]]]
"""A handler. A dict is the JSON of a response with status 200."""

GatewayPage = Callable[[Gateway, Any, Any, Any], Awaitable[None]]
"""An ASGI application of one Gateway: (gateway, scope, receive, send)."""


class OtherPages:
    """The ASGI applications of these paths, for the main port and for a listener of the metrics."""

    def __init__(
        self,
        gateway: Callable[[], Gateway],
        show: Callable[[], None],
        registry: CollectorRegistry,
        *,
        loopback: bool,
        recall: Recall = no_recall,
        reasons: Callable[[], Sequence[Reason]] = tuple,
    ) -> None:
        """gateway: returns the Gateway in force. show: brings its metrics up to date. registry: of this process.
        loopback: the main port is reachable only from this machine. recall: reads verdicts on feedback. reasons:
        returns what does not work now, for /health."""
        self._gateway = gateway
        self._show = show
        self._registry = registry
        self._loopback = loopback
        self._recall = recall
        self._reasons = reasons

    def app(self) -> ASGIApp:
        """Everything on the main port, behind Starlette's router."""
        models = ModelPages(self._gateway)
        routes = [
            Route("/v1/models", self._said(models.models), methods=["GET"]),
            Route("/v1/models/{name:path}", self._said(models.model), methods=["GET"]),
            Route("/v1/key", self._said(models.key), methods=["GET"]),
            Route("/v1/feedback", self._said(feedback_page(self._gateway, self._recall)), methods=["POST"]),
            *self._observed(private=False),
            Route("/v1/responses/{id}", self._asgi(response_by_id), methods=["GET", "DELETE"]),
            Route("/v1/responses/{id}/cancel", self._asgi(response_by_id), methods=["POST"]),
            Route("/v1/responses/{id}/input_items", self._asgi(response_by_id), methods=["GET"]),
            Route("/v1/{path:path}", self._asgi(forward_or_refuse), methods=METHODS),
            Route("/{path:path}", self._said(_unknown), methods=METHODS),
        ]
        return _Logged(Router(routes, redirect_slashes=False), self._gateway)

    def private(self) -> ASGIApp:
        """Metrics and readiness for a listener of their own, open to everyone who reaches it."""
        return Router(self._observed(private=True))

    def _observed(self, *, private: bool) -> list[Route]:
        access = MetricsAccess(self._gateway, self._loopback, private)
        health = HealthPages(self._gateway, access, self._reasons)
        metrics = MetricsPage(access, self._show, self._registry)
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
                _note_refused(self._gateway(), request.scope, error)
                response = error_response(error, anthropic=speaks_anthropic(request))
            response.headers["x-request-id"] = request_id
            return response

        return answer

    def _asgi(self, page: GatewayPage) -> Any:
        return _Asgi(page, self._gateway)


async def _unknown(request: Request) -> Response:
    # Not request.url, which is built from the client's Host header and fails for some.
    raise unknown_path(request.scope["path"], request.method)


_APIS = (
    ("/v1/models", "models"), ("/v1/key", "key"), ("/v1/feedback", "feedback"), ("/v1/responses", "responses"),
    ("/v1/", "passthrough"),
    ("/health", "operational"), ("/ready", "operational"), ("/metrics", "operational"),
)  # fmt: skip


def _note_refused(gateway: Gateway, scope: Any, error: GatewayError) -> None:
    code = error.code or error.type
    gateway.metrics.counts.of(gateway.metrics.refused, str(error.status), code).n += 1
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
            response = error_response(error, anthropic=speaks_anthropic(Request(scope)))
            response.headers["x-request-id"] = new_id()
            await response(scope, receive, send)
        except ClientGone:
            pass


def for_browsers(app: Any, origins: tuple[str, ...]) -> Any:
    """Adds CORS headers for these origins to every response; without origins, returns the application itself."""
    if not origins:
        return app
    return CORSMiddleware(app, allow_origins=origins, allow_methods=["*"], allow_headers=["*"], expose_headers=["*"])


def json_response(body: Any, status: int = 200) -> Response:
    return Response(orjson.dumps(body), status, media_type="application/json")


def error_response(error: GatewayError, *, anthropic: bool = False) -> Response:
    headers = {name.decode(): value.decode() for name, value in error.headers()}
    body = error.anthropic_body() if anthropic else error.body()
    return Response(body, error.status, headers, media_type="application/json")
