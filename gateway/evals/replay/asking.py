"""One question to one target, retried until it is answered, refused or given up; paced for all targets together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from typing import Any, Literal
from uuid import UUID, uuid5

import orjson

from gateway.core.backoff import Backoff
from gateway.core.completion import Completion, assemble
from gateway.core.errors import CannotRun
from gateway.core.exchange import Exchange, Target, Usage
from gateway.core.prices import Prices
from gateway.core.randomization import draw
from gateway.evals.http_client import GatewayClient, HttpReply, Unreachable
from gateway.evals.replay.datasets import PATHS, DatasetItem
from gateway.evals.replay.design import ReplayTarget
from gateway.evals.scoring.types import Subject
from gateway.evals.store.replays import ReplayAnswer

Outcome = Literal["ok", "refused", "failed", "timeout"]
_NAMESPACE = UUID("5b1f8f5e-5c1f-5d5b-9a3c-2f1f3a6f7d10")
_ERROR_CHARACTERS = 500
_WAITS = (408, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """One question to one target. repeat: from 1. body: as it is sent."""

    replay: str
    item: DatasetItem
    target: ReplayTarget
    repeat: int
    body: dict[str, Any]

    @property
    def answer_id(self) -> str:
        return str(uuid5(_NAMESPACE, f"{self.replay}\0{self.item.number}\0{self.target.name}\0{self.repeat}"))


@dataclass(frozen=True, slots=True)
class ReplayFailure:
    """No answer worth keeping. status: None: no answer at all. retry_after_s: what the answer asked to wait."""

    outcome: Outcome
    error: str
    seconds: float
    status: int | None = None
    retry_after_s: float | None = None

    @property
    def passing(self) -> bool:
        """Asking again may do better."""
        return self.outcome != "refused"


def judged_reply(ask: ReplayRequest, reply: HttpReply) -> Completion | ReplayFailure:
    """What an answer says, or why it is none: an HTTP error, no JSON, an error in its body."""
    if reply.status >= 400:
        kind: Outcome = "failed" if reply.status >= 500 or reply.status in _WAITS else "refused"
        kind = "timeout" if reply.status in (408, 504) else kind
        return ReplayFailure(kind, _message(reply), reply.seconds, reply.status, _retry_after_s(reply))
    said = assemble(ask.item.api, False, reply.body)
    if said.error is not None:
        return ReplayFailure("failed", said.error[:_ERROR_CHARACTERS], reply.seconds, reply.status)
    try:
        reply.object()
    except ValueError as error:
        return ReplayFailure("failed", str(error)[:_ERROR_CHARACTERS], reply.seconds, reply.status)
    return said


def answered(ask: ReplayRequest, reply: HttpReply, said: Completion, asked_at: float, prices: Prices) -> ReplayAnswer:
    usage, by = said.usage or reply.usage, reply.target
    return ReplayAnswer(
        item=ask.item.number, target=ask.target.name, repeat=ask.repeat, answer_id=ask.answer_id,
        cluster=ask.item.cluster, outcome="ok", status=reply.status, seconds=reply.seconds, asked=asked_at,
        upstream=by.upstream if by else None, model=by.model if by else None, finish_reason=said.finish_reason,
        **(asdict(usage) if usage else {}),
        cost_usd=prices.cost(by, usage) if by else None, exchange_id=reply.exchange_id, text=said.text,
        response=reply.body,
    )  # fmt: skip


def unanswered(ask: ReplayRequest, failure: ReplayFailure, asked_at: float) -> ReplayAnswer:
    return ReplayAnswer(
        item=ask.item.number, target=ask.target.name, repeat=ask.repeat, answer_id=ask.answer_id,
        cluster=ask.item.cluster, outcome=failure.outcome, status=failure.status, error=failure.error,
        seconds=failure.seconds, asked=asked_at,
    )  # fmt: skip


def subject(ask: ReplayRequest, answer: ReplayAnswer) -> Subject:
    """For scorers: the same for an answer that was just given and for one read from the store."""
    said = assemble(ask.item.api, False, answer.response)
    usage = None
    if answer.input_tokens is not None and answer.output_tokens is not None:
        usage = Usage(answer.input_tokens, answer.output_tokens, answer.cached_input_tokens, answer.reasoning_tokens)
    exchange = Exchange(
        id=answer.answer_id, received=answer.asked, caller="replay", api=ask.item.api, alias=ask.target.alias,
        target=Target(answer.upstream or "", answer.model or ask.target.name), stream=False,
        request=orjson.dumps(ask.body), response=answer.response, status=answer.status or 200, outcome="ok",
        total_s=answer.seconds, unit=f"{ask.replay}:{ask.item.number}:{ask.repeat}", u=0.0, pi=1.0, stratum="replay",
        incarnation="replay", seq=ask.item.number, plan=ask.replay, arm=ask.target.name, cluster=ask.item.cluster,
        usage=usage,
    )  # fmt: skip
    return Subject(exchange, ask.body, said, ask.item.reference, answer.cost_usd)


def _message(reply: HttpReply) -> str:
    try:
        error = reply.object().get("error")
    except ValueError:
        error = reply.body[:200].decode("utf-8", "replace")
    said = error.get("message") if isinstance(error, dict) else error
    return f"HTTP {reply.status}: {said}"[:_ERROR_CHARACTERS]


def _retry_after_s(reply: HttpReply) -> float | None:
    """In seconds; a date is none of what the gateway sends."""
    try:
        seconds = float(reply.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e6 else None


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
