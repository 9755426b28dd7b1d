"""Records to rows, in the order of the tables' columns, and back. Tuples, not dicts: this runs for every score."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha1
from operator import attrgetter
from typing import Any, Literal
from uuid import NAMESPACE_OID, UUID, uuid5

import orjson

from gateway.core.completion import Completion, is_empty
from gateway.core.exchange import STORED_FIELDS, Attempt, Exchange, Feedback, Target, Usage
from gateway.core.score import ConfiguredScorer, Score, ScoreResult, ScorerInfo, Spent, unit_value
from gateway.store.predictions import Prediction

Row = tuple[Any, ...]
_mirrored = attrgetter(*STORED_FIELDS)
_OVERHEAD = 2048  # approximate bytes of an exchange's other columns, its scores and indexes


Sign = Literal["repeat", "edit", "stop", "wrong", "thanks"]
"""Verdict of a user's reaction on an answer."""


@dataclass(frozen=True, slots=True)
class Turn:
    """A served exchange of a conversation. Digests are hexadecimal and include the caller."""

    exchange_id: str
    received: float
    """Unix seconds."""
    caller: str
    scope: str | None
    """Digest of the conversation or end user that the request names; None if it names none."""
    question: str
    """Digest of the last user message."""
    answer: str
    """Digest of the last user message and the answer to it."""
    reply_to: str | None
    """The `answer` of the previous turn, as the request repeats it; None: the first turn of a conversation."""
    signs: tuple[Sign, ...] = ()
    """Signs of the last user message on the answer before it."""
    stopped: bool = False
    """The client left while the answer was streamed."""
    parent: str | None = None
    """Id of the exchange that the turn replies to; of a first turn, a digest of the conversation."""


@dataclass(frozen=True, slots=True)
class ScoredExchange:
    """An exchange with its parsed completion and its scores."""

    exchange: Exchange
    completion: Completion
    results: Sequence[ScoreResult]
    cost_usd: float | None = None
    """Cost in US dollars; None if unknown."""
    position: str = ""
    """Position in the stream, as ledger.position writes it."""
    prediction: Prediction | None = None
    """Prediction before the draw; None if no predictor is configured, or the exchange is not scored."""
    turn: Turn | None = None
    """Turn of a conversation; None if it belongs to none, or implicit feedback is off."""


@dataclass(frozen=True, slots=True)
class ChunkedRequest:
    """A request as its row holds it, where run_chunks.py has put parts of it elsewhere."""

    chunks: str
    """JSON: the numbers of the run's chunks, in order."""
    rest: bytes
    """Bytes after the chunks."""
    size: int
    """Bytes of the whole request."""


def model_of(exchange: Exchange) -> str:
    """The label of the target that answered, as in the Tallies: "upstream/model" or "upstream/model[variant]"."""
    return str(exchange.target)


def exchange_row(
    judged: ScoredExchange, now: float, run_id: str | None = None, parts: ChunkedRequest | None = None
) -> Row:
    """A row of `exchanges`. The usage in the response wins over the one that the gateway recorded.

    run_id: its run, of `runs`. parts: None: the row has the whole request."""
    e, c = judged.exchange, judged.completion
    if parts is not None:
        e = replace(e, request=parts.rest)
    usage = c.usage or e.usage
    calls = _json(c.tool_calls) if c.tool_calls else "[]"
    attempts = _json(e.attempts) if e.attempts else "[]"
    size = _OVERHEAD + sum(map(len, (e.request, e.response, c.text, c.reasoning, c.refusal, calls, attempts)))
    target = (e.target.upstream, e.target.model, e.target.variant or None)
    end = (plain_text(c.error), c.finish_reason, *_tokens(usage), judged.cost_usd, e.upstream_id or c.upstream_id)
    answer = (plain_text(c.text), plain_text(c.reasoning), plain_text(c.refusal), calls, c.choices, c.mean_logprob)
    chunks = (None, None) if parts is None else (parts.chunks, parts.size)
    empty = is_empty(judged.exchange, c)
    return (*_mirrored(e), *target, *end, attempts, *answer, now, judged.position, size, empty, run_id, *chunks)


def exchange_of(row: Mapping[Any, Any]) -> Exchange:
    """The record that a row of `exchanges` was stored from. The usage is the one that the row was priced by."""
    mirrored = {name: row[name] for name in STORED_FIELDS}
    for name in ("request", "response"):
        mirrored[name] = bytes(row[name])
    usage = None
    if row["input_tokens"] is not None:
        names = ("input_tokens", "output_tokens", "cached_input_tokens", "reasoning_tokens")
        usage = Usage(*(row[name] for name in names))
    return Exchange(
        **mirrored,
        target=Target(row["upstream"], row["model"], row["variant"] or ""),
        usage=usage,
        upstream_id=row["upstream_id"],
        attempts=tuple(_attempt(a) for a in orjson.loads(row["attempts"])),
    )


