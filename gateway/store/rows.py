"""Records to rows, in the order of the tables' columns. Pure. Tuples, not dicts: this runs for every score."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from itertools import islice
from operator import attrgetter
from typing import Any, Literal, NamedTuple
from uuid import NAMESPACE_OID, UUID, uuid5

import orjson

from gateway.core.completion import Completion, is_empty
from gateway.core.exchange import STORED_FIELDS, Exchange, Feedback, Usage
from gateway.core.score import ConfiguredScorer, Score, ScoreResult, ScorerInfo, Spent, unit_value
from gateway.store.predictions import Prediction

Row = tuple[Any, ...]
_mirrored = attrgetter(*STORED_FIELDS)
_OVERHEAD = 2048  # approximate bytes of an exchange's other columns, its scores and indexes


Sign = Literal["repeat", "edit", "stop", "wrong", "thanks"]
"""Verdict of a user's reaction on an answer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One served exchange of a conversation. Digests are hexadecimal and include the caller."""

    exchange_id: str
    received: float
    """Unix seconds."""
    caller: str
    scope: str | None
    """Digest of the conversation or end user that the request names; None: it names none."""
    question: str
    """Digest of the last user message."""
    answer: str
    """Digest of the last user message and the answer to it."""
    reply_to: str | None
    """The `answer` of the turn before, as the request repeats it; None: the first turn of a conversation."""
    signs: tuple[Sign, ...] = ()
    """Signs of the last user message on the answer before it."""
    stopped: bool = False
    """The client left while the answer was streamed."""
    parent: str | None = None
    """What the turn replies to: the id of an exchange, or a digest of the conversation where it is the first turn."""


@dataclass(frozen=True, slots=True)
class ScoredExchange:
    """One exchange with its parsed completion and its scores."""

    exchange: Exchange
    completion: Completion
    results: Sequence[ScoreResult]
    cost_usd: float | None = None
    """None: unknown."""
    position: str = ""
    """Position in the stream, as ledger.position writes it."""
    prediction: Prediction | None = None
    """None: no predictor is configured, or the exchange is not scored."""
    turn: Turn | None = None
    """None: it is not a turn of a conversation, or implicit feedback is off."""


def model_of(exchange: Exchange) -> str:
    """The label of who answered, as in the Tallies: "upstream/model" or "upstream/model[variant]"."""
    return str(exchange.target)


def exchange_row(judged: ScoredExchange, now: float) -> Row:
    """A row of `exchanges`. The usage in the response wins over the one that the gateway recorded."""
    e, c = judged.exchange, judged.completion
    usage = c.usage or e.usage
    calls, attempts = _json(c.tool_calls), _json(e.attempts)
    words = (e.request, e.response, c.text, c.reasoning, c.refusal, calls, attempts)
    return (
        *_mirrored(e), e.target.upstream, e.target.model, e.target.variant or None, plain_text(c.error),
        c.finish_reason, *_tokens(usage), judged.cost_usd, e.upstream_id or c.upstream_id, attempts,
        plain_text(c.text), plain_text(c.reasoning), plain_text(c.refusal), calls, c.choices,
        c.mean_logprob, now, judged.position, _OVERHEAD + sum(map(len, words)), is_empty(e, c),
    )  # fmt: skip


def _tokens(usage: Usage | None) -> Row:
    if usage is None:
        return None, None, None, None, None
    given, taken = usage.input_tokens, usage.output_tokens
    return given + taken, given, taken, usage.cached_input_tokens, usage.reasoning_tokens


# The columns of `scores`: those that all scores of an exchange share, and those that each has of its own.
SHARED = (
    "exchange_id", "subject", "experiment", "plan", "arm", "repeat", "data_type", "stratum", "answered", "created",
)  # fmt: skip
OWN = (
    "score_id", "scorer", "version", "config_hash", "kind", "direction", "status", "explanation", "pi", "seconds",
    "cost_usd", "judge_model", "tokens", "value", "label", "value01", "detail", "standard_error", "distribution",
)  # fmt: skip


_UNPAID, _UNSCORED = (None,) * 3, (None,) * 6


class ScoreRows(NamedTuple):
    """The rows of `scores` of one exchange. values: of SHARED once, then of OWN for each result, in order."""

    values: list[Any]

    def by_column(self) -> Iterator[dict[str, Any]]:
        values = iter(self.values)
        shared = dict(zip(SHARED, islice(values, len(SHARED)), strict=True))
        while own := dict(zip(OWN, islice(values, len(OWN)), strict=False)):
            yield {**shared, **own}


class ScoreIds:
    """The ids of scores. Caches the scorers' part of them."""

    def __init__(self) -> None:
        self._identities: dict[tuple[str, ...], bytes] = {}

    def of(self, judged: ScoredExchange) -> list[str]:
        """Of its results, in order."""
        namespace, known = _namespace(judged.exchange.id), self._identities
        time, ids = _time(namespace), []
        for r in judged.results:
            key = r[:3]
            identity = known.get(key) or known.setdefault(key, _identity(*key))
            h = sha1(namespace + identity, usedforsecurity=False).hexdigest()  # as _hashed, for every score
            ids.append(f"{time}{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}")
        return ids


