"""The circuit breaker of one target: it stops calls to a target that fails. No I/O."""

from __future__ import annotations

from collections.abc import Callable

from gateway.config.upstreams import BreakerConfig
from gateway.core.backoff import Backoff

Clock = Callable[[], float]
"""Monotonic seconds."""

_WINDOW_S = 10.0
_WINDOW_LEAST = 20  # calls a window needs before its share of failures counts
_LONGEST_PAUSE_S = 60.0


class CircuitBreaker:
    """Stops calls to a failing target: closed, then open for a while, then half-open until one probe has decided.

    It opens after some failures in a row (5), or when half of at least 20 calls within 10 s failed. It stays open for
    1 s, doubled with each failed probe up to 15 s, so that a target that recovers gets calls again within 15 s.
    """

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
        self._asked_until = 0.0  # the end of the pause that the target asked for, which may be longer
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
        self._probing = self._opened > 0 or self._clock() < self._asked_until
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
            self._paused_until = self._asked_until = 0.0
            self._probing = False
            if was_open and self.on_change is not None:
                self.on_change(False)

    def record_idle_check(self) -> None:
        """Notes that a free check succeeded while there were no calls: it closes an open breaker that no call probes.
        Such a check does not prove that calls work, so the next failure opens it again."""
        if self.unprobed_s() > 0:
            self.record_success()
            self._row = self._consecutive - 1

    def record_failure(self) -> None:
        if self._opened and not self._probing:
            return  # calls that were in flight when it opened are part of the same event
        probed, self._probing = self._opened > 0 and self._probing, False
        self._row += 1
        now = self._clock()
        if now - self._since > _WINDOW_S:
            self._since, self._calls, self._failed = now, 0, 0
        self._calls += 1
        self._failed += 1
        crowd = self._calls >= _WINDOW_LEAST and self._failed * 2 >= self._calls
        if probed or self._row >= self._consecutive or crowd:
            self._opened += 1
            self.closed = False
            self._row = self._calls = self._failed = 0
            self._until = self._clock() + self._open_s.wait_s(self._opened)
            if self._opened == 1 and self.on_change is not None:
                self.on_change(True)

    def release_probe(self) -> None:
        """Releases the probe of an attempt that says nothing about the target: the client left, or the request was at
        fault."""
        self._probing = False

    def pause(self, seconds: float) -> None:
        """Pauses calls at the target's request (Retry-After). After a minute of a longer pause one call at a time
        asks. A longer pause replaces a shorter one."""
        self._probing = False
        self.closed = False
        now = self._clock()
        self._paused_until = max(self._paused_until, now + min(seconds, _LONGEST_PAUSE_S))
        self._asked_until = max(self._asked_until, now + seconds)
