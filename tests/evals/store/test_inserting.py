"""What is new is inserted, whatever its number; what is there already is told. On both databases."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.evals.store.inserting import WriteConflict, add_to, insert_new, insert_opinions, null_of
from gateway.evals.store.rows import OWN, SHARED, ScoreRowBuilder, exchange_row
from gateway.evals.store.tables import counters, exchanges
from gateway.evals.store.tables_labels import score_costs


@pytest.mark.parametrize("n", [1, 2, 40, 41, 95])
def test_exchanges_with_any_number_of_scores(store, exchange, said, n):
    """One statement takes 40; several exchanges with different numbers come together."""
    store.scorers = {f"s{i}": said(name=f"s{i}") for i in range(n)}
    several = [store.judged(exchange("0.5")), store.judged(exchange("0.25"), "s0"), store.judged(exchange(), *())]
    plain = ScoreRowBuilder(store.scorers)
    scribe = ScoreRowBuilder(store.scorers, store.run(null_of))
    store.run(lambda c: insert_opinions(c, [scribe.opinions(judged, 9.0) for judged in several]))
    columns = (*SHARED, *OWN)
    found = store.sql(f"SELECT {', '.join(columns)} FROM scores ORDER BY exchange_id, score_id")  # noqa: S608
    rows = [row for judged in several for row in plain.opinions(judged, 9.0).by_column()]
    expected = sorted(([row[c] for c in columns] for row in rows), key=lambda row: (row[0], row[10]))
    assert [list(row) for row in found] == expected
    assert None in expected[0], "and what is not there is NULL"


def test_an_exchange_that_nobody_scored_has_no_rows(store, exchange):
    judged = replace(store.judged(exchange()), results=[])
    store.run(lambda c: insert_opinions(c, [ScoreRowBuilder(store.scorers).opinions(judged, 0.0)]))
    assert store.sql("SELECT count(*) FROM scores") == [(0,)]


def test_one_score_that_is_there_already_is_told(store, exchange, said):
    store.scorers = {name: said(name=name) for name in ("said", "other")}
    one = exchange()
    opinions = [ScoreRowBuilder(store.scorers).opinions(store.judged(one, *names), 0.0) for names in (("said",), ())]
    store.run(lambda c: insert_opinions(c, opinions[:1]))
    with pytest.raises(WriteConflict):
        store.run(lambda c: insert_opinions(c, opinions[1:]))
    assert store.sql("SELECT scorer FROM scores") == [("said",)], "and its transaction leaves nothing"


def test_what_an_exchange_lacks_is_null(store, exchange):
    row = exchange_row(store.judged(exchange(usage=None, client_id=None)), 0.0)
    store.run(lambda c: insert_new(c, exchanges, [row]))
    missing = [c.name for c, value in zip(exchanges.columns, row, strict=True) if value is None]
    assert len(missing) > 5
    every = " AND ".join(f"{name} IS NULL" for name in missing)
    assert store.sql(f"SELECT count(*) FROM exchanges WHERE {every}") == [(1,)]  # noqa: S608


def test_sums_begin_with_what_comes_first_and_grow(store):
    """Zero in what is not given; what is not named as added stays as it was first given."""
    one, other = ({"name": name, "n": n} for name, n in (("a", 2), ("b", 5)))
    for rows in ([other, one], [], [one]):
        store.run(lambda c, rows=rows: add_to(c, counters, rows, ("name",), ("n",)))
    assert sorted(store.sql("SELECT name, n FROM counters")) == [("a", 4), ("b", 5)]
    cost = {"scorer": "judge"}
    store.run(lambda c: add_to(c, score_costs, [{**cost, "usd": 0.5}], ("scorer",), ("usd",)))
    store.run(lambda c: add_to(c, score_costs, [{**cost, "tokens": 7}], ("scorer",), ("tokens",)))
    assert store.sql("SELECT scorer, usd, tokens FROM score_costs") == [("judge", 0.5, 7)]


def test_an_exchange_that_is_there_already_is_told(store, exchange):
    rows = [exchange_row(store.judged(exchange()), 0.0) for _ in range(2)]
    store.run(lambda c: insert_new(c, exchanges, []))
    store.run(lambda c: insert_new(c, exchanges, rows[:1]))
    with pytest.raises(WriteConflict):
        store.run(lambda c: insert_new(c, exchanges, rows))
    assert store.sql("SELECT count(*) FROM exchanges") == [(1,)]
