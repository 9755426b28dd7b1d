"""What people look at: the newest first, one whole, and nobody else's feedback."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Feedback
from gateway.evals.store.query import ExchangeFilter, listed, reading, whole


@pytest.fixture
def read(store):
    def ask(question, *arguments):
        with reading(store.url) as connection:
            return question(connection, *arguments)

    return ask


def test_the_newest_come_first_and_no_more_than_asked_for(store, exchange, read):
    made = [exchange(received=float(i)) for i in range(5)]
    store.write(*made)
    found = read(listed, ExchangeFilter(limit=3))
    assert [e["id"] for e in found] == [e.id for e in reversed(made[2:])]
    assert "response" not in found[0]
    assert [s["scorer"] for s in found[0]["scores"]] == ["said"]


def test_alias_and_time_narrow_the_list(store, exchange, read):
    store.write(exchange(received=10.0), exchange(received=20.0, alias="b"), exchange(received=30.0, alias="b"))
    assert [e["received"] for e in read(listed, ExchangeFilter(alias="b"))] == [30.0, 20.0]
    assert [e["received"] for e in read(listed, ExchangeFilter(alias="b", since=25.0))] == [30.0]


def test_one_exchange_is_there_whole(store, exchange, read):
    one = exchange("0.5")
    shadow = exchange("1", pair=one.id, role="shadow")
    ours, theirs = (Feedback(one.id, who, who, 1.0, "thumb", 1.0) for who in ("web", "mallory"))
    store.write(one, shadow, ours, theirs)
    found = read(whole, one.id)
    assert (found["text"], found["request"], found["response"]) == ("0.5", one.request, one.response)
    assert {s["scorer"]: s["value"] for s in found["scores"]} == {"said": 0.5, "feedback:thumb": 1.0}
    assert [f["caller"] for f in found["feedback"]] == ["web"]
    assert found["shadows"] == [shadow.id]


def test_an_id_that_is_not_there_is_none(store, read):
    assert read(whole, "nothing") is None
