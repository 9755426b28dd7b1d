"""Curves that a martingale crosses with probability alpha at most."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.statistics.boundaries import (
    GammaExponentialMixture,
    GammaPoissonMixture,
    NormalMixture,
    StitchedBoundary,
    best_rho,
)

MIXTURES: list[Any] = [
    NormalMixture(5.0),
    NormalMixture(5.0, two_sided=False),
    GammaExponentialMixture(5.0, 1.0),
    GammaPoissonMixture(5.0, 0.5),
]
CURVES = [*MIXTURES, StitchedBoundary(1.0, 0.5)]
ids = [type(curve).__name__ for curve in CURVES]


@pytest.mark.parametrize("curve", MIXTURES, ids=ids[:-1])
@given(v=st.floats(0, 1e5), alpha=st.floats(1e-8, 0.5))
def test_a_mixtures_bound_is_where_its_evidence_reaches_one_over_alpha(curve: Any, v: float, alpha: float) -> None:
    assert curve.log_mixture(curve.bound(v, alpha), v) == pytest.approx(-math.log(alpha), rel=1e-6)


@pytest.mark.parametrize("curve", CURVES, ids=ids)
@given(v=st.floats(0, 1e5), more=st.floats(0.1, 100), alpha=st.floats(1e-6, 0.25))
def test_bounds_rise_with_v_and_with_confidence(curve: Any, v: float, more: float, alpha: float) -> None:
    assert curve.bound(v + more, alpha) >= curve.bound(v, alpha)
    assert curve.bound(v, alpha / 2) > curve.bound(v, alpha)


def test_the_normal_bound_is_tightest_where_it_was_asked_to_be() -> None:
    at = {rho: NormalMixture(rho).bound(100.0, 0.05) for rho in np.geomspace(1, 200, 400)}
    best = min(at, key=lambda rho: at[rho])

    assert best_rho(100.0, 0.05) == pytest.approx(best, rel=0.1)  # a closed form near the true minimum
    assert NormalMixture(best_rho(100.0, 0.05)).bound(100.0, 0.05) == pytest.approx(at[best], rel=1e-3)


@pytest.mark.parametrize("curve", CURVES, ids=ids)
def test_a_gaussian_walk_rarely_crosses_in_a_thousand_steps(curve: Any) -> None:
    """Ever-crossing <= alpha + 3 SE. A Gaussian walk is sub-psi for every one of these."""
    walks = np.random.default_rng(1).standard_normal((2000, 1000)).cumsum(axis=1)
    bound = np.array([curve.bound(float(v), 0.05) for v in range(1, 1001)])
    two_sided = isinstance(curve, NormalMixture) and curve.two_sided

    crossed = ((np.abs(walks) if two_sided else walks) >= bound).any(axis=1).mean()

    assert crossed <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)
    if isinstance(curve, NormalMixture):
        assert crossed >= 0.015, "far too wide: the bound is wrong the other way"


@pytest.mark.parametrize("alpha", [0.0, 1.0, -1.0, math.nan])
@pytest.mark.parametrize("curve", CURVES, ids=ids)
def test_alpha_and_v_are_checked(curve: Any, alpha: float) -> None:
    with pytest.raises(ValueError, match=f"alpha: {alpha!r} is outside"):
        curve.bound(1.0, alpha)
    with pytest.raises(ValueError, match=r"v: -1.0 is outside"):
        curve.bound(-1.0, 0.05)


def test_parameters_are_checked() -> None:
    for refused, message in (
        (lambda: NormalMixture(0.0), "rho: 0.0"),
        (lambda: GammaExponentialMixture(1.0, -1.0), "c: -1.0"),
        (lambda: GammaPoissonMixture(-1.0, 1.0), "rho: -1.0"),
        (lambda: StitchedBoundary(1.0, 0.0, 1.0), "s: 1.0"),
        (lambda: best_rho(1.0, 0.5, two_sided=False), "alpha: 1.0"),
        (lambda: GammaExponentialMixture(1.0, 1.0).log_mixture(-9.0, 1.0), "s \\+ .*: -7.0"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
