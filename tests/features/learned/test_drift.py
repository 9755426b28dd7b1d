"""Drift alarms from the store: which exchanges count, what is an alarm, and what restarts the usual range."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from gateway.core.exchange import Exchange
from gateway.features.learned import drift
from gateway.features.learned.drift import accept, advance, drift_lines, saved_figures
from gateway.observability.eval_metrics import DriftFigures
from gateway.store.directory import list_audit
from gateway.store.predictions import Prediction

Make = Callable[..., Exchange]
T0 = 1_700_000_000.0
_advance = partial(advance, scorer="stated", pi_min=0.25, references=(150, 300))


class Traffic:
    """Writes predicted exchanges, one a second; every one is judged."""

    def __init__(self, store: Any, exchange: Make) -> None:
        self._store, self._exchange, self._rng, self.now = store, exchange, np.random.default_rng(1), T0

    def send(self, n: int, mean: float = 0.8, shift: float = 0.0, feature_set: str = "f1") -> None:
        sent = []
        for _ in range(n):
            self.now += 1.0
            text = "1" if self._rng.random() < mean else "0"
            sent.append(self._exchange(text, received=self.now))
            numbers = np.array([self._rng.normal(), self._rng.normal() + shift], dtype="<f4").tobytes()
            features = numbers if feature_set else b""
            self._store.predictions[sent[-1].id] = Prediction(
                "stated", "v1", 0.8, 0.1, 0.5, True, feature_set, features
            )
        self._store.write(*sent)

    def look(self) -> dict[str, DriftFigures]:
        found = self._store.run(partial(_advance, now=self.now + drift.SETTLED_S))
        return {each.kind: each for each in found}


@pytest.fixture
def sent(store: Any, exchange: Make) -> Traffic:
    """Traffic whose verdicts a test moves."""
    return Traffic(store, exchange)


def test_until_there_is_a_usual_range_there_is_no_alarm(sent: Traffic) -> None:
    sent.send(299)
    assert sent.look() == {}


def test_steady_traffic_rings_nothing_and_a_drop_rings(sent: Traffic) -> None:
    sent.send(300)
    sent.look()
    sent.send(100)
    steady = sent.look()
    assert set(steady) == {"quality", "input"}
    assert not any(each.alarm for each in steady.values())
    sent.send(300, mean=0.1)
    fallen = sent.look()
    assert fallen["quality"].alarm
    assert fallen["quality"].what == "down"
    assert not fallen["input"].alarm
    assert drift_lines(list(fallen.values()), ()) == [
        "drift: chat: the mean of stated has gone down from its usual range"
    ]


def test_a_feature_that_moves_is_named(sent: Traffic, store: Any) -> None:
    sent.send(300)
    sent.look()
    sent.send(200, shift=2.5)
    found = sent.look()
    assert found["input"].alarm
    assert not found["quality"].alarm
    assert store.run(lambda c: saved_figures(c, "stated")) == list(found.values()), "what others read later"
    assert drift_lines(list(found.values()), ("length", "hedges")) == [
        "drift: chat: the feature hedges has gone up from its usual range"
    ]


def test_exchanges_count_once_and_only_when_they_have_settled(sent: Traffic, store: Any) -> None:
    sent.send(300)
    sent.look()
    sent.send(40, mean=0.0)
    before = store.run(partial(_advance, now=sent.now + drift.SETTLED_S - 40.0))
    once = sent.look()
    assert once["quality"].statistic > before[0].statistic
    assert sent.look() == once


def test_other_features_begin_a_new_usual_range(sent: Traffic) -> None:
    sent.send(300)
    sent.look()
    sent.send(200, shift=2.5)
    assert sent.look()["input"].alarm
    sent.send(300, shift=2.5, feature_set="f2")
    assert not sent.look()["input"].alarm


def test_exchanges_without_features_still_have_verdicts(sent: Traffic) -> None:
    """A prediction that failed has none: the quality of that time counts all the same."""
    sent.send(300)
    sent.look()
    sent.send(200, mean=0.1, feature_set="")
    found = sent.look()
    assert found["quality"].alarm
    assert not found["input"].alarm


def test_an_accepted_state_is_the_usual_one_from_then_on(sent: Traffic, store: Any) -> None:
    """Answers of before it do not count: with them, the range would lie between the two states."""
    sent.send(300)
    sent.look()
    sent.send(300, mean=0.1)
    before = sent.look()
    assert before["quality"].alarm
    forgotten = store.run(lambda c: accept(c, "stated", ["chat"], ["quality"], "tester", now=sent.now))
    assert forgotten == [before["quality"]]
    sent.send(149, mean=0.1)
    assert set(sent.look()) == {"input"}, "one more is needed for the new usual range"
    sent.send(101, mean=0.1)
    after = sent.look()
    assert set(after) == {"quality", "input"}
    sent.send(100, mean=0.1)
    assert not sent.look()["quality"].alarm
    sent.send(200, mean=0.9)
    assert sent.look()["quality"].what == "up"
    assert sent.look()["quality"].alarm


def test_accepting_is_in_the_audit_and_for_one_kind_if_wanted(sent: Traffic, store: Any) -> None:
    sent.send(300)
    sent.look()
    sent.send(300, shift=2.5)
    assert sent.look()["input"].alarm
    assert store.run(lambda c: accept(c, "stated", ["other"], ["quality", "input"], "tester")) == []
    assert [e.kind for e in store.run(lambda c: accept(c, "stated", None, ["input"], "tester", now=sent.now))] == [
        "input"
    ]
    assert set(sent.look()) == {"quality"}
    sent.send(300, shift=2.5)
    assert set(sent.look()) == {"quality", "input"}
    sent.send(100, shift=2.5)
    assert not sent.look()["input"].alarm
    (row,) = store.run(lambda c: list_audit(c, None, 10))
    assert (row.actor, row.action, row.kind, row.subject) == ("tester", "accept", "drift", "chat input")
    assert row.before["alarm"] is True
