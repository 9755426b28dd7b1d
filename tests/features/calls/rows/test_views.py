"""The views on both databases: each answer once, each pair with both answers, and pairwise verdicts."""

from __future__ import annotations

import time
from dataclasses import replace

from gateway.core.exchange import Target
from gateway.features.calls.rows import views
from gateway.store.query import ExchangeFilter, reading
from gateway.store.tables import pair_scores


def pair(exchange, control="1", candidate="0.5", **fields):
    served = exchange(control, experiment="swap", plan="p1", arm="control", reference="1", **fields)
    shadow = exchange(candidate, experiment="swap", plan="p1", arm="candidate", role="shadow", pair=served.id,
                      unit=served.unit, received=served.received)  # fmt: skip
    return served, shadow


def test_a_pair_has_both_answers_and_each_scorers_values(store, exchange, stated_scorer):
    store.scorers["other"] = stated_scorer(name="other", config_hash="c2")
    one, other = pair(exchange, received=1.0), pair(exchange, "0.25", "n/a", received=2.0)
    store.write(*one, *other, exchange("1"))
    with reading(store.url) as connection:
        rows = views.pair_rows(connection, "swap", "p1")
    assert [(r["pair"], r["scorer"]) for r in rows] == [
        (p[0].id, name) for p in (one, other) for name in ("other", "stated")
    ]
    first, last = rows[0], rows[-1]
    assert (first["control_text"], first["arm_text"], first["arm"]) == ("1", "0.5", "candidate")
    assert (first["control_value"], first["arm_value"], first["preference"]) == (1.0, 0.5, None)
    assert (last["control_value"], last["arm_value"], last["arm_status"]) == (0.25, None, "not_applicable")
    assert (first["config_hash"], first["compares"], first["reference"]) == ("c2", "answer", "1")
    with reading(store.url) as connection:
        assert views.pair_rows(connection, "swap", "p2") == views.pair_rows(connection, "other", None) == []


def test_a_pairwise_verdict_is_a_row_of_its_own(store, exchange):
    served, shadow = pair(exchange)
    store.write(served, shadow)
    row = {c.name: "x" for c in pair_scores.columns if not c.nullable}
    row |= {"pair": served.id, "exchange_id": shadow.id, "scorer": "judge", "status": "scored", "value": 1.0,
            "seconds": 0.1, "created": 1.0}  # fmt: skip
    store.run(lambda c: c.execute(pair_scores.insert().values(row)))
    with reading(store.url) as connection:
        found = {r["scorer"]: (r["compares"], r["preference"]) for r in views.pair_rows(connection, "swap", None)}
    assert found == {"stated": ("answer", None), "judge": ("pair", 1.0)}


def test_an_answer_is_there_once_with_the_id_of_the_served_one(store, exchange):
    served, shadow = pair(exchange, pi=0.25)
    alone = exchange("1", received=5e9, alias="fast", target=Target("local", "small", "temperature=0"))
    store.write(served, shadow, alone)
    with reading(store.url) as connection:
        rows = {r["id"]: r for r in views.answer_rows(connection, ExchangeFilter(0))}
        assert [r["id"] for r in views.answer_rows(connection, ExchangeFilter(0, alias="fast"))] == [alone.id]
        assert len(views.answer_rows(connection, ExchangeFilter(2))) == 2
    assert {i: r["served_id"] for i, r in rows.items()} == {
        served.id: served.id,
        shadow.id: served.id,
        alone.id: alone.id,
    }
    assert (rows[served.id]["weight"], rows[alone.id]["arm"]) == (4.0, "none")
    assert (rows[served.id]["target"], rows[alone.id]["target"]) == ("local/small", "local/small[temperature=0]")
    assert (rows[served.id]["variant"], rows[alone.id]["variant"]) == (None, "temperature=0")
    assert bytes(rows[served.id]["request"]) == served.request


def test_a_request_for_a_likelihood_is_not_an_answer(store, exchange):
    """The response has no text, so it would be an empty answer, and an arm that answers nothing."""
    served, shadow = pair(exchange)
    asked = replace(shadow, id=exchange().id, arm="quantised", likelihood="{}")
    store.write(served, shadow, asked)
    with reading(store.url) as connection:
        assert {r["id"] for r in views.answer_rows(connection, ExchangeFilter(0))} == {served.id, shadow.id}
        assert {r["arm"] for r in views.pair_rows(connection, "swap", None)} == {"candidate"}


def test_scores_may_be_chosen_by_exchange_and_scorer(store, exchange):
    one, other = exchange("1"), exchange("0")
    store.write(one, other)
    with reading(store.url) as connection:
        assert {r["exchange_id"] for r in views.score_rows(connection, None)} == {one.id, other.id}
        assert [r["value"] for r in views.score_rows(connection, [other.id])] == [0.0]
        assert views.score_rows(connection, [one.id], ["nobody"]) == []


def test_the_views_need_no_rows(store):
    with reading(store.url) as connection:
        assert views.plans_of(connection, "swap") == []
        assert views.own_rows(connection, "SELECT * FROM pairs_wide WHERE received < :at", {"at": time.time()})[1] == []
