"""Calls a judge model for a JSON verdict, once more if its answer is not one, and reads the verdict and its score.

Parameters that the upstream rejects (logprobs, response_format, temperature) are omitted from then on. A verdict is
JSON as requested, or JSON inside other text. The expected score is that of the probabilities of its token.
Source: Liu et al., "G-Eval: NLG Evaluation using GPT-4 with Better Human Alignment", arXiv:2303.16634, section 2.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gateway.core.json_values import as_list, as_text, parse_object
from gateway.core.score import Spent
from gateway.scorers.judging.templates import defuse, shorten
from gateway.scoring.asker import Asker, ModelRefused, total_spent

_MARK = re.compile(r"\{|</think(?:ing)?>", re.IGNORECASE)
_FENCE = re.compile(r"\s*(?:```\w*\s*)?")
_DECODER = json.JSONDecoder()
MAX_OBJECTS = 200  # tried in one text


class NoVerdict(ValueError):
    """The judge's answer contains no verdict; the message says what was expected."""


def find_verdict(text: str, key: str) -> dict[str, Any]:
    """The verdict: the complete text as an object, else an object with this key after the judge's thoughts. Raises
    NoVerdict.

    Of several objects, the one that the text begins with, since the rest is a comment; else the last one, because a
    judge that reasons first ends with its verdict, after any quotation of the answer.
    """
    text = text.strip()
    complete = parse_object(text)
    if complete is not None and key in complete:
        return complete
    found = next((verdict for part in reversed(_parts(text)) if (verdict := _verdict_in(part, key))), None)
    if found is None:
        raise NoVerdict(f'no JSON object with "{key}" in {text[-200:]!r}')
    return found


def _verdict_in(part: list[tuple[bool, dict[str, Any]]], key: str) -> dict[str, Any] | None:
    named = [(leads, value) for leads, value in part if key in value]
    if not named:
        return None
    leads, first = named[0]
    return first if leads else named[-1][1]


def _parts(text: str) -> list[list[tuple[bool, dict[str, Any]]]]:
    """The objects of each part of a text, with whether the part begins with it. The end of a thought ends a part.

    A judge may quote `</thinking>` in its reason, so it counts only outside of objects; and if nothing follows it, an
    earlier part has the verdict.
    """
    parts: list[list[tuple[bool, dict[str, Any]]]] = [[]]
    start = at = tried = 0
    while (mark := _MARK.search(text, at)) is not None and tried < MAX_OBJECTS:
        at = mark.end()
        if mark[0] != "{":
            parts.append([])
            start = at
            continue
        tried += 1
        try:
            value, at = _DECODER.raw_decode(text, mark.start())
        except (json.JSONDecodeError, RecursionError):
            continue
        parts[-1].append((_FENCE.fullmatch(text, start, mark.start()) is not None, value))
    return parts


def read_number(verdict: Mapping[str, Any], key: str, low: float, high: float) -> float:
    """A number in [low, high], also as text: "4", "4/5", "4 of 5". Raises NoVerdict."""
    given = verdict.get(key)
    if isinstance(given, str):
        match = re.match(r"\s*(-?\d+(?:\.\d+)?)(?!\d)\s*(?:(?:/|out of|of)\s*\d+)?\s*$", given)
        given = float(match[1]) if match else given
    if isinstance(given, bool) or not isinstance(given, int | float) or not low <= given <= high:
        raise NoVerdict(f'"{key}" is {given!r}, expected a number from {low:g} to {high:g}')
    return float(given)


def read_bool(given: Any) -> bool:
    """True or false, also as text: "yes", "no". Raises NoVerdict."""
    if isinstance(given, bool):
        return given
    if isinstance(given, str) and given.strip().lower() in ("yes", "true", "no", "false"):
        return given.strip().lower() in ("yes", "true")
    raise NoVerdict(f"expected true or false, got {given!r}")


def read_reason(verdict: Mapping[str, Any]) -> str | None:
    given = verdict.get("reason")
    return given if isinstance(given, str) and given.strip() else None


def response_format(name: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """A response_format that requires an object with exactly these properties, in this order."""
    schema = closed_object(properties)
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def closed_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """The schema of an object with exactly these properties."""
    closed = {"required": list(properties), "additionalProperties": False}
    return {"type": "object", "properties": dict(properties), **closed}


MIN_MASS = 0.5  # total probability of scores; below it, this token does not decide the score


def score_distribution(tokens: Sequence[Any], key: str, low: int, high: int) -> dict[str, float] | None:
    """Score → probability, over the scores among the top tokens; the sum is 1.

    tokens: `choices[0].logprobs.content`. None if they lack the digit after the last "key": or its alternatives, or the
    scale has numbers of two digits.
    """
    if not (0 <= low < high <= 9):
        return None
    alternatives = _alternatives(tokens, key)
    masses: dict[str, float] = {}
    for each in alternatives:
        token, logprob = str(each.get("token", "")).strip(' "'), each.get("logprob")
        if token.isdecimal() and len(token) == 1 and low <= int(token) <= high and isinstance(logprob, int | float):
            masses[token] = masses.get(token, 0.0) + math.exp(min(0.0, logprob))
    mass = sum(masses.values())
    if mass < MIN_MASS:
        return None
    return {score: p / mass for score, p in sorted(masses.items())}


def expected_score(weights: Mapping[str, float]) -> float:
    return sum(int(score) * p for score, p in weights.items())


def _alternatives(tokens: Sequence[Any], key: str) -> list[Mapping[str, Any]]:
    """The top tokens at the position of the score."""
    entries = [t for t in tokens if isinstance(t, dict)]
    pieces = [str(t.get("token", "")) for t in entries]
    text = "".join(pieces)
    matches = list(re.finditer(rf'(?<!\\)"{re.escape(key)}"\s*:\s*"?(\d)(?!\d|\.\d)', text))
    if not matches:
        return []
    position, at = matches[-1].start(1), 0
    for token, piece in zip(entries, pieces, strict=True):
        if at <= position < at + len(piece):
            top = token.get("top_logprobs")
            return [t for t in top if isinstance(t, dict)] if isinstance(top, list) else []
        at += len(piece)
    return []


T = TypeVar("T")
log = logging.getLogger(__name__)
MAX_TOKENS = 4096  # reasoning models need that many; a verdict alone takes about a hundred
TOP_LOGPROBS = 20
_REJECTED = frozenset({400, 404, 415, 422, 501})


class UnreadableVerdict(Exception):
    """Raised where neither of the judge's two answers contained a verdict."""

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

        Raises UnreadableVerdict, and the errors of Asker.ask.
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
        messages, wrong = list(question.messages), ""
        for _ in range(2):
            text, tokens = await self._answer(question, messages, logprobs, spent)
            try:
                raw = find_verdict(text, question.key)
                return JudgeVerdict(question.read(raw), raw, tokens, total_spent(spent))
            except NoVerdict as error:
                wrong = str(error)
                messages += _again(text, question.format)
        raise UnreadableVerdict(f"the judge returned no verdict in two attempts: {wrong}", total_spent(spent))

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
        """Omits the parameter that the upstream names or may mean, from now on. False if there is none left to omit."""
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
    """Asks again, without quoting the judge outside of its own turn: its text may contain the answer's words."""
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
