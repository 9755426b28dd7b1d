"""Deletes what is stored of one caller, one end user or one exchange. Rows only; the stream is erased elsewhere.

An exchange is deleted with its shadows, scores, feedback and labels. One that an experiment depends on, and one that
was stored within the last hour (its ledger may still be open), is emptied instead: its texts by or about a person are
deleted, and its numbers stay under the caller "erased". Sums and the evidence of verdicts hold no content, and stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal

import orjson
from sqlalchemy import ColumnElement, Connection, and_, delete, false, func, insert, or_, select, update

from gateway.core.chunked import chunked
from gateway.core.exchange import new_id, user_digest
from gateway.core.json_values import as_object, parse_object
from gateway.store import run_chunks, runs, turns
from gateway.store.retention import WITHOUT_TEXTS, empty_exchanges, empty_pair_scores
from gateway.store.run_chunks import whole_request
from gateway.store.tables import (
    audit,
    dead_letters,
    exchanges,
    feedback,
    guard_decisions,
    labels,
    pair_scores,
    predictions,
    replay_answers,
    score_units,
    scores,
)

Of = Literal["caller", "user", "exchange"]
ERASED = "erased"
"""The caller of an exchange of which only numbers are left."""
PROTECTED_S = 3600.0
_CHUNK = 200
_PAGE = 1_000
_WITHOUT_PERSON: Mapping[str, Any] = {
    **WITHOUT_TEXTS,
    "caller": ERASED,
    "unit": ERASED,
    "cluster": None,
    "user_digest": None,
    "prompt_digest": None,
    "upstream_id": None,
    "run_source": None,
    "run_id": None,
}


@dataclass(frozen=True, slots=True)
class ErasureRequest:
    """The caller, user or exchange to erase."""

    of: Of
    value: str

    @property
    def digest(self) -> str:
        """The digest that the audit keeps in place of the erased name: a reader who knows the name can find the
        line."""
        return sha256(f"{self.of}:{self.value}".encode()).hexdigest()[:16]


@dataclass(slots=True)
class ErasureCounts:
    """Rows, by what they are."""

    n: Counter[str] = field(default_factory=Counter)

    def words(self) -> str:
        return ", ".join(f"{n} {what}" for what, n in self.n.items() if n) or "nothing"


def find(connection: Connection, request: ErasureRequest) -> Iterator[str]:
    """The ids of all stored exchanges that are to be erased, shadows included, a page at a time."""
    after, seen = "", set[str]()
    while page := _page(connection, request, after):
        after = page[-1]
        found = page if request.of != "user" else _of_user(connection, page, request.value)
        for chunk in chunked(found, _CHUNK):
            shadows = connection.execute(select(exchanges.c.id).where(exchanges.c.pair.in_(chunk)))
            both = dict.fromkeys((*chunk, *(row[0] for row in shadows)))
            new = [id_ for id_ in both if id_ not in seen]
            seen.update(new)
            yield from new


def _page(connection: Connection, request: ErasureRequest, after: str) -> list[str]:
    e = exchanges.c
    query = select(e.id).where(_candidate(request), e.id > after).order_by(e.id).limit(_PAGE)
    return [row[0] for row in connection.execute(query)]


def _candidate(request: ErasureRequest) -> ColumnElement[bool]:
    e = exchanges.c
    if request.of == "caller":
        return e.caller == request.value
    if request.of == "exchange":
        return and_(e.id == request.value, e.caller != ERASED)
    unread = and_(e.user_digest.is_(None), e.bytes > 0)  # stored by an older version: its body may name the user
    return or_(e.user_digest == user_digest(request.value), unread)


def _of_user(connection: Connection, ids: Sequence[str], user: str) -> list[str]:
    """The exchanges of this user, by the digest or by the request."""
    e = exchanges.c
    found = []
    for chunk in chunked(ids, _CHUNK):
        for id_, digest, request in connection.execute(
            select(e.id, e.user_digest, whole_request()).where(e.id.in_(chunk))
        ):
            if digest is not None or names_user(request, user):
                found.append(id_)
    return found


def names_user(request: bytes, user: str) -> bool:
    """Tells whether a request's body names this end user, as OpenAI's and Anthropic's APIs do."""
    if b'"user' not in request and b"safety_identifier" not in request:
        return False
    body = parse_object(request)
    if body is None:
        return False
    by_metadata = as_object(body.get("metadata")).get("user_id")
    return user in (body.get("user"), body.get("safety_identifier"), by_metadata)


