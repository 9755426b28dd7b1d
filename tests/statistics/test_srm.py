"""Sample-ratio mismatch."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.srm import SequentialRatio

PATHS, STEPS, SHARES = 2000, 1500, np.array([0.6, 0.3, 0.1])


def log_bayes_factors(arms: np.ndarray) -> np.ndarray:
    """Log Bayes factors from the predictive form, prod (k s_j + n_j) / (k + n) / s_j over assignments: shape of arms,
    (paths, steps)."""
    before = np.stack([np.cumsum(arms == j, axis=1) - (arms == j) for j in range(3)])
    seen = np.take_along_axis(before, arms[None], axis=0)[0]
    return np.cumsum(np.log((100 * SHARES[arms] + seen) / (100 + np.arange(arms.shape[1])) / SHARES[arms]), axis=1)


def alarms(arms: np.ndarray) -> float:
    """The share of paths that ever alarm; some at a time, so that the arrays stay small."""
    parts = np.array_split(arms, max(1, arms.size // 100_000))
    return float(np.concatenate([log_bayes_factors(part).max(axis=1) >= -math.log(0.05) for part in parts]).mean())


def test_a_true_split_rarely_alarms_at_any_assignment() -> None:
    from scipy import stats

    arms = np.random.default_rng(23).choice(3, size=(PATHS, STEPS), p=SHARES)

    ever = alarms(arms)
    last = stats.chisquare([(arms == j).sum(axis=1) for j in range(3)], (SHARES * STEPS)[:, None]).pvalue

    assert ever <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / PATHS)
    assert abs((last < 0.05).mean() - 0.05) < 0.02


def test_a_loss_in_one_arm_alarms() -> None:
    """A tenth of the first arm's assignments lost on the way."""
    arms = np.random.default_rng(24).choice(3, size=(200, 20000), p=np.array([0.54, 0.3, 0.1]) / 0.94)

    assert alarms(arms) > 0.95


def test_the_test_is_the_formula_and_p_comes_from_the_peak() -> None:
    arms = np.array([[2] * 40 + [0] * 240 + [1] * 80])  # one-sided at first, then as it should be
    ratio, expected = SequentialRatio([6.0, 3.0, 1.0]), log_bayes_factors(arms)[0]
    for arm, log_bayes_factor in zip(arms[0], expected, strict=True):
        ratio.add(int(arm))
        assert ratio.log_bayes_factor == pytest.approx(log_bayes_factor, abs=1e-8)

    assert ratio.p_value == pytest.approx(math.exp(-expected.max()))
    assert expected.max() > expected[-1] + 5


@given(counts=st.lists(st.integers(0, 300), min_size=3, max_size=3))
def test_only_the_counts_matter_to_the_factor(counts: list[int]) -> None:
    at_once, one_by_one = SequentialRatio([1, 1, 1], counts=counts), SequentialRatio([1, 1, 1])
    for arm in (2, 0, 1):
        one_by_one.add(arm, counts[arm])

    assert one_by_one.log_bayes_factor == at_once.log_bayes_factor


def test_domains() -> None:
    for refused, message in (
        (lambda: SequentialRatio([1.0]), "number of shares: 1, expected 2"),
        (lambda: SequentialRatio([1.0, 0.0]), "share: 0.0"),
        (lambda: SequentialRatio([1.0, 1.0], k=0.0), "k: 0.0"),
        (lambda: SequentialRatio([1.0, 1.0], counts=[1]), "shares, counts: lengths"),
        (lambda: SequentialRatio([1.0, 1.0], counts=[1, -1]), "count: -1"),
        (lambda: SequentialRatio([1.0, 1.0]).add(2), r"arm: 2 is not in 0..1"),
        (lambda: SequentialRatio([1.0, 1.0]).add(0, -1), "times: -1"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
