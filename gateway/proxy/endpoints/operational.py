"""The paths that are not on the hot path: models, health, readiness, metrics, other /v1/ paths."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any

import orjson
from prometheus_client import CollectorRegistry
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, Router
from starlette.types import ASGIApp

from gateway import __version__
from gateway.config.environment import shared_metrics
from gateway.core.errors import GatewayError, InvalidKey, NotAllowed, NotFound, NotImplementedHere, WrongMethod
from gateway.core.exchange import new_id
from gateway.core.reasons import Reason, on_page
from gateway.observability.eval_metrics import CONTENT_TYPE, exposition
from gateway.observability.worker_metrics import WorkerMetrics
from gateway.proxy.app import ROUTES, Gateway, unknown_path
from gateway.proxy.endpoints.feedback import Recall, feedback_page, no_recall
from gateway.proxy.endpoints.key import key_page
from gateway.proxy.endpoints.made_state import MadeState, makes_state
from gateway.proxy.endpoints.passthrough import CONTEXT, PassthroughCall, forward
from gateway.proxy.endpoints.responses_by_id import by_id
from gateway.proxy.recording.access_log import PageCall
from gateway.proxy.request.auth import PAGE, caller_of, matches
from gateway.proxy.request.paths import resolved, segments
from gateway.proxy.types import ClientGone

_ANTHROPIC = "anthropic-version"
"""A header that every client of Anthropic's API sends."""

_PREFLIGHT = b"access-control-request-method"

Page = Callable[[Request], Awaitable[Response]]
OWNER = "assay-gateway"


