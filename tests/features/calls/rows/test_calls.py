"""Lists of calls by key, the worst ones, and one call with its pair. On both databases."""

from __future__ import annotations

import time
from itertools import chain

import orjson
import pytest

from gateway.core.exchange import Feedback, floor_id, new_id
from gateway.core.plan import REPEAT
from gateway.features.calls.rows.calls import CallFilter, full_call, list_calls, scorers_with_poor_scores
from gateway.store.query import reading
from gateway.store.where import parse

NOW = 1_764_000_000.0


@pytest.fixture
def read(store):
    """Calls a query of calls on a reading connection to the store."""

    def ask(question, *arguments):
        with reading(store.url) as connection:
            return question(connection, *arguments)

    return ask


@pytest.fixture
def made(exchange):
    """Makes an exchange that was received at NOW + at."""

    def make(text="1", at=0.0, **fields):
        return exchange(text, received=NOW + at, id=new_id(int((NOW + at) * 1e9)), **fields)

    return make


def pages_of(read, filter):
    found, after = [], None
    while True:
        page = read(list_calls, CallFilter(**{**filter, "after": after}))
        found.append([call["id"] for call in page.calls])
        after = page.next
        if after is None:
            return found


def test_pages_follow_each_other_without_gaps_or_repeats(store, made, read):
    rows = [made(at=float(i // 3)) for i in range(10)]
    store.write(*rows)
    expected = [e.id for e in sorted(rows, key=lambda e: (e.received, e.id), reverse=True)]
    found = pages_of(read, {"limit": 4})
    assert [len(page) for page in found] == [4, 4, 2]
    assert [*chain.from_iterable(found)] == expected


def test_the_worst_first_newest_of_one_value_first(store, made, read):
    texts = ["0.5", "0", "1", "0", "0.25", "n/a", "0"]
    rows = [made(text, at=float(i)) for i, text in enumerate(texts)]
    store.write(*rows)
    found = pages_of(read, {"limit": 2, "worst_by": "stated"})
    assert [*chain.from_iterable(found)] == [rows[i].id for i in (6, 3, 1, 4, 0)]
    page = read(list_calls, CallFilter(worst_by="stated"))
    assert [call["placed"] for call in page.calls] == [0.0, 0.0, 0.0, 0.25, 0.5]


def test_the_worst_are_found_by_the_index(store, made, read):
    store.write(made("0"))
    if store.engine.dialect.name != "sqlite":
        pytest.skip("PostgreSQL decides by the size of the table")
    plan = store.sql(
        "EXPLAIN QUERY PLAN SELECT value01, exchange_id FROM scores WHERE scorer = 'stated' AND scores.value01 < 1 "
        "AND scores.repeat = 0 ORDER BY value01, exchange_id DESC LIMIT 51"
    )
    assert "scores_worst" in repr(plan)
    plan = store.sql("EXPLAIN QUERY PLAN SELECT received, id FROM exchanges WHERE alias = 'a' AND outcome = 'ok' "
                     "ORDER BY received DESC, id DESC LIMIT 51")  # fmt: skip
    assert "COVERING INDEX exchanges_found" in repr(plan)


def test_time_and_conditions_narrow_both_orders(store, made, read):
    old, new, other = made("0", at=0), made("0", at=100), made("0", at=200, alias="b")
    store.write(old, new, other)
    for worst_by in ("", "stated"):
        narrow = CallFilter(parse("alias!=b"), NOW + 50, NOW + 150, worst_by)
        assert [c["id"] for c in read(list_calls, narrow).calls] == [new.id]


@pytest.mark.dialect
def test_texts_are_read_only_where_they_are_asked_for(store, made, read):
    asked = {"messages": [{"role": "user", "content": "x" * 9_000}, {"role": "user", "content": "a question?"}]}
    store.write(made("0." + "1" * 999, request=orjson.dumps(asked)))
    [plain] = read(list_calls, CallFilter()).calls
    assert not {"text", "preview", "request", "response"} & plain.keys()
    [shown] = read(list_calls, CallFilter(texts=True)).calls
    assert len(shown["preview"]) == 240
    assert shown["question"] == "a question?", "at the end of a long body"
    assert [s["scorer"] for s in shown["scores"]] == ["stated"]


def test_scorers_with_poor_scores_are_offered(store, made, read):
    assert read(scorers_with_poor_scores) == []
    store.write(made("1"))
    assert read(scorers_with_poor_scores) == []
    store.write(made("0.5"))
    assert read(scorers_with_poor_scores) == ["stated"]


def test_a_call_comes_with_its_pair_from_either_side(store, made, read):
    served = made("0.5")
    arm = made("1", pair=served.id, role="shadow", arm="candidate")
    again = made("0", pair=served.id, role="control", arm=REPEAT)
    store.write(served, arm, again, Feedback(served.id, "f", "web", 1.0, "thumb", 1.0))
    full = read(full_call, served.id)
    assert full.served is None
    assert sorted(each["id"] for each in full.arms) == sorted([arm.id, again.id])
    assert {id: [s["value"] for s in scores] for id, scores in full.others.items()} == {arm.id: [1.0], again.id: [0.0]}
    assert [f["name"] for f in full.call["feedback"]] == ["thumb"]
    full = read(full_call, arm.id)
    assert full.served["id"] == served.id
    assert full.arms == ()
    assert read(full_call, "nothing") is None


def test_ids_are_ordered_by_the_time_of_their_call():
    at = time.time()
    assert new_id(int((at - 0.01) * 1e9)) < floor_id(at) < new_id(int((at + 0.01) * 1e9))
    assert floor_id(-5) == "00000000-0000"
