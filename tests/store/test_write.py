"""A batch is stored completely or not at all, and only once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from fixtures.stores import WAITING, Ledgerbook
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.exc import DataError

from gateway.core.exchange import Feedback
from gateway.store import engine, write
from gateway.store.bulk_insert import WriteConflict
from gateway.store.score_sums import CellDelta, add_to
from gateway.store.tables import counters, score_costs
from gateway.store.write import ScoredBatch, WriteResult

pytestmark = pytest.mark.dialect


def test_writing_twice_is_writing_once(store, exchange):
    one, two = exchange("1"), exchange("0")
    assert store.write(one, two) == WriteResult(2, 0)
    before = store.cell(), store.sql("SELECT * FROM exchanges"), store.sql("SELECT * FROM scores")
    assert store.write(two, one, one) == WriteResult(0, 3)
    assert (store.cell(), store.sql("SELECT * FROM exchanges"), store.sql("SELECT * FROM scores")) == before
    assert store.snapshot().duplicates == 3


def test_the_same_exchange_twice_in_one_batch_is_one(store, exchange):
    one = exchange("1")
    assert store.write(one, one) == WriteResult(1, 1)
    assert store.cell().n["scored"] == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=6))
def test_any_redelivery_gives_the_sums_of_the_sent_records(store, exchange, batches):
    sent = [exchange(str(i / 10)) for i in range(10)]
    base = {c.key: (c.n["scored"], c.total) for c in store.snapshot().cells}
    for batch in batches:
        store.write(*(sent[i] for i in batch))
    (cell,) = store.snapshot().cells or (None,)
    came = {i for batch in batches for i in batch}
    if cell is not None:
        n, total = base.get(cell.key, (0, 0.0))
        assert cell.n["scored"] == n + len(came)
        assert cell.total == pytest.approx(total + sum(i / 10 for i in came))


def test_a_scorer_added_later_scores_redelivered_exchanges(store, exchange, stated_scorer):
    one = exchange("1")
    store.write(one)
    store.scorers["other"] = stated_scorer(name="other")
    store.write(one)
    counts = {cell.key.scorer: cell.n["scored"] for cell in store.snapshot().cells}
    assert counts == {"stated": 1, "other": 1}
    store.write(one)
    assert {cell.key.scorer: cell.n["scored"] for cell in store.snapshot().cells} == counts


def test_scores_of_another_version_or_config_do_not_mix(store, exchange, stated_scorer):
    store.write(exchange("1"))
    store.scorers["stated"] = stated_scorer(version="2")
    store.write(exchange("0"))
    store.scorers["stated"] = stated_scorer(version="2", config_hash="c2")
    store.write(exchange("0"))
    assert len(store.snapshot().cells) == 3


def test_nothing_of_a_batch_that_fails_is_stored(store, exchange):
    with pytest.raises((OverflowError, DataError)):
        store.write(exchange("1"), exchange("1", status=2**70))
    assert store.sql("SELECT count(*) FROM exchanges") == [(0,)]
    assert store.snapshot().cells == ()


def test_two_writers_of_one_exchange_conflict(postgres_url, exchange, stated_scorer):
    """The second writer on PostgreSQL waits for the first and then inserts fewer rows than it has; SQLite lets one
    write at a time."""
    opened = engine.writer(postgres_url)
    scorers = {"stated": stated_scorer()}
    batch = ScoredBatch(scorers, [Ledgerbook(postgres_url, opened, scorers).judged(exchange("1"))])

    def second() -> None:
        with opened.begin() as connection:
            write.write(connection, batch, 2.0)

    with ThreadPoolExecutor(1) as pool:
        with opened.begin() as first:
            write.write(first, batch, 1.0)
            waiting = pool.submit(second)
            with opened.connect() as watch:
                while not waiting.done() and not watch.execute(text(WAITING)).scalar():
                    time.sleep(0.01)
        with pytest.raises(WriteConflict):
            waiting.result(60)
    opened.dispose()


def test_the_newest_feedback_stays(store, exchange):
    for at, value in ((2.0, 1.0), (3.0, 0.0), (1.0, 0.5)):
        store.write(Feedback("e", "f1", "web", at, "thumb", value))
    store.write(Feedback("e", "f2", "web", 1.0, "thumb", 1.0))
    assert store.sql("SELECT feedback_id, value FROM feedback ORDER BY 1") == [("f1", 0.0), ("f2", 1.0)]


def test_a_dead_letter_added_twice_counts_once(store, exchange):
    store.dead_letter(exchange(), "unreadable", "7-0")
    store.dead_letter(None, "refused", "7-0")
    store.dead_letter(None, "refused", "8-0")
    assert dict(store.snapshot().dead_letters) == {"unreadable": 1, "refused": 1}


def test_sums_begin_with_what_comes_first_and_grow(store):
    """Zero in what is not given; what is not named as added stays as it was first given."""
    one, other = ({"name": name, "n": n} for name, n in (("a", 2), ("b", 5)))
    for rows in ([other, one], [], [one]):
        store.run(lambda c, rows=rows: add_to(c, counters, rows, ("n",)))
    assert sorted(store.sql("SELECT name, n FROM counters")) == [("a", 4), ("b", 5)]
    cost = {"scorer": "judge"}
    store.run(lambda c: add_to(c, score_costs, [{**cost, "usd": 0.5}], ("usd",)))
    store.run(lambda c: add_to(c, score_costs, [{**cost, "tokens": 7}], ("tokens",)))
    assert store.sql("SELECT scorer, usd, tokens FROM score_costs") == [("judge", 0.5, 7)]


def test_an_empty_batch_writes_nothing(store):
    assert store.write() == WriteResult()
    assert store.snapshot().cells == ()
    assert store.sql("SELECT count(*) FROM counters") == [(0,)]


def test_sums_begin_at_nothing_and_share_no_buckets():
    one, other = CellDelta(), CellDelta()
    one.buckets[3] = 1
    assert (other.scored, other.total, other.buckets) == (0, 0.0, {})
