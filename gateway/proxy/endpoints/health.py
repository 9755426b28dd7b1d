"""GET /health and GET /ready, and the reasons why parts of a gateway process do not work as they should.

The reasons, which the heartbeat reports too, are read from the state of the process itself, without I/O. Upstreams are
not among the parts, apart from one that refuses the gateway's key: /ready and the heartbeat report them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from gateway import __version__
from gateway.core.reasons import Reason, on_page
from gateway.proxy.app import App, Gateway
from gateway.proxy.directory.poller import DirectoryPoller
from gateway.proxy.endpoints.metrics import MetricsAccess
from gateway.proxy.experiments.plan_poller import PlanPoller
from gateway.proxy.guards.ramp_poller import GuardRampPoller
from gateway.proxy.limits.exchange import LeaseExchange
from gateway.proxy.recording.heartbeat import Heartbeat
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.signing_keys import SigningKeyPoller

KEY_REFUSED = "an upstream refuses the gateway's key"


class GatewayReasons:
    def __init__(self, app: App, recorder: Recorder, exchange: LeaseExchange) -> None:
        self._app = app
        self._recorder = recorder
        self._exchange = exchange
        self.plans: PlanPoller | None = None
        self.keys: DirectoryPoller | None = None
        self.issuers: SigningKeyPoller | None = None
        self.guard_ramps: GuardRampPoller | None = None
        """The pollers; None if they have not started."""
        self.heartbeat: Heartbeat | None = None

    def __call__(self, *, but_config: bool = False) -> list[Reason]:
        """but_config: without a refused config, which the heartbeat reports in a member of its own."""
        refused = "" if but_config else self._app.config_refused
        degraded = self._app.gateway.limiter.degraded
        found = (
            ("the newest gateway.yaml was refused, and the previous one is in force", refused),
            ("calls are not recorded now; records wait in memory", self._recorder.trouble),
            ("no consumer scores what is recorded", "" if self.heartbeat is None else self.heartbeat.consumers_gone),
            ("limits hold for each worker by itself", self._exchange.trouble if degraded else ""),
            *self._refused_keys(),
            *self._guards(),
            *self._polled(),
        )
        return [Reason(what, why) for what, why in found if why]

    def _refused_keys(self) -> Iterator[tuple[str, str]]:
        for name, upstream in self._app.gateway.upstreams.items():
            if upstream.key_refused:
                yield KEY_REFUSED, f"upstreams.{name}: {upstream.key_refused}"

    def _guards(self) -> Iterator[tuple[str, str]]:
        guards = self._app.gateway.guards
        for name, why in ({} if guards is None else guards.failing()).items():
            yield "a guard gives no decision, and if_late decides", f"guards.{name}: {why}"

    def _polled(self) -> Iterator[tuple[str, str]]:
        if self.plans is not None:
            yield "experiments continue with the last known plans", self.plans.trouble
        if self.guard_ramps is not None:
            yield "guards continue with the last known steps of their ramps", self.guard_ramps.trouble
        if self.keys is not None:
            yield "the last known keys stay in force", self.keys.trouble
            yield "the snapshot of the keys cannot be written", self.keys.unsavable
        if self.issuers is not None:
            for name, why in self.issuers.failing.items():
                yield "the keys of a token issuer cannot be read", f"jwt.{name}: {why}"


@dataclass
class HealthPages:
    gateway: Callable[[], Gateway]
    access: MetricsAccess
    """Decides who sees causes and targets."""
    reasons: Callable[[], Sequence[Reason]]
    """Returns what does not work now."""

    async def health(self, request: Request) -> dict[str, Any]:
        """Says that this process runs, and which of its parts fail. Always HTTP 200, and without the upstreams: a load
        balancer must not restart the gateway because of them. Causes need access to metrics."""
        reasons = self.reasons()
        causes = bool(reasons) and self.access.allows(request)
        return {"status": "ok", "version": __version__, "reasons": on_page(reasons, causes=causes)}

    async def ready(self, request: Request) -> Response:
        """Says whether every alias has a target that is ready. Details need access to metrics."""
        gateway = self.gateway()
        states = {
            p.name: "ready" if p.ready else "down" if p.upstream.down else "failing"
            for p in gateway.router.target_states
        }
        missing = gateway.router.unready()
        body: dict[str, Any] = {"status": "ready" if not missing else "not ready"}
        if self.access.allows(request):
            body |= {"without_target": missing, "targets": states}
        return Response(orjson.dumps(body), 503 if missing else 200, media_type="application/json")
