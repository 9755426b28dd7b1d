"""Routes, and the hot path in one coroutine: in → who → where → upstream → back → settle. Pure ASGI.

What is not the hot path (models, health, metrics, feedback) is in pages.py, behind Starlette's router.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from gateway.config.models import Config
from gateway.core.errors import GatewayError, NotFound, NotImplementedHere, Overloaded, WrongMethod
from gateway.core.exchange import new_id
from gateway.observability.eval_metrics import ProxyMetrics
from gateway.observability.tracing import SpanIds
from gateway.proxy.experiments.shadow import ShadowSender
from gateway.proxy.http.server.asgi import AsgiClient, AsgiRequest
from gateway.proxy.http.write_batching import WriteBatcher
from gateway.proxy.recording.access_log import AccessLog, access_line
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.relay.deadlines import Ticker
from gateway.proxy.relay.relay import Relay
from gateway.proxy.relay.state import CallContext, HeldBytes
from gateway.proxy.request.auth import KeyRing
from gateway.proxy.request.call import Call
from gateway.proxy.request.endpoints import AT_ROOT, ENDPOINTS, Endpoint
from gateway.proxy.request.parse import read_call, read_options
from gateway.proxy.request.upload import Upload, begin_upload
from gateway.proxy.routing.assignment import ExperimentAssignments
from gateway.proxy.routing.response_affinity import ResponseAffinity
from gateway.proxy.routing.router import Route, Router
from gateway.proxy.routing.target_state import UpstreamState
from gateway.proxy.settle import Settler
from gateway.proxy.types import ClientConnection, ClientGone, HttpRequest, Receive, Send
from gateway.runtime.tasks import Tasks

if TYPE_CHECKING:
    from gateway.proxy.recording.spans import Spans

log = logging.getLogger(__name__)

Scope = dict[str, Any]

ROUTES = {b"/v1" + path: endpoint for path, endpoint in ENDPOINTS.items()} | {p: ENDPOINTS[p] for p in AT_ROOT}


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything one config makes. Built at start and swapped whole on a reload."""

    config: Config
    keys: KeyRing
    upstreams: dict[str, UpstreamState]
    router: Router
    relay: Relay
    settler: Settler
    shadow: ShadowSender
    recorder: Recorder
    affinity: ResponseAffinity
    metrics: ProxyMetrics
    tasks: Tasks
    ticker: Ticker
    access: AccessLog | None
    spans: Spans | None
    max_body_bytes: int
    calls: Counter[str] = field(default_factory=Counter)  # under way, by API

    @property
    def in_use(self) -> bool:
        return self.calls.total() > 0 or self.shadow.running > 0


