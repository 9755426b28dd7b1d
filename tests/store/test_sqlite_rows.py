"""Statements for SQLite: what only stands in them is stored as if it had been bound."""

from __future__ import annotations

from dataclasses import replace

from gateway.core.score import Score, ScoreResult, Spent
from gateway.store.bulk_insert import insert_scores
from gateway.store.rows import OWN, SHARED, ScoreRowBuilder
from gateway.store.sqlite_rows import SqliteScores

_NAMES = ("it's", "b", "c", "d")


def _judged(store, exchange, stated_scorer, values):
    """One exchange whose scores differ in what they have."""
    store.scorers = {name: stated_scorer(name=name) for name in _NAMES}
    shared = Score(1.0, "o'k", None, {"x": 1.0}, None, 0.5)
    results = [
        ScoreResult(_NAMES[0], "1", "c1", "scored", shared, "ein „Grund“", 0.001, 0.05),
        ScoreResult(_NAMES[1], "1", "c1", "scored", Score(values[0]), None, 0.002, 1.0, Spent(0.5, "up/judge", 7)),
        ScoreResult(_NAMES[2], "1", "c1", "not_applicable", None, "what it's not", 0.003, 1.0),
        ScoreResult(_NAMES[3], "1", "c1", "scored", Score(values[1], distribution={"yes": 1.0}), None, 0.004, 1 / 3),
    ]
    return [replace(store.judged(exchange(pi=0.3)), results=results) for _ in values]


def test_every_kind_of_score_is_stored_as_it_is(store, exchange, stated_scorer):
    judged = _judged(store, exchange, stated_scorer, (0.25, 0.75))
    store.run(lambda c: insert_scores(c, store.scorers, judged, 9.0))
    columns = (*SHARED, *OWN)
    plain = ScoreRowBuilder(store.scorers)
    rows = [row for each in judged for row in plain.score_rows(each, 9.0).by_column()]
    found = store.sql(f"SELECT {', '.join(columns)} FROM scores ORDER BY exchange_id, score_id")  # noqa: S608
    assert [tuple(row) for row in found] == sorted(
        (tuple(row[c] for c in columns) for row in rows), key=lambda row: (row[0], row[10])
    )


def test_exchanges_that_differ_in_values_share_a_statement(store, exchange, stated_scorer):
    judged = _judged(store, exchange, stated_scorer, (0.25, 0.75, 1.0))
    ((_, rows, size),) = SqliteScores(store.scorers).statements(judged, 9.0)
    assert (len(rows), size) == (3, 4)
