"""A model that gives verdicts: asked for JSON in whatever way it understands, asked once more when it gives none.

What its upstream refuses (logprobs, a response_format, a temperature) is left out from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gateway.core.score import Spent
from gateway.evals.scorers.judging.fence import shorten
from gateway.evals.scorers.judging.verdicts import NoVerdict, find_verdict
from gateway.evals.scoring.asker import Asker, ModelRefused, total_spent

T = TypeVar("T")
log = logging.getLogger(__name__)
MAX_TOKENS = 4096  # a model that reasons first needs room for it; a verdict takes a hundred
TOP_LOGPROBS = 20
_REFUSALS = frozenset({400, 404, 415, 422, 501})


class UnreadableVerdict(Exception):
    """The judge gave no verdict, also when asked again. spent: what asking took."""

    def __init__(self, message: str, spent: Spent | None) -> None:
        super().__init__(message)
        self.spent = spent


@dataclass(frozen=True, slots=True)
class JudgeQuestion(Generic[T]):
    """What is asked. key: the member without which there is no verdict. format: the response_format. read: the
    verdict's meaning; raises NoVerdict."""

    messages: Sequence[Mapping[str, str]]
    key: str
    format: Mapping[str, Any]
    read: Callable[[dict[str, Any]], T]
    seed: int = 0


@dataclass(frozen=True, slots=True)
class JudgeVerdict(Generic[T]):
    """said: as `read` read it. raw: the object it was read from. tokens: `logprobs.content`; []: none were given."""

    value: T
    raw: dict[str, Any]
    tokens: Sequence[Any]
    spent: Spent | None


@dataclass(slots=True)
class _UpstreamQuirks:
    """What this model's upstream has not refused so far."""

    format: str = "json_schema"  # then json_object, then none
    limit: str = "max_tokens"  # then max_completion_tokens, then none
    without: set[str] = field(default_factory=set)


class JudgeModel:
    """model: an alias of the gateway. temperature, max_tokens: as the API has them. params: further members of the
    request, which win. logprobs: asked for, where the upstream gives them."""

    def __init__(
        self,
        asker: Asker,
        model: str,
        temperature: float = 0.0,
        max_tokens: int = MAX_TOKENS,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self._asker = asker
        self._temperature, self._max_tokens = temperature, max_tokens
        self._params = dict(params or {})
        self._manners = _UpstreamQuirks()

    async def verdict(self, question: JudgeQuestion[T], *, logprobs: bool = False) -> JudgeVerdict[T]:
        """Raises Unreadable, and what Asker.ask raises."""
        spent: list[Spent] = []
        try:
            return await self._verdict(question, logprobs, spent)
        except UnreadableVerdict:
            raise
        except Exception as error:
            error.spent = total_spent(spent)  # type: ignore[attr-defined]  # the result says what was paid for nothing
            raise

    async def _verdict(self, question: JudgeQuestion[T], logprobs: bool, spent: list[Spent]) -> JudgeVerdict[T]:
        messages = list(question.messages)
        text, tokens = await self._said(question, messages, logprobs, spent)
        try:
            raw = find_verdict(text, question.key)
            return JudgeVerdict(question.read(raw), raw, tokens, total_spent(spent))
        except NoVerdict as wrong:
            messages += _again(text, question.format, wrong)
        text, tokens = await self._said(question, messages, logprobs, spent)
        try:
            raw = find_verdict(text, question.key)
            return JudgeVerdict(question.read(raw), raw, tokens, total_spent(spent))
        except NoVerdict as wrong:
            raise UnreadableVerdict(f"the judge gave no verdict, asked twice: {wrong}", total_spent(spent)) from None

    async def _said(
        self, question: JudgeQuestion[T], messages: Sequence[Mapping[str, str]], logprobs: bool, spent: list[Spent]
    ) -> tuple[str, Sequence[Any]]:
        """What the model says, without how it reasoned, and its tokens."""
        while True:
            body = self._body(question, messages, logprobs)
            try:
                answer, took = await self._asker.ask("/chat/completions", body)
            except ModelRefused as refused:
                if refused.status not in _REFUSALS or not self._learnt(refused, body):
                    raise
                continue
            spent.append(took)
            return _text(answer)

    def _body(
        self, question: JudgeQuestion[T], messages: Sequence[Mapping[str, str]], logprobs: bool
    ) -> dict[str, Any]:
        manners = self._manners
        body: dict[str, Any] = {"model": self.model, "messages": messages, "temperature": self._temperature}
        body["seed"] = question.seed
        if manners.limit:
            body[manners.limit] = self._max_tokens
        if manners.format == "json_schema":
            body["response_format"] = question.format
        elif manners.format:
            body["response_format"] = {"type": "json_object"}
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        body |= self._params
        return {k: v for k, v in body.items() if k not in manners.without}

    def _learnt(self, refused: ModelRefused, body: Mapping[str, Any]) -> bool:
        """Whether something can be left out that the upstream complains of, or may mean."""
        manners, said = self._manners, f"{refused.param} {refused.message}".lower()
        if "logprob" in said and "logprobs" in body:
            manners.without |= {"logprobs", "top_logprobs"}
        elif "max_tokens" in said and manners.limit:
            newer = manners.limit == "max_tokens" and "max_completion_tokens" in said
            manners.limit = "max_completion_tokens" if newer else ""
        elif named := next((n for n in ("temperature", "seed") if n in said and n in body), None):
            manners.without.add(named)
        elif "response_format" in body and manners.format and "context" not in said:
            manners.format = "json_object" if manners.format == "json_schema" else ""
        elif "logprobs" in body and "context" not in said:
            manners.without |= {"logprobs", "top_logprobs"}
        else:
            return False
        log.info("judge model %s refuses part of a request and is asked without it: %s", self.model, refused)
        return True


def _again(text: str, format: Mapping[str, Any], wrong: NoVerdict) -> list[dict[str, str]]:
    properties = ", ".join(f'"{name}"' for name in format["json_schema"]["schema"]["properties"])
    return [
        {"role": "assistant", "content": shorten(text, 4000) or "(nothing)"},
        {
            "role": "user",
            "content": f"That could not be read ({wrong}). Answer with one JSON object and nothing else; "
            f"its members, in this order: {properties}.",
        },
    ]


def _text(answer: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """Raises ValueError for what is no chat completion."""
    try:
        choice = answer["choices"][0]
        content = choice["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(f"the judge's answer is no chat completion: {str(answer)[:200]}") from None
    tokens = (choice.get("logprobs") or {}).get("content")
    return content if isinstance(content, str) else "", tokens if isinstance(tokens, list) else []
