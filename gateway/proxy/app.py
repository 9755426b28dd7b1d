"""The application: the endpoint of each path, and the hot path in one coroutine, `App.answer`.

The other pages (models, health, metrics, feedback, passthrough) are in endpoints/, behind Starlette's router.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from gateway.config.config import Config, WithDefault
from gateway.config.retirements import RetiringTarget
from gateway.core.errors import ErrorShape, GatewayError, InvalidKey, NotFound, NotImplementedHere, WrongMethod
from gateway.core.exchange import new_id
from gateway.core.prices import Prices
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.experiments.shadow import ShadowSender
from gateway.proxy.http.server.connection_limits import BodyMemory
from gateway.proxy.http.server.drain import absorb_cancellation, stopping
from gateway.proxy.http.write_batching import WriteBatcher
from gateway.proxy.limits.limiter import Limiter, LimitGauges
from gateway.proxy.recording.access_log import CallLog
from gateway.proxy.recording.call_metrics import FAILED
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.relay.deadlines import Ticker
from gateway.proxy.relay.relay import Relay
from gateway.proxy.relay.state import NOT_HELD, CallContext, HeldBytes
from gateway.proxy.relay.stored_state import StoredState
from gateway.proxy.relay.websocket_lane import WebSocketLane
from gateway.proxy.request.auth import KeyRing
from gateway.proxy.request.call import Call, Caller, CallerLimit
from gateway.proxy.request.endpoints import AT_ROOT, ENDPOINTS, OUTSIDE, VENDORS, Endpoint, read_form_or_json
from gateway.proxy.request.parse import read_call, read_options
from gateway.proxy.request.paths import resolved, segments, single_slashes
from gateway.proxy.request.tags import TagReader
from gateway.proxy.request.vendor_paths import GEMINI_VERSIONS, api_of, is_vertex, split_model
from gateway.proxy.routing.assignment import ExperimentAssignments
from gateway.proxy.routing.response_affinity import ResponseAffinity
from gateway.proxy.routing.response_chains import SOURCE as CHAIN
from gateway.proxy.routing.router import Route, Router
from gateway.proxy.routing.target_state import UpstreamState
from gateway.proxy.settle import Settler
from gateway.proxy.stages import Stages
from gateway.proxy.types import CallEnded, ClientConnection, ClientGone, GuardedExchange, HttpRequest
from gateway.runtime.tasks import Tasks

if TYPE_CHECKING:
    from gateway.proxy.guards.stage import Guards
    from gateway.proxy.recording.spans import Spans

log = logging.getLogger(__name__)

_MANY_UPSTREAMS = 50  # of more, a heartbeat names only those that are down or at work

RunningCalls = dict[asyncio.Task[Any] | None, CallContext]
"""The calls of one process in flight, by the task that answers them."""

ROUTES = {
    path: replace(endpoint, path=path.removeprefix(b"/v1"))
    for path, endpoint in (
        {b"/v1" + path: endpoint for path, endpoint in ENDPOINTS.items()}
        | {path: ENDPOINTS[path] for path in AT_ROOT}
        | OUTSIDE
    ).items()
} | VENDORS
"""The endpoints of the hot path, by path. Those of vendors' own APIs have a place for the model."""


_DEPLOYMENTS = b"/openai/deployments/"
_VERSION_TWICE = (b"/v1/v1/", *(f"/v1{version}/".encode() for version in GEMINI_VERSIONS))


def routes_with(models: Mapping[WithDefault, str], passes: frozenset[bytes] = frozenset()) -> dict[bytes, Endpoint]:
    """ROUTES with the models of requests that name none, by API, and the headers that some upstreams get."""
    if not models and not passes:
        return ROUTES
    defaults = {str(api): alias for api, alias in models.items()}
    if alias := defaults.get("responses"):
        defaults |= {"compact": alias, "input_tokens": alias}
    return {path: _with(endpoint, defaults.get(endpoint.api), passes) for path, endpoint in ROUTES.items()}


def only_model(models: Collection[str]) -> Callable[[Caller], str | None]:
    """A function that finds the only one of these models that a caller may use; None if it may use several, or none."""

    def find(caller: Caller) -> str | None:
        names = [name for name in models if caller.models is None or name in caller.models]
        return names[0] if len(names) == 1 and "*" not in names[0] else None

    return find


