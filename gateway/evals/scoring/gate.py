"""What stands before one scorer that waits, asks or belongs to others: its turns, and whether it is asked at all.

A scorer that is denied what it needs, or that misses deadline after deadline, is blocked: every subject gets its error
at once, and after a while one is let through to see whether it works again. So a dead judge costs nobody else's time.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from gateway.core.backoff import Backoff
from gateway.evals.scoring.threads import ScoringTimeout

log = logging.getLogger(__name__)
MOST_LATE = 32  # deadlines missed in a row, with none kept
AT_ONCE = 16
PROBE_BACKOFF = Backoff(first_s=60.0, most_s=600.0)  # between probes of a scorer that is blocked


class GateClosed(Exception):
    """The scorer is blocked; the message says since what, and for how long still."""


class ScorerGate:
    """Built once for each scorer. at_once: subjects under way. clock: monotonic seconds."""

    def __init__(
        self,
        name: str,
        at_once: int = AT_ONCE,
        backoff: Backoff = PROBE_BACKOFF,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name = name
        self._turn = asyncio.Semaphore(at_once)
        self._backoff = backoff
        self._clock = clock
        self._late = 0
        self._reason: str | None = None
        self._until = 0.0
        self._failures = 0
        self._probing = False

    @property
    def reason(self) -> str | None:
        """Why it is blocked; None: it is not."""
        return self._reason

    @asynccontextmanager
    async def turn(self, deadline_s: float) -> AsyncIterator[float]:
        """Gives the seconds left of deadline_s. Raises Closed, and Late where no turn came."""
        probe = self._enter()
        loop = asyncio.get_running_loop()
        ends = loop.time() + deadline_s
        try:
            try:
                async with asyncio.timeout_at(ends):
                    await self._turn.acquire()
            except TimeoutError:
                raise ScoringTimeout(f"waited {deadline_s:g} s for its turn") from None
            try:
                if not probe:
                    self._refuse()  # others may have been denied while this one waited
                yield max(0.0, ends - loop.time())
            finally:
                self._turn.release()
        finally:
            if probe:
                self._probing = False

    def _enter(self) -> bool:
        """Whether this subject is the one that sees whether it works again."""
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

    def denied(self, why: str) -> None:
        """It may not ask what it must ask."""
        self._block(why)

    def late(self) -> None:
        """It missed its deadline once more."""
        self._late += 1
        if self._late >= MOST_LATE or self._reason is not None:
            self._block(f"{self._late} deadlines in a row were missed")

    def answered(self) -> None:
        """It came back in time, with whatever it said."""
        self._late = 0
        if self._reason is not None:
            log.warning("scorer %s works again", self._name)
        self._reason, self._failures = None, 0

    def _block(self, why: str) -> None:
        now = self._clock()
        if self._reason is not None and now < self._until:
            return  # calls that were under way when it was blocked say the same
        if self._reason is None:
            log.warning("scorer %s is blocked: %s; see gateway_eval_scorer_blocked", self._name, why)
        self._failures += 1
        self._reason, self._until = why, now + self._backoff.wait_s(self._failures)
