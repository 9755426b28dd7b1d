"""The live default: an interval for the running mean that one may look at after every value, also while it drifts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.evals.statistics.confidence import EmpiricalBernstein, bernstein_bound, pairs_needed
from gateway.evals.statistics.evalues import e_bh

PATHS, STEPS, ALPHA = 3000, 500, 0.05
ALLOWED = ALPHA + 3 * math.sqrt(ALPHA * (1 - ALPHA) / PATHS)
TIMES = np.arange(1, STEPS + 1)

# The conditional mean of each value. EmpiricalBernstein's target is their running average.
MEANS = {
    "constant, rare": np.full(STEPS, 0.03),
    "constant, middle": np.full(STEPS, 0.5),
    "step": np.where(TIMES <= 150, 0.9, 0.3),
    "wave": 0.5 + 0.4 * np.sin(TIMES / 15),
    "slide": np.linspace(0.95, 0.05, STEPS),
}


def intrinsic_time(x: NDArray[np.float64]) -> NDArray[np.float64]:
    predictions = (0.5 + np.cumsum(x, axis=1) - x) / TIMES
    return np.cumsum((x - predictions) ** 2, axis=1)


def bounds(v: NDArray[np.float64], boundary: str, alpha: float = ALPHA) -> NDArray[np.float64]:
    """bernstein_bound by interpolation; it is concave in v, so this errs to the narrow side by very little."""
    grid = np.concatenate((np.linspace(0, 5, 100), np.linspace(5.1, v.max() + 1, 400)))
    at = [bernstein_bound(float(w), alpha, 1.0, 10.0, boundary) for w in grid]  # type: ignore[arg-type]
    return np.interp(v, grid, at)


@pytest.mark.parametrize("boundary", ["mixture", "stitched"])
@pytest.mark.parametrize("means", MEANS.values(), ids=MEANS)
def test_the_running_mean_is_rarely_ever_missed_even_under_drift(means: NDArray[np.float64], boundary: str) -> None:
    """Ever-miss <= alpha + 3 SE while looking after every observation."""
    x = (np.random.default_rng(3).random((PATHS, STEPS)) < means).astype(float)

    apart = np.abs(np.cumsum(x - means, axis=1))
    ever = (apart >= bounds(intrinsic_time(x), boundary)).any(axis=1).mean()

    assert ever <= ALLOWED


def test_at_the_true_level_it_does_miss_sometimes() -> None:
    """At alpha = 0.5 some sequences miss: the bound is not simply far too wide, and the test above can fail."""
    x = (np.random.default_rng(4).random((PATHS, STEPS)) < 0.5).astype(float)

    ever = (np.abs(np.cumsum(x - 0.5, axis=1)) >= bounds(intrinsic_time(x), "mixture", 0.5)).any(axis=1).mean()

    assert 0.15 <= ever <= 0.5


def test_fixed_n_intervals_miss_about_forty_percent_when_looked_at_all_the_time() -> None:
    """The reason for this module: mean +- 1.96 se, looked at after each of 500 values, from the thirtieth on."""
    x = (np.random.default_rng(5).random((PATHS, STEPS)) < 0.5).astype(float)
    mean = np.cumsum(x, axis=1) / TIMES
    se = np.sqrt(np.maximum(mean * (1 - mean), 1e-12) / TIMES)

    ever = (np.abs(mean - 0.5) > 1.96 * se)[:, 29:].any(axis=1).mean()

    assert 0.33 <= ever <= 0.47


@given(values=st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_the_object_is_the_formula(values: list[float]) -> None:
    sequence = EmpiricalBernstein(0.05, -1.0, 1.0)
    for x in values:
        sequence.add(x)
    before = np.cumsum([0.0, *values])[:-1]
    v = float(((np.array(values) - before / np.arange(1, len(values) + 1)) ** 2).sum())
    half = bernstein_bound(v, 0.05, 2.0, 10.0) / len(values)
    mean = sum(values) / len(values)

    assert sequence.v == pytest.approx(v)
    assert sequence.interval() == pytest.approx((max(-1.0, mean - half), min(1.0, mean + half)))
    assert sequence.mean == pytest.approx(mean)


def test_nothing_seen_is_nothing_known() -> None:
    assert EmpiricalBernstein(lowest=-2.0, highest=3.0).interval() == (-2.0, 3.0)
    assert EmpiricalBernstein().mean is None


def test_little_variance_makes_a_narrow_interval() -> None:
    """That is what "empirical" buys: at n = 1000, 0.02 for values that hardly vary against 0.06 for coins."""
    calm, wild = EmpiricalBernstein(), EmpiricalBernstein()
    for i in range(1000):
        calm.add(0.5 + 0.01 * (i % 2))
        wild.add(float(i % 2))

    assert calm.interval()[1] - calm.interval()[0] < 0.025
    assert 0.08 < wild.interval()[1] - wild.interval()[0] < 0.16


@pytest.mark.parametrize("side", ["two", "greater", "less"])
def test_the_e_value_and_the_interval_agree(side: str) -> None:
    """The interval ends where one side's evidence reaches 2 / alpha; two-sided evidence there is 1 / alpha."""
    sequence = EmpiricalBernstein()
    for x in np.random.default_rng(6).random(300):
        sequence.add(float(x))
    low, high = sequence.interval()

    if side == "two":
        assert sequence.log_e_value(low) == pytest.approx(-math.log(0.05), abs=1e-3)
        assert sequence.log_e_value(0.5) < 1
        assert e_bh([sequence.log_e_value(0.2), sequence.log_e_value(0.5)], 0.05) == [0]
    else:
        end, beyond = (low, high) if side == "greater" else (high, low)
        assert sequence.log_e_value(end, side) == pytest.approx(-math.log(0.025), rel=1e-9)  # type: ignore[arg-type]
        assert sequence.log_e_value(beyond, side) < 0  # type: ignore[arg-type]


