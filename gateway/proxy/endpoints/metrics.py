"""GET /metrics in Prometheus's text format or in OpenMetrics, and who may read it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response

from gateway.config.environment import shared_metrics
from gateway.core.errors import InvalidKey, NotFound
from gateway.observability.label_history import LabelHistory
from gateway.observability.worker_metrics import (
    CONTENT_TYPE,
    OPENMETRICS_TYPE,
    WorkerMetrics,
    exposition,
    wants_openmetrics,
)
from gateway.proxy.app import Gateway
from gateway.proxy.request.auth import matches
from gateway.proxy.request.client_address import from_this_machine


@dataclass(frozen=True, slots=True)
class MetricsAccess:
    """The right to read the metrics, the targets on /ready and the causes on /health."""

    gateway: Callable[[], Gateway]
    """Returns the Gateway in force."""
    loopback: bool
    """The main port is reachable only from this machine, so that this needs no key."""
    private: bool = False
    """A listener of its own, which needs no key at all."""

    def allows(self, request: Request) -> bool:
        if self.private:
            return True
        config, headers = self.gateway().config.metrics, dict(request.scope["headers"])
        if config.bind is not None:
            return False
        if config.sha256 is not None:
            return matches(headers, config.sha256)
        return self.loopback and from_this_machine(headers)


class MetricsPage:
    def __init__(self, access: MetricsAccess, show: Callable[[], None], registry: CollectorRegistry) -> None:
        """show: brings the metrics up to date. registry: of this process."""
        self._gateway = access.gateway
        self._access = access
        self._show = show
        self._registry = registry
        shared = shared_metrics()
        self._workers = None if shared is None else WorkerMetrics(shared)
        self._history = LabelHistory(shared)

    async def __call__(self, request: Request) -> Response:
        if not self._access.allows(request):
            if self._gateway().config.metrics.bind is not None:
                raise NotFound("metrics are not served on this port but on that of metrics.bind", retry=False)
            raise InvalidKey(
                "metrics need a key of their own beyond loopback and behind a proxy; set metrics.sha256 or metrics.bind"
            )
        self._show()
        self._history.follow(self._gateway().settler.labels)
        # On a thread: with several workers it reads all their files, while calls are in flight.
        openmetrics = wants_openmetrics(request.headers.get("accept", ""))
        made = partial(exposition, self._registry, self._workers, self._history.expired(), openmetrics=openmetrics)
        text = await asyncio.to_thread(made)
        headers = {"vary": "accept, accept-encoding"}
        if "gzip" in request.headers.get("accept-encoding", ""):
            text = await asyncio.to_thread(gzip.compress, text, 1)
            headers["content-encoding"] = "gzip"
        media_type = OPENMETRICS_TYPE if openmetrics else CONTENT_TYPE
        return Response(text, headers=headers, media_type=media_type.decode())
