"""Many rows at once are the rows that were given, in both databases, or none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.store.bulk_insert import WriteConflict, insert_new, insert_scores
from gateway.store.rows import OWN, SHARED, ScoreRowBuilder, exchange_row
from gateway.store.tables import exchanges

pytestmark = pytest.mark.dialect


@pytest.mark.parametrize("n", [1, 2, 40, 41, 95])
def test_exchanges_with_any_number_of_scores(store, exchange, stated_scorer, n):
    """One statement takes 40; several exchanges with different numbers come together."""
    store.scorers = {f"s{i}": stated_scorer(name=f"s{i}") for i in range(n)}
    several = [store.judged(exchange("0.5")), store.judged(exchange("0.25"), "s0"), store.judged(exchange(), *())]
    plain = ScoreRowBuilder(store.scorers)
    store.run(lambda c: insert_scores(c, store.scorers, several, 9.0))
    columns = (*SHARED, *OWN)
    found = store.sql(f"SELECT {', '.join(columns)} FROM scores ORDER BY exchange_id, score_id")  # noqa: S608
    rows = [row for judged in several for row in plain.score_rows(judged, 9.0).by_column()]
    expected = sorted(([row[c] for c in columns] for row in rows), key=lambda row: (row[0], row[10]))
    assert [list(row) for row in found] == expected
    assert None in expected[0], "and what is not there is NULL"


def test_an_unscored_exchange_has_no_score_rows(store, exchange):
    judged = replace(store.judged(exchange()), results=[])
    store.run(lambda c: insert_scores(c, store.scorers, [judged], 0.0))
    assert store.sql("SELECT count(*) FROM scores") == [(0,)]


def test_inserting_a_stored_score_conflicts(store, exchange, stated_scorer):
    store.scorers = {name: stated_scorer(name=name) for name in ("stated", "other")}
    one = exchange()
    opinions = [store.judged(one, *names) for names in (("stated",), ())]
    store.run(lambda c: insert_scores(c, store.scorers, opinions[:1], 0.0))
    with pytest.raises(WriteConflict):
        store.run(lambda c: insert_scores(c, store.scorers, opinions[1:], 0.0))
    assert store.sql("SELECT scorer FROM scores") == [("stated",)], "and its transaction leaves nothing"


def test_what_an_exchange_lacks_is_null(store, exchange):
    row = exchange_row(store.judged(exchange(usage=None, client_id=None)), 0.0)
    store.run(lambda c: insert_new(c, exchanges, [row]))
    missing = [c.name for c, value in zip(exchanges.columns, row, strict=True) if value is None]
    assert len(missing) > 5
    every = " AND ".join(f"{name} IS NULL" for name in missing)
    assert store.sql(f"SELECT count(*) FROM exchanges WHERE {every}") == [(1,)]  # noqa: S608


def test_inserting_a_stored_exchange_conflicts(store, exchange):
    rows = [exchange_row(store.judged(exchange()), 0.0) for _ in range(2)]
    store.run(lambda c: insert_new(c, exchanges, []))
    store.run(lambda c: insert_new(c, exchanges, rows[:1]))
    with pytest.raises(WriteConflict):
        store.run(lambda c: insert_new(c, exchanges, rows))
    assert store.sql("SELECT count(*) FROM exchanges") == [(1,)]


@pytest.mark.parametrize("given", [{"truncated": True}, {"request": b"\0\xff\t\\\n", "unit": "\t\\N\n"}])
def test_an_exchange_is_stored_as_it_is(store, exchange, given):
    """Whatever bytes and characters are in it."""
    row = exchange_row(store.judged(exchange(**given)), 0.0)
    store.run(lambda c: insert_new(c, exchanges, [row]))
    (found,) = store.sql(f"SELECT {', '.join(exchanges.columns.keys())} FROM exchanges")  # noqa: S608
    assert tuple(found) == row
