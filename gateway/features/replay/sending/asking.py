"""One request to one target, retried until it is answered, refused or given up; paced for all targets together."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID, uuid5

import orjson

from gateway.core.backoff import Backoff
from gateway.core.completion import Completion, assemble
from gateway.core.errors import CannotRun
from gateway.core.exchange import Exchange, Target, Usage
from gateway.core.prices import Prices
from gateway.core.randomization import draw
from gateway.features.replay.datasets.datasets import PATHS, DatasetItem
from gateway.features.replay.rows import ReplayAnswer
from gateway.features.targets import ReplayTarget
from gateway.scoring.http_client import HttpReply, Unreachable
from gateway.scoring.types import Subject

Outcome = Literal["ok", "refused", "failed", "timeout"]
_NAMESPACE = UUID("5b1f8f5e-5c1f-5d5b-9a3c-2f1f3a6f7d10")
_ERROR_CHARACTERS = 500
_RETRYABLE = (408, 409, 425, 429)


@dataclass(frozen=True, slots=True)
class ReplayRequest:
    """One question to one target."""

    replay: str
    item: DatasetItem
    target: ReplayTarget
    repeat: int
    """The number of the repeat, from 1."""
    body: dict[str, Any]
    """The JSON body as it is sent."""

    @property
    def answer_id(self) -> str:
        return str(uuid5(_NAMESPACE, f"{self.replay}\0{self.item.number}\0{self.target.name}\0{self.repeat}"))

    def answer(self, outcome: Outcome, seconds: float, asked: float, **known: Any) -> ReplayAnswer:
        """The row of an answer to this request. known: its further columns."""
        item, key = self.item, (self.item.number, self.target.name, self.repeat)
        return ReplayAnswer(*key, self.answer_id, item.cluster, outcome, seconds, asked, **known)


@dataclass(frozen=True, slots=True)
class ReplayFailure:
    """An attempt without a usable answer."""

    outcome: Outcome
    error: str
    seconds: float
    status: int | None = None
    """The HTTP status; None if there was no response."""
    retry_after_s: float | None = None

    @property
    def retryable(self) -> bool:
        return self.outcome != "refused"


def completion_of(request: ReplayRequest, reply: HttpReply) -> Completion | ReplayFailure:
    """The completion, or the reason why there is none: an HTTP error, invalid JSON, an error in the body."""
    if reply.status >= 400:
        kind: Outcome = "failed" if reply.status >= 500 or reply.status in _RETRYABLE else "refused"
        kind = "timeout" if reply.status in (408, 504) else kind
        return ReplayFailure(kind, _message(reply), reply.seconds, reply.status, _retry_after_s(reply))
    completion = assemble(request.item.api, False, reply.body)
    if completion.error is not None:
        return ReplayFailure("failed", completion.error[:_ERROR_CHARACTERS], reply.seconds, reply.status)
    try:
        reply.object()
    except ValueError as error:
        return ReplayFailure("failed", str(error)[:_ERROR_CHARACTERS], reply.seconds, reply.status)
    return completion


def answered(
    request: ReplayRequest, reply: HttpReply, completion: Completion, asked_at: float, prices: Prices
) -> ReplayAnswer:
    usage, by = completion.usage or reply.usage, reply.target
    return request.answer(
        "ok",
        reply.seconds,
        asked_at,
        status=reply.status,
        upstream=by.upstream if by else None,
        model=by.model if by else None,
        finish_reason=completion.finish_reason,
        **(usage.tokens() if usage else {}),
        cost_usd=prices.cost(by, usage) if by else None,
        exchange_id=reply.exchange_id,
        text=completion.text,
        response=reply.body,
    )


def subject(request: ReplayRequest, answer: ReplayAnswer) -> Subject:
    """The subject for scorers. An answer from the store gives the same one as an answer that has just arrived."""
    completion = assemble(request.item.api, False, answer.response)
    usage = None
    if answer.input_tokens is not None and answer.output_tokens is not None:
        usage = Usage(answer.input_tokens, answer.output_tokens, answer.cached_input_tokens, answer.reasoning_tokens)
    item = request.item
    exchange = Exchange(
        id=answer.answer_id,
        received=answer.asked,
        caller="replay",
        api=item.api,
        alias=request.target.alias,
        target=Target(answer.upstream or "", answer.model or request.target.name),
        stream=False,
        request=orjson.dumps(request.body),
        response=answer.response,
        status=answer.status or 200,
        outcome="ok",
        total_s=answer.seconds,
        unit=f"{request.replay}:{item.number}:{request.repeat}",
        u=0.0,
        pi=1.0,
        stratum="replay",
        incarnation="replay",
        seq=item.number,
        plan=request.replay,
        arm=request.target.name,
        cluster=item.cluster,
        usage=usage,
    )
    return Subject(
        exchange, request.body, completion, item.reference, answer.cost_usd, expected_calls=item.expected_calls
    )


def _message(reply: HttpReply) -> str:
    try:
        error = reply.object().get("error")
    except ValueError:
        error = reply.body[:200].decode("utf-8", "replace")
    message = error.get("message") if isinstance(error, dict) else error
    return f"HTTP {reply.status}: {message}"[:_ERROR_CHARACTERS]


def _retry_after_s(reply: HttpReply) -> float | None:
    """Seconds to wait; None if the header is a date: the gateway sends seconds."""
    try:
        seconds = float(reply.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < 1e6 else None


Sleep = Callable[[float], Awaitable[None]]
_PERMANENT = (401, 403, 404)  # every further request to this target would fail in the same way


@dataclass(frozen=True, slots=True)
class RequestPacing:
    concurrency: int = 8
    rate: float | None = None
    """Requests per second to all targets together, retries included. None: as fast as concurrency allows."""
    deadline_s: float = 300.0
    attempts: int = 5
    """Attempts at one question."""
    backoff_s: float = 0.5
    """The wait before the second attempt; it doubles with each further one, up to longest_s."""
    longest_s: float = 60.0
    """The longest wait, also after a Retry-After."""
    stop_after: int = 20
    """Failures of one target in a row after which the replay stops."""
    budget_usd: float | None = None
    """The most that the answers of the replay may cost. None: no limit."""


class RequestPacer:
    """Spaces requests 1 / rate apart, and holds those to a target that sent Retry-After.

    clock: seconds from any origin.
    """

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
        """Holds the requests to this target for a time."""
        until = self._clock() + seconds
        self._waits[target] = max(until, self._waits.get(target, 0.0))


class SendsRequests(Protocol):
    """A GatewayClient, or what sends requests from elsewhere."""

    async def ask(
        self, path: str, body: Mapping[str, Any], *, deadline_s: float, headers: Mapping[str, str] = ...
    ) -> HttpReply:
        """Raises Unreachable."""


class RetryingRequester:
    """Sends a request until it is answered, refused or given up. clock: Unix time in seconds."""

    def __init__(
        self,
        client: SendsRequests,
        pace: RequestPacing,
        prices: Prices,
        sleep: Sleep = asyncio.sleep,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._client, self._pace, self._prices, self._sleep, self._clock = client, pace, prices, sleep, clock
        self._turns = RequestPacer(pace.rate, sleep)

    async def ask(self, request: ReplayRequest) -> ReplayAnswer:
        """The answer, or the last failure, as a row for the store.

        Raises CannotRun if the gateway refuses every request to this target.
        """
        attempt = 0
        while True:
            attempt += 1
            await self._turns.turn(request.target.name)
            asked_at = self._clock()
            outcome = await self._once(request)
            if isinstance(outcome, ReplayAnswer):
                return outcome
            if not outcome.retryable or attempt >= self._pace.attempts:
                status = {"status": outcome.status, "error": outcome.error}
                return request.answer(outcome.outcome, outcome.seconds, asked_at, **status)
            await self._wait(request, outcome, attempt)

    async def _once(self, request: ReplayRequest) -> ReplayAnswer | ReplayFailure:
        asked_at, began = self._clock(), time.perf_counter()
        try:
            reply = await self._client.ask(
                PATHS[request.item.api], request.body, deadline_s=self._pace.deadline_s, headers=request.target.headers
            )
        except Unreachable as error:
            seconds = time.perf_counter() - began
            return ReplayFailure("timeout" if seconds >= self._pace.deadline_s else "failed", str(error), seconds)
        found = completion_of(request, reply)
        if isinstance(found, ReplayFailure):
            _check(request, reply, found)
            return found
        return answered(request, reply, found, asked_at, self._prices)

    async def _wait(self, request: ReplayRequest, failure: ReplayFailure, attempt: int) -> None:
        pace = self._pace
        if failure.retry_after_s is not None:
            self._turns.hold(request.target.name, min(failure.retry_after_s, pace.longest_s))
            return
        # Jitter: requests that failed together do not retry together.
        u = draw("replay:backoff", f"{request.answer_id}:{attempt}")
        await self._sleep(Backoff(pace.backoff_s, pace.longest_s).wait_s(attempt, u))


def _check(request: ReplayRequest, reply: HttpReply, failure: ReplayFailure) -> None:
    if reply.status in _PERMANENT:
        raise CannotRun(f"{request.target.name} refuses all requests: {failure.error}")
