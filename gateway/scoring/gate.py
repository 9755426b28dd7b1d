"""Limits the concurrency of one scorer that waits or comes from another package, and blocks it while it cannot work.

A scorer that is denied access, or that misses many deadlines in a row, is blocked: every subject gets the error
immediately, and from time to time one is let through as a probe. A dead judge therefore delays no other scorer.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.core.backoff import Backoff
from gateway.scoring.threads import NoTurn

log = logging.getLogger(__name__)
MAX_TIMEOUTS = 32  # in a row, before a scorer is blocked
CONCURRENCY = 16
PROBE_BACKOFF = Backoff(first_s=60.0, most_s=600.0)  # between probes of a scorer that is blocked


class GateClosed(Exception):
    """The scorer is blocked; the message has the reason, and the seconds until the next attempt."""


class ScorerGate:
    """Built once per scorer.

    concurrency: subjects scored at the same time. clock: monotonic seconds. max_timeouts: missed deadlines in a row
    after which the scorer is blocked.
    """

    def __init__(
        self,
        name: str,
        concurrency: int = CONCURRENCY,
        backoff: Backoff = PROBE_BACKOFF,
        clock: Callable[[], float] = time.monotonic,
        max_timeouts: int = MAX_TIMEOUTS,
    ) -> None:
        self._name = name
        self._turn = asyncio.Semaphore(concurrency)
        self._backoff = backoff
        self._clock = clock
        self._max_timeouts = max_timeouts
        self._timeouts = 0
        self._reason: str | None = None
        self._until = 0.0
        self._failures = 0
        self._probing = False

    @property
    def reason(self) -> str | None:
        """Reason why it is blocked; None if it is not."""
        return self._reason

    @asynccontextmanager
    async def turn(self, deadline_s: float, *, patient: bool = False) -> AsyncIterator[float]:
        """Waits for a turn and yields the seconds left of deadline_s. patient: the deadline counts from the turn on.

        Raises GateClosed while blocked, and ScoringTimeout when no turn came in time.
        """
        probe = self._enter()
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline_s
        try:
            try:
                async with asyncio.timeout_at(None if patient else ends):
                    await self._turn.acquire()
            except TimeoutError:
                raise NoTurn(f"waited {deadline_s:g} s for its turn") from None
            try:
                if not probe:
                    self._refuse()  # it may have been blocked while this one waited
                yield deadline_s if patient else max(0.0, ends - loop.time())
            finally:
                self._turn.release()
        finally:
            if probe:
                self._probing = False

    def _enter(self) -> bool:
        """Tells whether this subject is the probe. Raises GateClosed."""
        if self._reason is None:
            return False
        if self._probing or self._clock() < self._until:
            self._refuse()
        self._probing = True
        return True

    def _refuse(self) -> None:
        if self._reason is not None:
            left = max(0.0, self._until - self._clock())
            raise GateClosed(f"blocked: {self._reason}; tried again in {left:.0f} s")

    def record_denied(self, reason: str) -> None:
        """Blocks the scorer because it was denied access."""
        self._block(reason)

    def record_timeout(self) -> None:
        """Blocks the scorer after max_timeouts in a row, and again when a probe times out."""
        self._timeouts += 1
        if self._timeouts >= self._max_timeouts or self._reason is not None:
            self._block(f"{self._timeouts} deadlines in a row were missed")

    def record_reply(self) -> None:
        """Unblocks the scorer: it returned in time, possibly with an error."""
        self._timeouts = 0
        if self._reason is not None:
            log.warning("scorer %s works again; unblocked", self._name)
        self._reason, self._failures = None, 0

    def _block(self, reason: str) -> None:
        now = self._clock()
        if self._reason is not None and now < self._until:
            return  # calls that began before the block report the same failure
        if self._reason is None:
            log.warning("scorer %s is blocked: %s; see gateway_eval_scorer_blocked", self._name, reason)
        self._failures += 1
        self._reason, self._until = reason, now + self._backoff.wait_s(self._failures)
