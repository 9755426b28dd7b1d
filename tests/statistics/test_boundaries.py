"""Curves that a martingale crosses with probability alpha at most."""

import math

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.boundaries import GammaExponentialMixture, best_rho

CURVE = GammaExponentialMixture(5.0, 1.0)


@given(v=st.floats(0, 1e5), alpha=st.floats(1e-8, 0.5))
def test_the_bound_is_where_the_evidence_reaches_one_over_alpha(v: float, alpha: float) -> None:
    assert CURVE.log_mixture(CURVE.bound(v, alpha), v) == pytest.approx(-math.log(alpha), rel=1e-6)


@given(v=st.floats(0, 1e5), more=st.floats(0.1, 100), alpha=st.floats(1e-6, 0.25))
def test_bounds_rise_with_v_and_with_confidence(v: float, more: float, alpha: float) -> None:
    assert CURVE.bound(v + more, alpha) >= CURVE.bound(v, alpha)
    assert CURVE.bound(v, alpha / 2) > CURVE.bound(v, alpha)


def test_the_bound_is_tightest_near_v_opt() -> None:
    at = {rho: GammaExponentialMixture(rho, 0.01).bound(100.0, 0.05) for rho in np.geomspace(1, 200, 100)}
    tuned = GammaExponentialMixture(best_rho(100.0, 0.05, two_sided=False), 0.01)

    assert tuned.bound(100.0, 0.05) == pytest.approx(min(at.values()), rel=2e-2)


def test_a_gaussian_walk_rarely_crosses_in_a_thousand_steps() -> None:
    """A Gaussian walk is sub-exponential for every scale; at most alpha of the walks ever cross."""
    walks = np.random.default_rng(1).standard_normal((2000, 1000)).cumsum(axis=1)
    bound = np.array([CURVE.bound(float(v), 0.05) for v in range(1, 1001)])

    assert (walks >= bound).any(axis=1).mean() <= most_misses(0.05, 2000)


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
def test_alpha_and_v_are_checked(alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha: {alpha!r} is outside"):
        CURVE.bound(1.0, alpha)
    with pytest.raises(ValueError, match=r"v: -1.0 is outside"):
        CURVE.bound(-1.0, 0.05)


def test_parameters_are_checked() -> None:
    for refused, message in (
        (lambda: GammaExponentialMixture(0.0, 1.0), "rho: 0.0"),
        (lambda: GammaExponentialMixture(1.0, -1.0), "c: -1.0"),
        (lambda: best_rho(1.0, 0.5, two_sided=False), "alpha: 1.0"),
        (lambda: GammaExponentialMixture(1.0, 1.0).log_mixture(-9.0, 1.0), "s \\+ .*: -7.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
