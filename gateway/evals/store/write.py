"""One batch into the store, in one transaction: rows, and the sums over exactly the rows that are new.

Writing the same batch again changes nothing but the count of duplicates.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

from sqlalchemy import Connection, bindparam, select

from gateway.core.chunked import chunked
from gateway.evals.store import costs, feedback, ledger, score_sums
from gateway.evals.store.batches import DeadLetterRow, ScoredBatch, WriteResult
from gateway.evals.store.engine import insert
from gateway.evals.store.experiments import pairs
from gateway.evals.store.inserting import insert_new, insert_opinions, null_of
from gateway.evals.store.rows import ScoredExchange, ScoreRowBuilder, exchange_row
from gateway.evals.store.tables import counters, dead_letters, exchanges, scores

_KNOWN_EXCHANGES = select(exchanges.c.id).where(exchanges.c.id.in_(bindparam("ids", expanding=True)))
_KNOWN_SCORES = select(scores.c.score_id).where(scores.c.exchange_id.in_(bindparam("ids", expanding=True)))
_CHUNK = 500


def write(connection: Connection, batch: ScoredBatch, now: float) -> WriteResult:
    """Raises Raced, and what the database raises; then nothing of the batch is stored."""
    by_id = {j.exchange.id: j for j in batch.judged}
    known = _known(connection, _KNOWN_EXCHANGES, by_id)
    new = [j for i, j in by_id.items() if i not in known]
    ledger.arriving(connection, [(j.exchange.incarnation, j.exchange.seq) for j in new])
    insert_new(connection, exchanges, [exchange_row(j, now) for j in new])
    pairs.open_pairs(connection, new)
    pairs.seen_earlier(connection, [by_id[i] for i in known])
    _scores(connection, [*new, *_unscored(connection, [by_id[i] for i in known], batch)], batch, now)
    for entry, tally in batch.tallies:
        score_sums.add_population(connection, batch.scorers, ledger.take(connection, entry, tally))
    feedback.arrived(connection, new, now)
    met = feedback.write(connection, batch.feedback, now)
    duplicates = len(batch.judged) - len(new)
    count(connection, "duplicates", duplicates)
    return WriteResult(len(new), duplicates, tuple(met))


def bury(connection: Connection, letters: Sequence[DeadLetterRow]) -> None:
    """Notes dead letters; noting one twice counts it once."""
    statement = insert(connection.dialect, dead_letters).on_conflict_do_nothing()
    ledger.arriving(connection, [(x.exchange.incarnation, x.exchange.seq) for x in letters if x.exchange])
    for letter in letters:
        of = letter.exchange
        values = {
            "entry": letter.entry,
            "reason": letter.reason,
            "error": letter.error.replace("\0", "\ufffd"),
            "at": letter.at,
            "incarnation": of.incarnation if of else None,
            "seq": of.seq if of else None,
        }
        connection.execute(statement, values)


def count(connection: Connection, name: str, n: int) -> None:
    """Adds to a counter that outlives every process."""
    if n:
        statement = insert(connection.dialect, counters).values(name=name, n=n)
        more = {"n": counters.c.n + statement.excluded.n}
        connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=more))


def _scores(connection: Connection, judged: Sequence[ScoredExchange], batch: ScoredBatch, now: float) -> None:
    """What was said of these, and is not there yet; with the sums over it."""
    sums, scribe = score_sums.ScoreSums(), ScoreRowBuilder(batch.scorers, null_of(connection))
    for j in judged:
        sums.count(j.exchange, j.results, batch.scorers)
    insert_opinions(connection, [scribe.opinions(j, now) for j in judged])
    costs.add(connection, costs.of_results(chain.from_iterable(j.results for j in judged)))
    score_sums.add(connection, sums)


def _unscored(connection: Connection, known: Sequence[ScoredExchange], batch: ScoredBatch) -> list[ScoredExchange]:
    """What a redelivery brings that is not there yet: the scores of scorers that were configured in between."""
    stored, scribe = _known(connection, _KNOWN_SCORES, [j.exchange.id for j in known]), ScoreRowBuilder(batch.scorers)
    fresh = ([r for r, i in zip(j.results, scribe.score_ids(j), strict=True) if i not in stored] for j in known)
    return [replace(j, results=results) for j, results in zip(known, fresh, strict=True) if results]


def _known(connection: Connection, statement: Any, ids: Iterable[str]) -> set[str]:
    found: set[str] = set()
    for chunk in chunked(ids, _CHUNK):
        found.update(connection.execute(statement, {"ids": chunk}).scalars())
    return found