def count(connection: Connection, request: ErasureRequest) -> ErasureCounts:
    """Counts the rows that `erase` would delete now."""
    counts = ErasureCounts()
    for chunk in chunked(list(find(connection, request)), _CHUNK):
        counts.n["exchanges"] += len(chunk)
        for what, table, column in _DEPENDENT:
            rows = select(func.count()).select_from(table).where(column.in_(chunk))
            counts.n[what] += int(connection.execute(rows).scalar() or 0)
    loose = select(func.count()).select_from(feedback).where(_given_by(request))
    counts.n["feedback without an exchange"] += int(connection.execute(loose).scalar() or 0)
    return counts


_DEPENDENT = (
    ("scores", scores, scores.c.exchange_id),
    ("comparisons", pair_scores, pair_scores.c.exchange_id),
    ("feedback", feedback, feedback.c.resolved),
    ("labels", labels, labels.c.subject_id),
    ("predictions", predictions, predictions.c.exchange_id),
    ("decisions of guards", guard_decisions, guard_decisions.c.exchange_id),
    ("replayed answers", replay_answers, replay_answers.c.exchange_id),
)


def _given_by(request: ErasureRequest) -> ColumnElement[bool]:
    """Feedback that names what is erased, and has met no stored exchange."""
    if request.of == "user":
        return false()
    named = feedback.c.caller if request.of == "caller" else feedback.c.exchange_id
    return and_(named == request.value, feedback.c.resolved.is_(None))


def erase(connection: Connection, ids: Sequence[str], now: float) -> ErasureCounts:
    """Erases some exchanges, in the caller's transaction. ids: at most a few hundred. now: Unix seconds."""
    e, counts = exchanges.c, ErasureCounts()
    query = select(e.id, e.unit, e.incarnation, e.seq, or_(e.experiment.is_not(None), e.stored > now - PROTECTED_S))
    rows = connection.execute(query.where(e.id.in_(ids))).all()
    emptied = [row[0] for row in rows if row[4]]
    gone = [row[0] for row in rows if not row[4]]
    counts.n.update({"exchanges deleted": len(gone), "exchanges emptied": len(emptied)})
    counts.n["feedback"] += _deleted(connection, delete(feedback).where(feedback.c.resolved.in_(ids)))
    counts.n["labels"] += _deleted(connection, delete(labels).where(labels.c.subject_id.in_(ids)))
    replayed = delete(replay_answers).where(replay_answers.c.exchange_id.in_(ids))
    counts.n["replayed answers"] += _deleted(connection, replayed)
    turns.forget(connection, ids)
    counts.n["scores"] += _deleted(connection, delete(scores).where(scores.c.exchange_id.in_(gone)))
    counts.n["predictions"] += _deleted(connection, delete(predictions).where(predictions.c.exchange_id.in_(gone)))
    decided = delete(guard_decisions).where(guard_decisions.c.exchange_id.in_(gone))
    counts.n["decisions of guards"] += _deleted(connection, decided)
    connection.execute(delete(score_units).where(score_units.c.unit.in_({row[1] for row in rows})))
    for row in rows:
        connection.execute(
            update(dead_letters)
            .where(dead_letters.c.incarnation == row[2], dead_letters.c.seq == row[3])
            .values(error=ERASED)
        )
    named = runs.runs_of(connection, ids)
    connection.execute(delete(exchanges).where(e.id.in_(gone)))
    empty_exchanges(connection, emptied, _WITHOUT_PERSON)
    empty_pair_scores(connection, ids)
    run_chunks.forget_unused(connection, named)
    runs.forget_empty(connection, named)
    return counts


def erase_loose_feedback(connection: Connection, request: ErasureRequest) -> int:
    return _deleted(connection, delete(feedback).where(_given_by(request)))


def note_erasure(
    connection: Connection, request: ErasureRequest, actor: str, counts: Mapping[str, int], at: float
) -> str:
    """Writes the audit's line; returns its id. It names a digest of what was erased, never the name."""
    id_ = new_id()
    after = orjson.dumps(dict(counts)).decode()
    values = {"id": id_, "at": at, "actor": actor, "role": "owner", "action": "erase", "kind": request.of}
    connection.execute(insert(audit).values(**values, subject=request.digest, before=None, after=after))
    return id_


def _deleted(connection: Connection, statement: Any) -> int:
    return int(connection.execute(statement).rowcount)
