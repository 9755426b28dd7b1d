"""A scorer behind HTTP (`use: http://host/path`): subjects are posted as JSON, and scores come back.

docs/scorers.md documents both formats. Before its first subject the service must get its golden cases right: those of
the config, and those that it lists under /golden.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.core.completion import Completion
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped, Spent
from gateway.scorers.judging.repeats import standard_error
from gateway.scoring.asker import ServiceConnection, total_spent
from gateway.scoring.golden import failed_cases
from gateway.scoring.http_client import HttpReply
from gateway.scoring.options import ScorerOptions
from gateway.scoring.types import Denied, Golden, Scorer, Subject

FORMAT_VERSION = 1  # of the request; increased when a field changes its meaning
MAX_REPLY_BYTES = 1 << 20
MAX_KB = 4096  # of a request
_FACTS = "id received api alias role experiment arm stream status outcome truncated first_token_s total_s stratum pi"


class ServiceCase(BaseModel):
    """A golden case as JSON."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "unnamed"
    request: dict[str, Any] = {}
    completion: dict[str, Any] = {}
    reference: str | None = None
    expected: float | None
    """The value; null: not applicable."""


class ServiceScore(BaseModel):
    """A score as JSON, or the reason why there is none."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    value: float | None = None
    label: str | None = None
    explanation: str | None = None
    detail: dict[str, float] = {}
    skipped: str | None = None
    """Requirement that was missing, in place of a value."""
    cost_usd: Annotated[float, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    judge_model: str | None = None


_REPLY = TypeAdapter[ServiceScore | list[ServiceScore]](ServiceScore | list[ServiceScore])
_CASES = TypeAdapter[list[ServiceCase]](list[ServiceCase])


@dataclass(frozen=True, slots=True)
class HttpServiceOptions(ScorerOptions):
    """A service's section in the config."""

    headers: dict[str, str] | None = None
    """Sent with each request, as in {authorization: "Bearer ${NAME}"}; not part of the config hash."""
    version: str = "1"
    kind: Kind = "model"
    direction: Direction = "maximise"
    bounds: tuple[float | None, float | None] = (0.0, 1.0)
    golden: tuple[ServiceCase, ...] = ()
    """Cases besides those that the service lists."""
    max_kb: Annotated[int, Field(ge=1)] = MAX_KB
    """A subject larger than this is not sent."""


class HttpService:
    """Posts subjects to a URL and reads scores from the replies."""

    heavy = False
    waits = True
    unhashed = ("headers",)

    def __init__(self, name: str, url: str, service: ServiceConnection, options: HttpServiceOptions) -> None:
        self.name, self.version, self.kind = name, options.version, options.kind
        self.direction: Direction = options.direction
        self.bounds: Bounds = options.bounds
        self._url, self._service = url, service
        given = options.headers or {}
        self._headers = {"content-type": "application/json", "accept-encoding": "identity", **given}
        self._cases = tuple(map(_golden, options.golden))
        self._max_kb = options.max_kb
        self._proven = False
        self._proving = asyncio.Lock()

    async def score(self, subject: Subject) -> Score | Skipped:
        """Raises Denied, OverBudget, Unreachable, and ValueError for a reply that is not a score."""
        if not self._proven:
            await self._prove()
        return await self._score(subject)

    def golden(self) -> tuple[Golden, ...]:
        """Returns no cases at start-up, which must not depend on a service that may be down; _prove runs them later."""
        return ()

    async def _prove(self) -> None:
        """Runs the golden cases. Raises Denied, so that the service is blocked and checked again later."""
        async with self._proving:
            if self._proven:
                return
            cases = (*self._cases, *await self._served())
            wrong = await failed_cases(cast(Scorer, _Cases(self, cases)))
            if wrong:
                raise Denied("the service fails its golden cases: " + "; ".join(wrong))
            self._proven = True

    async def _served(self) -> tuple[Golden, ...]:
        """Asks for the cases that the service lists; none when it has no such path."""
        reply = await self._send("GET", f"{self._url.rstrip('/')}/golden")
        if reply.status in (404, 405, 501):
            return ()
        _check(reply)
        try:
            return tuple(map(_golden, _CASES.validate_json(reply.body)))
        except ValidationError as error:
            raise Denied(f"/golden did not return golden cases: {_first(error)}") from None

    async def _score(self, subject: Subject) -> Score | Skipped:
        body = orjson.dumps(as_json(self.name, subject), default=str)
        if len(body) > 1024 * self._max_kb:
            return Skipped(f"an exchange of at most max_kb: {self._max_kb} (it has {len(body) // 1024})")
        reserved = await self._service.budget.reserve() if self._service.budget else None
        reply = await self._send("POST", self._url, body)
        _check(reply)
        scores = _read(reply)
        spent = total_spent([Spent(s.cost_usd, s.judge_model, s.tokens) for s in scores])
        if self._service.budget and reserved and spent:
            await self._service.budget.correct(reserved, spent.cost_usd, spent.tokens)
            if self._service.budget.usd is not None and spent.cost_usd is None:
                raise Denied("budget_usd cannot be enforced: the service does not return cost_usd")
        known = spent if spent and (spent.cost_usd or spent.tokens or spent.judge_model) else None
        return _combined(scores, known)

    async def _send(self, method: Literal["GET", "POST"], url: str, body: bytes | None = None) -> HttpReply:
        return await self._service.connections.send(
            method, url, body, deadline_s=self._service.deadline_s, headers=self._headers, most_bytes=MAX_REPLY_BYTES
        )