def _with(endpoint: Endpoint, default: str | None, passes: frozenset[bytes]) -> Endpoint:
    read = endpoint.read
    if default is not None and read is read_form_or_json:
        read = partial(read_form_or_json, default=default)
    return replace(endpoint, default=default, read=read, passes=endpoint.passes | passes)


def _routes_of(config: Config) -> dict[bytes, Endpoint]:
    names = (name.lower().encode() for upstream in config.upstreams.values() for name in upstream.pass_headers)
    routes = routes_with({} if config.defaults == "auto" else config.defaults, frozenset(names))
    if config.defaults == "auto":
        found = only_model(config.models)
        routes = {path: replace(endpoint, only_model=found) for path, endpoint in routes.items()}
    if config.files_have_owners:
        routes = {path: replace(endpoint, names_files=True) for path, endpoint in routes.items()}
    if config.runs.sources:
        routes = {
            path: replace(endpoint, run_sources=_run_sources(config, endpoint)) for path, endpoint in routes.items()
        }
    if config.tags.keys:
        tags = TagReader(config.tags.keys, config.tags.most_sets)
        routes = {path: replace(endpoint, tags=tags) for path, endpoint in routes.items()}
    return routes


def _run_sources(config: Config, endpoint: Endpoint) -> tuple[str, ...]:
    """Selects the sources of `runs.from` that calls of an endpoint can have. Every response is in a chain, so the
    sources after the chain count for other APIs only."""
    sources = config.runs.sources
    if endpoint.api != "responses":
        return tuple(source for source in sources if source != CHAIN)
    return sources[: sources.index(CHAIN) + 1] if CHAIN in sources else sources


def _azure_path(path: bytes) -> bytes | None:
    """The path below /v1 that one of Azure's means; None if it is none of Azure's, or one of a deployment."""
    if not path.startswith(b"/openai/") or path.startswith(_DEPLOYMENTS):
        return None
    return b"/v1/" + path.removeprefix(b"/openai/").removeprefix(b"v1/")


@dataclass(frozen=True, slots=True)
class Gateway:
    """The objects that are built from one config. A reload replaces all of them at once."""

    config: Config
    prices: Prices
    keys: KeyRing
    upstreams: dict[str, UpstreamState]
    router: Router
    relay: Relay
    limiter: Limiter
    settler: Settler
    shadow: ShadowSender
    recorder: Recorder
    affinity: ResponseAffinity
    metrics: ProxyMetrics
    tasks: Tasks
    ticker: Ticker
    access: CallLog | None
    spans: Spans | None
    guards: Guards | None
    """The guards; None if none is configured."""
    stages: Stages
    max_body_bytes: int
    calls: Counter[str] = field(default_factory=Counter)
    """Calls in flight, by API."""
    judging: set[asyncio.Task[None]] = field(default_factory=set)
    """Waits for guards that still judge ended calls, each of which settles its call at its end."""
    running: RunningCalls = field(default_factory=dict)
    """Calls in flight of the whole process."""
    retiring: tuple[RetiringTarget, ...] = ()
    """The targets that their providers retire."""
    loaded: float = field(default_factory=time.time)
    """Unix seconds at which it was built."""

    @property
    def in_use(self) -> bool:
        """Whether a call has to end or to be settled: its series, and guards, are this gateway's."""
        return self.calls.total() > 0 or len(self.judging) > 0 or self.shadow.running > 0

    def ended(
        self,
        endpoint: Endpoint,
        request: HttpRequest,
        call: Call | None,
        route: Route | None,
        context: CallContext,
        started: float,
    ) -> None:
        """Settles a call, and writes its line of the access log and its span; later, if guards still judge it.

        call: None if the request could not be read. route: None if it was refused before it was routed.
        """
        if context.notes.ended_at is None:
            del self.running[context.task]
            self.calls[endpoint.api] -= 1
            if context.guarded is not None and context.guarded.answered():
                context.notes.ended_at = time.monotonic()
                again = partial(self.ended, endpoint, request, call, route, context, started)
                judged = self.tasks.start(_judged(context.guarded, again), "observing guards")
                self.judging.add(judged)
                judged.add_done_callback(self.judging.discard)
                return
        if call is not None and route is not None:
            self.settler.settle(call, endpoint, route, context)
        if self.access is not None:
            self.access.note(endpoint, request, call, context, started)
        if self.spans is not None and call is not None:
            self.spans.ended(endpoint, call, context, self.prices)


