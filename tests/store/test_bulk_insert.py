"""Many rows inserted at once are stored as given, in both databases, or none of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from sqlalchemy import BigInteger, Boolean, Column, Double, Integer, LargeBinary, Text

from gateway.core.score import Score, ScoreResult, Spent
from gateway.store.bulk_insert import BinaryScores, RowEncoder, SqliteScores, WriteConflict, insert_new, insert_scores
from gateway.store.rows import OWN, SHARED, exchange_row, score_rows
from gateway.store.tables import exchanges

pytestmark = pytest.mark.dialect


@pytest.mark.parametrize("n", [1, 2, 40, 41, 95])
def test_exchanges_with_any_number_of_scores(store, exchange, stated_scorer, n):
    """One statement takes 40; several exchanges with different numbers come together."""
    store.scorers = {f"s{i}": stated_scorer(name=f"s{i}") for i in range(n)}
    several = [store.judged(exchange("0.5")), store.judged(exchange("0.25"), "s0"), store.judged(exchange(), *())]
    store.run(lambda c: insert_scores(c, store.scorers, several, 9.0))
    columns = (*SHARED, *OWN)
    found = store.sql(f"SELECT {', '.join(columns)} FROM scores ORDER BY exchange_id, score_id")  # noqa: S608
    rows = [row for judged in several for row in score_rows(judged, store.scorers, 9.0)]
    expected = sorted(([row[c] for c in columns] for row in rows), key=lambda row: (row[0], row[10]))
    assert [list(row) for row in found] == expected
    assert None in expected[0], "and what is not there is NULL"


def test_scores_of_an_import_have_no_probability_where_it_has_none(store, exchange, stated_scorer):
    store.scorers = {"stated": stated_scorer(), "some": stated_scorer(name="some", share=0.5)}
    several = [store.judged(exchange("0.5", role="imported", pi=pi)) for pi in (None, 0.5)]
    store.run(lambda c: insert_scores(c, store.scorers, several, 9.0))
    columns = (*SHARED, *OWN)
    found = store.sql(f"SELECT {', '.join(columns)} FROM scores ORDER BY exchange_id, score_id")  # noqa: S608
    rows = [row for judged in several for row in score_rows(judged, store.scorers, 9.0)]
    assert [list(row) for row in found] == [[row[c] for c in columns] for row in sorted(rows, key=_key)]
    assert {row["pi"] for row in rows} == {None, 0.5, 0.25}


def _key(row):
    return row["exchange_id"], row["score_id"]


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


def test_missing_values_of_an_exchange_are_null(store, exchange):
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
    """Bytes and characters of any kind come back."""
    row = exchange_row(store.judged(exchange(**given)), 0.0)
    store.run(lambda c: insert_new(c, exchanges, [row]))
    (found,) = store.sql(f"SELECT {', '.join(exchanges.columns.keys())} FROM exchanges")  # noqa: S608
    assert tuple(found) == row


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
    rows = [row for each in judged for row in score_rows(each, store.scorers, 9.0)]
    found = store.sql(f"SELECT {', '.join(columns)} FROM scores ORDER BY exchange_id, score_id")  # noqa: S608
    assert [tuple(row) for row in found] == sorted(
        (tuple(row[c] for c in columns) for row in rows), key=lambda row: (row[0], row[10])
    )


def test_exchanges_that_differ_in_values_share_a_statement(store, exchange, stated_scorer):
    judged = _judged(store, exchange, stated_scorer, (0.25, 0.75, 1.0))
    ((_, rows, size),) = SqliteScores(store.scorers).statements(judged, 9.0)
    assert (len(rows), size) == (3, 4)


COLUMNS = [Column(str(i), of) for i, of in enumerate((Text, LargeBinary, Double, BigInteger, Integer, Boolean))]


def test_a_value_is_its_size_and_its_bytes() -> None:
    encoded = RowEncoder(COLUMNS).values(("é", b"\0", 1.0, -2, 3, True))
    text, data, double = b"\0\0\0\2\xc3\xa9", b"\0\0\0\1\0", b"\0\0\0\x08\x3f\xf0\0\0\0\0\0\0"
    numbers = b"\0\0\0\x08" + 7 * b"\xff" + b"\xfe" + b"\0\0\0\4\0\0\0\3"
    assert encoded == text + data + double + numbers + b"\0\0\0\1\1"


def test_nothing_has_a_size_below_zero() -> None:
    assert RowEncoder(COLUMNS[:2]).values((None, None)) == 8 * b"\xff"


@pytest.mark.parametrize(
    ("column", "value", "error"),
    [(3, 2**63, OverflowError), (4, 2**31, OverflowError), (0, 1, TypeError), (1, "x", TypeError),
     (2, "x", OverflowError), (0, "\ud800", UnicodeError)],
)  # fmt: skip
def test_a_value_of_another_type_is_refused(column: int, value: object, error: type[Exception]) -> None:
    with pytest.raises(error):
        RowEncoder([COLUMNS[column]]).values((value,))


def test_shared_parts_of_scores_are_encoded_once(store, exchange, stated_scorer) -> None:
    store.scorers = {name: stated_scorer(name=name) for name in ("stated", "other")}
    several = [store.judged(exchange(text)) for text in ("0.5", "n/a", "0.5", "1")]
    together = BinaryScores(store.scorers)
    assert [together.rows(j, 1.0) for j in several] == [BinaryScores(store.scorers).rows(j, 1.0) for j in several]