class _Cases:
    """The service as a scorer with golden cases, while they are run."""

    def __init__(self, service: HttpService, cases: tuple[Golden, ...]) -> None:
        self.score = service._score
        self._cases = cases

    def golden(self) -> tuple[Golden, ...]:
        return self._cases


def as_json(scorer: str, subject: Subject) -> dict[str, Any]:
    """The request to a service: facts, request and answer. No key, no caller, nothing about other exchanges."""
    e, completion = subject.exchange, subject.completion
    usage = completion.usage or e.usage
    facts = {name: getattr(e, name) for name in _FACTS.split()}
    facts |= {"upstream": e.target.upstream, "model": e.target.model}
    facts |= {"cost_usd": subject.cost_usd, "usage": usage.tokens() if usage else None}
    answer = asdict(replace(completion, usage=None))
    del answer["usage"]
    return {
        "v": FORMAT_VERSION,
        "scorer": scorer,
        "exchange": facts,
        "request": dict(subject.request),
        "completion": answer,
        "reference": subject.reference,
    }


def _golden(case: ServiceCase) -> Golden:
    known = {k: v for k, v in case.completion.items() if k in Completion.__dataclass_fields__}
    known.setdefault("finish_reason", "stop")
    return Golden(case.name, case.request, Completion(**known), case.expected, reference=case.reference)


def _check(reply: HttpReply) -> None:
    if reply.status in (401, 402, 403):
        raise Denied(f"the service returned HTTP {reply.status}")
    if reply.status != 200:
        raise ValueError(f"the service returned HTTP {reply.status}: {reply.body[:200].decode(errors='replace')}")


def _read(reply: HttpReply) -> list[ServiceScore]:
    try:
        parsed = _REPLY.validate_json(reply.body)
    except ValidationError as error:
        raise ValueError(
            f'the service returned no score ({_first(error)}): expected {{"value": …}}, {{"skipped": "…"}} or a list'
        ) from None
    scores = parsed if isinstance(parsed, list) else [parsed]
    if not scores or any((s.value is None) == (s.skipped is None) for s in scores):
        raise ValueError('the service returned no score: each object needs either "value" or "skipped"')
    return scores


def _combined(scores: Sequence[ServiceScore], spent: Spent | None) -> Score | Skipped:
    """The mean of several scores of one subject, with its standard error."""
    scored = [s for s in scores if s.value is not None]
    if not scored:
        return Skipped(scores[0].skipped or "", spent)
    values = [s.value for s in scored if s.value is not None]
    first = scored[0]
    return Score(
        sum(values) / len(values),
        first.label if len(scored) == 1 else None,
        first.explanation,
        first.detail if len(scored) == 1 else {"repeats": len(scored)},
        spent,
        standard_error(values),
    )


def _first(error: ValidationError) -> str:
    each = error.errors(include_url=False, include_input=False)[0]
    at = ".".join(str(p) for p in each["loc"])
    return f"{at}: {each['msg']}" if at else str(each["msg"])
