"""Why parts of a gateway process do not work as they should: for /health and the heartbeat.

Only what the process itself knows is read, so that an answer costs nothing. Upstreams are not among the parts: /ready
and the heartbeat report them.
"""

from __future__ import annotations

from collections.abc import Iterator

from gateway.core.reasons import Reason
from gateway.proxy.app import App
from gateway.proxy.directory.poller import DirectoryPoller
from gateway.proxy.experiments.plan_poller import PlanPoller
from gateway.proxy.limits.exchange import LeaseExchange
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.signing_keys import SigningKeyPoller


class GatewayReasons:
    """The reasons of one process."""

    def __init__(self, app: App, recorder: Recorder, exchange: LeaseExchange) -> None:
        self._app = app
        self._recorder = recorder
        self._exchange = exchange
        self.plans: PlanPoller | None = None
        self.keys: DirectoryPoller | None = None
        self.issuers: SigningKeyPoller | None = None
        """The pollers; None: they have not started."""

    def __call__(self, *, but_config: bool = False) -> list[Reason]:
        """but_config: without a refused config, which the heartbeat reports in a member of its own."""
        refused = "" if but_config else self._app.config_refused
        degraded = self._app.gateway.limiter.degraded
        found = (
            ("the newest gateway.yaml was refused, and the one before is in force", refused),
            ("calls are not recorded now; records wait in memory", self._recorder.trouble),
            ("limits hold for each worker by itself", self._exchange.trouble if degraded else ""),
            *self._polled(),
        )
        return [Reason(what, why) for what, why in found if why]

    def _polled(self) -> Iterator[tuple[str, str]]:
        if self.plans is not None:
            yield "experiments continue with the last known plans", self.plans.trouble
        if self.keys is not None:
            yield "the last known keys stay in force", self.keys.trouble
            yield "the snapshot of the keys cannot be written", self.keys.unsavable
        if self.issuers is not None:
            for name, why in self.issuers.failing.items():
                yield "the keys of a token issuer cannot be read", f"jwt.{name}: {why}"
