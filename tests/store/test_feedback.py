"""Feedback meets its exchange, in any order, by either id, and is its owner's only. On both databases."""

from __future__ import annotations

import itertools
import time

import pytest

from gateway.core.exchange import Feedback, only_word_id
from gateway.store.feedback import JoinedFeedback, sweep, write_feedback
from gateway.store.rows import feedback_row
from gateway.store.tables import feedback
from gateway.store.write import ScoredBatch, write

SCORES = "SELECT exchange_id, value, label, explanation, data_type, status FROM scores WHERE kind = 'feedback'"


def word(of: str, value: float | None = 1.0, at: float = 1.0, **more: object) -> Feedback:
    return Feedback(of, **{"feedback_id": "f", "caller": "web", "at": at, "name": "thumb", "value": value, **more})  # type: ignore[arg-type]


def test_a_word_on_an_exchange_is_a_score_of_it(store, exchange):
    one = exchange(pi=0.25, stratum="slow", experiment="swap", plan="p", arm="control")
    store.write(one)
    written = store.write(word(one.id, 0.0, comment="no", data_type="boolean"))
    assert written.met == (JoinedFeedback("f", 1.0, one.id),)
    assert store.sql(SCORES) == [(one.id, 0.0, None, "no", "boolean", "scored")]
    columns = "scorer, direction, pi, stratum, experiment, plan, arm, value01, answered"
    assert store.sql(f"SELECT {columns} FROM scores WHERE kind = 'feedback'") == [  # noqa: S608
        ("feedback:thumb", "maximise", 0.25, "slow", "swap", "p", "control", 0.0, 1.0)
    ]


def test_feedback_by_the_answers_own_id_is_joined(store, exchange):
    older, newer = (exchange(upstream_id="chatcmpl-1", received=at) for at in (10.0, 20.0))
    store.write(older, newer, word("chatcmpl-1"))
    assert [row[0] for row in store.sql(SCORES)] == [newer.id], "of answers with the same id, the newest"


def test_feedback_moves_to_the_newest_exchange_of_its_id(store, exchange):
    older, newer = (exchange(upstream_id="chatcmpl-1", received=at) for at in (10.0, 20.0))
    store.write(older, word("chatcmpl-1", 0.0))
    assert [row[:2] for row in store.sql(SCORES)] == [(older.id, 0.0)]
    store.write(newer, word("chatcmpl-1", 1.0, at=2.0))
    assert [row[:2] for row in store.sql(SCORES)] == [(newer.id, 1.0)]
    store.write(word("chatcmpl-1", None, at=3.0))
    assert store.sql(SCORES) == []


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_whatever_comes_first_the_newest_word_counts(file_store, exchange, order):
    one = exchange()
    records = [one, word(one.id, 0.0, 1.0), word(one.id, 1.0, 2.0), word(one.id, 1.0, 2.0)]
    for at in order:
        file_store.write(records[at])
    assert file_store.sql("SELECT value, at FROM feedback") == [(1.0, 2.0)]
    assert [row[:2] for row in file_store.sql(SCORES)] == [(one.id, 1.0)]


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_feedback_by_either_id_is_one_statement(file_store, exchange, order):
    """Ours, and the answer's own: the newest counts, whatever comes first, and as often as it comes."""
    one = exchange(upstream_id="chatcmpl-1")
    ours = word(one.id, 0.0, 2.0, feedback_id=only_word_id("web", one.id, "thumb"))
    own = word("chatcmpl-1", 1.0, 3.0, feedback_id=only_word_id("web", "chatcmpl-1", "thumb"))
    records = [one, ours, own, own]
    for at in order:
        file_store.write(records[at])
    assert file_store.sql("SELECT value, at, feedback_id, resolved FROM feedback") == [
        (1.0, 3.0, ours.feedback_id, one.id)
    ]
    assert [row[:2] for row in file_store.sql(SCORES)] == [(one.id, 1.0)]


def test_words_under_keys_of_their_own_stay_apart(store, exchange):
    """Several people behind one caller have such keys."""
    one = exchange(upstream_id="chatcmpl-1")
    store.write(one, word(one.id, feedback_id="k1"), word("chatcmpl-1", 0.0, feedback_id="k2"))
    assert sorted(row[1] for row in store.sql(SCORES)) == [0.0, 1.0]


def test_a_word_that_comes_before_its_exchange_waits_for_it(store, exchange):
    one = exchange(upstream_id="chatcmpl-1")
    assert store.write(word("chatcmpl-1")).met == (JoinedFeedback("f", 1.0, None, False),)
    assert store.sql(SCORES) == []
    store.write(one)
    assert [row[0] for row in store.sql(SCORES)] == [one.id]


