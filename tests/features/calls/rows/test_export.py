"""Batches of exchanges for exports, and preferences between two answers."""

from __future__ import annotations

import time

import pytest

from gateway.core.exchange import Feedback
from gateway.features.calls.rows.export import ExportSource, PreferenceRule
from gateway.store.engine import StoreUnavailable
from gateway.store.predictions import Prediction, StoredModel, save_model
from gateway.store.query import ExchangeFilter
from gateway.store.tables import labels, pair_scores
from gateway.store.where import QueryError, parse


def pair(exchange, served="0.2", arm="0.8", **fields):
    one = exchange(served, **fields)
    return one, exchange(arm, role="shadow", arm="candidate", pair=one.id, unit=one.unit, experiment="swap", plan="p")


def plain(table, **values):
    kinds = {str: "x", float: 1.0, int: 1}
    return {c.name: kinds[c.type.python_type] for c in table.columns if not c.nullable} | values


def judged(store, served, arm, value, scorer="judge", direction="maximise"):
    its = {"pair": served.id, "exchange_id": arm.id, "scorer": scorer, "value": value, "direction": direction}
    row = plain(pair_scores, score_id=f"{scorer}{arm.id}", **its)
    store.run(lambda c: c.execute(pair_scores.insert().values(row)))


def labelled(store, subject, subject_id, value):
    row = plain(labels, label_id=f"{subject}{subject_id}", subject=subject, subject_id=subject_id, value=value)
    store.run(lambda c: c.execute(labels.insert().values(row)))


def found(store, *by, gap=0.0):
    source = ExportSource(store.url, ExchangeFilter(0), time.time() + 10)
    rule = PreferenceRule(by, gap) if by else PreferenceRule(gap=gap)
    try:
        batches = [source.preferences(batch, rule) for batch in source.batches()]
    finally:
        source.close()
    return [(p.chosen, p.rejected, p.by) for batch in batches for p in batch]


def test_scores_decide_where_a_scorer_is_named(store, exchange):
    store.write(*pair(exchange), *pair(exchange, "0.9", "0.8"), *pair(exchange, "0.5", "0.5"))
    assert found(store) == [], "a score decides only if its scorer is named"
    assert sorted(found(store, "stated")) == [("0.8", "0.2", "stated"), ("0.9", "0.8", "stated")]
    assert found(store, "stated", gap=0.5) == [("0.8", "0.2", "stated")]
    assert found(store, "other") == []


def test_lower_is_better_if_the_scorer_says_so(store, exchange, stated_scorer):
    store.scorers["stated"] = stated_scorer(direction="minimise")
    store.write(*pair(exchange))
    assert found(store, "stated") == [("0.2", "0.8", "stated")]
    store.scorers["stated"] = stated_scorer(direction="neutral", version="2")
    store.write(*pair(exchange, "0.3", "0.7"))
    assert found(store, "stated") == [("0.2", "0.8", "stated")]


@pytest.mark.parametrize(("value", "chosen"), [(1.0, "0.8"), (0.0, "0.2"), (0.5, None)])
def test_a_pairwise_verdict_decides(store, exchange, value, chosen):
    served, arm = pair(exchange)
    store.write(served, arm)
    judged(store, served, arm, value)
    judged(store, served, arm, 1.0, scorer="edit_distance", direction="minimise")  # no preference
    assert [row[0] for row in found(store)] == ([chosen] if chosen else [])
    assert [row[0] for row in found(store, "judge", gap=0.5)] == ([chosen] if chosen else [])


def test_people_come_before_judges_by_default(store, exchange):
    served, arm = pair(exchange)
    store.write(served, arm)
    judged(store, served, arm, 1.0)
    labelled(store, "pair", arm.id, 0.0)
    assert found(store) == [("0.2", "0.8", "label")]
    assert found(store, "judges", "label") == [("0.8", "0.2", "judge")]


def test_labels_of_both_answers_decide(store, exchange):
    served, arm = pair(exchange)
    store.write(served, arm)
    labelled(store, "exchange", served.id, 0.0)
    assert found(store) == [], "one label compares nothing"
    labelled(store, "exchange", arm.id, 1.0)
    assert found(store) == [("0.8", "0.2", "label")]


def test_a_correction_is_chosen_over_the_answer(store, exchange):
    alone, (served, arm) = exchange("0.4"), pair(exchange)
    store.write(alone, served, arm, Feedback(alone.id, "f", "web", 1.0, "fix", correction="0.6"))
    assert found(store) == [("0.6", "0.4", "correction")]
    assert found(store, "stated") == [("0.8", "0.2", "stated")]


