"""A true rate from an imperfect judge's verdicts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.judge_rates import JudgeAccuracy, corrected_rate


@pytest.mark.parametrize("truth", [0.1, 0.5, 0.9])
def test_the_corrected_rate_is_unbiased_where_the_raw_share_is_not(truth: float) -> None:
    """2000 studies, tnr 0.7, tpr 0.9: centred within 3 SE, intervals cover 95 %; the raw share is off by up to 0.26."""
    rng, tnr, tpr, n, m = np.random.default_rng(34), 0.7, 0.9, 800, 150
    seen = truth * tpr + (1 - truth) * (1 - tnr)
    shares, tn, tp = rng.binomial(n, seen, 2000) / n, rng.binomial(m, tnr, 2000), rng.binomial(m, tpr, 2000)
    rates = [
        corrected_rate(float(p), n, JudgeAccuracy(bad / m, m, good / m, m))
        for p, bad, good in zip(shares, tn, tp, strict=True)
    ]
    estimates = np.array([rate.rate for rate in rates])

    # Clipping at [0, 1] and the ratio's curvature leave a bias of order 1/m.
    assert abs(estimates.mean() - truth) <= 3 * estimates.std() / math.sqrt(2000) + 0.01
    assert np.mean([rate.low <= truth <= rate.high for rate in rates]) >= 0.935
    assert abs(shares.mean() - truth) > 0.02


def test_uncertainty_about_the_judge_widens_the_interval() -> None:
    small = corrected_rate(0.6, 10**6, JudgeAccuracy(0.7, 50, 0.9, 50))
    large = corrected_rate(0.6, 10**6, JudgeAccuracy(0.7, 10**6, 0.9, 10**6))

    assert small.high - small.low > 0.15
    assert large.high - large.low < 0.01


@given(p=st.floats(0, 1), tnr=st.floats(0.55, 1), tpr=st.floats(0.55, 1), n=st.integers(1, 500))
def test_rates_stay_in_the_unit_interval(p: float, tnr: float, tpr: float, n: int) -> None:
    rate = corrected_rate(p, n, JudgeAccuracy(tnr, 40, tpr, 40))

    assert 0 <= rate.low <= rate.high <= 1
    assert 0 <= rate.rate <= 1


def test_both_rates_have_intervals() -> None:
    (tnr_low, tnr_high), (tpr_low, tpr_high) = JudgeAccuracy(0.7, 20, 0.9, 50).intervals()
    assert tnr_low < 0.7 < tnr_high
    assert tpr_low < 0.9 < tpr_high
    assert tnr_high - tnr_low > tpr_high - tpr_low


def test_domains() -> None:
    good = JudgeAccuracy(0.7, 10, 0.9, 10)
    for refused, message in (
        (lambda: JudgeAccuracy(1.2, 10, 0.9, 10), "tnr: 1.2"),
        (lambda: JudgeAccuracy(0.7, 0, 0.9, 10), "m0: 0"),
        (lambda: corrected_rate(0.5, 10, JudgeAccuracy(0.5, 10, 0.5, 10)), r"tnr \+ tpr: 1.0, expected more than 1"),
        (lambda: corrected_rate(-0.1, 10, good), "p: -0.1"),
        (lambda: corrected_rate(0.5, 0, good), "n: 0"),
        (lambda: corrected_rate(0.5, 10, good, 0.0), "alpha: 0.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