class App:
    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        """The gateway in force. A call finishes on the gateway it began with."""
        self._routes = _routes_of(gateway.config)
        self._limit_gauges = LimitGauges(gateway.metrics)
        self.gateways = [gateway]
        """Gateways with calls in flight, oldest first, and last the one in force."""
        self.outbox = WriteBatcher()
        self.bodies = BodyMemory(
            lambda: self.gateway.config.limits.inflight_mb * 1e6, lambda: len(self.gateway.config.keys) != 1
        )
        """The memory of the request bodies of all calls."""
        self.pages: Any = None
        """The ASGI application of all other paths; it reads `gateway` in turn, so it is set after construction."""

        self.failing_parts: Callable[[], int] = int
        """Returns how many parts of the process are paused or fail."""
        self.open_websockets: Callable[[], int] = int
        """Returns the number of open WebSockets."""
        self.config_refused = ""
        """Reason why the previous gateway.yaml, and not the newest, is in force; "" if the newest is."""

    def change(self, gateway: Gateway) -> Gateway:
        """Puts a gateway in force and returns the previous one."""
        old, self.gateway = self.gateway, gateway
        self._routes = _routes_of(gateway.config)
        self.gateways.append(gateway)
        _show_retirements(old, but=gateway)
        return old

    def forget(self, old: Gateway) -> None:
        """Removes a gateway whose last call has ended."""
        self.gateways.remove(old)
        old.metrics.counts.flush()  # what its calls have not counted yet
        self._show_upstreams(old, zero=True)

    def experiments(self) -> list[ExperimentAssignments]:
        """The experiments of every gateway with calls in flight; last, those of the gateway in force."""
        return [gateway.router.experiments for gateway in self.gateways]

    def show(self) -> None:
        """Brings the metrics up to date: folds the fast counters and sets the gauges."""
        m = self.gateway.metrics
        m.counts.flush()
        m.inflight.set(sum(g.calls.total() for g in self.gateways))
        m.websockets.set(self.open_websockets())
        m.workers.set(1)
        self._show_config(m)
        recorder = self.gateway.recorder
        m.recorder_waiting.set(recorder.waiting)
        m.recorder_fill.set(recorder.fill)
        m.stream_up.set(recorder.reached)
        m.limit_degraded.set(self.gateway.limiter.degraded)
        m.failing_parts.set(self.failing_parts())
        self._limit_gauges.show(self.gateway.limiter.snapshot())
        for gateway in self.gateways:
            self._show_upstreams(gateway)

    def _show_config(self, m: ProxyMetrics) -> None:
        digest = self.gateway.config.digest
        m.counts.set(m.config_hash, int(digest, 16) if digest else 0)
        m.counts.set(m.config_loaded, self.gateway.loaded)
        for alias, model in self.gateway.config.models.items():
            m.counts.set(m.objective, model.objective, alias)
        _show_retirements(self.gateway)

    def _show_upstreams(self, gateway: Gateway, *, zero: bool = False) -> None:
        m = gateway.metrics
        show = m.counts.set
        for name, upstream in gateway.upstreams.items():
            show(m.upstream_inflight, 0 if zero else upstream.limiter.in_flight, name)
            show(m.queued, 0 if zero else upstream.limiter.waiting, name)
            if upstream.checked or upstream.down:
                show(m.upstream_down, not zero and upstream.down, name)
        for target_state in gateway.router.target_states:
            target = target_state.target
            show(m.breaker_open, not zero and target_state.breaker.open, target.upstream, target.label)

    def report(self) -> dict[str, Any]:
        """Reports this process for `gateway status`: calls and failures so far, the config, upstreams, breakers."""
        gateway = self.gateway
        ended = gateway.metrics.ended
        gateway.metrics.counts.fold()
        upstreams = {name: _upstream_report(u) for name, u in gateway.upstreams.items()}
        if len(upstreams) > _MANY_UPSTREAMS:  # each beat is written to the stream server's file
            upstreams = {name: report for name, report in upstreams.items() if any(report.values())}
        return {
            "ended": ended.total(),
            "failed": sum(n for outcome, n in ended.items() if outcome in FAILED),
            "config": {
                "ok": not self.config_refused,
                "refused": self.config_refused,
                "digest": gateway.config.digest,
                "loaded": gateway.loaded,
            },
            "upstreams": upstreams,
            "breakers_open": [t.name for t in gateway.router.target_states if t.breaker.open],
            "breaker_causes": {t.name: t.last_failure for t in gateway.router.target_states if t.breaker.open},
            "guards": {} if gateway.guards is None else gateway.guards.report(),
        }

    def find(self, method: bytes, path: bytes) -> Endpoint | None:
        """The endpoint of the hot path at this path; None: `pages` answers."""
        if method != b"POST":
            return None
        if path in self._routes:
            return self._routes[path]
        return self._of_deployment(path) if path.startswith(_DEPLOYMENTS) else self._of_vendor(path)

    def _of_vendor(self, path: bytes) -> Endpoint | None:
        """The endpoint of Gemini's or Bedrock's own path, which names the model."""
        found = split_model(path)
        endpoint = None if found is None else self._routes.get(found[0])
        return None if found is None or endpoint is None else replace(endpoint, deployment=found[1])

    def _of_deployment(self, path: bytes) -> Endpoint | None:
        """The endpoint of Azure's path, whose model is the deployment."""
        deployment, slash, below = path.removeprefix(_DEPLOYMENTS).partition(b"/")
        endpoint = self._routes.get(b"/v1/" + below) if slash else None
        if endpoint is None:
            return None
        return replace(endpoint, deployment=unquote(deployment.decode("latin-1")), path=b"/" + below)

    def canonical(self, path: bytes) -> bytes:
        """The one spelling of a path that `find` does not know: an endpoint's, however it was spelled, or the same with
        single slashes. A path with dot segments is never an endpoint's: only hostile clients send them."""
        meant = b"/" + b"/".join(segments(path))
        if meant in ROUTES:
            return meant
        path = single_slashes(path)
        if path.startswith(_VERSION_TWICE):  # some clients add it themselves, and many a base_url has it already
            return self.canonical(path[3:])
        azure = _azure_path(path)
        return path if azure is None else self.canonical(azure)

    async def answer(
        self, endpoint: Endpoint, request: HttpRequest, client: ClientConnection, lane: WebSocketLane | None = None
    ) -> None:
        """The hot path: authenticate → parse → decide → ask → send, and finally settle."""
        gateway, stages, started = self.gateway, self.gateway.stages, time.monotonic()
        call: Call | None = None
        route: Route | None = None
        limit: CallerLimit | None = None
        stored: StoredState | None = None
        context = CallContext(NOT_HELD, task=request.task or asyncio.current_task())
        gateway.running[context.task] = context
        gateway.calls[endpoint.api] += 1
        try:
            caller = gateway.keys.admit(request.peer, request.headers, request.fields, context)
            request.holder = caller.name
            limit = None if caller.limit is None else caller.limit.enter()
            request, body, upload = await endpoint.read(request, gateway.max_body_bytes)
            call = read_call(endpoint, caller, request, body, started, upload)
            call = _without_secrets(gateway.keys, call) if request.query else call
            if endpoint.names_state or "container" in call.fields:
                stored = StoredState(gateway.affinity, gateway.config.responses, endpoint, lane)
                call, client = await stored.prepare(call, client, context, gateway.upstreams)
            for prepare in stages.before_route:
                call = prepare(call, context)
            decided = gateway.router.decide(call, read_options(request.fields, caller), stored.home if stored else None)
            context.notes.routed = True
            if (
                caller.scopes
                or caller.of_call is not None
                or (call.run is not None and gateway.limiter.counts(call.run))
            ):
                call, decided = await stages.reserve(call, decided, context)
            route = decided
            if route.recordable and endpoint.carries_text:
                context.response = HeldBytes(True, gateway.settler.cap_bytes)
            for enter in stages.before_relay:
                call, client = await enter(call, route, client, context)
            request.watch(context.client_left)
            await gateway.relay.ask(call, route, client, context, held=endpoint.json_answer, lane=lane)
            if stored is not None:
                stored.learn(call, context)
        except (Exception, asyncio.CancelledError) as error:
            await self._end_early(client, endpoint, call, context, error)
        finally:
            if limit is not None:
                limit.leave()
            request.unwatch()
            gateway.ended(endpoint, request, call, route, context, started)

    async def _end_early(
        self,
        client: ClientConnection,
        endpoint: Endpoint,
        call: Call | None,
        context: CallContext,
        error: BaseException,
    ) -> None:
        """Ends the response of a call that was refused, that failed in the gateway, or whose client left."""
        if isinstance(error, GatewayError):
            await self._refuse(client, endpoint, call, context, error)
        elif isinstance(error, asyncio.CancelledError):
            absorb_cancellation()
            if not context.client_gone and context.outcome != "blocked":
                await self._stop(client, endpoint, call, context)
        elif not isinstance(error, ClientGone | CallEnded):
            # The gateway's own fault ends this call alone, and is not recorded as an answer.
            log.error("internal error; the client gets HTTP 500; other calls are not affected", exc_info=error)
            text = "internal gateway error; see the gateway's log"
            fault = GatewayError(text, code="internal_error", retry=False)
            await self._refuse(client, endpoint, call, context, fault)

    async def _stop(
        self, client: ClientConnection, endpoint: Endpoint, call: Call | None, context: CallContext
    ) -> None:
        """Ends the response without waiting for the client: the process stops and the call did not end within
        `drain_s`, or its key was disabled."""
        error = context.notes.ended_by or stopping()
        context.ended = True
        context.outcome = "cut"
        if client.started:
            target_state = context.target_state
            event = target_state.upstream.dialect.broken(call, error) if call and call.stream and target_state else b""
            context.response.relayed(event)
            await client.end_nowait(event)
        else:
            await self._refuse(client, endpoint, call, context, error)

    def end_calls(self, keys: Set[str]) -> int:
        """Ends the answers in flight of the keys with these names; returns their number."""
        found = [context for context in self.gateway.running.values() if context.key in keys and not context.ended]
        for context in found:
            context.end(
                InvalidKey("the API key was disabled, which ends its answers", code="key_disabled", retry=False)
            )
        return len(found)

    def count_refused(self, error: GatewayError, alias: str = "") -> None:
        """alias: of the request; "" if it was not read."""
        metrics, shown = self.gateway.metrics, self.gateway.settler.labels.alias(alias)
        metrics.counts.of(metrics.refused, shown, str(error.status), error.code or error.type).n += 1

    async def _refuse(
        self,
        client: ClientConnection,
        endpoint: Endpoint,
        call: Call | None,
        context: CallContext,
        error: GatewayError,
    ) -> None:
        """Sends the gateway's own error as the response, and notes it in the context for the record."""
        self.count_refused(error, call.alias if call else "")
        context.ended = True
        context.status = error.status
        context.notes.error_code = error.code or error.type
        context.response.relayed(error.body())
        if context.outcome == "ok":
            context.outcome = "upstream_error"
        context.notes.id = call.id if call else new_id()
        shape = "systemone" if call is not None and call.api == "systemone" else endpoint.errors
        await send_error(client, error, context.notes.id, shape)


