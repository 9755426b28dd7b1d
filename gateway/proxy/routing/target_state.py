"""The live state of targets and upstreams: readiness, latency and load. No I/O."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.config.upstreams import Upstream
from gateway.core.exchange import Target
from gateway.core.providers import CHATS
from gateway.proxy.dialects.types import UpstreamDialect
from gateway.proxy.http.auth.authorized import AuthorizedTransport
from gateway.proxy.http.auth.secret_mask import SecretMask
from gateway.proxy.http.client.transport import Transport
from gateway.proxy.http.client.websocket import WebSocketConnector
from gateway.proxy.routing.circuit_breaker import CircuitBreaker, Clock
from gateway.proxy.routing.concurrency_limiter import ConcurrencyLimiter
from gateway.proxy.routing.variants import TargetVariant

log = logging.getLogger(__name__)

_LOAD_FRESH_S = 10.0
_FORBIDDEN_ROW = 3  # one 403 may be about the request; several without an answer between them are about the key


@dataclass(slots=True)
class UpstreamState:
    """One upstream of the config, with its connections and live state."""

    name: str
    config: Upstream
    dialect: UpstreamDialect
    transport: Transport
    limiter: ConcurrencyLimiter
    transport_kind: object = None
    """A key that tells its transport from others; it differs where the CA file has changed."""
    websockets: WebSocketConnector | None = None
    """Opens WebSockets for responses; None if it has none, or is not to be asked for one."""
    down: bool = False
    """Whether its health endpoint fails to answer."""
    checked: bool = False
    """A health check has succeeded since this process began."""
    health_row: int = 0
    """Health checks in a row whose result differs from `down`."""
    on_health: Callable[[bool], object] | None = None
    """Called when `down` has changed, with its new value."""
    refusals: int = 0
    """Answers since the last good one that refused the gateway's key: HTTP 401 or 403."""
    key_refused: str = ""
    """The last of these refusals, once they are about the key for certain; "" if it is accepted. Only a call that is
    answered ends this state: a free check often needs no key."""
    decides: bool = field(init=False)
    """Whether it has an API of decisions."""
    mask: SecretMask = field(init=False)
    """Hides the gateway's credential in the upstream's texts."""

    def __post_init__(self) -> None:
        self.decides = self.config.provider.dialect in CHATS and self.config.decision_format is not None
        transport = self.transport
        if isinstance(transport, AuthorizedTransport):
            self.mask = SecretMask(self.config, lambda: transport.credential.sent)
        else:
            self.mask = SecretMask(self.config)

    def record_key_refused(self, status: int, text: str) -> None:
        self.refusals += 1
        if status != 401 and self.refusals < _FORBIDDEN_ROW:
            return
        if not self.key_refused:
            log.error("upstream %s refuses the gateway's key; calls go on to find out when it accepts it: %s",
                      self.name, text)  # fmt: skip
        self.key_refused = text

    def record_key_accepted(self) -> None:
        if self.key_refused:
            log.warning("upstream %s accepts the gateway's key again", self.name)
        self.refusals, self.key_refused = 0, ""


@dataclass(slots=True)
class TargetState:
    """One target, a model at an upstream in one variant, with its live state."""

    target: Target
    upstream: UpstreamState
    breaker: CircuitBreaker
    clock: Clock
    in_flight: int = 0
    latency_s: float = 0.0
    """Moving average of the time to the first byte."""
    variant: TargetVariant | None = None
    """The variant that changes its requests; None if it changes nothing."""
    model: str = ""
    """The model that requests name; "": the target's. It differs where one target stands for all names of a pattern."""
    name: str = field(init=False)  # "upstream/model" or "upstream/model[variant]"
    header_lines: bytes = field(init=False)
    """x-gateway-upstream, x-gateway-model and x-gateway-variant, each with its line end."""
    reports_load: bool = field(init=False)
    on_failure: Callable[[str], object] | None = None
    """Called with the caller's name at each failure that is the target's own, before the breaker counts it."""
    last_failure: str = ""
    """The newest failure that is the target's own, in words without a secret."""
    failure_logged_at: float = -1e9
    """Monotonic time of the last log line about a failed attempt."""
    undecided_until: float = 0.0
    """Monotonic time until which it is not asked for decisions, since it answered that it has none; 0: it never did."""
    _load: float = 0.0
    _waiting: float = 0.0
    _load_at: float = field(default=-1e9)

    def __post_init__(self) -> None:
        upstream, model = self.target.upstream, self.model or self.target.model
        self.model = model
        self.name = str(self.target)
        config = self.upstream.config
        self.reports_load = (config.load or config.provider.load) == "orca"
        named = b"x-gateway-upstream: %b\r\nx-gateway-model: %b\r\n" % (upstream.encode(), model.encode())
        self.header_lines = (
            named if named.count(b"\n") == named.count(b"\r") == 2 else b"x-gateway-upstream: unnameable\r\n"
        )
        if self.target.variant:
            self.header_lines += b"x-gateway-variant: %b\r\n" % self.target.variant.encode("ascii")

    @property
    def ready(self) -> bool:
        return not self.upstream.down and self.breaker.wait_s() == 0.0

    @property
    def is_one_model(self) -> bool:
        """Whether its breaker is of this model alone, and not of all names of a pattern."""
        return self.model == self.target.model

    @property
    def load(self) -> float:
        """Requests in flight from this process, plus those that the server last reported as waiting; at least 1."""
        fresh = self.clock() - self._load_at < _LOAD_FRESH_S
        return self.in_flight + (self._load if fresh else 0.0) + 1.0

    @property
    def waiting(self) -> float | None:
        """Requests that the server reported as waiting within the last 10 s; None: no report."""
        return self._waiting if self.clock() - self._load_at < _LOAD_FRESH_S else None

    def record_failure(self, caller: str) -> None:
        """Notes a failure that is the target's own. caller: whose call failed."""
        if self.on_failure is not None:
            self.on_failure(caller)
        self.breaker.record_failure()

    def record_latency(self, seconds: float) -> None:
        self.latency_s = seconds if self.latency_s == 0.0 else 0.8 * self.latency_s + 0.2 * seconds

    def record_load_report(self, header: bytes) -> None:
        """Reads an ORCA load report (vLLM's header `endpoint-load-metrics`); unreadable values count as 0."""
        waiting = _WAITING.search(header)
        cache = _CACHE.search(header)
        self._waiting = float(waiting[1]) if waiting else 0.0
        self._load = self._waiting + (10.0 * float(cache[1]) if cache else 0.0)
        self._load_at = self.clock()


_NUMBER = rb"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)"
_WAITING = re.compile(rb"num_requests_waiting\"?\s*[:=]\s*" + _NUMBER)
_CACHE = re.compile(rb"kv_cache_usage_perc\"?\s*[:=]\s*" + _NUMBER)
