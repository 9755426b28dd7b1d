"""The live state of targets and upstreams: circuit breaker, concurrency limiter, latency and load. No I/O."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass, field

from gateway.config.upstreams import BreakerConfig, Upstream
from gateway.core.backoff import Backoff
from gateway.core.errors import Overloaded
from gateway.core.exchange import Target
from gateway.proxy.dialects.types import Dialect
from gateway.proxy.http.auth.authorized import AuthorizedTransport
from gateway.proxy.http.auth.secret_mask import SecretMask
from gateway.proxy.http.client.transport import Transport
from gateway.proxy.routing.fair_queue import FairQueue, Turn
from gateway.proxy.routing.variants import TargetVariant

Clock = Callable[[], float]

_WINDOW_S = 10.0
_WINDOW_LEAST = 20  # calls a window needs before its share of failures counts
_LOAD_FRESH_S = 10.0


class CircuitBreaker:
    """Stops calls to a failing target: closed, then open for a while, then half-open until one probe has decided.

    It opens after some failures in a row (5), or when half of at least 20 calls within 10 s failed. It stays open for
    1 s, doubled with each failed probe up to 15 s, so that a target that recovers gets calls again within 15 s.
    """

    __slots__ = (
        "_calls",
        "_clock",
        "_consecutive",
        "_failed",
        "_open_s",
        "_opened",
        "_paused_until",
        "_probing",
        "_row",
        "_since",
        "_until",
        "closed",
        "on_change",
    )

    def __init__(self, clock: Clock, config: BreakerConfig | None = None) -> None:
        """clock: monotonic seconds. config: None: the defaults."""
        config = config or BreakerConfig()
        self._clock = clock
        self._consecutive = config.failures
        self._open_s = Backoff(first_s=config.open_s, most_s=config.max_open_s)
        self.on_change: Callable[[bool], object] | None = None
        """Called when it has opened (True) and when it has closed (False)."""
        self._row = 0
        self._opened = 0  # how often it has opened since the last success
        self._until = 0.0
        self._paused_until = 0.0
        self._probing = False
        self._since = clock()
        self.closed = True
        """Calls pass without a check: since the last success it has neither opened nor been paused."""
        self._calls = self._failed = 0

    @property
    def open(self) -> bool:
        """Open or half-open. A pause that the target asked for is neither."""
        return self._opened > 0

    def unprobed_s(self) -> float:
        """Seconds for which an open breaker could have been probed, but was not."""
        return (
            0.0 if self._probing or not self._opened else max(0.0, self._clock() - max(self._until, self._paused_until))
        )

    def wait_s(self) -> float:
        """Seconds until a call is allowed; 0 if one is allowed now."""
        if self.closed:
            return 0.0
        left = max(self._until, self._paused_until) - self._clock()
        if left <= 0 and self._probing:
            return 1.0
        return max(0.0, left)

    def allow(self) -> bool:
        """Whether a call may be sent now. Half-open, one caller at a time gets True: its call is the probe."""
        if self.closed:
            return True
        if self.wait_s() > 0:
            return False
        self._probing = self._opened > 0
        return True

    def record_success(self) -> None:
        self._row = 0
        now = self._clock()
        if now - self._since > _WINDOW_S:
            self._since, self._calls, self._failed = now, 0, 0
        self._calls += 1
        if not self.closed:
            was_open, self.closed = self._opened > 0, True
            self._opened = 0
            self._paused_until = 0.0
            self._probing = False
            if was_open and self.on_change is not None:
                self.on_change(False)

    def record_idle_check(self) -> None:
        """A check that costs nothing succeeded while no call came: it closes an open breaker that no call probes. Such
        a check does not prove that calls work, so the next failure opens it again."""
        if self.unprobed_s() > 0:
            self.record_success()
            self._row = self._consecutive - 1

    def record_failure(self) -> None:
        if self._opened and not self._probing:
            return  # calls that were in flight when it opened are part of the same event
        self._row += 1
        now = self._clock()
        if now - self._since > _WINDOW_S:
            self._since, self._calls, self._failed = now, 0, 0
        self._calls += 1
        self._failed += 1
        crowd = self._calls >= _WINDOW_LEAST and self._failed * 2 >= self._calls
        if self._probing or self._row >= self._consecutive or crowd:
            self._probing = False
            self._opened += 1
            self.closed = False
            self._row = self._calls = self._failed = 0
            self._until = self._clock() + self._open_s.wait_s(self._opened)
            if self._opened == 1 and self.on_change is not None:
                self.on_change(True)

    def release_probe(self) -> None:
        """The attempt says nothing about the target: the client left, or the request was at fault."""
        self._probing = False

    def pause(self, seconds: float) -> None:
        """The target asked for a pause (Retry-After); 120 s at most. A longer pause replaces a shorter one."""
        self._probing = False
        self.closed = False
        self._paused_until = max(self._paused_until, self._clock() + min(seconds, 120.0))


class ConcurrencyLimiter:
    """Limits the attempts in flight at an upstream. Further ones wait in a queue that serves its keys in turn."""

    __slots__ = ("_limit", "_queue", "_turns", "_wait_s", "in_flight", "limited", "waiting")

    def __init__(self, limit: int | None, queue: int, wait_s: float) -> None:
        """limit: attempts in flight; None: no limit. queue: attempts that may wait. wait_s: how long each may wait."""
        self.in_flight = 0
        self.waiting = 0
        self.limited = limit is not None
        self._limit = limit
        self._queue = queue
        self._wait_s = wait_s
        self._turns = FairQueue()

    @property
    def free(self) -> bool:
        return self._limit is None or (self.in_flight < self._limit and not self.waiting)

    def can_admit(self, n: int) -> bool:
        """Whether n more attempts could start at once, with none waiting before them."""
        return self._limit is None or (self.in_flight + n <= self._limit and not self.waiting)

    async def acquire(self, key: str = "", *, background: bool = False) -> None:
        """Waits for the key's turn. background: behind all other attempts.

        Raises Overloaded if the queue is full, if the wait takes too long, or if the attempt gives way to a key that
        has fewer waiting.
        """
        if self.free:
            self.in_flight += 1
            return
        if self.waiting >= self._queue:
            self._make_room(key, background)
        turn: Turn = asyncio.get_running_loop().create_future()
        self._turns.push(key, turn, background=background)
        self.waiting += 1
        try:
            async with asyncio.timeout(self._wait_s):
                admitted = await turn
        except TimeoutError:
            self._give_up(key, turn, background)
            message = f"the upstream is full: still {self._limit} in flight within {self._wait_s:g} s"
            raise Overloaded(message, retry_after_s=1) from None
        except asyncio.CancelledError:
            self._give_up(key, turn, background)
            raise
        if not admitted:
            raise self._full()

    def release(self) -> None:
        """Ends an attempt; the one whose turn it is starts."""
        while self.waiting:
            turn = self._turns.pop()
            self.waiting -= 1
            if not turn.done():
                turn.set_result(True)
                return
        self.in_flight -= 1

    def _make_room(self, key: str, background: bool) -> None:
        """Refuses the newest attempt of the key with the most waiting: another key's, or else this one."""
        given_way = self._turns.pop_for(key, background=background)
        if given_way is None:
            raise self._full()
        self.waiting -= 1
        if not given_way.done():
            given_way.set_result(False)

    def _full(self) -> Overloaded:
        return Overloaded(f"the upstream is full: {self._limit} in flight, {self._queue} waiting", retry_after_s=1)

    def _give_up(self, key: str, turn: Turn, background: bool) -> None:
        if turn.done() and not turn.cancelled():
            if turn.result():
                self.release()  # it was admitted in the same moment
        elif self._turns.remove(key, turn, background=background):
            self.waiting -= 1


