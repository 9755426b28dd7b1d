"""Deletes exchanges by age and by size, the oldest first.

An exchange is deleted with its scores and its feedback. One that an experiment or a label depends on loses only its
texts and keeps its numbers; so do all sums. Nothing stored within the last hour is deleted: its entry may be delivered
again, and its ledger may still be open. Feedback whose exchange never came is deleted after a week.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, true, update

from gateway.config.store import StoreConfig
from gateway.core.chunked import chunked
from gateway.store import run_chunks, runs, tables
from gateway.store.plans import hold_lease
from gateway.store.tables import exchanges, feedback, guard_decisions, labels, pair_scores, predictions, scores, turns

LEASE = "keeping"
UNMET_S = 7 * 86_400.0
"""Time that feedback waits for its exchange, even where everything is kept: a caller may invent any number of ids."""
_CHUNK = 500
WITHOUT_TEXTS = {
    "request": b"{}",
    "request_chunks": None,
    "request_bytes": None,
    "response": b"",
    "text": "",
    "reasoning": "",
    "refusal": "",
    "tool_calls": "[]",
    "error": None,
    "reference": None,
    "client_id": None,
    "run": None,
    "bytes": 0,
}
_WITHOUT_WORDS = {"explanation": None, "detail": None}


@dataclass(frozen=True, slots=True)
class RetentionLimits:
    """Limits of retention; by default everything is kept."""

    keep_s: float | None = None
    """Maximum age in seconds; None: no bound."""
    most_bytes: float | None = None
    """Maximum size of the store; None: no bound."""
    protected_s: float = 3600.0
    """Minimum age in seconds: nothing stored more recently is deleted."""
    step: int = 5_000
    """Exchanges deleted in one transaction; other writers wait for it."""

    @property
    def unlimited(self) -> bool:
        return self.keep_s is None and self.most_bytes is None

    @classmethod
    def of(cls, store: StoreConfig) -> RetentionLimits:
        days, gb = store.keep_days, store.max_gb
        return cls(None if days is None else days * 86_400, None if gb is None else gb * 1e9)


@dataclass(frozen=True, slots=True)
class RetentionResult:
    removed: int = 0
    """Exchanges deleted."""
    emptied: int = 0
    """Exchanges that lost only their texts."""
    more: bool = False
    """Whether the next step has more to delete."""


@dataclass(frozen=True, slots=True)
class _Old:
    id: str
    size: int
    keeps_numbers: bool


_of = tables.runs.c
_SHARE = select(_of.chunk_bytes // _of.calls).where(_of.run_id == exchanges.c.run_id).scalar_subquery()
"""A call's share of the data of its run, which are deleted with the last call that needs them."""


def sweep(connection: Connection, bounds: RetentionLimits, holder: str, now: float) -> RetentionResult:
    """Does one step, if this consumer holds the lease. holder: the caller's name; now: Unix seconds."""
    if not hold_lease(connection, LEASE, holder, now, 60.0):
        return RetentionResult()
    unmet_s = UNMET_S if bounds.keep_s is None else min(UNMET_S, bounds.keep_s)
    connection.execute(delete(feedback).where(feedback.c.resolved.is_(None), feedback.c.at < now - unmet_s))
    if bounds.unlimited:
        return RetentionResult()
    found = list(_old(connection, bounds, now))
    gone, emptied = [o.id for o in found if not o.keeps_numbers], [o.id for o in found if o.keeps_numbers]
    for chunk in chunked(gone, _CHUNK):
        _remove(connection, chunk)
    for chunk in chunked(emptied, _CHUNK):
        _empty(connection, chunk)
    return RetentionResult(len(gone), len(emptied), len(found) == bounds.step)


def size(connection: Connection) -> int:
    """Bytes of all exchanges that still have their texts, plus 2 KiB each for their other columns and scores, and of
    the shared data of runs."""
    own = connection.execute(select(func.sum(exchanges.c.bytes))).scalar()
    return int(own or 0) + int(connection.execute(select(func.sum(tables.runs.c.chunk_bytes))).scalar() or 0)


def _old(connection: Connection, bounds: RetentionLimits, now: float) -> Iterator[_Old]:
    too_much = 0.0 if bounds.most_bytes is None else size(connection) - bounds.most_bytes
    since = None if bounds.keep_s is None else now - bounds.keep_s
    e = exchanges.c
    reaches: list[ColumnElement[bool]] = [] if since is None else [e.received < since]
    if too_much > 0:
        reaches.append(true())
    if not reaches:
        return
    settled = e.stored < now - bounds.protected_s
    needed = or_(e.experiment.is_not(None), select(labels.c.label_id).where(labels.c.subject_id == e.id).exists())
    freed = e.bytes + func.coalesce(_SHARE, 0)
    query = select(e.id, freed, e.received, needed).where(e.bytes > 0, settled, or_(*reaches))
    for row in connection.execute(query.order_by(e.received, e.id).limit(bounds.step)):
        if too_much <= 0 and (since is None or row[2] >= since):
            return
        too_much -= row[1]
        yield _Old(row[0], row[1], bool(row[3]))


def _remove(connection: Connection, ids: Sequence[str]) -> None:
    s, p, t, g = scores.c, predictions.c, turns.c, guard_decisions.c
    named = runs.runs_of(connection, ids)
    for column in (
        *(s.exchange_id, feedback.c.resolved, p.exchange_id, t.exchange_id, g.exchange_id),
        exchanges.c.id,
    ):
        connection.execute(delete(column.table).where(column.in_(ids)))
    run_chunks.forget_unused(connection, named)
    runs.forget_empty(connection, named)


def empty_exchanges(connection: Connection, ids: Sequence[str], values: Mapping[str, Any]) -> None:
    """Sets values of exchanges, and removes the texts of their scores, and the features of their predictions."""
    connection.execute(update(exchanges).where(exchanges.c.id.in_(ids)).values(values))
    connection.execute(update(scores).where(scores.c.exchange_id.in_(ids)).values(_WITHOUT_WORDS))
    of_feedback = (scores.c.exchange_id.in_(ids), scores.c.kind == "feedback")
    connection.execute(update(scores).where(*of_feedback).values({"label": None}))  # it is any text of the caller
    without_features = {"features": b"", "feature_set": ""}  # they count what a text consists of
    connection.execute(update(predictions).where(predictions.c.exchange_id.in_(ids)).values(without_features))


def empty_pair_scores(connection: Connection, ids: Sequence[str]) -> None:
    """Removes the texts of the pair scores of exchanges."""
    of_pairs = or_(pair_scores.c.exchange_id.in_(ids), pair_scores.c.pair.in_(ids))
    connection.execute(update(pair_scores).where(of_pairs).values(_WITHOUT_WORDS))


def _empty(connection: Connection, ids: Sequence[str]) -> None:
    connection.execute(delete(turns).where(turns.c.exchange_id.in_(ids)))
    empty_exchanges(connection, ids, WITHOUT_TEXTS)
    run_chunks.forget_unused(connection, runs.runs_of(connection, ids))
    empty_pair_scores(connection, ids)
    words = {"label": None, "comment": None, "correction": None}
    connection.execute(update(feedback).where(feedback.c.resolved.in_(ids)).values(words))
