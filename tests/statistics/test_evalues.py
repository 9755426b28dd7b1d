"""The A/A test T by betting, and e-BH over metrics."""

import math

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.betting import bet, log_gains, next_squares
from gateway.statistics.evalues import BettingTest, aa_increment, e_bh

PATHS, STEPS = 2000, 500
ALPHA = 0.05


def distances(candidate_shift: float, paths: int = PATHS) -> tuple[np.ndarray, np.ndarray]:
    """d(A1, B) and d(A1, A2): exchangeable given A1 when the shift is 0. The spread varies from prompt to prompt."""
    rng, size = np.random.default_rng(20), (paths, STEPS)
    prompt = rng.beta(2, 2, size)
    noise = rng.normal(0, 0.15, (2, *size))
    return np.clip(prompt + candidate_shift + noise[0], 0, 1), np.clip(prompt + noise[1], 0, 1)


def log_e_values(x: np.ndarray) -> np.ndarray:
    """BettingTest for each path of x, shape (paths, steps), after every step: shape (steps, paths)."""
    total = squares = np.zeros(x.shape[0])
    wealth, seen = np.zeros((2, x.shape[0])), []
    for n, column in enumerate(x.T):
        wealth = wealth + log_gains(column, bet(ALPHA, n, squares), np.array(0.5))
        squares, total = next_squares(column, n, total, squares), total + column
        seen.append(np.logaddexp(wealth[0], wealth[1]) - math.log(2))
    return np.array(seen)


def test_a_candidate_like_the_control_is_rarely_called_different() -> None:
    """The e-value ever reaches 1/alpha in at most alpha of the paths, with a look after every pair."""
    to_candidate, to_repeat = distances(0.0)

    evidence = log_e_values((to_candidate - to_repeat + 1) / 2)

    assert (evidence.max(axis=0) >= -math.log(ALPHA)).mean() <= most_misses(ALPHA, PATHS)
    assert (evidence.max(axis=0) >= -math.log(0.5)).mean() >= 0.1, "never any evidence: the bets are wrong"


def test_a_drifting_mix_of_prompts_does_not_break_the_test() -> None:
    """Only E[T | past] = 0 is needed: prompts may get noisier or less noisy over time."""
    rng = np.random.default_rng(21)
    scale = np.abs(np.sin(np.arange(STEPS) / 40))
    t = np.clip(rng.normal(size=(PATHS, STEPS)) * scale, -1, 1)

    ever = (log_e_values((t + 1) / 2).max(axis=0) >= -math.log(ALPHA)).mean()

    assert ever <= most_misses(ALPHA, PATHS)


@pytest.mark.parametrize("shift", [-0.18, 0.1], ids=["greedy: nearer than the control to itself", "farther"])
def test_a_different_candidate_is_found_on_either_side(shift: float) -> None:
    to_candidate, to_repeat = distances(shift, paths=300)

    evidence = log_e_values((to_candidate - to_repeat + 1) / 2)

    assert (evidence[199] >= -math.log(ALPHA)).mean() >= 0.95, "200 pairs are enough for this"


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_the_test_is_the_formula_and_p_comes_from_the_peak(values: list[float]) -> None:
    test, peak = BettingTest(0.5, ALPHA), 0.0
    for x in values:
        test.add(x)
        peak = max(peak, test.log_e_value)

    assert test.log_e_value == pytest.approx(float(log_e_values(np.array([values]))[-1, 0]), abs=1e-9)
    assert test.p_value == math.exp(-peak)


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=40))
def test_both_sides_count_equally(values: list[float]) -> None:
    """The test of 1 - x finds the same evidence."""
    test, mirrored = BettingTest(0.5), BettingTest(0.5)
    for x in values:
        test.add(x)
        mirrored.add(1 - x)

    assert test.log_e_value == pytest.approx(mirrored.log_e_value, abs=1e-6)


def test_large_e_values_do_not_overflow() -> None:
    test = BettingTest(0.5)
    for _ in range(5000):
        test.add(1.0)

    assert test.log_e_value > 800
    assert test.p_value == 0.0 or test.p_value < 1e-300


def test_aa_increments() -> None:
    assert aa_increment(0.3, 0.3) == 0.5
    assert aa_increment(1.0, 0.0) == 1.0
    assert aa_increment(0.0, 1.0) == 0.0


def test_e_bh_controls_the_false_discovery_rate() -> None:
    """Mean share of false rejections <= alpha (5 of 10 nulls true), e-values sharing one Gaussian factor."""
    rng, shares = np.random.default_rng(22), []
    shift = np.where(np.arange(10) < 5, 0.0, 3.5)
    for _ in range(2000):
        z = 0.7 * rng.normal() + math.sqrt(1 - 0.49) * rng.normal(size=10) + shift
        rejected = e_bh(list(2.5 * z - 2.5**2 / 2), 0.1)
        shares.append(sum(i < 5 for i in rejected) / max(len(rejected), 1))

    assert 0 < np.mean(shares) <= 0.05 + 3 * np.std(shares) / math.sqrt(2000)


@given(e=st.lists(st.floats(-20, 20), max_size=12), alpha=st.floats(0.01, 0.5), more=st.floats(0, 5))
def test_e_bh_rejects_the_largest_and_is_monotone(e: list[float], alpha: float, more: float) -> None:
    rejected = e_bh(e, alpha)
    k = len(rejected)

    assert all(e[i] >= math.log(len(e) / (alpha * k)) - 1e-9 for i in rejected)
    assert all(e[i] <= min((e[j] for j in rejected), default=math.inf) for i in range(len(e)) if i not in rejected)
    assert len(e_bh([x + more for x in e], alpha)) >= k


def test_domains() -> None:
    assert e_bh([], 0.05) == []
    assert e_bh([-math.inf, 9.0], 0.05) == [1]
    for refused, message in (
        (lambda: BettingTest(1.0), "mean: 1.0"),
        (lambda: BettingTest(0.5, 0.0), "alpha: 0.0"),
        (lambda: BettingTest().add(-0.1), r"x: -0.1 is outside \[0, 1\]"),
        (lambda: aa_increment(1.2, 0.0), "to_candidate: 1.2"),
        (lambda: e_bh([math.nan], 0.05), r"log_e_values\[0\]: nan"),
        (lambda: e_bh([1.0], 1.0), "alpha: 1.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