def shared_values(judged: ScoredExchange, now: float) -> Row:
    """The columns SHARED."""
    e = judged.exchange
    return e.id, "exchange", e.experiment, e.plan, e.arm, 0, "numeric", e.stratum, e.received, now


def scorer_values(scorer: ScorerInfo, name: str, version: str, config_hash: str) -> Row:
    """The columns scorer, version, config_hash, kind and direction."""
    return name, version, config_hash, scorer.kind, scorer.direction


def paid_values(spent: Spent) -> Row:
    """The columns cost_usd, judge_model and tokens."""
    return spent.cost_usd, plain_text(spent.judge_model), spent.tokens


def score_values(score: Score, scorer: ScorerInfo) -> Row:
    """The columns value, label, value01, detail, standard_error and distribution."""
    value = float(score.value)
    detail = _json(score.detail) if score.detail else None
    distribution = _json(score.distribution) if score.distribution else None
    label = plain_text(score.label)
    return value, label, unit_value(value, scorer), detail, score.standard_error, distribution


class ScoreRowBuilder:
    """Builds rows of `scores`. Caches what the rows of one scorer share, since rules return the same Score often."""

    def __init__(self, scorers: Mapping[str, ConfiguredScorer]) -> None:
        self._scorers = scorers
        self._ids = ScoreIds()
        self._known: dict[tuple[str, ...], Row] = {}
        self._scores: dict[tuple[str, int], tuple[Score, Row]] = {}  # by scorer and id(); holding it keeps the id

    def score_rows(self, judged: ScoredExchange, now: float) -> ScoreRows:
        known, exchange_pi = self._known, judged.exchange.pi
        values = list(shared_values(judged, now))
        for r, score_id in zip(judged.results, self._ids.of(judged), strict=True):
            name, _, _, status, score, explanation, seconds, pi, spent = r
            columns = known.get(r[:3]) or self._of_scorer(r)
            paid = _UNPAID if spent is None else paid_values(spent)
            scored = _UNSCORED if score is None else self._of_score(name, score)
            values += (score_id, *columns, status, plain_text(explanation), exchange_pi * pi, seconds, *paid, *scored)
        return ScoreRows(values)

    def score_ids(self, judged: ScoredExchange) -> list[str]:
        """Of its results, in order."""
        return self._ids.of(judged)

    def _of_scorer(self, result: ScoreResult) -> Row:
        key = result[:3]
        made = self._known[key] = scorer_values(self._scorers[result.scorer].scorer, *key)
        return made

    def _of_score(self, scorer: str, score: Score) -> Row:
        key = scorer, id(score)
        known = self._scores.get(key)
        if known is None:
            known = self._scores[key] = score, score_values(score, self._scorers[scorer].scorer)
        return known[1]


def feedback_row(feedback: Feedback) -> Row:
    f = feedback
    return (
        f.feedback_id, f.id, f.caller, f.at, f.name, f.value, plain_text(f.label), plain_text(f.comment),
        plain_text(f.correction), f.data_type, None,
    )  # fmt: skip


def score_id(namespace: bytes, scorer: str, version: str, config_hash: str, repeat: int = 0) -> str:
    """A UUIDv8 (RFC 9562); the same score always has the same id.

    The first 48 bits are the exchange's own, its time; the rest is uuid5's hash, of its id as namespace. A uuid5 whole
    would land anywhere in the index: each transaction then rewrites most of it.
    """
    return _hashed(namespace, _time(namespace), _identity(scorer, version, config_hash, repeat))


def score_id_of(exchange_id: str, scorer: str, version: str, config_hash: str) -> str:
    """The same, by the exchange's id."""
    return score_id(_namespace(exchange_id), scorer, version, config_hash)


def _identity(scorer: str, version: str, config_hash: str, repeat: int = 0) -> bytes:
    return f"{scorer}\0{version}\0{config_hash}\0{repeat}".encode()


def _time(namespace: bytes) -> str:
    """Beginning of an id, up to its version."""
    at = namespace[:6].hex()
    return f"{at[:8]}-{at[8:]}-8"


def _hashed(namespace: bytes, time: str, identity: bytes) -> str:
    h = sha1(namespace + identity, usedforsecurity=False).hexdigest()
    return f"{time}{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_VARIANT = {f"{i:x}": f"{8 + i % 4:x}" for i in range(16)}


def _namespace(exchange_id: str) -> bytes:
    plain = _UUID.fullmatch(exchange_id)
    if plain:  # as ours are
        return bytes.fromhex(exchange_id.replace("-", ""))
    try:
        return UUID(exchange_id).bytes
    except ValueError:
        return uuid5(NAMESPACE_OID, exchange_id).bytes


def plain_text(value: str | None) -> str | None:
    """PostgreSQL's text takes every character but NUL."""
    return value.replace("\0", "\ufffd") if value is not None and "\0" in value else value


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
