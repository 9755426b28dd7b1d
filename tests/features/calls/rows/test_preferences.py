"""What decides between two answers, in its order, on both databases."""

from __future__ import annotations

import time

import pytest

from gateway.core.exchange import Feedback
from gateway.features.calls.rows.export import ExportSource
from gateway.features.calls.rows.preferences import PreferenceRule
from gateway.store.query import ExchangeFilter
from gateway.store.tables import labels, pair_scores


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


def test_less_is_better_where_the_scorer_says_so(store, exchange, stated_scorer):
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


def test_an_arm_that_failed_or_called_tools_is_no_answer(store, exchange):
    served, arm = pair(exchange)
    failed = exchange("1", role="shadow", arm="b", pair=served.id, unit=served.unit, outcome="cut")
    call = b'{"choices":[{"message":{"content":"1","tool_calls":[{"id":"1","function":{"name":"f"}}]}}]}'
    calls = exchange(role="shadow", arm="c", pair=served.id, unit=served.unit, response=call)
    store.write(served, arm, failed, calls)
    assert found(store, "stated") == [("0.8", "0.2", "stated")]