async def _judged(guarded: GuardedExchange, ended: Callable[[], None]) -> None:
    try:
        await guarded.settled()
    finally:
        ended()  # also where the process stops


def _show_retirements(gateway: Gateway, but: Gateway | None = None) -> None:
    """Sets the gauges of the targets that retire; with `but`, the ones that this gateway does not have, to 0."""
    kept = {_series(each) for each in but.retiring} if but is not None else set()
    for each in gateway.retiring:
        if _series(each) not in kept:
            at = 0.0 if but is not None else each.retirement.unix_s
            gateway.metrics.counts.set(gateway.metrics.retires, at, *_series(each))


def _series(retiring: RetiringTarget) -> tuple[str, str, str]:
    return retiring.alias, retiring.target.upstream, retiring.target.label


def _upstream_report(upstream: UpstreamState) -> dict[str, Any]:
    limiter = upstream.limiter
    report: dict[str, Any] = {"down": upstream.down, "in_flight": limiter.in_flight, "queued": limiter.waiting}
    return report | {"key_refused": upstream.key_refused} if upstream.key_refused else report


async def send_error(
    client: ClientConnection, error: GatewayError, request_id: str, shape: ErrorShape = "openai"
) -> None:
    """Sends an error as the complete response, in the shape of the client's API."""
    if client.started:
        return  # too late for a status: the connection closes before the response's end
    body = error.body_for(shape)
    head = [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id.encode()),
        *error.headers(),
        *error.headers_for(shape, request_id),
    ]
    client.start(error.status, head, len(body))
    await client.end(body)


