"""Confidence sequences without bounds on the values."""

import math

import numpy as np
import pytest

from gateway.evals.statistics.asymptotic import AsymptoticMean, Tuning, best_rho, half_width, sum_width

PATHS, STEPS = 2000, 1500


@pytest.mark.parametrize("drift", [0.0, 1.0])
def test_a_skewed_mean_is_rarely_ever_missed_after_the_burn_in(drift: float) -> None:
    """Ever-miss <= alpha + 3 SE, looking after every value from the 100th: exponential values, also with drift."""
    means = 1 + drift * np.sin(np.arange(STEPS) / 100)
    x = np.random.default_rng(8).exponential(size=(PATHS, STEPS)) - 1 + means
    n = np.arange(1, STEPS + 1)
    mean = np.cumsum(x, axis=1) / n
    deviation = np.sqrt(np.maximum(np.cumsum(x**2, axis=1) / n - mean**2, 0))
    width = np.array([half_width(1.0, k, Tuning(0.05, 500, 100)) for k in n[99:]])

    apart = np.abs(mean - np.cumsum(means) / n)
    ever = (apart[:, 99:] >= deviation[:, 99:] * width).any(axis=1).mean()
    fixed = (apart >= 1.96 * deviation / np.sqrt(n))[:, 99:].any(axis=1).mean()

    assert 0.01 <= ever <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / PATHS)
    assert fixed >= 0.2 if drift == 0 else True


def test_the_object_is_the_formula_and_merging_does_not_matter() -> None:
    x = np.random.default_rng(9).lognormal(size=300)
    whole, parts = AsymptoticMean(), [AsymptoticMean(), AsymptoticMean(), AsymptoticMean()]
    for i, value in enumerate(x):
        whole.add(float(value))
        parts[i % 3].add(float(value))
    parts[2].merge(parts[0])
    parts[2].merge(parts[1])

    half = float(x.std()) * sum_width(300, best_rho(0.05, 500), 0.05) / 300
    assert whole.interval() == pytest.approx((x.mean() - half, x.mean() + half))
    assert parts[2].interval() == pytest.approx(whole.interval())


def test_the_interval_is_everything_below_the_burn_in() -> None:
    sequence = AsymptoticMean(burn_in=3)
    assert sequence.interval() == (-math.inf, math.inf)
    for x in (1.0, 2.0):
        sequence.add(x)
    assert sequence.interval() == (-math.inf, math.inf)
    sequence.add(3.0)
    assert math.isfinite(sequence.interval()[0])


@pytest.mark.parametrize("two_sided", [True, False])
def test_the_width_is_smallest_where_it_was_asked_to_be(two_sided: bool) -> None:
    alpha = 0.05 if two_sided else 0.1
    at = {n_star: sum_width(400, best_rho(alpha, n_star), 0.05, two_sided) for n_star in np.geomspace(20, 8000, 200)}
    best = min(at, key=lambda n_star: at[n_star])

    assert 300 < best < 520
    assert sum_width(400, best_rho(alpha, 400), 0.05, two_sided) == pytest.approx(at[best], rel=2e-3)


def test_one_side_is_narrower_than_two() -> None:
    assert half_width(1.0, 400, Tuning(), two_sided=False) < half_width(1.0, 400, Tuning())


def test_domains() -> None:
    for refused, message in (
        (lambda: Tuning(1.0), "alpha: 1.0"),
        (lambda: Tuning(n_star=0), "n_star: 0"),
        (lambda: Tuning(burn_in=-1), "burn_in: -1"),
        (lambda: best_rho(0.0, 10), "alpha: 0.0"),
        (lambda: sum_width(-1.0, 1.0, 0.05), "v: -1.0"),
        (lambda: sum_width(1.0, 0.0, 0.05), "rho: 0.0"),
        (lambda: half_width(-1.0, 50, Tuning()), "deviation: -1.0"),
        (lambda: AsymptoticMean().add(math.inf), "x: inf"),
        (lambda: AsymptoticMean(m2=-1.0), "m2: -1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
