"""Records to rows, in the order of the tables' columns. Pure. Tuples, not dicts: this runs for every score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import orjson

from gateway.assembly import Completion
from gateway.evals.scorers import Score, Scorer
from gateway.evals.scorers.registry import Registered
from gateway.evals.scorers.run import Result
from gateway.exchange import Exchange, Feedback, Usage

Row = tuple[Any, ...]
_NO_SCORE: Row = (None,) * 6
_NO_COST: Row = (None,) * 3
_BESIDE = 2048  # bytes of an exchange's other columns, its scores and indexes, about


@dataclass(frozen=True, slots=True)
class Judged:
    """One exchange, what its answer says, and what the scorers said of it. cost_usd: None: not known. position: its
    place in the stream, as ledger.position writes it."""

    exchange: Exchange
    completion: Completion
    results: Sequence[Result]
    cost_usd: float | None = None
    position: str = ""


def model_of(exchange: Exchange) -> str:
    """The label of who answered, as in the Tallies: "upstream/model"."""
    return f"{exchange.target.upstream}/{exchange.target.model}"


def exchange_row(judged: Judged, now: float) -> Row:
    """A row of `exchanges`. The upstream's own usage counts; what room 1 noted stands in for it."""
    e, said = judged.exchange, judged.completion
    usage = said.usage or e.usage
    calls, attempts = _json(said.tool_calls), _json(e.attempts)
    words = (e.request, e.response, said.text, said.reasoning, said.refusal, calls, attempts)
    return (
        e.id, e.pair, e.received, e.caller, e.api, e.alias, e.target.upstream, e.target.model, e.role,
        e.experiment, e.plan, e.arm, e.stream, e.form, e.truncated, e.spliced, e.status, e.outcome,
        _text(said.error), said.finish_reason, *_tokens(usage), e.first_token_s, e.total_s, judged.cost_usd,
        e.upstream_id or said.upstream_id, e.client_id, attempts, e.unit, e.u, e.pi, e.stratum,
        e.incarnation, e.seq, e.request, e.response, _text(said.text), _text(said.reasoning), _text(said.refusal),
        calls, said.choices, said.mean_logprob, now, judged.position, e.cluster, _BESIDE + sum(map(len, words)),
    )  # fmt: skip


def _tokens(usage: Usage | None) -> Row:
    if usage is None:
        return None, None, None, None, None
    given, taken = usage.input_tokens, usage.output_tokens
    return given + taken, given, taken, usage.cached_input_tokens, usage.reasoning_tokens


def score_rows(judged: Judged, scorers: Mapping[str, Registered], now: float) -> list[Row]:
    """Rows of `scores`, one for each result, in order."""
    e = judged.exchange
    namespace = _namespace(e.id)
    rows: list[Row] = []
    for r in judged.results:
        name, version, config_hash, status, score, explanation, seconds, pi, spent = r
        scorer = scorers[name].scorer
        said = _NO_SCORE if score is None else _score_values(score, scorer)
        paid = _NO_COST if spent is None else (spent.cost_usd, _text(spent.judge_model), spent.tokens)
        rows.append((
            score_id(namespace, name, version, config_hash), e.id, "exchange", e.experiment, e.plan, e.arm,
            name, version, config_hash, 0, scorer.kind, scorer.direction, "numeric", status, *said[:3],
            _text(explanation), *said[3:5], e.pi * pi, e.stratum, *paid, seconds, e.received, now, said[5],
        ))  # fmt: skip
    return rows


def _score_values(score: Score, scorer: Scorer) -> Row:
    """value, label, value01, detail, standard_error, distribution."""
    value = float(score.value)
    detail = _json(score.detail) if score.detail else None
    distribution = _json(score.distribution) if score.distribution else None
    return value, _text(score.label), on_unit(value, scorer), detail, score.standard_error, distribution


def on_unit(value: float, scorer: Scorer) -> float | None:
    """value moved onto [0, 1] by the scorer's bounds, and turned so that 1 is best; None when it has not both."""
    low, high = scorer.bounds
    if low is None or high is None or low == high:
        return None
    place = (value - low) / (high - low)
    return 1.0 - place if scorer.direction == "minimise" else place


def feedback_row(feedback: Feedback) -> Row:
    f = feedback
    return (
        f.feedback_id, f.id, f.caller, f.at, f.name, f.value, _text(f.label), _text(f.comment), _text(f.correction),
        f.data_type, None,
    )  # fmt: skip


def score_id(namespace: bytes, scorer: str, version: str, config_hash: str, repeat: int = 0) -> str:
    """A UUIDv8 (RFC 9562); the same opinion has the same id, however often it is formed.

    The first 48 bits are the exchange's own, its time; the rest is uuid5's hash, of its id as namespace. A uuid5 whole
    would land anywhere in the index: each transaction then rewrites most of it.
    """
    h = sha1(namespace + f"{scorer}\0{version}\0{config_hash}\0{repeat}".encode(), usedforsecurity=False).hexdigest()
    at = namespace[:6].hex()
    return f"{at[:8]}-{at[8:]}-8{h[13:16]}-{_VARIANT[h[16]]}{h[17:20]}-{h[20:32]}"


_VARIANT = {f"{i:x}": f"{8 + i % 4:x}" for i in range(16)}


def _namespace(exchange_id: str) -> bytes:
    try:
        return UUID(exchange_id).bytes
    except ValueError:
        return uuid5(NAMESPACE_OID, exchange_id).bytes


def _text(value: str | None) -> str | None:
    """PostgreSQL's text takes every character but NUL."""
    return value.replace("\0", "\ufffd") if value is not None and "\0" in value else value


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