def test_somebody_elses_exchange_is_told_and_nothing_is_kept(store, exchange):
    one = exchange(caller="app", upstream_id="chatcmpl-1")
    store.write(one)
    for named in (one.id, "chatcmpl-1"):
        assert store.write(word(named)).met == (JoinedFeedback("f", 1.0, None, True),)
    assert store.sql("SELECT count(*) FROM feedback") == [(0,)]
    assert store.sql(SCORES) == []


def test_a_shadows_answer_has_no_owner(store, exchange):
    shadow = exchange(role="shadow", pair="x")
    assert store.write(shadow, word(shadow.id)).met == (JoinedFeedback("f", 1.0, None, False),)


def test_two_callers_may_say_the_same_of_their_own(store, exchange):
    mine, theirs = exchange(), exchange(caller="app")
    store.write(mine, theirs, word(mine.id, 1.0), word(theirs.id, 0.0, feedback_id="g", caller="app"))
    assert {row[:2] for row in store.sql(SCORES)} == {(mine.id, 1.0), (theirs.id, 0.0)}


def test_a_comment_alone_is_kept_and_is_not_a_score(store, exchange):
    one = exchange()
    store.write(one, word(one.id, None, comment="hm", correction="42"))
    assert store.sql("SELECT comment, correction, resolved FROM feedback") == [("hm", "42", one.id)]
    assert store.sql(SCORES) == []


def test_a_withdrawn_value_leaves_no_score(store, exchange):
    one = exchange()
    store.write(one, word(one.id, 1.0, 1.0), word(one.id, None, 2.0, comment="never mind"))
    assert store.sql(SCORES) == []


def test_a_label_is_not_a_number(store, exchange):
    one = exchange()
    store.write(one, word(one.id, None, label="funny", data_type="categorical"))
    assert store.sql(SCORES) == [(one.id, None, "funny", None, "categorical", "not_applicable")]


def test_a_number_beyond_zero_and_one_has_no_place_between_them(store, exchange):
    one = exchange()
    store.write(one, word(one.id, 4.0))
    assert store.sql("SELECT value, value01 FROM scores WHERE kind = 'feedback'") == [(4.0, None)]


def test_feedback_missed_by_two_consumers_is_joined_later(store, exchange):
    """Neither transaction saw the other's row: as if both had been written without a look."""
    one, now = exchange(), time.time()
    store.write(one)
    names = feedback.columns.keys()
    row = dict(zip(names, feedback_row(word(one.id, at=now - 10)), strict=True))
    store.run(lambda c: c.execute(feedback.insert().values(row)))
    store.run(lambda c: sweep(c, now - 5, now))
    assert store.sql(SCORES) == [], "too long ago"
    store.run(lambda c: sweep(c, now - 60, now))
    assert [row[0] for row in store.sql(SCORES)] == [one.id]


@pytest.mark.parametrize("feedback_first", [True, False])
@pytest.mark.parametrize("named", ["id", "upstream_id"])
def test_two_consumers_that_store_at_once_lose_no_feedback(two_consumers, exchange, feedback_first, named):
    """An exchange and the feedback on it, each in a transaction of its own: no sweep is needed."""
    book, one = two_consumers.book, exchange(upstream_id="chatcmpl-1")
    batches = [ScoredBatch({}, [book.judged(one)]), ScoredBatch({}, feedback=[word(getattr(one, named))])]
    two_consumers.write(*(reversed(batches) if feedback_first else batches), 1.0)
    assert [row[:2] for row in book.sql(SCORES)] == [(one.id, 1.0)]


def test_two_consumers_with_exchanges_and_feedback_lose_none(two_consumers, exchange):
    """Each has the feedback on the exchange of the other."""
    book, one, two = two_consumers.book, exchange(), exchange()
    batches = [
        ScoredBatch({}, [book.judged(mine)], feedback=[word(other.id, feedback_id=other.id)])
        for mine, other in ((one, two), (two, one))
    ]
    two_consumers.write(*batches, 1.0)
    assert {row[0] for row in book.sql(SCORES)} == {one.id, two.id}


def test_consumers_without_feedback_do_not_wait(two_consumers, exchange):
    """Both transactions are open at once, and the second is committed first."""
    book = two_consumers.book
    with book.engine.begin() as first, book.engine.begin() as second:
        for connection in (first, second):
            connection.exec_driver_sql("SET LOCAL lock_timeout = '30s'")
            write(connection, ScoredBatch({}, [book.judged(exchange())]), 1.0)
    assert book.sql("SELECT count(*) FROM exchanges") == [(2,)]


def test_writing_nothing_does_nothing(store):
    assert store.run(lambda c: write_feedback(c, [], 1.0)) == []
