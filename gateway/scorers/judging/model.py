"""Calls a judge model for a JSON verdict, and once more if its answer is not one.

Parameters that the upstream rejects (logprobs, response_format, temperature) are omitted from then on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gateway.core.json_values import as_list, as_text
from gateway.core.score import Spent
from gateway.scorers.judging.fence import defuse, shorten
from gateway.scorers.judging.verdicts import NoVerdict, find_verdict
from gateway.scoring.asker import Asker, ModelRefused, total_spent

T = TypeVar("T")
log = logging.getLogger(__name__)
MAX_TOKENS = 4096  # reasoning models need that many; a verdict alone takes about a hundred
TOP_LOGPROBS = 20
_REJECTED = frozenset({400, 404, 415, 422, 501})


class UnreadableVerdict(Exception):
    """Neither of the judge's two answers contained a verdict."""

    def __init__(self, message: str, spent: Spent | None) -> None:
        super().__init__(message)
        self.spent = spent


@dataclass(frozen=True, slots=True)
class JudgeQuestion(Generic[T]):
    """A prompt, and how to read its verdict."""

    messages: Sequence[Mapping[str, str]]
    key: str
    """The member that every verdict has."""
    format: Mapping[str, Any]
    """The response_format."""
    read: Callable[[dict[str, Any]], T]
    """Turns the verdict's JSON into its value; raises NoVerdict."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class JudgeVerdict(Generic[T]):
    """A verdict of a judge model."""

    value: T
    """The result of JudgeQuestion.read."""
    raw: dict[str, Any]
    """The JSON that it was read from."""
    tokens: Sequence[Any]
    """`logprobs.content`; [] if there are none."""
    spent: Spent | None


@dataclass(slots=True)
class _UpstreamQuirks:
    """The parameters that this model's upstream has not rejected so far."""

    format: str = "json_schema"  # then json_object, then none
    limit: str = "max_tokens"  # then max_completion_tokens, then none
    without: set[str] = field(default_factory=set)


class JudgeModel:
    """Calls one alias of the gateway for verdicts. params: further members of the request, which override its own."""

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
        self._quirks = _UpstreamQuirks()

    async def verdict(self, question: JudgeQuestion[T], *, logprobs: bool = False) -> JudgeVerdict[T]:
        """The verdict. logprobs: request them, if the upstream returns them.

        Raises UnreadableVerdict, and what Asker.ask raises.
        """
        spent: list[Spent] = []
        try:
            return await self._verdict(question, logprobs, spent)
        except UnreadableVerdict:
            raise
        except Exception as error:
            error.spent = total_spent(spent)  # type: ignore[attr-defined]  # the result reports the cost of failed calls, too
            raise

    async def _verdict(self, question: JudgeQuestion[T], logprobs: bool, spent: list[Spent]) -> JudgeVerdict[T]:
        messages = list(question.messages)
        text, tokens = await self._answer(question, messages, logprobs, spent)
        try:
            raw = find_verdict(text, question.key)
            return JudgeVerdict(question.read(raw), raw, tokens, total_spent(spent))
        except NoVerdict:
            messages += _again(text, question.format)
        text, tokens = await self._answer(question, messages, logprobs, spent)
        try:
            raw = find_verdict(text, question.key)
            return JudgeVerdict(question.read(raw), raw, tokens, total_spent(spent))
        except NoVerdict as wrong:
            raise UnreadableVerdict(
                f"the judge returned no verdict in two attempts: {wrong}", total_spent(spent)
            ) from None

    async def _answer(
        self, question: JudgeQuestion[T], messages: Sequence[Mapping[str, str]], logprobs: bool, spent: list[Spent]
    ) -> tuple[str, Sequence[Any]]:
        """The model's answer without its reasoning, and its tokens."""
        while True:
            body = self._body(question, messages, logprobs)
            try:
                answer, took = await self._asker.ask("/chat/completions", body)
            except ModelRefused as refused:
                if refused.status not in _REJECTED or not self._omit(refused, body):
                    raise
                continue
            spent.append(took)
            return _text(answer)

    def _body(
        self, question: JudgeQuestion[T], messages: Sequence[Mapping[str, str]], logprobs: bool
    ) -> dict[str, Any]:
        quirks = self._quirks
        body: dict[str, Any] = {"model": self.model, "messages": messages, "temperature": self._temperature}
        body["seed"] = question.seed
        if quirks.limit:
            body[quirks.limit] = self._max_tokens
        if quirks.format == "json_schema":
            body["response_format"] = question.format
        elif quirks.format:
            body["response_format"] = {"type": "json_object"}
        if logprobs:
            body |= {"logprobs": True, "top_logprobs": TOP_LOGPROBS}
        body |= self._params
        return {k: v for k, v in body.items() if k not in quirks.without}

    def _omit(self, refused: ModelRefused, body: Mapping[str, Any]) -> bool:
        """Omits the parameter that the upstream names or may mean, from now on. False: there is none left to omit."""
        quirks, complaint = self._quirks, f"{refused.param} {refused.message}".lower()
        if "logprob" in complaint and "logprobs" in body:
            quirks.without |= {"logprobs", "top_logprobs"}
        elif "max_tokens" in complaint and quirks.limit:
            newer = quirks.limit == "max_tokens" and "max_completion_tokens" in complaint
            quirks.limit = "max_completion_tokens" if newer else ""
        elif named := next((n for n in ("temperature", "seed") if n in complaint and n in body), None):
            quirks.without.add(named)
        elif "response_format" in body and quirks.format and "context" not in complaint:
            quirks.format = "json_object" if quirks.format == "json_schema" else ""
        elif "logprobs" in body and "context" not in complaint:
            quirks.without |= {"logprobs", "top_logprobs"}
        else:
            return False
        log.info("judge model %s rejects a parameter, which is omitted from now on: %s", self.model, refused)
        return True


def _again(text: str, format: Mapping[str, Any]) -> list[dict[str, str]]:
    """Quotes nothing outside of the judge's own turn: what it says may be the answer's words."""
    properties = ", ".join(f'"{name}"' for name in format["json_schema"]["schema"]["properties"])
    return [
        {"role": "assistant", "content": defuse(shorten(text, 4000)) or "(nothing)"},
        {
            "role": "user",
            "content": "No verdict could be read from that. Answer with one JSON object and nothing else; "
            f"its members, in this order: {properties}.",
        },
    ]


def _text(answer: Mapping[str, Any]) -> tuple[str, Sequence[Any]]:
    """The text and tokens. Raises ValueError for a reply that is not a chat completion."""
    try:
        choice = answer["choices"][0]
        content = choice["message"].get("content")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ValueError(f"the judge's reply is not a chat completion: {str(answer)[:200]}") from None
    tokens = (choice.get("logprobs") or {}).get("content")
    return as_text(content), as_list(tokens)
