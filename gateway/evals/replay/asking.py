"""Asks one question until it is answered, refused, or given up; paced for all together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from gateway.core.backoff import Backoff
from gateway.core.errors import CannotRun
from gateway.core.prices import Prices
from gateway.core.randomization import draw
from gateway.evals.http_client import GatewayClient, HttpReply, Unreachable
from gateway.evals.replay.answers import ReplayFailure, ReplayRequest, answered, judged_reply, unanswered
from gateway.evals.replay.items import PATHS
from gateway.evals.store.replays import ReplayAnswer

Sleep = Callable[[float], Awaitable[None]]
_NO_USE = (401, 403, 404)  # of every further question too


class Misconfigured(CannotRun):
    """The gateway refuses every question of this kind; the message says what it said."""


@dataclass(frozen=True, slots=True)
class RequestPacing:
    """rate: questions a second, all targets together, repeated ones too; None: as fast as concurrency allows. attempts:
    at one question. backoff_s: before the second, doubled after, up to longest_s; also what a Retry-After is cut to.
    stop_after: failures in a row after which a replay stops. budget_usd: what its answers may cost; None: no bound.
    """

    concurrency: int = 8
    rate: float | None = None
    deadline_s: float = 300.0
    attempts: int = 5
    backoff_s: float = 0.5
    longest_s: float = 60.0
    stop_after: int = 20
    budget_usd: float | None = None


class RequestPacer:
    """Gives every asking its time: 1 / rate apart, and none to a target that asked to wait. clock: of seconds, from
    anywhere."""

    def __init__(
        self, rate: float | None, sleep: Sleep = asyncio.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._apart_s = 1.0 / rate if rate else 0.0
        self._sleep, self._clock = sleep, clock
        self._next = 0.0
        self._waits: dict[str, float] = {}

    async def turn(self, target: str) -> None:
        now = self._clock()
        at = max(now, self._next, self._waits.get(target, 0.0))
        if self._apart_s:
            self._next = max(now, self._next) + self._apart_s
        if at > now:
            await self._sleep(at - now)

    def hold(self, target: str, seconds: float) -> None:
        """Nobody asks this target before so many seconds have passed."""
        until = self._clock() + seconds
        self._waits[target] = max(until, self._waits.get(target, 0.0))


class RetryingRequester:
    """clock: Unix time in seconds."""

    def __init__(
        self,
        client: GatewayClient,
        pace: RequestPacing,
        prices: Prices,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._pace, self._prices, self._sleep, self._clock = client, pace, prices, sleep, clock
        self._turns = RequestPacer(pace.rate, sleep)

    async def ask(self, ask: ReplayRequest) -> ReplayAnswer:
        """The answer, or the last failure, as the store keeps it. Raises Misconfigured."""
        attempt = 0
        while True:
            attempt += 1
            await self._turns.turn(ask.target.name)
            asked_at = self._clock()
            found = await self._once(ask)
            if isinstance(found, ReplayAnswer):
                return found
            if not found.passing or attempt >= self._pace.attempts:
                return unanswered(ask, found, asked_at)
            await self._wait(ask, found, attempt)

    async def _once(self, ask: ReplayRequest) -> ReplayAnswer | ReplayFailure:
        asked_at, began = self._clock(), time.perf_counter()
        try:
            reply = await self._client.ask(
                PATHS[ask.item.api], ask.body, deadline_s=self._pace.deadline_s, headers=ask.target.headers
            )
        except Unreachable as error:
            seconds = time.perf_counter() - began
            return ReplayFailure("timeout" if seconds >= self._pace.deadline_s else "failed", str(error), seconds)
        found = judged_reply(ask, reply)
        if isinstance(found, ReplayFailure):
            _check(ask, reply, found)
            return found
        return answered(ask, reply, found, asked_at, self._prices)

    async def _wait(self, ask: ReplayRequest, failure: ReplayFailure, attempt: int) -> None:
        pace = self._pace
        if failure.retry_after_s is not None:
            self._turns.hold(ask.target.name, min(failure.retry_after_s, pace.longest_s))
            return
        u = draw("replay:backoff", f"{ask.answer_id}:{attempt}")  # so that those that failed together part
        await self._sleep(Backoff(pace.backoff_s, pace.longest_s).wait_s(attempt, u))


def _check(ask: ReplayRequest, reply: HttpReply, failure: ReplayFailure) -> None:
    if reply.status in _NO_USE:
        raise Misconfigured(f"{ask.target.name} cannot be asked: {failure.error}")