ALLOWED = dict.fromkeys(ROUTES, "POST") | {b"/v1/feedback": "POST"}
ALLOWED |= dict.fromkeys((b"/", b"/v1/models", b"/v1/key", b"/health", b"/ready", b"/metrics"), "GET, HEAD")


def _without_secrets(keys: KeyRing, call: Call) -> Call:
    path, _, query = call.path.partition(b"?")
    kept = keys.without_secrets(query)
    return call if kept == query else replace(call, path=path + (b"?" + kept if kept else b""))


def unknown_path(path: str, method: str, api: ErrorShape | None = None) -> GatewayError:
    """The error for a path that the gateway does not serve, or not with this method.

    api: the one that the request belongs to; None: the path says it."""
    named = split_model(path.encode()) if method != "POST" else None
    allow = ALLOWED.get(path.encode() if named is None else named[0])
    if allow is not None:
        return wrong_method(path, method, allow, _UPGRADE_LOST if path == "/v1/responses" and method == "GET" else "")
    meant = resolved(path.encode()).lower()
    if meant in ROUTES and meant != path.encode():
        return NotFound(f"{path[:200]} does not exist here; did you mean {meant.decode()}?", retry=False)
    if path.encode() in ENDPOINTS or path == "/models":
        return NotFound(f"{path} is served as /v1{path}: the client's base_url must end in /v1", retry=False)
    if meant == b"/v1/realtime":
        return NotImplementedHere("realtime sessions (WebSocket) are not relayed", retry=False)
    for beginning, hint in _OTHER_APIS.items():
        if meant.startswith(beginning):
            return NotFound(f"{path[:200]} does not exist here: {hint}", retry=False)
    if is_vertex(meant):
        return NotFound(f"{method} {path[:200]} does not exist here: {_NO_VERTEX}", retry=False)
    if vendor := _VENDORS.get(api or api_of(path, [])):
        return NotFound(f"{method} {path[:200]} does not exist here: {vendor}", retry=False)
    if meant.startswith(_FORWARDED):
        return NotFound(f"{method} {path[:200]} does not exist here: {_NO_PASSTHROUGH}", retry=False)
    return NotFound(f"{method} {path[:200]} does not exist here", retry=False)