class App:
    """The ASGI application. gateway: replaced on a reload; a call finishes on the one it began with. gateways: that
    one and, before it, those from which calls are still under way."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway
        self.gateways = [gateway]
        self.outbox = WriteBatcher()
        self.pages: Any = None  # pages.py's application, which in turn reads `gateway`

    def change(self, gateway: Gateway) -> Gateway:
        """Puts it in force, and gives the one that was."""
        old, self.gateway = self.gateway, gateway
        self.gateways.append(gateway)
        return old

    def forget(self, old: Gateway) -> None:
        """Nothing is under way from it any more."""
        self.gateways.remove(old)
        old.metrics.counts.flush()  # with what its calls have left to be counted
        self._show_upstreams(old, zero=True)

    def experiments(self) -> list[ExperimentAssignments]:
        """Of every config that is still in use, the present one last."""
        return [gateway.router.experiments for gateway in self.gateways]

    def show(self) -> None:
        """Brings the metrics up to date: what is counted by plain addition, and what is only looked at."""
        m = self.gateway.metrics
        m.counts.flush()
        m.inflight.set(sum(g.calls.total() for g in self.gateways))
        m.workers.set(1)
        recorder = self.gateway.recorder
        m.recorder_waiting.set(recorder.waiting)
        m.recorder_fill.set(recorder.fill)
        m.stream_up.set(recorder.reached)
        for gateway in self.gateways:
            self._show_upstreams(gateway)

    def _show_upstreams(self, gateway: Gateway, *, zero: bool = False) -> None:
        m = gateway.metrics
        for name, upstream in gateway.upstreams.items():
            m.upstream_inflight.labels(name).set(0 if zero else upstream.limiter.in_flight)
            m.queued.labels(name).set(0 if zero else upstream.limiter.waiting)
        for target_state in gateway.router.target_states:
            target = target_state.target
            m.breaker_open.labels(target.upstream, target.model).set(not zero and target_state.breaker.open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As an ASGI application: under another server, or behind middleware."""
        if scope["type"] == "http":
            endpoint = self.find(scope["method"].encode(), scope["path"].encode())
            if endpoint is not None:
                gateway = self.gateway
                asked = AsgiRequest(scope, receive, gateway.tasks)
                await self.answer(endpoint, asked, AsgiClient(send))
                return
        await self.pages(scope, receive, send)

    def find(self, method: bytes, path: bytes) -> Endpoint | None:
        """The endpoint of the hot path that this is; None: it is one of the pages."""
        return ROUTES.get(path) if method == b"POST" else None

    async def answer(self, endpoint: Endpoint, request: HttpRequest, client: ClientConnection) -> None:
        """One call, from its first byte to its settlement."""
        gateway = self.gateway
        call: Call | None = None
        upload: Upload | None = None
        route: Route | None = None
        ids: SpanIds | None = None
        started = time.monotonic()
        context = CallContext(HeldBytes(False, 0), task=asyncio.current_task())
        gateway.calls[endpoint.api] += 1
        try:
            headers = request.fields
            caller = gateway.keys.caller(headers)
            if endpoint.form == "json":
                body = await request.body(gateway.max_body_bytes)
            else:
                body, upload = b"", await begin_upload(request.receive, headers, gateway.max_body_bytes)
            call = read_call(endpoint, caller, request, body, started, upload)
            ids = gateway.spans.carry(call) if gateway.spans is not None else None
            home = await gateway.affinity.of_call(call) if endpoint.api == "responses" else None
            route = gateway.router.decide(call, read_options(headers, caller), home)
            context.response = HeldBytes(endpoint.carries_text and route.kept, gateway.settler.cap_bytes)
            if upload is None:
                request.watch(context.client_left)
            else:  # until it is whole, whoever reads the form sees the client leave
                upload.when_complete(partial(request.watch, context.client_left))
            await gateway.relay.ask(call, route, client, context, held=endpoint.json_answer)
            if endpoint.api == "responses" and context.target_state is not None:
                gateway.affinity.learn(call, context.target_state.target.upstream, context.first_bytes)
        except GatewayError as error:
            await self._refuse(client, endpoint, call, context, error)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            calm()
            if not context.client_gone:
                await self._stop(client, endpoint, call, context)
        except Exception:  # a fault of ours ends this call alone, and is not recorded as an answer
            log.exception("a call failed by the gateway's own fault")
            fault = GatewayError("the gateway failed; its log says why", code="internal_error", retry=False)
            await self._refuse(client, endpoint, call, context, fault)
        finally:
            gateway.calls[endpoint.api] -= 1
            request.unwatch()
            if upload is not None:
                upload.close()
            if call is not None and route is not None:
                self._settle(gateway, endpoint, call, route, context)
            if gateway.access is not None:
                gateway.access.note(access_line(endpoint, call, context, started, ids))
            if gateway.spans is not None and call is not None and ids is not None:
                gateway.spans.ended(ids, endpoint, call, context)

    async def _stop(
        self, client: ClientConnection, endpoint: Endpoint, call: Call | None, context: CallContext
    ) -> None:
        """The process ends, and the call was not done in the time that was left: the client is told, without waiting
        for it."""
        error = stopping()
        context.ended = True
        context.outcome = "cut"
        if client.started:
            target_state = context.target_state
            event = target_state.upstream.dialect.broken(call, error) if call and call.stream and target_state else b""
            context.response.add(event)
            await client.end_nowait(event)
        else:
            await self._refuse(client, endpoint, call, context, error)

    def _settle(self, gateway: Gateway, endpoint: Endpoint, call: Call, route: Route, context: CallContext) -> None:
        if context.client_gone:
            context.outcome = "client_gone"
        gateway.settler.settle(call, endpoint, route, context)

    async def _refuse(
        self,
        client: ClientConnection,
        endpoint: Endpoint,
        call: Call | None,
        context: CallContext,
        error: GatewayError,
    ) -> None:
        """An error of ours as the whole answer; it is also what a record of the call keeps as its answer."""
        metrics = self.gateway.metrics
        metrics.counts.of(metrics.refused, str(error.status), error.code or error.type).n += 1
        context.ended = True
        context.status = error.status
        context.error_code = error.code or error.type
        context.response.add(error.body())
        if context.outcome == "ok":
            context.outcome = "upstream_error"
        anthropic = endpoint.api in ("messages", "count_tokens")
        await send_error(client, error, call.id if call else new_id(), anthropic=anthropic)


async def send_error(
    client: ClientConnection, error: GatewayError, request_id: str, *, anthropic: bool = False
) -> None:
    """The error as a whole answer, in the shape of the client's API."""
    if client.started:
        return  # too late for a status; the connection closes unfinished
    body = error.anthropic_body() if anthropic else error.body()
    head = [
        (b"content-type", b"application/json"),
        (b"x-request-id", request_id.encode()),
        *error.headers(),
    ]
    if anthropic:
        head.append((b"request-id", request_id.encode()))
    client.start(error.status, head, len(body))
    await client.end(body)


def calm() -> None:
    """Takes back the cancellations that ended the making: the task itself goes on to settle."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def stopping() -> GatewayError:
    return Overloaded("the gateway is stopping; ask again", retry_after_s=1)


ALLOWED = dict.fromkeys(ROUTES, "POST") | {b"/v1/feedback": "POST"}
ALLOWED |= dict.fromkeys((b"/v1/models", b"/health", b"/ready", b"/metrics"), "GET, HEAD")


def unknown_path(path: str, method: str) -> GatewayError:
    """What to say to a path that is none of ours, or has not this method."""
    allow = ALLOWED.get(path.encode())
    if allow is not None:
        refused = WrongMethod(f"{path} takes {allow.replace(', ', ' and ')}, not {method[:20]}", retry=False)
        refused.allow = allow
        return refused
    if path.startswith("/v1/realtime"):
        return NotImplementedHere("realtime sessions (WebSocket) are not relayed", retry=False)
    if path.encode() in ENDPOINTS or path == "/models":
        return NotFound(f"{path} is served as /v1{path}: the client's base_url must end in /v1", retry=False)
    if path.startswith("/v1/v1/"):
        return NotFound(f"{path} has /v1 twice: the client adds it itself, so its base_url must not", retry=False)
    return NotFound(f"there is no {method} {path[:200]}", retry=False)
