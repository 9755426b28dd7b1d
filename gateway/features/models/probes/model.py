"""Requests, targets, answers and rounds of probes. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any, Literal

import orjson

from gateway.core.completion import Completion
from gateway.core.exchange import Target
from gateway.core.output_tokens import OUTPUT_LIMITS
from gateway.core.prices import Price

Api = Literal["chat", "completions", "responses", "messages"]
Mode = Literal["exact", "served"]
"""`exact`: at temperature 0. `served`: with the settings of the request and its target."""
MODES: tuple[Mode, ...] = ("exact", "served")
Result = Literal["baseline", "same", "suspected", "changed", "gap"]
MOST_TOKENS = 128
"""Output tokens of a request that names no limit, and of every request that comes from traffic."""
PREFIX_WORDS = (1, 2, 4, 8, 16, 32)
_LIMITS: Mapping[Api, str] = {"responses": "max_output_tokens"}
_DIGITS = 12
_MILLION = 1e6


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A request that is asked in every round."""

    key: str
    """Digest of the request, or the id of the recorded call that it comes from."""
    api: Api
    request: Mapping[str, Any]
    """The body, without a model."""

    @property
    def limit(self) -> int:
        """Most output tokens of an answer."""
        given = [self.request[name] for name in OUTPUT_LIMITS if isinstance(self.request.get(name), int)]
        return min(given, default=MOST_TOKENS)

    def bounded(self) -> ProbeRequest:
        """The same with at most MOST_TOKENS output tokens."""
        kept = {name: value for name, value in self.request.items() if name not in OUTPUT_LIMITS}
        name = _LIMITS.get(self.api, "max_tokens")
        return replace(self, request={**kept, name: min(self.limit, MOST_TOKENS)})

    def body(self, alias: str, mode: Mode) -> dict[str, Any]:
        """The body as it is sent."""
        own = self.request if any(name in self.request for name in OUTPUT_LIMITS) else self.bounded().request
        body = {**own, "model": alias, "stream": False}
        if mode == "exact":
            body["temperature"] = 0
            body |= {"logprobs": True} if self.api == "chat" else {}
        return body

    def most_usd(self, price: Price) -> float:
        """Upper estimate for one answer: three bytes a token of the prompt, and all output tokens."""
        tokens = len(orjson.dumps(self.request)) / 3.0
        output = max(price.output, price.reasoning or 0.0)
        return (tokens * price.input + self.limit * output) / _MILLION


def request_key(api: str, request: Mapping[str, Any]) -> str:
    return sha256(orjson.dumps([api, request], option=orjson.OPT_SORT_KEYS)).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class ProbedTarget:
    """A target that is asked, through the first alias that has it."""

    alias: str
    target: Target
    definition: str
    """Digest of the settings of the gateway that decide about its answers: after a change, the past does not count."""
    alone: bool
    """Whether the alias can send a call to no other target."""
    price: Price | None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.alone else {"x-gateway-target": str(self.target)}

    def most_usd(self, requests: Sequence[ProbeRequest], repeats: int) -> float | None:
        """Upper estimate for one round; None without a price."""
        if self.price is None:
            return None
        return repeats * len(MODES) * sum(request.most_usd(self.price) for request in requests)


@dataclass(frozen=True, slots=True)
class ProbeAnswer:
    """An answer without its text."""

    key: str
    mode: Mode
    digest: str
    prefixes: tuple[str, ...]
    """Digests of its first 1, 2, 4, … words."""
    length: int
    """Characters."""
    tokens: int | None
    logprob: float | None
    """Mean log-probability of its tokens; None if the engine gives none."""


def answer_of(key: str, mode: Mode, completion: Completion) -> ProbeAnswer:
    calls = [f"{call.name} {call.arguments}" for call in completion.tool_calls]
    text = "\n".join(part for part in (completion.text, completion.refusal, *calls) if part)
    words = text.split()
    prefixes = tuple(_digest(" ".join(words[:count])) for count in PREFIX_WORDS)
    tokens = completion.usage.output_tokens if completion.usage else None
    return ProbeAnswer(key, mode, _digest(text), prefixes, len(text), tokens, completion.mean_logprob)


def _digest(text: str) -> str:
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


@dataclass(frozen=True, slots=True)
class ProbeRound:
    """All answers of one target at one time, or the reason why there are none."""

    alias: str
    target: str
    asked: float
    """Unix seconds."""
    definition: str
    result: Result
    text: str = ""
    """Sentence for people: the evidence, or the reason of a gap."""
    measures: tuple[str, ...] = ()
    """The measures that differ from the baseline."""
    calls: int = 0
    usd: float = 0.0
    """Price of the calls; an answer without usage counts as its upper estimate."""
    answers: tuple[ProbeAnswer, ...] = ()

    @property
    def is_usable(self) -> bool:
        return self.result != "gap"

    def to_json(self) -> str:
        return orjson.dumps(asdict(self)).decode()


def round_from_json(text: str) -> ProbeRound:
    raw = orjson.loads(text)
    answers = tuple(ProbeAnswer(**{**row, "prefixes": tuple(row["prefixes"])}) for row in raw.pop("answers"))
    return ProbeRound(**{**raw, "measures": tuple(raw["measures"]), "answers": answers})


def month_of(now: float) -> float:
    """The beginning (UTC) of the calendar month of a time."""
    return datetime.fromtimestamp(now, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0).timestamp()
