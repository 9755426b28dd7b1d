"""A scorer behind HTTP (`use: http://host/path`): the subject goes there as JSON, and an opinion comes back.

Any web framework will do. The words of both sides stand in docs/scorers.md. Before its first subject the service must
get its golden cases right: those of the config, and those it lists itself under /golden.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated, Any, Literal, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from gateway.core.completion import Completion
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped, Spent
from gateway.evals.http_client import HttpConnections, HttpReply
from gateway.evals.scorers.judging.repeats import standard_error
from gateway.evals.scoring.asker import total_spent
from gateway.evals.scoring.budget import ScorerBudget
from gateway.evals.scoring.golden import failed_cases
from gateway.evals.scoring.types import Denied, Golden, Scorer, Subject

V = 1  # of what is sent; grows when a field changes its meaning
MOST_BYTES = 1 << 20  # of what comes back
MAX_KB = 4096  # of what is sent


class InvalidServiceReply(Exception):
    """The service answered with something that is no opinion."""


class ServiceCase(BaseModel):
    """A golden case as JSON: expected: a value, or null for "not applicable"."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "unnamed"
    request: dict[str, Any] = {}
    completion: dict[str, Any] = {}
    reference: str | None = None
    expected: float | None


class ServiceOpinion(BaseModel):
    """An opinion as JSON. skipped: what was missing, in place of a value."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    value: float | None = None
    label: str | None = None
    explanation: str | None = None
    detail: dict[str, float] = {}
    skipped: str | None = None
    cost_usd: Annotated[float, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    judge_model: str | None = None


_SAID = TypeAdapter[ServiceOpinion | list[ServiceOpinion]](ServiceOpinion | list[ServiceOpinion])
_CASES = TypeAdapter[list[ServiceCase]](list[ServiceCase])


class HttpService:
    """url: where subjects are POSTed. headers: as in {authorization: "Bearer ${NAME}"}; they are no part of the config
    hash. version, kind, direction, bounds: of its opinions. golden: cases, beside those it lists itself. max_kb: of a
    subject; a larger one is not sent."""

    heavy = False
    waits = True
    unhashed = ("headers",)

    def __init__(
        self,
        name: str,
        url: str,
        connections: HttpConnections,
        deadline_s: float,
        budget: ScorerBudget | None = None,
        headers: dict[str, str] | None = None,
        version: str = "1",
        kind: Kind = "model",
        direction: Direction = "maximise",
        bounds: tuple[float | None, float | None] = (0.0, 1.0),
        golden: tuple[ServiceCase, ...] = (),
        max_kb: Annotated[int, Field(ge=1)] = MAX_KB,
    ) -> None:
        self.name, self.version, self.kind = name, version, kind
        self.direction: Direction = direction
        self.bounds: Bounds = bounds
        self._url, self._connections, self._deadline_s, self._budget = url, connections, deadline_s, budget
        self._headers = {"content-type": "application/json", "accept-encoding": "identity", **(headers or {})}
        self._cases = tuple(map(_golden, golden))
        self._max_kb = max_kb
        self._proven = False
        self._proving = asyncio.Lock()

    async def score(self, subject: Subject) -> Score | Skipped:
        """Raises Denied, NoOpinion, OverBudget, Unreachable."""
        if not self._proven:
            await self._prove()
        return await self._score(subject)

    def golden(self) -> tuple[Golden, ...]:
        """None at once: a service that is down must not keep the others from starting. See _prove."""
        return ()

    async def _prove(self) -> None:
        """Raises Denied, so that it is blocked and proven again later."""
        async with self._proving:
            if self._proven:
                return
            cases = (*self._cases, *await self._served())
            wrong = await failed_cases(cast(Scorer, _Cases(self, cases)))
            if wrong:
                raise Denied("it gets its golden cases wrong: " + "; ".join(wrong))
            self._proven = True

    async def _served(self) -> tuple[Golden, ...]:
        """The cases that the service lists; none where it has no such page."""
        reply = await self._send("GET", f"{self._url.rstrip('/')}/golden")
        if reply.status in (404, 405, 501):
            return ()
        _check(reply)
        try:
            return tuple(map(_golden, _CASES.validate_json(reply.body)))
        except ValidationError as error:
            raise Denied(f"/golden lists no golden cases: {_first(error)}") from None

    async def _score(self, subject: Subject) -> Score | Skipped:
        body = orjson.dumps(as_json(self.name, subject), default=str)
        if len(body) > 1024 * self._max_kb:
            return Skipped(f"an exchange of at most max_kb: {self._max_kb} (it has {len(body) // 1024})")
        reserved = await self._budget.reserve() if self._budget else None
        reply = await self._send("POST", self._url, body)
        _check(reply)
        said = _read(reply)
        spent = total_spent([Spent(s.cost_usd, s.judge_model, s.tokens) for s in said])
        if self._budget and reserved and spent:
            await self._budget.correct(reserved, spent.cost_usd, spent.tokens)
            if self._budget.usd is not None and spent.cost_usd is None:
                raise Denied("budget_usd cannot be kept: the service does not say cost_usd")
        told = spent if spent and (spent.cost_usd or spent.tokens or spent.judge_model) else None
        return _opinion(said, told)

    async def _send(self, method: Literal["GET", "POST"], url: str, body: bytes | None = None) -> HttpReply:
        return await self._connections.send(
            method, url, body, deadline_s=self._deadline_s, headers=self._headers, most_bytes=MOST_BYTES
        )


class _Cases:
    """The service as a scorer with golden cases, while it is being proven."""

    def __init__(self, service: HttpService, cases: tuple[Golden, ...]) -> None:
        self.score = service._score
        self._cases = cases

    def golden(self) -> tuple[Golden, ...]:
        return self._cases


def as_json(scorer: str, subject: Subject) -> dict[str, Any]:
    """What a service is sent: facts, question and answer. No key, no caller, nothing of other exchanges."""
    e, said = subject.exchange, subject.completion
    usage = said.usage or e.usage
    facts = {
        "id": e.id, "received": e.received, "api": e.api, "alias": e.alias, "upstream": e.target.upstream,
        "model": e.target.model, "role": e.role, "experiment": e.experiment, "arm": e.arm, "stream": e.stream,
        "status": e.status, "outcome": e.outcome, "truncated": e.truncated, "first_token_s": e.first_token_s,
        "total_s": e.total_s, "cost_usd": subject.cost_usd, "usage": asdict(usage) if usage else None,
        "stratum": e.stratum, "pi": e.pi,
    }  # fmt: skip
    answer = asdict(replace(said, usage=None))
    del answer["usage"]
    return {
        "v": V,
        "scorer": scorer,
        "exchange": facts,
        "request": subject.request,
        "completion": answer,
        "reference": subject.reference,
    }


def _golden(case: ServiceCase) -> Golden:
    known = {k: v for k, v in case.completion.items() if k in Completion.__dataclass_fields__}
    known.setdefault("finish_reason", "stop")
    return Golden(case.name, case.request, Completion(**known), case.expected, reference=case.reference)


def _check(reply: HttpReply) -> None:
    if reply.status in (401, 402, 403):
        raise Denied(f"the service says HTTP {reply.status}")
    if reply.status != 200:
        raise InvalidServiceReply(f"the service says HTTP {reply.status}: {reply.body[:200].decode(errors='replace')}")


def _read(reply: HttpReply) -> list[ServiceOpinion]:
    try:
        said = _SAID.validate_json(reply.body)
    except ValidationError as error:
        raise InvalidServiceReply(
            f'the service says no opinion ({_first(error)}): expected {{"value": …}}, {{"skipped": "…"}} or a list'
        ) from None
    listed = said if isinstance(said, list) else [said]
    if not listed or any((s.value is None) == (s.skipped is None) for s in listed):
        raise InvalidServiceReply('the service says no opinion: each must have either "value" or "skipped"')
    return listed


def _opinion(said: Sequence[ServiceOpinion], spent: Spent | None) -> Score | Skipped:
    """Of several opinions about the one subject: their mean, and how far they scatter."""
    scored = [s for s in said if s.value is not None]
    if not scored:
        return Skipped(said[0].skipped or "", spent)
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
