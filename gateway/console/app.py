"""The console as an ASGI application: authentication, bodies, errors and headers around what the features offer.

Operations of the admin API are collected in api.py, pages here.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import fields, replace
from functools import cache
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from gateway import __version__
from gateway.console import login
from gateway.console.access import Actor, AdminTokens, FailedLogins, bearer
from gateway.console.admin import Admin
from gateway.console.api import AdminCall, Operation, ShownSecret, collected_operations
from gateway.console.errors import AdminError, BodyTooLarge, InvalidBody, MethodNotThere, NoToken, NotThere
from gateway.console.frame import (
    ROOT,
    LoginWays,
    Page,
    PageRoute,
    PageServices,
    PagesSetup,
    endpoint,
    protected,
    static_files,
    static_versions,
)
from gateway.console.openapi import describe
from gateway.console.sessions import Sessions
from gateway.core.networks import is_loopback
from gateway.core.reasons import on_page
from gateway.features import FEATURES
from gateway.features.manifest import in_order, load
from gateway.observability.proxy_metrics import ConsoleMetrics
from gateway.observability.worker_metrics import CONTENT_TYPE, OPENMETRICS_TYPE, exposition, wants_openmetrics
from gateway.proxy.request.client_address import client_address, from_this_machine

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 1_000_000
_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff", "server": "assay-gateway"}

_TYPES = {".css": "text/css", ".js": "text/javascript", ".txt": "text/plain", ".svg": "image/svg+xml"}
_YEAR_S = 31_536_000

Endpoint = Callable[[Request], Awaitable[Response]]


class ConsoleApp:
    """The application of one process."""

    def __init__(self, admin: Admin, failed: FailedLogins | None = None, pages: PagesSetup | None = None) -> None:
        """Serves the admin API, and pages where their services are given."""
        self._admin = admin
        self._pages = pages
        self._failed = failed or FailedLogins()
        self._registry = CollectorRegistry()
        self._metrics = ConsoleMetrics(self._registry)

    def app(self) -> Starlette:
        found = collected_operations()
        table = tuple(operation for feature in found for operation in feature.operations)

        @cache
        def description() -> bytes:
            return orjson.dumps(describe(found))

        async def openapi(request: Request) -> Response:
            return _answer(description())

        routes = [
            Route("/health", self._health, methods=["GET"]),
            Route("/ready", self._ready, methods=["GET"]),
            Route("/metrics", self._scrape, methods=["GET"]),
            Route("/admin/openapi.json", openapi, methods=["GET"]),
            *(Route(path, self._endpoint(found), methods=list(found)) for path, found in _by_path(table).items()),
            *(page_routes() if self._pages is not None else ()),
        ]
        handlers: Mapping[Any, Any] = {HTTPException: _http_error, Exception: _internal_error}
        app = Starlette(routes=routes, exception_handlers=handlers)
        app.router.redirect_slashes = False
        if self._pages is not None:
            ways = LoginWays(self._actor_of, self._address, self._note_failure, self._peer)
            _attach_pages(app, self._admin, self._pages, ways)
        return app

    async def _health(self, request: Request) -> Response:
        """Answers that this process runs, with its failing parts; only requests from this machine see the causes."""
        reasons = on_page(self._admin.reasons(), causes=_from_this_machine(request))
        return _answer(orjson.dumps({"status": "ok", "version": __version__, "reasons": reasons}))

    async def _ready(self, request: Request) -> Response:
        """Answers whether keys can be changed and published now."""
        publisher = self._admin.publisher
        store = await self._admin.store.answers()
        ready = store and not publisher.trouble
        body = {"status": "ready" if ready else "not ready", "store": store}
        return _answer(orjson.dumps(body | {"published": not publisher.trouble}), 200 if ready else 503)

    async def _scrape(self, request: Request) -> Response:
        """Answers a Prometheus scrape with counts only: no name, key or address."""
        publisher = self._admin.publisher
        self._metrics.published_version.set(publisher.version)
        self._metrics.unpublished.set(bool(publisher.trouble))
        self._metrics.failing_parts.set(len(self._admin.reasons()))
        openmetrics = wants_openmetrics(request.headers.get("accept", ""))
        media_type = OPENMETRICS_TYPE if openmetrics else CONTENT_TYPE
        page = exposition(self._registry, openmetrics=openmetrics)
        return Response(page, headers=_HEADERS, media_type=media_type.decode())

    def _endpoint(self, found: Mapping[str, Operation]) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            response = await answer(request)
            self._metrics.admin_requests.labels(request.method, str(response.status_code)).inc()
            return response

        async def answer(request: Request) -> Response:
            operation = found["GET" if request.method == "HEAD" else request.method]
            try:
                call = await (self._callers_call if operation.of_key else self._actors_call)(request, operation)
                done = await operation.handler(call)
            except AdminError as error:
                return _refusal(error)
            except ClientDisconnect:
                return Response(status_code=400)
            if operation.method != "GET":
                path = ascii(request.scope["path"])[1:-1]  # it may hold what moves the cursor of a terminal
                log.info("admin: %s (%s): %s %s", call.actor.name, call.actor.title, request.method, path)
            if isinstance(done.body, str):
                return Response(done.body, done.status, _HEADERS, media_type="text/csv")
            return _answer(orjson.dumps(done.body), done.status)

        return endpoint

    async def _actors_call(self, request: Request, operation: Operation) -> AdminCall:
        """The call of the holder of an admin token. Raises NoToken, TooManyFailures, NotPermitted, InvalidBody."""
        actor = self._actor(request, operation.basic)
        (actor.require if operation.scoped else actor.require_everywhere)(operation.role, "do this")
        body = await _body(request) if operation.body is not None else {}
        return AdminCall(self._admin.within(actor.scope), actor, request.path_params, request.query_params, body)

    async def _callers_call(self, request: Request, operation: Operation) -> AdminCall:
        """The call of somebody whose secret the operation itself looks at. Raises NoToken."""
        secret = bearer(request.headers.get("authorization", ""))
        shown = ShownSecret(secret, self._peer(request))
        return AdminCall(self._admin, Actor("a caller", operation.role), request.path_params, {}, {}, shown)

    def _actor(self, request: Request, basic: bool) -> Actor:
        """Raises NoToken, TooManyFailures."""
        return self._actor_of(request, request.headers.get("authorization", ""), basic=basic)

    def _actor_of(self, request: Request, authorization: str, *, basic: bool = False) -> Actor:
        """The holder of the token in an Authorization header's value. Raises NoToken, TooManyFailures."""
        config = self._admin.config()
        tokens = AdminTokens(config.admin.tokens if config.admin else ())
        try:  # first of all, so that wrong tokens from the same address do not lock out the right one
            return tokens.actor(authorization, basic=basic)
        except NoToken:
            address = self._address(request)
            if authorization:
                self._note_failure(address)
            raise

    def _address(self, request: Request) -> str:
        """The client's address. Raises TooManyFailures."""
        address = self._peer(request)
        self._failed.check(address)
        return address

    def _peer(self, request: Request) -> str:
        peer = request.client.host if request.client else ""
        forwarded = [value.encode("latin-1") for value in request.headers.getlist("x-forwarded-for")]
        return client_address(peer, forwarded, tuple(map(ip_network, self._admin.config().trusted_proxies)))

    def _note_failure(self, address: str) -> None:
        self._failed.note(address)
        self._metrics.failed_logins.inc()
        log.warning("admin: a wrong token came from %s", address)


