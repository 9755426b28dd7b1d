"""The likelihood of a served answer under an engine that is asked for it: its record, and the comparison of two.

The gateway reads an engine's response once (proxy/experiments/prompt_likelihood.py) and records sums and keyed digests;
the consumer compares the records of two arms. The tokens themselves are in the record's response, for callers whose
content is recorded in full.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

TOKENIZERS_DIFFER = "tokenizers_differ"
ADAPTER = "adapter"
GENERATION_DIFFERS = "generation_differs"
REFUSALS: Mapping[str, str] = {
    TOKENIZERS_DIFFER: "the engines split the same answer into different tokens",
    ADAPTER: "the engine serves it as a LoRA adapter, whose log-probabilities of a prompt are not reliable",
    GENERATION_DIFFERS: "the engine gives its own text other log-probabilities as a prompt than when it wrote it",
    "no_prompt_logprobs": "the engine returns no log-probabilities of the prompt (`prompt_logprobs`)",
    "rejected": "the engine rejects the request for the answer's likelihood",
    "not_aligned": "the answer is not at the end of the engine's prompt",
    "too_large": "the engine's response is too large",
    "not_recorded": "the record holds no likelihood",
}
"""Reason why a response gives no likelihood, for readers."""
NEVER_COMPARABLE = frozenset({TOKENIZERS_DIFFER, ADAPTER, GENERATION_DIFFERS})
"""Reasons of which a single one withholds every verdict."""
NOT_ANSWERED = frozenset({"rejected", ADAPTER})
"""Reasons of an arm without an answer."""


@dataclass(frozen=True, slots=True)
class AnswerLikelihood:
    """The likelihood of a served answer under one engine. `refused`: why there is none; the rest is then empty."""

    tokens: int = 0
    nats: float = 0.0
    """Negative log-likelihood of the answer, over all its tokens."""
    top1: int = 0
    """Number of tokens that are the engine's most likely one."""
    ids: str = ""
    """Digest of the tokens: equal where two engines split the answer alike."""
    best: str = ""
    """BEST_DIGITS hex digits for each token: of a digest of the engine's most likely token at its place."""
    refused: str | None = None

    @property
    def nats_per_token(self) -> float:
        """Raises ZeroDivisionError without tokens."""
        return self.nats / self.tokens

    def to_json(self) -> str:
        fields = {"refused": self.refused} if self.refused else asdict(self)
        return orjson.dumps(fields).decode()


BEST_DIGITS = 4


def likelihood_from_json(text: str | None) -> AnswerLikelihood | None:
    """The likelihood in a record; None if the record is of another request. An unreadable text is `not_recorded`."""
    if text is None:
        return None
    try:
        return AnswerLikelihood(**orjson.loads(text))
    except (orjson.JSONDecodeError, TypeError):
        return AnswerLikelihood(refused="not_recorded")


def agreement(a: AnswerLikelihood, b: AnswerLikelihood) -> float:
    """The share of places at which both engines have the same most likely token. Both: of the same tokens, above 0."""
    same = sum(_best(a, i) == _best(b, i) for i in range(a.tokens))
    return same / a.tokens


def _best(of: AnswerLikelihood, place: int) -> str:
    return of.best[BEST_DIGITS * place : BEST_DIGITS * (place + 1)]


@dataclass(frozen=True, slots=True)
class AnswerToken:
    """One token of a served answer under one engine. Log-probabilities are natural logarithms."""

    text: str
    logprob: float
    rank: int
    """Rank among the engine's tokens at this position; 1 is the most likely one."""
    best: str
    """The text of the most likely token."""
    best_logprob: float | None


def tokens_to_json(tokens: Sequence[AnswerToken], usage: Any, model: Any) -> bytes:
    """The recorded response of a request for a likelihood."""
    rows = [[t.text, t.logprob, t.rank, t.best, t.best_logprob] for t in tokens]
    return orjson.dumps({"object": "likelihood", "model": model, "choices": [], "tokens": rows, "usage": usage})


def tokens_from_json(response: bytes) -> tuple[AnswerToken, ...]:
    """Tokens of a recorded response; () if the record holds none."""
    try:
        raw = orjson.loads(response)
        return tuple(AnswerToken(*row) for row in raw["tokens"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ()
