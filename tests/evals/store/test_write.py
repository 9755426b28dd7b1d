"""Everything of a batch or nothing; and everything once."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import DataError

from gateway.core.exchange import Feedback
from gateway.evals.store import write
from gateway.evals.store.batches import ScoredBatch, WriteResult
from gateway.evals.store.inserting import WriteConflict


def test_writing_twice_is_writing_once(store, exchange):
    one, two = exchange("1"), exchange("0")
    assert store.write(one, two) == WriteResult(2, 0)
    before = store.cell(), store.sql("SELECT * FROM exchanges"), store.sql("SELECT * FROM scores")
    assert store.write(two, one, one) == WriteResult(0, 3)
    assert (store.cell(), store.sql("SELECT * FROM exchanges"), store.sql("SELECT * FROM scores")) == before
    assert store.standing().duplicates == 3


def test_the_same_exchange_twice_in_one_batch_is_one(store, exchange):
    one = exchange("1")
    assert store.write(one, one) == WriteResult(1, 1)
    assert store.cell().n["scored"] == 1


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), max_size=6))
def test_any_redelivery_gives_the_sums_of_what_was_sent(store, exchange, batches):
    sent = [exchange(str(i / 10)) for i in range(10)]
    base = {c.key: (c.n["scored"], c.total) for c in store.standing().cells}
    for batch in batches:
        store.write(*(sent[i] for i in batch))
    (cell,) = store.standing().cells or (None,)
    came = {i for batch in batches for i in batch}
    if cell is not None:
        n, total = base.get(cell.key, (0, 0.0))
        assert cell.n["scored"] == n + len(came)
        assert cell.total == pytest.approx(total + sum(i / 10 for i in came))


def test_a_scorer_that_is_configured_later_scores_what_comes_again(store, exchange, said):
    one = exchange("1")
    store.write(one)
    store.scorers["other"] = said(name="other")
    store.write(one)
    counts = {cell.key.scorer: cell.n["scored"] for cell in store.standing().cells}
    assert counts == {"said": 1, "other": 1}
    store.write(one)
    assert {cell.key.scorer: cell.n["scored"] for cell in store.standing().cells} == counts


def test_scores_of_another_version_or_config_do_not_mix(store, exchange, said):
    store.write(exchange("1"))
    store.scorers["said"] = said(version="2")
    store.write(exchange("0"))
    store.scorers["said"] = said(version="2", config_hash="c2")
    store.write(exchange("0"))
    assert len(store.standing().cells) == 3


def test_nothing_of_a_batch_that_fails_is_stored(store, exchange):
    with pytest.raises((OverflowError, DataError)):
        store.write(exchange("1"), exchange("1", status=2**70))
    assert store.sql("SELECT count(*) FROM exchanges") == [(0,)]
    assert store.standing().cells == ()


def test_two_who_write_the_same_exchange_at_once_are_told(store, exchange):
    """SQLite lets only one write; elsewhere the second finds fewer rows inserted than it had to insert."""
    one = exchange("1")
    store.write(one)

    def unaware(connection):
        batch = ScoredBatch(store.scorers, [store.judged(one)])
        known, write._known = write._known, lambda *_: set()
        try:
            return write.write(connection, batch, time.time())
        finally:
            write._known = known

    with pytest.raises(WriteConflict):
        store.run(unaware)
    assert store.cell().n["scored"] == 1


def test_the_newest_word_of_feedback_stays(store, exchange):
    for at, value in ((2.0, 1.0), (3.0, 0.0), (1.0, 0.5)):
        store.write(Feedback("e", "f1", "web", at, "thumb", value))
    store.write(Feedback("e", "f2", "web", 1.0, "thumb", 1.0))
    assert store.sql("SELECT feedback_id, value FROM feedback ORDER BY 1") == [("f1", 0.0), ("f2", 1.0)]


def test_burying_twice_counts_once(store, exchange):
    store.bury(exchange(), "unreadable", "7-0")
    store.bury(None, "refused", "7-0")
    store.bury(None, "refused", "8-0")
    assert dict(store.standing().dead_letters) == {"unreadable": 1, "refused": 1}