def _attempt(a: Mapping[str, Any]) -> Attempt:
    usage = Usage(**a["usage"]) if a.get("usage") else None
    return Attempt(Target(**a["target"]), a["status"], a["failure"], a["seconds"], usage)


def _tokens(usage: Usage | None) -> Row:
    if usage is None:
        return None, None, None, None, None
    given, taken = usage.input_tokens, usage.output_tokens
    return given + taken, given, taken, usage.cached_input_tokens, usage.reasoning_tokens


# The columns of `scores`: those that all scores of an exchange share, and those that each has of its own.
PLACE = ("subject", "experiment", "plan", "arm", "repeat", "data_type", "stratum")
SHARED = ("exchange_id", *PLACE, "answered", "created")
OF_SCORER = ("scorer", "version", "config_hash", "kind", "direction")
PAID = ("cost_usd", "judge_model", "tokens")
SCORED = ("value", "label", "value01", "detail", "standard_error", "distribution")
OWN = ("score_id", *OF_SCORER, "status", "explanation", "pi", "seconds", *PAID, *SCORED)

UNPAID, UNSCORED = (None,) * len(PAID), (None,) * len(SCORED)


class ScoreIds:
    """Computes the ids of scores. Caches the scorers' part of them."""

    def __init__(self) -> None:
        self._identities: dict[tuple[str, ...], bytes] = {}

    def of(self, judged: ScoredExchange) -> list[str]:
        """The ids of the results of an exchange, in order."""
        namespace, known = _namespace(judged.exchange.id), self._identities
        time, ids = _time(namespace), []
        for r in judged.results:
            key = r[:3]
            identity = known.get(key) or known.setdefault(key, _identity(*key))
            ids.append(_hashed(namespace, time, identity))
        return ids


def shared_values(judged: ScoredExchange, now: float) -> Row:
    e = judged.exchange
    return e.id, "exchange", e.experiment, e.plan, e.arm, 0, "numeric", e.stratum, e.received, now


def scorer_values(scorer: ScorerInfo, name: str, version: str, config_hash: str) -> Row:
    return name, version, config_hash, scorer.kind, scorer.direction


def paid_values(spent: Spent) -> Row:
    return spent.cost_usd, plain_text(spent.judge_model), spent.tokens


def score_values(score: Score, scorer: ScorerInfo) -> Row:
    value = float(score.value)
    detail = _json(score.detail) if score.detail else None
    distribution = _json(score.distribution) if score.distribution else None
    label = plain_text(score.label)
    return value, label, unit_value(value, scorer), detail, score.standard_error, distribution


def score_rows(judged: ScoredExchange, scorers: Mapping[str, ConfiguredScorer], now: float) -> Iterator[dict[str, Any]]:
    """Rows of `scores`, one for each result. The consumer writes the same rows by the faster way of bulk_insert.py."""
    shared, pi = dict(zip(SHARED, shared_values(judged, now), strict=True)), judged.exchange.pi
    for r, score_id in zip(judged.results, ScoreIds().of(judged), strict=True):
        scorer = scorers[r.scorer].scorer
        paid = UNPAID if r.spent is None else paid_values(r.spent)
        scored = UNSCORED if r.score is None else score_values(r.score, scorer)
        outcome = (r.status, plain_text(r.explanation), None if pi is None else pi * r.pi, r.seconds)
        yield shared | dict(zip(OWN, (score_id, *scorer_values(scorer, *r[:3]), *outcome, *paid, *scored), strict=True))


def feedback_row(feedback: Feedback) -> Row:
    f = feedback
    texts = map(plain_text, (f.label, f.comment, f.correction))
    return (f.feedback_id, f.id, f.caller, f.at, f.name, f.value, *texts, f.data_type, None)


def score_id_of(exchange_id: str, scorer: str, version: str, config_hash: str) -> str:
    """A UUIDv8 (RFC 9562); the same score always has the same id.

    The first 48 bits are the exchange's own, its time; the rest is uuid5's hash, of its id as namespace. A plain uuid5
    would land anywhere in the index: each transaction then rewrites most of it.
    """
    namespace = _namespace(exchange_id)
    return _hashed(namespace, _time(namespace), _identity(scorer, version, config_hash))


def _identity(scorer: str, version: str, config_hash: str) -> bytes:
    return "\0".join((scorer, version, config_hash, "0")).encode()  # "0": the repeat, of which there is only one


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
