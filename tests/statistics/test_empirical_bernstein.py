"""The default on live traffic: an interval for the running mean that allows peeking and drift."""

import math

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.statistics.empirical_bernstein import EmpiricalBernstein, bernstein_bound
from gateway.statistics.evalues import e_bh

PATHS, STEPS, ALPHA = 3000, 500, 0.05
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


def bounds(v: NDArray[np.float64], alpha: float = ALPHA) -> NDArray[np.float64]:
    """bernstein_bound by interpolation; it is concave in v, so this errs to the narrow side by very little."""
    grid = np.concatenate((np.linspace(0, 5, 100), np.linspace(5.1, v.max() + 1, 400)))
    return np.interp(v, grid, [bernstein_bound(float(w), alpha, 1.0, 10.0) for w in grid])


@pytest.mark.parametrize("means", MEANS.values(), ids=MEANS)
def test_the_running_mean_is_rarely_missed_under_drift(means: NDArray[np.float64]) -> None:
    """At most alpha of the paths ever miss, with a look after every value."""
    x = (np.random.default_rng(3).random((PATHS, STEPS)) < means).astype(float)

    apart = np.abs(np.cumsum(x - means, axis=1))
    ever = (apart >= bounds(intrinsic_time(x))).any(axis=1).mean()

    assert ever <= most_misses(ALPHA, PATHS)


def test_at_alpha_one_half_some_sequences_miss() -> None:
    """The bound is not far too wide, so the test above can fail."""
    x = (np.random.default_rng(4).random((PATHS, STEPS)) < 0.5).astype(float)

    ever = (np.abs(np.cumsum(x - 0.5, axis=1)) >= bounds(intrinsic_time(x), 0.5)).any(axis=1).mean()

    assert 0.15 <= ever <= 0.5


def test_peeking_at_fixed_n_intervals_misses_in_forty_percent() -> None:
    """The reason for this module: mean +- 1.96 se with a look after each of 500 values, from the thirtieth on."""
    x = (np.random.default_rng(5).random((PATHS, STEPS)) < 0.5).astype(float)
    mean = np.cumsum(x, axis=1) / TIMES
    se = np.sqrt(np.maximum(mean * (1 - mean), 1e-12) / TIMES)

    ever = (np.abs(mean - 0.5) > 1.96 * se)[:, 29:].any(axis=1).mean()

    assert 0.33 <= ever <= 0.47


@given(values=st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_the_sequence_gives_the_interval_of_the_formula(values: list[float]) -> None:
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


def test_without_values_the_interval_is_the_whole_range() -> None:
    assert EmpiricalBernstein(lowest=-2.0, highest=3.0).interval() == (-2.0, 3.0)
    assert EmpiricalBernstein().mean is None


def test_little_variance_makes_a_narrow_interval() -> None:
    """The interval at n = 1000 is 0.02 wide for nearly equal values, 0.12 for coins."""
    steady, coins = EmpiricalBernstein(), EmpiricalBernstein()
    for i in range(1000):
        steady.add(0.5 + 0.01 * (i % 2))
        coins.add(float(i % 2))

    assert steady.interval()[1] - steady.interval()[0] < 0.025
    assert 0.08 < coins.interval()[1] - coins.interval()[0] < 0.16


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


def test_e_values_average_at_most_one_under_the_null() -> None:
    x = (np.random.default_rng(7).random((4000, 60)) < 0.3).astype(float)
    predictions = (0.5 + np.cumsum(x, axis=1) - x) / np.arange(1, 61)
    v = ((x - predictions) ** 2).sum(axis=1)
    e = [
        math.exp(EmpiricalBernstein(n=60, total=float(total), v=float(w)).log_e_value(0.3))
        for total, w in zip(x.sum(axis=1), v, strict=True)
    ]

    assert np.mean(e) <= 1 + 3 * np.std(e) / math.sqrt(len(e))


def test_domains() -> None:
    for refused, message in (
        (lambda: EmpiricalBernstein(alpha=0.0), "alpha: 0.0 is outside"),
        (lambda: EmpiricalBernstein(lowest=1.0), "highest - lowest: 0.0 is outside"),
        (lambda: EmpiricalBernstein(v_opt=-1.0), "v_opt: -1.0 is outside"),
        (lambda: EmpiricalBernstein(boundary="square"), "boundary: 'square' is not one of mixture"),  # type: ignore[arg-type]
        (lambda: EmpiricalBernstein(n=-1), "n: -1, expected 0 or more"),
        (lambda: EmpiricalBernstein().add(1.5), r"x: 1.5 is outside \[0, 1\]"),
        (lambda: EmpiricalBernstein().add(math.nan), "x: nan is outside"),
        (lambda: EmpiricalBernstein().log_e_value(0.5, "up"), "side: 'up' is not one of"),
        (lambda: bernstein_bound(-1.0, 0.05, 1.0, 10.0), "v: -1.0 is outside"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
