"""A mean corrected by few labels: exact where it can be, covering where it cannot."""

from __future__ import annotations

import math

import numpy as np
import pytest

from gateway.evals.annotation.correction import (
    LEAST,
    JudgedSample,
    Labels,
    corrected,
    error_rates,
    labels_needed,
    rogan_gladen,
)
from gateway.evals.statistics.ppi import Labelled, powered_mean


def labels(y, f, weight=1.0, pi=0.1):
    n = len(y)
    return Labels.of(y, f, [weight] * n, [pi] * n)


def judged(f, weight=1.0):
    f = np.asarray(f, dtype=float)
    n = f.size
    return JudgedSample(n, n * weight, float(f.mean()), float(f.var()), float((f >= 0.5).mean()), n)


@pytest.fixture
def noisy():
    """A judge that is right in four of five: (labels of 60, all 2 000)."""
    rng = np.random.default_rng(3)
    y = (rng.random(2000) < 0.6).astype(float)
    f = np.where(rng.random(2000) < 0.8, y, 1 - y)
    return labels(y[:60], f[:60], pi=0.03), judged(f), y, f


def test_with_equal_weights_it_is_ppis_powered_mean(noisy):
    """But for lambda, which is cut to [0, 1] and takes the variance of all that was judged."""
    few, every, y, f = noisy
    found = corrected(few, every)
    reference = powered_mean(Labelled.of(y[:60], f[:60], f[60:]))
    assert found.mean == pytest.approx(reference.mean, abs=0.02)
    assert found.se == pytest.approx(reference.se, rel=0.25)
    assert 0.3 < found.trust < 1.0


def test_a_judge_that_is_always_right_is_trusted_whole():
    rng = np.random.default_rng(1)
    f = (rng.random(5000) < 0.7).astype(float)
    found = corrected(labels(f[:50], f[:50]), judged(f))
    assert found.mean == pytest.approx(f.mean(), abs=0.01)
    assert found.trust > 0.8
    assert found.high - found.low < 0.2


def test_a_judge_that_says_one_thing_is_not_trusted_at_all():
    y = [1.0] * 30 + [0.0] * 20
    found = corrected(labels(y, [1.0] * 50), judged(np.ones(1000)))
    assert (found.mean, found.trust) == (pytest.approx(0.6), 0.0)


def test_unequal_weights_count():
    """Half of the labels stand for nine calls each."""
    y = [1.0, 0.0] * 25
    weight = [9.0, 1.0] * 25
    found = corrected(Labels.of(y, [0.5] * 50, weight, [0.5] * 50), judged(np.full(100, 0.5)))
    assert found.mean == pytest.approx(0.9)


def test_equal_labels_leave_something_open():
    found = corrected(labels([1.0] * LEAST, [1.0] * LEAST), judged(np.ones(1000)))
    assert found.mean == 1.0
    assert 0.5 < found.low < 0.9, "ten of ten is not certain"


def test_below_ten_nothing_is_said():
    assert corrected(labels([1.0] * 9, [1.0] * 9), judged(np.ones(50))) is None
    assert corrected(labels([1.0] * 20, [1.0] * 20), JudgedSample(0, 0.0, 0.0, 0.0, 0.0, 0.0)) is None


def test_error_rates_are_weighted_and_none_where_they_cannot_be(noisy):
    few, every, _, _ = noisy
    rates = error_rates(few, 0.5)
    good = few.y >= 0.5
    assert rates.tpr == pytest.approx((few.f[good] >= 0.5).mean())
    assert rates.m1 == good.sum()
    assert error_rates(labels([1.0] * 20, [1.0] * 20), 0.5) is None
    assert rogan_gladen(labels([1.0] * 20, [1.0] * 20), every, 0.5) is None


def test_rogan_and_gladen_need_a_judge_better_than_chance(noisy):
    few, every, y, _ = noisy
    assert rogan_gladen(few, every, 0.5).rate == pytest.approx(y.mean(), abs=0.15)
    inverted = Labels.of(few.y, 1 - few.f, few.weight, few.pi)
    assert rogan_gladen(inverted, every, 0.5) is None


def test_so_many_labels_are_needed(noisy):
    few, every, _, _ = noisy
    found = corrected(few, every)
    wide = labels_needed(found, 60, 0.05)
    assert 60 < wide < 1500
    assert labels_needed(found, 60, 0.5) == 60
    assert labels_needed(found, 60, 1e-6) is None
    assert labels_needed(found, 60, 0.04) > wide


@pytest.mark.parametrize(
    "arguments",
    [([1.0], [1.0, 0.0], [1.0], [1.0]), ([1.0], [1.0], [0.0], [1.0]), ([1.0], [1.0], [1.0], [0.0]),
     ([1.0], [1.0], [1.0], [1.5]), ([math.nan], [1.0], [1.0], [1.0])],
)  # fmt: skip
def test_what_is_outside_the_domain_is_refused(arguments):
    with pytest.raises(ValueError, match=r"."):
        Labels.of(*arguments)