def wrong_method(path: str, method: str, allow: str, more: str = "") -> WrongMethod:
    """The error for a path that takes other methods. allow: their names, separated by commas."""
    takes = " and ".join(allow.rsplit(", ", 1))
    refused = WrongMethod(f"{path[:200]} takes {takes}, not {method[:20]}{more}", retry=False)
    refused.more_headers.append((b"allow", allow.encode()))
    return refused


_UPGRADE_LOST = "; if this was to open a WebSocket, a proxy in front has dropped its `Upgrade` header"
_OTHER_APIS = {
    b"/openai/deployments/": "below a deployment, Azure's paths of models are served, such as chat/completions",
    b"/api/": "Ollama's own API is not served; use an OpenAI client with a base_url that ends in /v1",
    b"/upload/": "Gemini's uploads are not forwarded, because Google's answer sends the client to Google itself",
    b"/v1/realtime/": "the HTTP paths of realtime are forwarded where `passthrough` names an upstream",
}
"""Hints for clients of other APIs, by the beginning of the path, in lower case."""
_VENDORS = {
    "gemini": "of Gemini's own API, POST /v1beta/models/NAME:generateContent, :streamGenerateContent and :countTokens "
    "are served; other paths are forwarded where `passthrough.gemini` names an upstream",
    "bedrock": "of Bedrock's own API, POST /model/NAME/converse, converse-stream, invoke, invoke-with-response-stream "
    "and count-tokens are served; other paths are forwarded where `passthrough.bedrock` names an upstream",
}
"""Hints for vendors' own clients."""
_NO_VERTEX = (
    "paths of Vertex AI, which name a project or a publisher, are not served; use Gemini's own API, without "
    "`vertexai=True`"
)
_FORWARDED = tuple(
    b"/v1/" + name
    for name in (
        b"files", b"uploads", b"batches", b"messages/batches", b"conversations", b"containers", b"vector_stores",
        b"fine_tuning", b"evals", b"assistants", b"threads", b"videos", b"skills", b"images/variations",
        b"chat/completions/", b"agents", b"fim", b"ocr", b"beta/",
    )
)  # fmt: skip
"""Paths that providers have besides the endpoints that are routed by model."""
_NO_PASSTHROUGH = (
    "paths that are not routed by model are forwarded where `passthrough` in gateway.yaml names an upstream, for keys "
    "with `allow: [passthrough]`"
)
