"""Routes, and the hot path in one coroutine: in → who → where → upstream → back → settle. Pure ASGI.

What is not the hot path (models, health, metrics, feedback) is in pages.py, behind Starlette's router.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from gateway.config import Config
from gateway.errors import GatewayError, NotFound, NotImplementedHere, Overloaded
from gateway.exchange import new_id
from gateway.metrics import ProxyMetrics
from gateway.proxy.apis import AT_ROOT, ENDPOINTS, Endpoint
from gateway.proxy.auth import Keys
from gateway.proxy.call import Call
from gateway.proxy.limit import Due, Ticker
from gateway.proxy.places import UpstreamState
from gateway.proxy.progress import AsgiClient, Kept, Progress, Send
from gateway.proxy.reading import read_body, read_call, read_wishes
from gateway.proxy.recorder import Recorder
from gateway.proxy.relay import Relay
from gateway.proxy.routing import Route, Router
from gateway.proxy.settle import Settler
from gateway.proxy.shadow import Shadow
from gateway.proxy.sticky import Sticky
from gateway.proxy.upload import ClientGone, Receive, Upload, begin_upload
from gateway.supervise import Tasks

log = logging.getLogger(__name__)

Scope = dict[str, Any]

_WATCH_AFTER_S = 0.02  # a call answered sooner needs nobody to watch whether its client left


@dataclass(frozen=True, slots=True)
class Gateway:
    """Everything one config makes. Built at start and swapped whole on a reload."""

    config: Config
    keys: Keys
    upstreams: dict[str, UpstreamState]
    router: Router
    relay: Relay
    settler: Settler
    shadow: Shadow
    recorder: Recorder
    sticky: Sticky
    metrics: ProxyMetrics
    tasks: Tasks
    ticker: Ticker
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
        self.pages: Any = None  # pages.py's application, which in turn reads `gateway`

    def change(self, gateway: Gateway) -> Gateway:
        """Puts it in force, and gives the one that was."""
        old, self.gateway = self.gateway, gateway
        self.gateways.append(gateway)
        return old

    def forget(self, old: Gateway) -> None:
        """Nothing is under way from it any more."""
        self.gateways.remove(old)
        self._show_upstreams(old, zero=True)

    def show(self) -> None:
        """Brings the metrics up to date: what is counted by plain addition, and what is only looked at."""
        m = self.gateway.metrics
        m.counts.flush()
        m.inflight.set(sum(g.calls.total() for g in self.gateways))
        m.recorder_waiting.set(self.gateway.recorder.waiting)
        for gateway in self.gateways:
            self._show_upstreams(gateway)

    def _show_upstreams(self, gateway: Gateway, *, zero: bool = False) -> None:
        m = gateway.metrics
        for name, upstream in gateway.upstreams.items():
            m.upstream_inflight.labels(name).set(0 if zero else upstream.slots.in_flight)
            m.queued.labels(name).set(0 if zero else upstream.slots.waiting)
        for place in gateway.router.places:
            target = place.target
            m.breaker_open.labels(target.upstream, target.model).set(not zero and place.breaker.open)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            path = scope["path"].encode()
            endpoint = _endpoint(path)
            if endpoint is not None and scope["method"] == "POST":
                await self.answer(endpoint, scope, receive, send)
                return
        await self.pages(scope, receive, send)

    async def answer(self, endpoint: Endpoint, scope: Scope, receive: Receive, send: Send) -> None:
        """One call, from its first byte to its settlement."""
        gateway = self.gateway
        client = AsgiClient(send)
        call: Call | None = None
        upload: Upload | None = None
        route: Route | None = None
        started = time.monotonic()
        making = asyncio.current_task()
        progress = Progress(Kept(False, 0))
        watch: Watch | None = None
        gateway.calls[endpoint.api] += 1
        try:
            headers = dict(scope["headers"])
            caller = gateway.keys.caller(headers)
            if endpoint.form == "json":
                body = await read_body(receive, headers, gateway.max_body_bytes)
            else:
                body, upload = b"", await begin_upload(receive, headers, gateway.max_body_bytes)
            call = read_call(endpoint, caller, scope, headers, body, started, upload)
            home = await gateway.sticky.of_call(call) if endpoint.api == "responses" else None
            route = gateway.router.decide(call, read_wishes(headers, caller), home)
            wanted = endpoint.carries_text and (route.drawn.possible or route.shadowed)
            progress.kept = Kept(wanted, gateway.settler.cap_bytes)
            if making is not None:
                watch = Watch(receive, progress, gateway.tasks, making)
                if upload is not None:
                    upload.when_whole(watch.begin)  # until then whoever reads the form sees the client leave
                elif call.stream:
                    watch.begin()
                else:
                    watch.begin_later(gateway.ticker, started)
            await gateway.relay.ask(call, route, client, progress, held=endpoint.json_answer)
            if endpoint.api == "responses" and progress.place is not None:
                gateway.sticky.learn(call, progress.place.target.upstream, progress.beginning)
        except GatewayError as error:
            await self._refuse(client, endpoint, call, progress, error)
        except ClientGone:
            pass
        except asyncio.CancelledError:
            calm()
            if not progress.gone:
                await self._stop(client, endpoint, call, progress)
        except Exception:  # a fault of ours ends this call alone, and is not recorded as an answer
            log.exception("a call failed by the gateway's own fault")
            fault = GatewayError("the gateway failed; its log says why", code="internal_error", retry=False)
            await self._refuse(client, endpoint, call, progress, fault)
        finally:
            gateway.calls[endpoint.api] -= 1
            if watch is not None:
                watch.stop()
            if upload is not None:
                upload.close()
            if call is not None and route is not None:
                self._settle(gateway, endpoint, call, route, progress)

    async def _stop(self, client: AsgiClient, endpoint: Endpoint, call: Call | None, progress: Progress) -> None:
        """The process ends, and the call was not done in the time that was left: the client is told, without waiting
        for it."""
        error = stopping()
        progress.ended = True
        progress.outcome = "cut"
        if client.started:
            place = progress.place
            event = place.upstream.dialect.broken(call, error) if call and call.stream and place else b""
            progress.kept.add(event)
            await client.cut(event)
        else:
            await self._refuse(client, endpoint, call, progress, error)

    def _settle(self, gateway: Gateway, endpoint: Endpoint, call: Call, route: Route, progress: Progress) -> None:
        if progress.gone:
            progress.outcome = "client_gone"
        settled = gateway.settler.settle(call, endpoint, route, progress)
        if settled.eligible and settled.exchange is not None:
            gateway.shadow.offer(call, route, settled.exchange)

    async def _refuse(
        self, client: AsgiClient, endpoint: Endpoint, call: Call | None, progress: Progress, error: GatewayError
    ) -> None:
        """An error of ours as the whole answer; it is also what a record of the call keeps as its answer."""
        metrics = self.gateway.metrics
        metrics.counts.of(metrics.refused, str(error.status), error.code or error.type).n += 1
        progress.ended = True
        progress.status = error.status
        progress.kept.add(error.body())
        if progress.outcome == "ok":
            progress.outcome = "upstream_error"
        anthropic = endpoint.api in ("messages", "count_tokens")
        await send_error(client, error, call.id if call else new_id(), anthropic=anthropic)


class Watch:
    """Sees the client leave while its answer is made, and then cancels the making.

    Begins after 20 ms, or at once for streams: most calls are over before, and need no task beside them.
    """

    __slots__ = ("_due", "_making", "_progress", "_receive", "_task", "_tasks")

    def __init__(self, receive: Receive, progress: Progress, tasks: Tasks, making: asyncio.Task[Any]) -> None:
        self._receive = receive
        self._progress = progress
        self._tasks = tasks
        self._making = making
        self._task: asyncio.Task[None] | None = None
        self._due: Due | None = None

    def begin(self) -> None:
        self._task = self._tasks.start(self._watch(), "client watch")

    def begin_later(self, ticker: Ticker, now: float) -> None:
        self._due = Due(ticker, now + _WATCH_AFTER_S, self.begin)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._progress.ended:
            self._progress.gone = True
            self._making.cancel()

    def stop(self) -> None:
        if self._due is not None:
            self._due.cancel()
        task, self._task = self._task, None  # the task's last exception holds its frame, and so us: no ring of both
        if task is not None:
            task.cancel()


async def send_error(client: AsgiClient, error: GatewayError, request_id: str, *, anthropic: bool = False) -> None:
    """The error as a whole answer, in the shape of the client's API."""
    if client.started:
        return  # too late for a status; the connection closes unfinished
    body = error.anthropic_body() if anthropic else error.body()
    head = [
        (b"content-type", b"application/json"),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request_id.encode()),
        *error.headers(),
    ]
    if anthropic:
        head.append((b"request-id", request_id.encode()))
    await client.start(error.status, head)
    await client.end(body)


def calm() -> None:
    """Takes back the cancellations that ended the making: the task itself goes on to settle."""
    task = asyncio.current_task()
    while task is not None and task.cancelling():
        task.uncancel()


def stopping() -> GatewayError:
    return Overloaded("the gateway is stopping; ask again", retry_after_s=1)


def _endpoint(path: bytes) -> Endpoint | None:
    if path.startswith(b"/v1/"):
        return ENDPOINTS.get(path[3:])
    return ENDPOINTS[path] if path in AT_ROOT else None


def unknown_path(path: str, method: str) -> GatewayError:
    """What to say to a path that is none of ours."""
    if path.startswith("/v1/realtime"):
        return NotImplementedHere("realtime sessions (WebSocket) are not relayed", retry=False)
    if path.encode() in ENDPOINTS or path == "/models":
        return NotFound(f"{path} is served as /v1{path}: the client's base_url must end in /v1", retry=False)
    if path.startswith("/v1/v1/"):
        return NotFound(f"{path} has /v1 twice: the client adds it itself, so its base_url must not", retry=False)
    return NotFound(f"there is no {method} {path[:200]}", retry=False)
