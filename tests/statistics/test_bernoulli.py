"""The confidence sequence of a success rate."""

import math

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.bernoulli import BetaBinomialMixture, bernoulli_interval
from gateway.statistics.special import find_root


@pytest.mark.parametrize("p", [0.02, 0.5, 0.9])
def test_the_true_rate_is_rarely_missed(p: float) -> None:
    """At most alpha of the paths ever miss p: ln m(p) >= ln(1/alpha) after any of 400 values."""
    mixture = BetaBinomialMixture.tuned(p * (1 - p) * 100, 0.05, (p, 1 - p))
    missed = np.zeros((401, 401), dtype=bool)
    for n in range(1, 401):
        evidence = [mixture.log_mixture(k - n * p, n * p * (1 - p)) for k in range(n + 1)]
        missed[n, : n + 1] = np.array(evidence) >= -math.log(0.05)
    successes = (np.random.default_rng(2).random((3000, 400)) < p).cumsum(axis=1)

    ever = missed[np.arange(1, 401), successes].any(axis=1).mean()

    assert 0.002 < ever <= most_misses(0.05, 3000)
    for n, k in ((400, int(400 * p)), (50, 1), (7, 7)):
        low, high = bernoulli_interval(k, n, 0.05, 100)
        assert (low <= p <= high) == (not missed[n, k])


@given(n=st.integers(1, 500), share=st.floats(0, 1), alpha=st.floats(0.001, 0.5))
def test_the_interval_contains_the_mean_and_is_symmetric(n: int, share: float, alpha: float) -> None:
    successes = round(share * n)
    low, high = bernoulli_interval(successes, n, alpha, 50)
    mirrored = bernoulli_interval(n - successes, n, alpha, 50)

    assert 0 <= low <= successes / n <= high <= 1
    assert (1 - high, 1 - low) == pytest.approx(mirrored, abs=1e-7)


SHARES = st.floats(0, 1).map(lambda share: round(share, 9))  # a smaller one has no mixture: its r underflows


@given(n=st.integers(1, 10**6), share=SHARES, alpha=st.floats(1e-6, 0.5), n_opt=st.floats(10, 10**4))
def test_the_interval_is_bit_for_bit_that_of_the_mixture(n: int, share: float, alpha: float, n_opt: float) -> None:
    """The intervals agree, too, if weights make the sums fractional."""
    mean = share * n / n

    def excess(p: float) -> float:
        if p in (mean, 0.0, 1.0):
            return math.log(alpha) if p == mean else math.inf
        mixture = BetaBinomialMixture.tuned(p * (1 - p) * n_opt, 0.05, (p, 1 - p))
        return mixture.log_mixture((mean - p) * n, p * (1 - p) * n) + math.log(alpha)

    low = find_root(excess, 0.0, mean) if mean > 0 else 0.0
    high = find_root(excess, mean, 1.0) if mean < 1 else 1.0

    assert bernoulli_interval(share * n, n, alpha, n_opt) == (low, high)


def test_the_bound_never_exceeds_the_largest_possible_sum() -> None:
    """Two values exclude nothing, so the bound is the largest possible sum."""
    mixture = BetaBinomialMixture.tuned(100, 0.05, (0.2, 0.8))

    assert mixture.bound(2 * 0.2 * 0.8, 0.05) == pytest.approx(2 * 0.8)
    assert mixture.bound(0.0, 0.05) == 0.0


@pytest.mark.parametrize(
    ("successes", "n", "alpha", "n_opt", "message"),
    [
        (3, 2, 0.05, 50, r"successes: 3 is outside \[0, 2\]"),
        (-1, 2, 0.05, 50, r"successes: -1 is outside"),
        (0, 0, 0.05, 50, "n: 0, expected 1 or more"),
        (1, 2, 1.0, 50, r"alpha: 1.0 is outside"),
        (1, 2, 0.05, 0, r"n_opt: 0 is outside"),
    ],
)
def test_domains(successes: int, n: int, alpha: float, n_opt: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        bernoulli_interval(successes, n, alpha, n_opt)
    with pytest.raises(ValueError, match=r"g: 0.0 is outside"):
        BetaBinomialMixture(1.0, 0.0, 1.0)
