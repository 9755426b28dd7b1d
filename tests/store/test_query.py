"""Searches: the newest calls first, one complete call, and nobody else's feedback."""

from __future__ import annotations

import pytest

from gateway.core.exchange import Feedback
from gateway.store.query import ExchangeFilter, full_exchange, list_exchanges, reading
from gateway.store.where import QueryError, parse


@pytest.fixture
def read(store):
    """Calls a query on a reading connection to the store."""

    def ask(question, *arguments):
        with reading(store.url) as connection:
            return question(connection, *arguments)

    return ask


def test_the_newest_come_first_and_no_more_than_asked_for(store, exchange, read):
    made = [exchange(received=float(i)) for i in range(5)]
    store.write(*made)
    found = read(list_exchanges, ExchangeFilter(limit=3))
    assert [e["id"] for e in found] == [e.id for e in reversed(made[2:])]
    assert "response" not in found[0]
    assert [s["scorer"] for s in found[0]["scores"]] == ["stated"]


def test_alias_and_time_narrow_the_list(store, exchange, read):
    store.write(exchange(received=10.0), exchange(received=20.0, alias="b"), exchange(received=30.0, alias="b"))
    assert [e["received"] for e in read(list_exchanges, ExchangeFilter(alias="b"))] == [30.0, 20.0]
    assert [e["received"] for e in read(list_exchanges, ExchangeFilter(alias="b", since=25.0))] == [30.0]


def test_one_exchange_is_there_whole(store, exchange, read):
    one = exchange("0.5")
    shadow = exchange("1", pair=one.id, role="shadow")
    ours, theirs = (Feedback(one.id, who, who, 1.0, "thumb", 1.0) for who in ("web", "mallory"))
    store.write(one, shadow, ours, theirs)
    found = read(full_exchange, one.id)
    assert (found["text"], found["request"], found["response"]) == ("0.5", one.request, one.response)
    assert {s["scorer"]: s["value"] for s in found["scores"]} == {"stated": 0.5, "feedback:thumb": 1.0}
    assert [f["caller"] for f in found["feedback"]] == ["web"]
    assert found["shadows"] == [shadow.id]


def test_an_id_that_is_not_there_is_none(store, read):
    assert read(full_exchange, "nothing") is None


@pytest.fixture
def found(store, exchange):
    """Names of the exchanges below that a query finds, newest last."""
    asked = b'{"messages":[{"role":"user","content":"a REFUND, please: 50 %"}]}'
    made = {
        "good": exchange("1", total_s=0.5, caller="web"),
        "bad": exchange("0", total_s=6.0, caller="app", truncated=True, request=asked),
        "gone": exchange("n/a", total_s=9.0, outcome="client_gone", first_token_s=0.25, client_id="100%_done"),
        "broken": exchange("error", total_s=2.0, outcome="upstream_error", status=502),
    }
    for n, (name, each) in enumerate(made.items()):
        object.__setattr__(each, "received", 1000.0 + n)
        store.write(each)
        if name == "good":
            store.write(Feedback(each.id, "f", "web", 1.0, "thumb", 0.0, comment="no"))

    def ask(text: str) -> list[str]:
        with reading(store.url) as connection:
            ids = [e["id"] for e in list_exchanges(connection, ExchangeFilter(where=parse(text)))]
        return [name for name, each in made.items() if each.id in ids]

    return ask


CASES = {
    "caller=web": ["good", "gone", "broken"],
    "caller!=web": ["bad"],
    "total_s>5": ["bad", "gone"],
    "total_s<=2": ["good", "broken"],
    "total_s>5 outcome=ok": ["bad"],
    "total_s>5 or status=502": ["bad", "gone", "broken"],
    "not (total_s>5 or status=502)": ["good"],
    "truncated=true": ["bad"],
    "truncated!=true": ["good", "gone", "broken"],
    "received>=1002": ["gone", "broken"],
    "received<1970-01-01T00:16:42+00:00": ["good", "bad"],
    "first_token_s=null": ["good", "bad", "broken"],
    "first_token_s!=null": ["gone"],
    "first_token_s!=1": ["good", "bad", "gone", "broken"],
    "not first_token_s=1": ["good", "bad", "gone", "broken"],
    "client_id~'%_D'": ["gone"],
    "client_id~'0_d'": [],
    "client_id!~done": ["good", "bad", "broken"],
    "request~'REFUND, please: 50 %'": ["bad"],
    "request!~REFUND": ["good", "gone", "broken"],
    "request~refund": [],
    "text=1": ["good"],
    "scorer=stated value<1": ["bad"],
    "scorer=stated value=1": ["good"],
    "value<1": ["good", "bad"],
    "scorer='feedback:thumb' value=0": ["good"],
    "kind=feedback explanation~NO": ["good"],
    "scorer=stated and score_status=error": ["broken"],
    "scorer=stated score_status!=scored": ["gone", "broken"],
    "not scorer='feedback:thumb'": ["bad", "gone", "broken"],
    "scorer=stated value=1 caller=web": ["good"],
    "scorer=stated (value=0 or value=1)": ["good", "bad"],
    "label!=null": ["good", "bad"],
}


def test_a_query_finds_what_meets_it(found):
    assert {text: found(text) for text in CASES} == CASES


def test_adjacent_score_conditions_apply_to_one_score(found):
    """`good` has a score of 1 by `stated`, and one of 0 as feedback: none of 0 by `stated`."""
    assert "good" not in found("scorer=stated value=0")
    assert "good" not in found("scorer=stated (value=0 or value=7)")
    assert found("scorer=stated not value=1") == ["bad", "gone", "broken"], "one by `stated` that is not 1"
    assert "good" not in found("not value=0 caller=web"), "alone: no score at all is 0"


EVIL = ["1' OR '1'='1", "'; DROP TABLE exchanges; --", "%", "_", "\\", '"', "\u2019", ":p", "%(x)s"]


def test_a_value_is_never_part_of_the_statement(found, store):
    for evil in EVIL:
        quoted = evil.replace("\\", "\\\\").replace('"', '\\"')
        assert found(f'text="{quoted}"') == []
        assert found(f'client_id~"{quoted}"') == (["gone"] if evil in "100%_done" else []), evil
    assert store.sql("SELECT count(*) FROM exchanges") == [(4,)]


def test_a_misspelt_scorer_gets_a_suggestion(found):
    with pytest.raises(QueryError, match=r'no score of "statd" is in the store; did you mean "stated"\?'):
        found("scorer=statd value<1")
    assert found("scorer=something_else") == []
