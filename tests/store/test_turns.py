"""Implicit feedback meets the answer it is about: in any order, once, and goes with the texts it was read from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from fixtures.stores import TwoConsumers

from gateway.features.calls.rows import erase
from gateway.store import engine, retention, turns
from gateway.store import write as writing
from gateway.store.rows import Turn
from gateway.store.write import ScoredBatch

pytestmark = pytest.mark.dialect

NOW = 1_000_000.0
SCORES = "SELECT exchange_id, scorer, value FROM scores WHERE kind = 'feedback' ORDER BY exchange_id, scorer"
REACTION = "feedback:implicit:reaction"


@pytest.fixture
def talk(exchange: Any) -> Any:
    """An exchange and its turn. answer, reply_to: short names of digests."""

    def made(at: float, answer: str, reply_to: str | None = None, *signs: Any, **more: Any) -> tuple[Any, Turn]:
        fields = {k: more.pop(k) for k in ("role", "experiment") if k in more}
        one = exchange(received=NOW + at, caller="web", **fields)
        question = more.pop("question", f"q{at}")
        return one, Turn(
            one.id, one.received, "web", more.pop("scope", None), question, answer, reply_to, signs, **more
        )

    return made


def write(store: Any, *talks: tuple[Any, Turn]) -> None:
    judged = [replace(store.judged(one), turn=turn) for one, turn in talks]
    store.run(lambda c: writing.write(c, ScoredBatch(store.scorers, judged), NOW))


def test_a_reply_is_feedback_on_the_answer_before_it(store: Any, talk: Any) -> None:
    first, reply = talk(0, "a"), talk(10, "b", "a", "wrong", "repeat")
    write(store, first)
    write(store, reply)
    of = first[0].id
    expected = [(of, REACTION, 0.0), (of, "feedback:implicit:repeat", 0.0), (of, "feedback:implicit:wrong", 0.0)]
    assert store.sql(SCORES) == expected
    write(store, reply)
    write(store, first)
    assert store.sql(SCORES) == expected, "a redelivery adds nothing"


@pytest.mark.parametrize("order", list(itertools.permutations(range(4)))[::3])
def test_the_order_of_arrival_does_not_matter(file_store: Any, talk: Any, order: tuple[int, ...]) -> None:
    """A first answer, a bad reply, its edit, and a good reply to the edited question's answer."""
    talks = [
        talk(0, "a"),
        talk(10, "b", "a", "wrong"),
        talk(20, "c", "a", question="new"),
        talk(30, "d", "c", "thanks"),
    ]
    for at in order:
        write(file_store, talks[at])
    ids = [one.id for one, _ in talks]
    assert sorted(file_store.sql(SCORES)) == sorted(
        [
            (ids[0], REACTION, 0.0), (ids[0], "feedback:implicit:wrong", 0.0),
            (ids[1], REACTION, 0.0), (ids[1], "feedback:implicit:edit", 0.0),
            (ids[2], REACTION, 1.0), (ids[2], "feedback:implicit:thanks", 1.0),
        ]
    )  # fmt: skip


def test_all_in_one_batch(store: Any, talk: Any) -> None:
    first, bad, good = talk(0, "a"), talk(10, "b", "a", "wrong"), talk(20, "c", "a", "thanks", question="q10")
    write(store, good, bad, first)
    found = {row[:2]: row[2] for row in store.sql(SCORES)}
    assert found[first[0].id, REACTION] == 0.0, "a bad reaction counts, whatever came later"
    assert found[bad[0].id, "feedback:implicit:repeat"] == 0.0, "the same message, sent again"


def test_the_same_answer_to_several_users_has_no_reply(store: Any, talk: Any) -> None:
    write(store, talk(0, "hello"), talk(1, "hello"), talk(10, "b", "hello", "wrong"))
    assert store.sql(SCORES) == []
    mine, theirs = talk(20, "hi", scope="c1"), talk(21, "hi", scope="c2")
    write(store, mine, theirs, talk(30, "b", "hi", "wrong", scope="c1"))
    assert {row[0] for row in store.sql(SCORES)} == {mine[0].id}


def test_a_reply_after_a_day_is_none(store: Any, talk: Any) -> None:
    write(store, talk(0, "a"), talk(turns.WINDOW_S + 1, "b", "a", "wrong"))
    assert store.sql(SCORES) == []


def test_a_stopped_stream_is_feedback_on_itself(store: Any, talk: Any) -> None:
    gone = talk(0, "a", stopped=True)
    write(store, gone)
    assert store.sql(SCORES) == [(gone[0].id, REACTION, 0.0), (gone[0].id, "feedback:implicit:stop", 0.0)]


def test_first_turns_of_one_conversation_are_attempts(store: Any, talk: Any) -> None:
    first, edited = talk(0, "a", parent="conversation"), talk(5, "b", parent="conversation")
    write(store, edited)
    write(store, first)
    assert store.sql(SCORES) == [(first[0].id, "feedback:implicit:edit", 0.0), (first[0].id, REACTION, 0.0)]