def _from_this_machine(request: Request) -> bool:
    """Tells whether the request came over loopback and not through a proxy."""
    peer = request.client.host if request.client else ""
    return is_loopback(peer) and from_this_machine(dict(request.scope["headers"]))


def _by_path(table: tuple[Operation, ...]) -> dict[str, dict[str, Operation]]:
    found: dict[str, dict[str, Operation]] = {}
    for each in table:
        found.setdefault(each.path, {})[each.method] = each
    return found


async def _body(request: Request) -> Mapping[str, Any]:
    """The JSON object in the body; {} if it is empty. Raises InvalidBody, BodyTooLarge."""
    raw = b""
    async for chunk in request.stream():
        raw += chunk
        if len(raw) > MAX_BODY_BYTES:
            raise BodyTooLarge(f"the body is larger than {MAX_BODY_BYTES} bytes")
    if not raw.strip():
        return {}
    try:
        value = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise InvalidBody(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise InvalidBody("the body is not a JSON object")
    return value


def _answer(body: bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(body, status, {**_HEADERS, **(headers or {})}, media_type="application/json")


def _refusal(error: AdminError) -> Response:
    headers = {"www-authenticate": "Bearer"} if isinstance(error, NoToken) else {}
    if error.retry_after_s is not None:
        headers["retry-after"] = str(error.retry_after_s)
    return _answer(orjson.dumps(error.to_dict()), error.status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)  # noqa: S101 - Starlette calls it for nothing else
    path = request.scope["path"][:200]  # not request.url, which is built from the client's Host header and may fail
    if hasattr(request.app.state, "pages") and (path == ROOT or path.startswith(f"{ROOT}/")):
        return await endpoint(PageRoute(ROOT, _missing_page, scoped=True))(request)
    if error.status_code == 405:
        refused = _refusal(MethodNotThere(f"{path} does not take {request.method[:20]}"))
        refused.headers["allow"] = (error.headers or {}).get("Allow", "")
        return refused
    return _refusal(NotThere(f"{path} does not exist here; /admin/openapi.json lists the paths"))


async def _internal_error(request: Request, error: Exception) -> Response:
    return _answer(orjson.dumps(AdminError("internal error; see the console's log").to_dict()), 500)


def collected_pages() -> tuple[Page, ...]:
    """The pages of all features, in the order of the navigation."""
    found = in_order(page for feature in FEATURES for page in feature.pages)
    return tuple(replace(load(page.entry), group=page.group) for page in found)


def page_routes() -> list[Route]:
    """Every route below /console."""
    framed = [
        PageRoute(f"{ROOT}/logout", login.sign_out, ("POST",), scoped=True),
        *(r for page in collected_pages() for r in page.routes),
    ]
    return [
        Route(f"{ROOT}/static/{{name}}", _static, methods=["GET"]),
        Route(f"{ROOT}/login", login.show_login, methods=["GET"]),
        Route(f"{ROOT}/login", login.sign_in, methods=["POST"]),
        Route(f"{ROOT}/login/oidc", login.begin_oidc, methods=["GET"]),
        Route(f"{ROOT}/login/callback", login.end_oidc, methods=["GET"]),
        *(Route(route.path, endpoint(route), methods=list(route.methods)) for route in framed),
    ]


def _attach_pages(app: Starlette, admin: Admin, setup: PagesSetup, ways: LoginWays) -> None:
    app.state.navigation = collected_pages()
    given = {each.name: getattr(setup, each.name) for each in fields(setup)}
    sessions = Sessions(admin.store, admin.config, admin.clock)
    app.state.pages = PageServices(admin=admin, sessions=sessions, login=ways, **given)


async def _missing_page(request: Request) -> Response:
    raise NotThere("there is no such page")


async def _static(request: Request) -> Response:
    """Static files are public: they reveal nothing about this installation."""
    name = request.path_params["name"]
    content = static_files().get(name)
    if content is None:
        return protected(Response("not found", 404, media_type="text/plain"))
    response = Response(content, media_type=_TYPES[Path(name).suffix])
    if request.query_params.get("v") == static_versions()[name]:
        response.headers["cache-control"] = f"public, max-age={_YEAR_S}, immutable"
    return protected(response)