def test_e_values_are_on_average_at_most_one_under_the_null() -> None:
    x = (np.random.default_rng(7).random((4000, 60)) < 0.3).astype(float)
    predictions = (0.5 + np.cumsum(x, axis=1) - x) / np.arange(1, 61)
    v = ((x - predictions) ** 2).sum(axis=1)
    e = [
        math.exp(EmpiricalBernstein(n=60, total=float(total), v=float(w)).log_e_value(0.3))
        for total, w in zip(x.sum(axis=1), v, strict=True)
    ]

    assert np.mean(e) <= 1 + 3 * np.std(e) / math.sqrt(len(e))


def test_pairs_needed_is_the_first_number_that_is_enough() -> None:
    n = pairs_needed(0.1, 0.05, 0.05)

    assert bernstein_bound(0.1 * n, 0.05, 2.0, 10.0) <= 0.05 * n
    assert bernstein_bound(0.1 * (n - 1), 0.05, 2.0, 10.0) > 0.05 * (n - 1)
    assert pairs_needed(0.1, 0.02, 0.05) > 4 * n
    assert pairs_needed(0.0, 1e6, 0.05) == 1


def test_domains() -> None:
    for refused, message in (
        (lambda: EmpiricalBernstein(alpha=0.0), "alpha: 0.0 is outside"),
        (lambda: EmpiricalBernstein(lowest=1.0), "highest - lowest: 0.0 is outside"),
        (lambda: EmpiricalBernstein(v_opt=-1.0), "v_opt: -1.0 is outside"),
        (lambda: EmpiricalBernstein(boundary="square"), "boundary: 'square' is none of mixture, stitched"),
        (lambda: EmpiricalBernstein(n=-1), "n: -1, expected 0 or more"),
        (lambda: EmpiricalBernstein().add(1.5), r"x: 1.5 is outside \[0, 1\]"),
        (lambda: EmpiricalBernstein().add(math.nan), "x: nan is outside"),
        (lambda: EmpiricalBernstein(boundary="stitched").log_e_value(0.5), "boundary: 'stitched' is none of mixture"),
        (lambda: EmpiricalBernstein().log_e_value(0.5, "up"), "side: 'up' is none of"),
        (lambda: bernstein_bound(-1.0, 0.05, 1.0, 10.0), "v: -1.0 is outside"),
        (lambda: pairs_needed(0.1, 0.0, 0.05), "margin: 0.0 is outside"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