@dataclass(slots=True)
class UpstreamState:
    """One upstream of the config, with its connections and live state."""

    name: str
    config: Upstream
    dialect: Dialect
    transport: Transport
    limiter: ConcurrencyLimiter
    transport_kind: object = None
    """What tells its transport from others; it differs where the CA file has changed."""
    down: bool = False
    """Its health endpoint does not answer."""
    checked: bool = False
    """A health check has succeeded since this process began."""
    health_row: int = 0
    """Health checks in a row whose result differs from `down`."""
    on_health: Callable[[bool], object] | None = None
    """Called when `down` has changed, with its new value."""
    mask: SecretMask = field(init=False)
    """Hides the gateway's credential in what the upstream says."""

    def __post_init__(self) -> None:
        transport = self.transport
        if isinstance(transport, AuthorizedTransport):
            self.mask = SecretMask(self.config, lambda: transport.credential.sent)
        else:
            self.mask = SecretMask(self.config)


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
    """What it changes in requests; None: nothing."""
    model: str = ""
    """What requests name; "": the target's model. It differs where one target stands for all names of a pattern."""
    name: str = field(init=False)  # "upstream/model" or "upstream/model[variant]"
    header_lines: bytes = field(init=False)
    """x-gateway-upstream, x-gateway-model and x-gateway-variant, each with its line end."""
    reports_load: bool = field(init=False)
    on_failure: Callable[[str], object] | None = None
    """Called with the caller's name at each failure that is the target's own, before the breaker counts it."""
    failure_logged_at: float = -1e9
    """Monotonic time of the last log line about a failed attempt."""
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
        """Reads an ORCA load report (vLLM's header `endpoint-load-metrics`); what cannot be read counts as 0."""
        waiting = _WAITING.search(header)
        cache = _CACHE.search(header)
        self._waiting = float(waiting[1]) if waiting else 0.0
        self._load = self._waiting + (10.0 * float(cache[1]) if cache else 0.0)
        self._load_at = self.clock()


_NUMBER = rb"([0-9]+(?:\.[0-9]+)?(?:[eE][+-]?[0-9]{1,2})?)"
_WAITING = re.compile(rb"num_requests_waiting\"?\s*[:=]\s*" + _NUMBER)
_CACHE = re.compile(rb"kv_cache_usage_perc\"?\s*[:=]\s*" + _NUMBER)
