"""Writes one batch into the store, in one transaction: rows, and the sums over exactly the rows that are new.

Writing the same batch again changes only the count of duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from sqlalchemy import Column, Connection

from gateway.core.chunked import chunked
from gateway.core.exchange import IMPORTED, Exchange, Feedback, Tally
from gateway.core.score import ConfiguredScorer
from gateway.store import (
    feedback,
    guard_decisions,
    ledger,
    pairs,
    prediction_sums,
    run_chunks,
    runs,
    score_sums,
    turns,
    usage,
)
from gateway.store.bulk_insert import insert_new, insert_scores
from gateway.store.engine import adding, insert
from gateway.store.feedback import JoinedFeedback
from gateway.store.predictions import predicted, prediction_row
from gateway.store.rows import ScoredExchange, ScoreIds, exchange_row
from gateway.store.tables import counters, dead_letters, exchanges, predictions, scores


@dataclass(frozen=True, slots=True)
class ScoredBatch:
    """Records that were read from the stream and scored."""

    scorers: Mapping[str, ConfiguredScorer]
    """The running scorers, by name; the population that a Tally reports counts for each of them."""
    judged: Sequence[ScoredExchange] = ()
    tallies: Sequence[tuple[str, Tally]] = ()
    """Tallies with the stream id of their entry."""
    feedback: Sequence[Feedback] = ()


@dataclass(frozen=True, slots=True)
class DeadLetterRow:
    """An entry that cannot be scored or stored."""

    entry: str
    """Id of the entry in the stream."""
    reason: str
    error: str
    at: float
    exchange: Exchange | None = None
    """Record of the entry; None if it could not be read."""


@dataclass(frozen=True, slots=True)
class WriteResult:
    new: int = 0
    """Exchanges stored by this call."""
    duplicates: int = 0
    """Exchanges that were stored before."""
    met: Sequence[JoinedFeedback] = ()
    """The outcome of each feedback of the batch."""


_CHUNK = 500


def write(connection: Connection, batch: ScoredBatch, now: float) -> WriteResult:
    """Raises WriteConflict and database errors; then nothing of the batch is stored."""
    by_id = {j.exchange.id: j for j in batch.judged}
    known = _known(connection, exchanges.c.id, exchanges.c.id, by_id)
    new = [by_id[i] for i in sorted(by_id) if i not in known]  # as indexes are ordered
    late = ledger.late_numbers(connection, [(e.incarnation, e.seq) for j in new if (e := j.exchange).role != IMPORTED])
    run_of = runs.assign(connection, new)
    parts = run_chunks.store_chunks(connection, [j.exchange for j in new], run_of) if run_of else {}
    rows = [exchange_row(j, now, run_of.get(j.exchange.id), parts.get(j.exchange.id)) for j in new]
    insert_new(connection, exchanges, rows)
    _predictions(connection, new)
    guard_decisions.add(connection, (j.exchange for j in new))
    pairs.open_pairs(connection, new)
    pairs.move_earlier(connection, [by_id[i] for i in known])
    _scores(connection, [*new, *_unscored(connection, [by_id[i] for i in known], batch)], batch, now)
    if batch.scorers:
        prediction_sums.add_predictions(connection, new, batch.scorers)
    ledger.settle_late(connection, late)
    if batch.tallies:
        score_sums.lock(connection)
    for entry, tally in batch.tallies:
        score_sums.add_population(connection, batch.scorers, ledger.add_tally(connection, entry, tally))
        usage.add_usage(connection, tally)
    if new or batch.feedback:
        feedback.lock(connection, writes=bool(batch.feedback))
    feedback.join_waiting(connection, new, now)
    met = feedback.write_feedback(connection, batch.feedback, now)
    turns.add(connection, [j.turn for j in new if j.turn is not None], now)
    duplicates = sum(j.exchange.role != IMPORTED for j in batch.judged) - sum(j.exchange.role != IMPORTED for j in new)
    count(connection, "duplicates", duplicates)
    return WriteResult(len(new), duplicates, tuple(met))


def add_dead_letters(connection: Connection, rows: Sequence[DeadLetterRow]) -> None:
    """Stores dead letters; one that is added twice counts once."""
    statement = insert(connection.dialect, dead_letters).on_conflict_do_nothing()
    late = ledger.late_numbers(connection, [(x.exchange.incarnation, x.exchange.seq) for x in rows if x.exchange])
    ledger.settle_late(connection, late)
    for row in rows:
        of = row.exchange
        values = {
            "entry": row.entry,
            "reason": row.reason,
            "error": row.error.replace("\0", "\ufffd"),
            "at": row.at,
            "incarnation": of.incarnation if of else None,
            "seq": of.seq if of else None,
        }
        connection.execute(statement, values)


def count(connection: Connection, name: str, n: int) -> None:
    """Adds to a counter that outlives every process."""
    if n:
        connection.execute(adding(connection.dialect, counters, ["n"]).values(name=name, n=n))


def _scores(connection: Connection, judged: Sequence[ScoredExchange], batch: ScoredBatch, now: float) -> None:
    """Stores the scores of these exchanges, none of which is stored yet, and adds them to the sums."""
    sums = score_sums.ScoreSums()
    for j in judged:
        sums.count(j.exchange, j.results, batch.scorers)
    insert_scores(connection, batch.scorers, judged, now)
    score_sums.add_costs(connection, score_sums.costs_of_results(chain.from_iterable(j.results for j in judged)))
    score_sums.add(connection, sums)


def _predictions(connection: Connection, new: Sequence[ScoredExchange]) -> None:
    """Stores the predictions of these exchanges."""
    rows = [prediction_row(j.exchange, j.prediction) for j in new if j.prediction is not None]
    if rows:
        insert_new(connection, predictions, rows)


def _unscored(connection: Connection, known: Sequence[ScoredExchange], batch: ScoredBatch) -> list[ScoredExchange]:
    """Redelivered exchanges with the scores that are not stored yet: of scorers configured in the meantime."""
    stored = _known(connection, scores.c.score_id, scores.c.exchange_id, [j.exchange.id for j in known])
    ids = ScoreIds()
    known = _undecided(connection, known)
    fresh = ([r for r, i in zip(j.results, ids.of(j), strict=True) if i not in stored] for j in known)
    return [replace(j, results=results) for j, results in zip(known, fresh, strict=True) if results]


def _undecided(connection: Connection, known: Sequence[ScoredExchange]) -> Sequence[ScoredExchange]:
    """Drops the results of a scorer whose draw is already stored: that draw was made with an earlier model, with
    another probability."""
    guided = {j.prediction.scorer for j in known if j.prediction is not None}
    for name in guided:
        decided = predicted(connection, name, [j.exchange.id for j in known])
        known = [
            replace(j, results=[r for r in j.results if r.scorer != name]) if j.exchange.id in decided else j
            for j in known
        ]
    return known


def _known(connection: Connection, wanted: Column[str], by: Column[str], ids: Iterable[str]) -> set[str]:
    """The values of a column where another is one of these. Sends one parameter: a list of parameters would be
    compiled again, and parsed by the driver again, for each batch."""
    found: set[str] = set()
    sql = f"SELECT {wanted.name} FROM {by.table.name} WHERE {by.name} "  # noqa: S608 - our own words
    for chunk in chunked(ids, _CHUNK):
        if connection.dialect.name == "postgresql":
            rows = connection.exec_driver_sql(f"{sql} = ANY(%(ids)s)", {"ids": chunk})
        else:
            rows = connection.exec_driver_sql(f"{sql} IN ({', '.join(len(chunk) * '?')})", tuple(chunk))
        found.update(rows.scalars())
    return found