def test_the_sweep_joins_what_two_consumers_wrote_at_once(store: Any, talk: Any) -> None:
    """Neither transaction sees the other's turn."""
    first, reply = talk(0, "a"), talk(10, "b", "a", "wrong")
    write(store, first, reply)
    store.run(lambda c: c.exec_driver_sql("DELETE FROM scores WHERE kind = 'feedback'"))
    store.run(lambda c: c.exec_driver_sql("DELETE FROM feedback"))
    store.run(lambda c: c.exec_driver_sql("UPDATE turns SET parent = NULL"))
    store.run(lambda c: turns.sweep(c, NOW + 60))
    assert [row[:2] for row in store.sql(SCORES)] == [(first[0].id, REACTION), (first[0].id, "feedback:implicit:wrong")]
    store.run(lambda c: turns.sweep(c, NOW + 2 * turns.WINDOW_S))
    assert store.sql("SELECT * FROM turns") == []


@pytest.fixture
def at_once(two_consumers: TwoConsumers) -> Any:
    """Stores batches of two consumers at once, and returns the feedback's scores."""
    book = two_consumers.book

    def batch(talks: Sequence[tuple[Any, Turn]]) -> ScoredBatch:
        return ScoredBatch(book.scorers, [replace(book.judged(one), turn=turn) for one, turn in talks])

    def run(first: Sequence[tuple[Any, Turn]], second: Sequence[tuple[Any, Turn]]) -> list[tuple[Any, ...]]:
        two_consumers.write(batch(first), batch(second), NOW)
        return book.sql(SCORES)

    return run


@pytest.mark.parametrize("reply_first", [True, False])
def test_two_consumers_that_store_at_once_lose_no_reaction(at_once: Any, talk: Any, reply_first: bool) -> None:
    """An answer and the reply to it, each in a transaction of its own: no sweep is needed."""
    first, reply = talk(0, "a"), talk(10, "b", "a", "wrong")
    found = at_once(*([reply], [first]) if reply_first else ([first], [reply]))
    assert found == [(first[0].id, REACTION, 0.0), (first[0].id, "feedback:implicit:wrong", 0.0)]


def test_attempts_that_two_consumers_store_at_once_are_found(at_once: Any, talk: Any) -> None:
    """Both replies know their conversation, so that no sweep looks at them again."""
    first, again = (talk(at, answer, parent="conversation", question="q") for at, answer in ((0, "a"), (5, "b")))
    assert at_once([first], [again]) == [(first[0].id, REACTION, 0.0), (first[0].id, "feedback:implicit:repeat", 0.0)]


def test_a_bad_reaction_stays_where_a_good_one_is_stored_at_once(at_once: Any, talk: Any) -> None:
    """Two consumers store replies to a stored answer."""
    first, bad, good = talk(0, "a"), talk(10, "b", "a", "wrong"), talk(20, "c", "a", "thanks", question="q10")
    found = {row[:2]: row[2] for row in at_once([first, bad], [good])}
    assert found[first[0].id, REACTION] == 0.0
    assert found[bad[0].id, "feedback:implicit:repeat"] == 0.0


def test_turns_stay_as_long_as_their_replies_may_be_unread(store: Any, talk: Any) -> None:
    """A consumer that is two days behind reads a reply long after the answer was stored."""
    late = NOW + 2 * turns.WINDOW_S
    first, reply = talk(0, "a"), talk(10, "b", "a", "wrong")
    write(store, first)
    store.run(lambda c: turns.sweep(c, late, late - NOW))
    write(store, reply)
    assert [row[:2] for row in store.sql(SCORES)] == [(first[0].id, REACTION), (first[0].id, "feedback:implicit:wrong")]
    store.run(lambda c: turns.sweep(c, late, 0.0))
    assert store.sql("SELECT * FROM turns") == []


def test_erasing_a_message_erases_what_it_said(store: Any, talk: Any) -> None:
    first, reply, other = talk(0, "a"), talk(10, "b", "a", "wrong"), talk(20, "c")
    write(store, first, reply, other)
    store.run(lambda c: erase.erase(c, [reply[0].id], NOW))
    assert store.sql(SCORES) == []
    assert store.sql("SELECT * FROM feedback") == []
    left = {row[0] for row in store.sql("SELECT exchange_id FROM turns")}
    assert left == {first[0].id, other[0].id}


def test_retention_removes_turns_with_their_exchanges(store: Any, talk: Any) -> None:
    write(store, talk(0, "a"), talk(10, "b", "a"), talk(20, "c", experiment="swap"))
    bounds = retention.RetentionLimits(keep_s=60.0, protected_s=0.0)
    store.run(lambda c: retention.sweep(c, bounds, "me", NOW + 3600))
    assert store.sql("SELECT * FROM turns") == []


def test_turns_need_no_scan(tmp_path: Any) -> None:
    """Each query of a batch is answered from an index."""
    opened = engine.writer(f"sqlite:///{tmp_path / 'x.db'}")
    with opened.connect() as connection:
        for column in ("answer", "reply_to", "parent", "received"):
            sql = f"EXPLAIN QUERY PLAN SELECT * FROM turns WHERE {column} = 'x'"  # noqa: S608 - our own names
            plan = " ".join(str(row) for row in connection.exec_driver_sql(sql))
            assert f"turns_{column}" in plan
    opened.dispose()