def test_an_arm_that_failed_or_called_tools_is_not_an_answer(store, exchange):
    served, arm = pair(exchange)
    failed = exchange("1", role="shadow", arm="b", pair=served.id, unit=served.unit, outcome="cut")
    call = b'{"choices":[{"message":{"content":"1","tool_calls":[{"id":"1","function":{"name":"f"}}]}}]}'
    calls = exchange(role="shadow", arm="c", pair=served.id, unit=served.unit, response=call)
    store.write(served, arm, failed, calls)
    assert found(store, "stated") == [("0.8", "0.2", "stated")]


def test_batches_are_in_order_and_hold_no_more_than_fits(store, exchange):
    """Some came at the same moment; one is larger than a batch may be, and comes alone."""
    sent = [exchange("1", received=float(n // 3), request=b"x" * (60_000 if n == 7 else 9_000)) for n in range(12)]
    store.write(*sent)
    source = ExportSource(store.url, ExchangeFilter(), 100.0, most=4, most_bytes=25_000)
    batches = [[e["id"] for e in batch] for batch in source.batches()]
    source.close()
    assert source.count == 12
    assert [i for batch in batches for i in batch] == [e.id for e in sorted(sent, key=lambda e: (e.received, e.id))]
    assert max(map(len, batches)) == 2
    assert [sent[7].id] in batches


def test_exchanges_that_arrive_later_are_left_out(store, exchange):
    store.write(*(exchange("1", received=float(n)) for n in range(6)))
    source = ExportSource(store.url, ExchangeFilter(), 50.0, most=4)
    got = []
    for batch in source.batches():
        store.write(exchange("1", received=99.0))
        got += batch
    source.close()
    assert len(got) == source.count == 6


def test_each_exchange_has_its_scores_and_the_newest_correction(store, exchange):
    one, two = exchange("0.5", received=1.0), exchange("1", received=2.0)
    feedback = [Feedback(one.id, f"f{n}", "web", float(n), f"n{n}", 1.0, correction=f"c{n}") for n in range(2)]
    store.write(one, two, *feedback)
    source = ExportSource(store.url, ExchangeFilter(), 50.0)
    ((first, second),) = source.batches()
    source.close()
    assert (first["correction"], second["correction"]) == ("c1", None)
    assert {s["scorer"]: s["value"] for s in first["scores"]} == {"stated": 0.5, "feedback:n0": 1.0, "feedback:n1": 1.0}
    assert source.scorers == ["feedback:n0", "feedback:n1", "stated"]


def test_each_exchange_has_its_prediction(store, exchange):
    one, two, plain = exchange("0.5", received=1.0), exchange("1", received=2.0), exchange("1", received=3.0)
    store.predictions = {
        one.id: Prediction("stated", "v1", 0.75, 0.04, 0.5, True, "f1", b"1234"),
        two.id: Prediction("stated", "", None, None, 0.25, False, "f1", b"1234"),
    }
    store.write(one, two, plain)
    model = StoredModel("v1", "labels:stated", 1.0, 1.0, 2.0, 50, "{}", {}, ("a",))
    store.run(lambda c: save_model(c, model))
    source = ExportSource(store.url, ExchangeFilter(), 50.0)
    found = [e["predictions"] for batch in source.batches() for e in batch]
    source.close()
    guided = {
        "scorer": "stated",
        "target": "labels:stated",
        "version": "v1",
        "predicted": 0.75,
        "pi": 0.5,
        "residual": 0.04,
    }
    assert found == [
        [{**guided, "judged": True}],
        [
            {
                "scorer": "stated",
                "target": None,
                "version": "",
                "predicted": None,
                "residual": None,
                "pi": 0.25,
                "judged": False,
            }
        ],
        [],
    ]


def test_a_filter_narrows_the_export(store, exchange):
    store.write(*(exchange(text, received=float(n)) for n, text in enumerate(("0", "1", "0.5"))))
    source = ExportSource(store.url, ExchangeFilter(since=1.0, where=parse("scorer=stated value<1")), 50.0)
    assert [e["text"] for batch in source.batches() for e in batch] == ["0.5"]
    source.close()


def test_an_invalid_filter_fails_at_once(store, exchange, tmp_path):
    store.write(exchange())
    with pytest.raises(QueryError, match="did you mean"):
        ExportSource(store.url, ExchangeFilter(where=parse("scorer=statd")), 50.0)
    with pytest.raises(StoreUnavailable):
        ExportSource(f"sqlite:///{tmp_path / 'none.db'}", ExchangeFilter(), 50.0)
