"""Differences between two arms, with and without the variance that was there before the experiment."""

import math

import numpy as np
import pytest

from gateway.statistics.cuped import adjust, adjusted_difference, difference
from gateway.statistics.moments import Moments


def test_a_difference_has_welchs_error_and_degrees_of_freedom() -> None:
    from scipy import stats

    rng = np.random.default_rng(10)
    a, b = rng.normal(1, 1, 40), rng.normal(1.3, 3, 25)
    oracle = stats.ttest_ind(b, a, equal_var=False)

    contrast = difference(Moments.of(a), Moments.of(b))

    assert contrast.estimate / contrast.se == pytest.approx(oracle.statistic)
    assert contrast.df == pytest.approx(oracle.df)
    assert contrast.n == 65


def test_the_effect_stays_and_the_error_shrinks() -> None:
    """Corr(y, x)^2 = 0.8: centred on the true effect, and the error falls by sqrt(1 - 0.8)."""
    rng, plain, adjusted, errors = np.random.default_rng(36), [], [], []
    for _ in range(400):
        x = rng.normal(size=(2, 100))
        y = 2 * x + rng.normal(size=(2, 100)) + np.array([[0.0], [0.3]])
        plain.append(difference(Moments.of(y[0]), Moments.of(y[1])).estimate)
        contrast = adjusted_difference(y[0], x[0], y[1], x[1])
        adjusted.append(contrast.estimate)
        errors.append(contrast.se)

    assert abs(np.mean(adjusted) - 0.3) <= 3 * np.std(adjusted) / math.sqrt(400) + 0.003
    assert np.std(adjusted) == pytest.approx(np.std(plain) * math.sqrt(0.2), rel=0.15)
    assert np.mean(errors) == pytest.approx(np.std(adjusted), rel=0.15)


def test_adjusting_keeps_the_mean_and_reports_what_it_took() -> None:
    rng = np.random.default_rng(37)
    x = rng.normal(size=200)
    y = x + rng.normal(size=200)

    adjusted = adjust(y, x)

    assert adjusted.values.mean() == pytest.approx(y.mean())
    assert adjusted.variance_ratio == pytest.approx(1 - np.corrcoef(x, y)[0, 1] ** 2)
    assert adjusted.theta == pytest.approx(np.polyfit(x, y, 1)[0])


def test_what_does_not_vary_adjusts_nothing() -> None:
    assert adjust([1.0, 2.0], [3.0, 3.0]).theta == 0.0
    assert adjust([1.0, 1.0], [3.0, 4.0]).variance_ratio == 1.0


def test_domains() -> None:
    some, same = Moments.of([1.0, 2.0]), Moments.of([1.0, 1.0])
    for refused, message in (
        (lambda: difference(Moments.of([1.0]), some), "n: 1, expected 2"),
        (lambda: difference(same, same), "neither arm varies: 0.0 and 0.0"),
        (lambda: adjust([1.0], [1.0]), "y: 1 values, expected 2"),
        (lambda: adjust([1.0, 2.0], [1.0, 2.0, 3.0]), "y, x: lengths"),
        (lambda: adjusted_difference([1.0, 2.0], [1.0, 2.0, 3.0], [1.0, 2.0], [1.0, 2.0]), "y_a, x_a: lengths"),
        (lambda: adjust([1.0, math.inf], [1.0, 2.0]), r"y\[1\]: inf"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
