"""Fixed-n comparisons."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.paired import mcnemar_exact, mean_error, paired_difference, wilson


def test_a_paired_interval_is_the_t_interval_of_the_differences() -> None:
    from scipy import stats

    rng = np.random.default_rng(26)
    a = rng.random(40)
    b = a + rng.normal(0.05, 0.1, 40)
    oracle = stats.ttest_1samp(b - a, 0.0).confidence_interval(0.9)

    result = paired_difference(a, b, 0.1)

    assert (result.low, result.high) == pytest.approx((oracle.low, oracle.high))
    assert result.n == 40


def test_pairing_removes_the_questions_own_variance() -> None:
    """Miller: with correlated scores the paired error is far smaller than that of two separate samples."""
    rng = np.random.default_rng(27)
    question = rng.random(500)
    a, b = (np.clip(question + rng.normal(0, 0.05, 500), 0, 1) for _ in range(2))
    separate = math.hypot(mean_error(a).se, mean_error(b).se)

    assert paired_difference(a, b, 0.05).se < 0.4 * separate


def test_clustered_values_need_the_clustered_error() -> None:
    """100 conversations of 5 equal answers: the naive interval covers far less than 95 %, the clustered one does."""
    rng, covered = np.random.default_rng(28), [0, 0]
    labels = np.repeat(np.arange(100), 5).tolist()
    for _ in range(400):
        values = np.repeat(rng.random(100) < 0.4, 5).astype(float)
        for i, result in enumerate((mean_error(values), mean_error(values, labels))):
            covered[i] += abs(result.mean - 0.4) <= 1.96 * result.se

    assert covered[0] / 400 < 0.75
    assert abs(covered[1] / 400 - 0.95) <= 3 * math.sqrt(0.05 * 0.95 / 400) + 0.01


def test_cluster_labels_may_be_any_hashable() -> None:
    x = [0.1, 0.5, 0.9, 0.3]

    assert mean_error(x, "abcd").se == pytest.approx(mean_error(x).se * math.sqrt(3 / 4))
    assert mean_error(x, ["a", 1, "a", 1]) == mean_error(x, [7, 8, 7, 8])
    assert paired_difference(x, x[::-1], 0.05, ["a", "b", "a", "b"]).n == 4


@given(b=st.integers(0, 60), c=st.integers(0, 60))
def test_mcnemar_is_a_binomial_test(b: int, c: int) -> None:
    from scipy import stats

    expected = stats.binomtest(b, b + c, 0.5).pvalue if b + c else 1.0

    assert mcnemar_exact(b, c) == pytest.approx(expected, rel=1e-9)


@given(n=st.integers(1, 300), share=st.floats(0, 1), alpha=st.floats(0.001, 0.5))
def test_wilson_is_scipys(n: int, share: float, alpha: float) -> None:
    from scipy import stats

    k = round(share * n)
    oracle = stats.binomtest(k, n).proportion_ci(1 - alpha, "wilson")

    assert wilson(k, n, alpha) == pytest.approx((oracle.low, oracle.high), abs=1e-12)


def test_domains() -> None:
    for refused, message in (
        (lambda: mean_error([1.0]), "values: 1 values, expected 2"),
        (lambda: mean_error([1.0, 2.0], ["a"]), "values, clusters: lengths"),
        (lambda: mean_error([1.0, 2.0], ["a", "a"]), "number of clusters: 1, expected 2"),
        (lambda: paired_difference([1.0, 2.0], [1.0, 2.0, 3.0], 0.05), "a, b: lengths"),
        (lambda: paired_difference([1.0, 2.0], [1.0, 4.0], 0.0), "alpha: 0.0"),
        (lambda: mcnemar_exact(-1, 0), "b: -1"),
        (lambda: wilson(3, 2, 0.05), r"successes: 3 is outside \[0, 2\]"),
        (lambda: wilson(0, 0, 0.05), "n: 0 is outside"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