class OperationalPages:
    """The handlers of these paths."""

    def __init__(
        self,
        gateway: Callable[[], Gateway],
        show: Callable[[], None],
        registry: CollectorRegistry,
        *,
        loopback: bool,
        recall: Recall = no_recall,
        reasons: Callable[[], Sequence[Reason]] = tuple,
        private: bool = False,
    ) -> None:
        """gateway: returns the Gateway in force. show: brings its metrics up to date. registry: of this process.
        loopback: the main port is reachable only from this machine, so that metrics and readiness need no key.
        recall: reads verdicts on feedback. private: for a listener of its own, which needs no key at all. reasons:
        returns what does not work now, for /health."""
        self._gateway = gateway
        self._show = show
        self._registry = registry
        self._loopback = loopback
        self._recall = recall
        self._reasons = reasons
        self._open = private
        self._started = int(time.time())
        shared = shared_metrics()
        self._workers = None if shared is None else WorkerMetrics(shared)

    def app(self) -> ASGIApp:
        """The ASGI application of these paths, behind Starlette's router."""
        routes = [
            Route("/v1/models", self._said(self.models), methods=["GET"]),
            Route("/v1/models/{name:path}", self._said(self.model), methods=["GET"]),
            Route("/v1/key", self._said(key_page(self._gateway)), methods=["GET"]),
            Route("/v1/feedback", self._said(feedback_page(self._gateway, self._recall)), methods=["POST"]),
            Route("/health", self._said(self.health), methods=["GET"]),
            Route("/ready", self._said(self.ready), methods=["GET"]),
            Route("/metrics", self._said(self.metrics), methods=["GET"]),
            Route("/v1/responses/{id}", response_by_id(self._gateway), methods=["GET", "DELETE"]),
            Route("/v1/responses/{id}/cancel", response_by_id(self._gateway), methods=["POST"]),
            Route("/v1/responses/{id}/input_items", response_by_id(self._gateway), methods=["GET"]),
            Route("/v1/{path:path}", forward_or_refuse(self._gateway), methods=_ALL),
            Route("/{path:path}", self._said(self.unknown), methods=_ALL),
        ]
        return _Logged(Router(routes, redirect_slashes=False), self._gateway)

    def private(self) -> ASGIApp:
        """Metrics and readiness for a listener of their own, open to everyone who reaches it."""
        pages = OperationalPages(
            self._gateway, self._show, self._registry, loopback=True, reasons=self._reasons, private=True
        )
        return Router(
            [
                Route("/ready", self._said(pages.ready), methods=["GET"]),
                Route("/health", self._said(pages.health), methods=["GET"]),
                Route("/metrics", self._said(pages.metrics), methods=["GET"]),
            ]
        )

    def _said(self, page: Page) -> Page:
        """Wraps a page so that its errors have OpenAI's shape and every response has a request id."""

        async def answer(request: Request) -> Response:
            request_id = new_id()
            try:
                response = await page(request)
            except GatewayError as error:
                _note_refused(self._gateway(), request.scope, error)
                response = error_response(error, anthropic=_ANTHROPIC in request.headers)
            response.headers["x-request-id"] = request_id
            return response

        return answer

    async def models(self, request: Request) -> Response:
        gateway = self._gateway()
        caller = caller_of(gateway.keys, request.scope)
        aliases = gateway.router.listed(caller)
        if _ANTHROPIC in request.headers:
            data = [self._anthropic_model(alias) for alias in aliases]
            ends = {"first_id": aliases[0], "last_id": aliases[-1]} if aliases else {"first_id": None, "last_id": None}
            return json_response({"data": data, "has_more": False, **ends})
        return json_response({"object": "list", "data": [self._model(alias) for alias in aliases]})

    async def model(self, request: Request) -> Response:
        gateway = self._gateway()
        caller = caller_of(gateway.keys, request.scope)
        alias = request.path_params["name"]
        if gateway.router.pattern_for(alias, caller) is None:
            gateway.router.check(alias, caller)
        shape = self._anthropic_model if _ANTHROPIC in request.headers else self._model
        return json_response(shape(alias))

    def _model(self, alias: str) -> dict[str, Any]:
        model = self._gateway().config.models.get(alias)
        more = {} if model is None else model.listed
        return {**more, "id": alias, "object": "model", "created": self._started, "owned_by": OWNER}

    def _anthropic_model(self, alias: str) -> dict[str, Any]:
        created = datetime.fromtimestamp(self._started, UTC).isoformat()
        return {"type": "model", "id": alias, "display_name": alias, "created_at": created, "lifecycle": "active"}

    async def health(self, request: Request) -> Response:
        """This process runs, and which of its parts fail. HTTP 200 in any case, and nothing of upstreams: a load
        balancer must not restart the gateway for them. Causes need access to metrics."""
        reasons = self._reasons()
        causes = bool(reasons) and self._may_look(request)
        return json_response({"status": "ok", "version": __version__, "reasons": on_page(reasons, causes=causes)})

    async def ready(self, request: Request) -> Response:
        """Whether calls can be answered: every alias has a target that is ready. Details need access to metrics."""
        gateway = self._gateway()
        states = {
            p.name: "ready" if p.ready else "down" if p.upstream.down else "failing"
            for p in gateway.router.target_states
        }
        missing = gateway.router.unready()
        body: dict[str, Any] = {"status": "ready" if not missing else "not ready"}
        if self._may_look(request):
            body |= {"without_target": missing, "targets": states}
        return json_response(body, 200 if not missing else 503)

    async def metrics(self, request: Request) -> Response:
        if not self._may_look(request):
            if self._gateway().config.metrics.bind is not None:
                raise NotFound("metrics are not served on this port but on that of metrics.bind", retry=False)
            raise InvalidKey(
                "metrics need a key of their own beyond loopback and behind a proxy; set metrics.sha256 or metrics.bind"
            )
        self._show()
        # On a thread: with several workers it reads all their files, while calls are in flight.
        text = await asyncio.to_thread(exposition, self._registry, self._workers)
        headers = {"vary": "accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            text = await asyncio.to_thread(gzip.compress, text, 1)
            headers["content-encoding"] = "gzip"
        return Response(text, headers=headers, media_type=CONTENT_TYPE.decode())

    def _may_look(self, request: Request) -> bool:
        if self._open:
            return True
        config, headers = self._gateway().config.metrics, dict(request.scope["headers"])
        if config.bind is not None:
            return False
        if config.sha256 is not None:
            return matches(headers, config.sha256)
        return self._loopback and from_this_machine(headers)

    async def unknown(self, request: Request) -> Response:
        # Not request.url, which is built from the client's Host header and fails for some.
        raise unknown_path(request.scope["path"], request.method)


def is_reserved(raw: bytes) -> bool:
    """Whether a server could read this path as one that is never forwarded: `keys[].models` limits the endpoints."""
    meant = resolved(raw).lower()
    return meant == b"/v1/realtime" or meant.startswith(b"/v1/v1/") or (meant in ROUTES and meant != raw)


_PROXIED = frozenset({b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip", b"via"})


def from_this_machine(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request that came over loopback was sent from this machine: no proxy passed it on, and its Host is a
    loopback name, so that it is not a web page's whose name was rebound to 127.0.0.1."""
    if not _PROXIED.isdisjoint(headers):
        return False
    host = headers.get(b"host", b"").decode("latin-1").lower()
    name = host.partition("]")[0].removeprefix("[") if host.startswith("[") else host.partition(":")[0]
    if name == "localhost":
        return True
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return False


_ALL = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def forward_or_refuse(gateway: Callable[[], Gateway]) -> Any:
    """Forwards other paths below /v1/ unchanged to the configured upstream, for keys that allow it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        now = gateway()
        path = scope["path"]
        raw: bytes = scope.get("raw_path") or path.encode()
        if (b"upgrade", b"websocket") in ((name, value.lower()) for name, value in scope["headers"]):
            raise _no_websocket(path)
        leads_out = not {b".", b".."}.isdisjoint(segments(raw))  # of the upstream's base path, with its credential
        if scope["method"] == "OPTIONS" and any(n == _PREFLIGHT for n, _ in scope["headers"]):
            asked = WrongMethod(
                "a browser asks whether it may send a request; name its origin under `cors`", retry=False
            )
            asked.allow = ", ".join(each for each in _ALL if each != "OPTIONS")
            raise asked
        upstream = now.config.passthrough_of(anthropic=_speaks_anthropic(scope))
        if upstream is None or leads_out or is_reserved(raw):
            raise unknown_path(path, scope["method"])
        caller = caller_of(now.keys, scope)
        scope[CONTEXT].key = caller.name
        if "passthrough" not in caller.allow:
            raise NotAllowed("this key may not use passthrough paths: its keys[].allow does not name `passthrough`")
        files = now.config.files_have_owners
        await now.affinity.owners.check_path(caller, raw, files=files)
        scope[PAGE].upstream = upstream
        costs = scope["method"] in ("POST", "PUT", "PATCH")
        priced = f"{upstream}{path}" if caller.sees_upstreams else path
        async with AsyncExitStack() as stack:
            if caller.limit is not None:
                stack.enter_context(caller.limit)
            await stack.enter_async_context(now.limiter.passing(caller, priced if costs else None))
            stack.enter_context(now.settler.books.passing(caller, upstream, costs=costs))
            silence_s = now.config.limits.passthrough_s
            made = MadeState(now.affinity.owners, caller) if makes_state(scope["method"], raw) else None
            await forward(now.upstreams[upstream], scope, receive, send, silence_s, caller, made=made)

    return _Asgi(app, gateway)


def _speaks_anthropic(scope: Any) -> bool:
    messages = scope["path"] == "/v1/messages" or scope["path"].startswith("/v1/messages/")
    return messages or any(name == b"anthropic-version" for name, _ in scope["headers"])


def _no_websocket(path: str) -> NotImplementedHere:
    if path.startswith("/v1/realtime"):
        return NotImplementedHere("realtime sessions (WebSocket) are not relayed", retry=False)
    return NotImplementedHere(f"{path[:200]} is not served by WebSocket; send it by HTTP", retry=False)


def response_by_id(gateway: Callable[[], Gateway]) -> Any:
    """Serves a stored response from the upstream that made it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"].encode() in ROUTES:  # /v1/responses/compact, which has the form of an id
            raise unknown_path(scope["path"], scope["method"])
        now = gateway()
        caller = caller_of(now.keys, scope)
        scope[CONTEXT].key = caller.name
        upstreams = now.router.upstreams(caller)
        async with AsyncExitStack() as stack:
            if caller.limit is not None:
                stack.enter_context(caller.limit)
            await stack.enter_async_context(now.limiter.passing(caller, None))
            stack.enter_context(now.settler.books.passing(caller, "", costs=False))
            silence_s = now.config.limits.passthrough_s
            await by_id(
                scope["path_params"]["id"], caller, now.affinity, upstreams, scope, receive, send, silence_s,
                sealed=now.config.responses.seal,
            )  # fmt: skip

    return _Asgi(app, gateway)


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

    def __init__(self, app: Any, gateway: Callable[[], Gateway]) -> None:
        self._app = app
        self._gateway = gateway

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        call = PassthroughCall(self._gateway(), receive, send)
        try:
            await call.run(self._app, scope)
        except GatewayError as error:
            _note_refused(self._gateway(), scope, error)
            if call.started:
                return  # too late for a status: the connection closes before the response's end
            response = error_response(error, anthropic=any(n == _ANTHROPIC.encode() for n, _ in scope["headers"]))
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
