"""A scorer's verdicts against people's, in a table of four."""

from __future__ import annotations

import pytest

from gateway.features.labels.agreement import ConfusionTable, agreement, between_people, share_of
from gateway.features.labels.correction import Labels


def of(hit, miss, false_alarm, correct_rejection, weight=1.0):
    y = [1.0] * (hit + miss) + [0.0] * (false_alarm + correct_rejection)
    f = [0.9] * hit + [0.2] * miss + [0.8] * false_alarm + [0.1] * correct_rejection
    return Labels.of(y, f, [weight] * len(y), [0.5] * len(y))


def test_kappa_and_both_rates_have_intervals():
    """The textbook table 20, 5, 10, 15: kappa 0.4."""
    from scipy.stats import binomtest

    found = agreement(of(20, 5, 10, 15), 0.5)
    assert found.table == ConfusionTable(20, 5, 10, 15)
    assert found.kappa.value == pytest.approx(0.4)
    assert found.kappa.low < 0.4 < found.kappa.high
    assert (found.tpr.value, found.tnr.value) == (pytest.approx(0.8), pytest.approx(0.6))
    wilson = binomtest(20, 25).proportion_ci(method="wilson")
    assert (found.tpr.low, found.tpr.high, found.tpr.n) == (pytest.approx(wilson.low), pytest.approx(wilson.high), 25)


def test_the_cut_decides_which_answers_the_scorer_calls_good():
    assert agreement(of(20, 5, 10, 15), 0.85).table == ConfusionTable(20, 5, 0, 25)


def test_equal_verdicts_have_no_kappa_and_no_rates():
    found = agreement(of(20, 0, 0, 0), 0.5)
    assert (found.kappa, found.tpr, found.tnr) == (None, None, None)


def test_a_share_has_wilsons_interval():
    assert share_of([]) is None
    found = share_of([1.0, 0.0, 0.5, 0.5])
    assert (found.value, found.n) == (0.5, 4)
    assert 0.1 < found.low < 0.5 < found.high < 0.9


def test_agreement_of_people_needs_two_verdicts_on_an_item():
    assert between_people([{"a": 1.0}, {"b": 0.0}]) is None
    assert between_people([{"a": 1.0, "b": 1.0}, {"a": 1.0, "b": 1.0}]) is None
    same = [{"a": 1.0, "b": 1.0}, {"a": 0.0, "b": 0.0}, {"a": 1.0}]
    assert between_people(same) == pytest.approx(1.0)
    assert between_people([{"a": 1.0, "b": 0.0}, {"a": 0.0, "b": 1.0}]) < 0
