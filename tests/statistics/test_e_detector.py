"""The e-detector: what a value may add at most, that its expectation holds, and how seldom it rings by chance."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.e_detector import (
    BETS,
    bounded_log_gains,
    capped_log_gains,
    log_limit,
    log_mean,
    restarted_log_evidence,
)

A = 50.0  # starts until a false alarm, at least


@given(st.floats(0.05, 20.0))
def test_no_distribution_of_mean_0_and_variance_1_gains(high: float) -> None:
    """Two points with these moments are the worst case where the upper one is the cap."""
    p = 1.0 / (1.0 + high**2)
    for size, cap in BETS:
        capped = np.array([min(high, cap), -1.0 / high])
        if math.isclose(high, cap) or high < cap:  # above the cap the mean is below 0
            gains = np.exp(capped_log_gains(capped, np.array([(size, cap)])))[:, 0]
            assert p * gains[0] + (1 - p) * gains[1] <= 1.0 + 1e-9


def test_the_worst_case_reaches_its_bound() -> None:
    """The price of a bet is therefore the smallest one that is valid."""
    for size, cap in BETS:
        gains = np.exp(capped_log_gains([cap, -1.0 / cap], np.array([(size, cap)])))[:, 0]
        assert gains @ [1.0, cap**2] / (1.0 + cap**2) == pytest.approx(1.0)


@given(st.floats(-1e6, 1e6))
def test_one_value_adds_a_bounded_amount(z: float) -> None:
    assert (capped_log_gains([z])[0] <= np.log1p(BETS[:, 1] ** 2) + 1e-9).all()


@given(st.lists(st.floats(-5.0, 5.0), min_size=1, max_size=40), st.integers(0, 1_000))
def test_the_sum_is_that_of_all_e_values_begun(z: list[float], seed: int) -> None:
    gains = capped_log_gains(z)
    starts = np.random.default_rng(seed).random(len(z)) < 0.3
    starts[0] = True
    found = np.exp(restarted_log_evidence(gains, starts))
    plain = np.zeros(len(BETS))
    for row, begins, sums in zip(np.exp(gains), starts, found, strict=True):
        plain = (plain + begins) * row
        assert sums == pytest.approx(plain, rel=1e-6)


def test_a_quiet_past_hides_nothing() -> None:
    """The number of values until the alarm does not depend on how long all was well before."""
    delays = []
    for quiet in (0, 20, 2_000):
        z = np.concatenate([np.full(quiet, -0.5), np.full(20, 4.0)])
        starts = np.arange(len(z)) % 4 == 0
        found = log_mean(restarted_log_evidence(capped_log_gains(z), starts))
        delays.append(int(np.flatnonzero(found >= log_limit(1e4))[0]) - quiet)
    assert max(delays) == min(delays) <= 6


def run_length(draw, rng: np.random.Generator, blocks: int, runs: int) -> float:  # type: ignore[no-untyped-def]
    """Starts over all runs for each false alarm. Each run ends with its first alarm."""
    starts, spent, alarms = np.arange(blocks) % 4 == 0, 0, 0
    for _ in range(runs):
        found = log_mean(restarted_log_evidence(capped_log_gains(draw(rng, blocks)), starts))
        rung = np.flatnonzero(found >= log_limit(A))
        spent += int(starts[: rung[0] + 1 if rung.size else blocks].sum())
        alarms += bool(rung.size)
    return spent / max(alarms, 1)


def skewed(rng: np.random.Generator, n: int) -> np.ndarray:
    """Values that are 4.36 in 5 % of the cases, and slightly below 0 otherwise."""
    return np.where(rng.random(n) < 0.05, 4.36, -0.2294)


@pytest.mark.parametrize("name", ["normal", "skewed", "exponential"])
def test_false_alarms_are_as_rare_as_promised(name: str) -> None:
    """The values have a mean of 0 and a variance of 1, which is the worst that the null allows. 200 runs of 100 starts
    each: about 400 alarms would come at the promised rate."""
    draws = {
        "normal": lambda rng, n: rng.normal(size=n),
        "skewed": skewed,
        "exponential": lambda rng, n: rng.exponential(size=n) - 1.0,
    }
    measured = run_length(draws[name], np.random.default_rng(7), 400, 200)
    print(f"{name}: a false alarm in {measured:.0f} starts; promised {A:.0f}")  # noqa: T201
    assert measured >= A


@pytest.mark.parametrize("z", [[math.nan], [math.inf]])
def test_values_that_are_not_finite_are_refused(z: list[float]) -> None:
    with pytest.raises(ValueError, match="z"):
        capped_log_gains(z)


def test_sizes_and_run_lengths_have_to_be_positive() -> None:
    with pytest.raises(ValueError, match="caps above 0"):
        capped_log_gains([1.0], np.array([(0.0, 3.0)]))
    with pytest.raises(ValueError, match="run_length"):
        log_limit(0.0)


def test_a_sum_of_small_terms_costs_no_more_than_it_may() -> None:
    """The expectation of the e-value is at most 1 for standardised binomial sums, exactly; a bound that is too small
    for rare events would break it."""
    sizes = np.array([0.1, 0.5, 1.0, 1.5])
    for n, p in ((5, 0.5), (20, 0.1), (200, 0.01), (50, 0.9)):
        s = math.sqrt(n * p * (1 - p))
        counts = np.arange(n + 1)
        mass = np.array([math.comb(n, int(x)) * p**x * (1 - p) ** (n - x) for x in counts])
        z = (counts - n * p) / s
        gains = bounded_log_gains(z, np.ones((n + 1, 1)), np.full((n + 1, 1), (1 - p) / s), sizes, 3.0)
        assert (mass @ np.exp(gains) <= 1.0).all()
        cheaper = capped_log_gains([3.0], np.array([(1.0, 3.0)]))
        assert bounded_log_gains([3.0], [[1.0]], [[0.3]], [1.0], 3.0)[0, 0] > cheaper[0, 0]
    with pytest.raises(ValueError, match="above 0"):
        bounded_log_gains([1.0], [[1.0]], [[0.0]], [1.0], 3.0)
    with pytest.raises(ValueError, match="at most 1"):
        bounded_log_gains([1.0], [[0.6, 0.5]], [[0.3, 0.3]], [1.0], 3.0)


def _mass(users: int, calls: int, p: float, apart: float) -> np.ndarray:
    """Probabilities of 0 to users · calls events, where half of the users have p - apart, and half p + apart."""
    counts = np.arange(calls + 1)
    ways = np.array([math.comb(calls, int(x)) for x in counts])
    one = sum(0.5 * ways * q**counts * (1 - q) ** (calls - counts) for q in (p - apart, p + apart))
    mass = np.ones(1)
    for _ in range(users):
        mass = np.convolve(mass, one)
    return mass


@pytest.mark.parametrize("calls", [2, 3, 10, 30])
@pytest.mark.parametrize("users", [1, 2, 5, 30])
def test_parts_cost_no_more_than_they_may(users: int, calls: int) -> None:
    """The expectation of the e-value is at most 1, exactly, at the edge of the null: users whose rates differ up to as
    far as they can, each part of the variance with its own bound. With a call's bound for few users of many calls it is
    not."""
    sizes, n, too_low = np.array([0.1, 0.25, 0.5, 1.0, 1.5]), users * calls, 0.0
    for p in (0.005, 0.02, 0.1, 0.5, 0.9, 0.98):
        for apart in np.array([0.0, 0.3, 0.8, 1.0]) * min(p, 1 - p):
            mass = _mass(users, calls, p, apart)
            parts = np.array([p * (1 - p) / n, apart**2 * (1 - 1 / calls) / users])
            sd = math.sqrt(parts.sum())
            z = (np.arange(n + 1) / n - p) / sd
            assert (mass @ z, mass @ z**2) == pytest.approx((0.0, 1.0), abs=1e-9)
            for least in (1e-3, 0.3):
                bounds = np.maximum(np.array([(1 - p) / n, (1 - p) / users]) / sd, least)
                shares = np.broadcast_to(parts / sd**2, (n + 1, 2))
                gains = bounded_log_gains(z, shares, np.broadcast_to(bounds, (n + 1, 2)), sizes, 3.0)
                assert (mass @ np.exp(gains) <= 1.0 + 1e-12).all()
                low = bounded_log_gains(z, shares, np.full((n + 1, 2), bounds[0]), sizes, 3.0)
                too_low = max(too_low, float((mass @ np.exp(low)).max()))
    assert too_low > 1.0 or users > 5 or calls < 10
