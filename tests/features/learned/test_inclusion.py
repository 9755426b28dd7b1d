"""The mean probability is the share that was asked for, and none is below the floor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.features.learned.inclusion import affordable_share, inclusion, scale_for


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=50),
    st.floats(0.05, 1.0),
    st.floats(0.05, 1.0),
)
def test_the_mean_probability_is_the_share_that_was_asked_for(errors: list[float], share: float, pi_min: float) -> None:
    residual = np.array(errors)
    pi = inclusion(residual, scale_for(residual, share, pi_min), pi_min)
    assert pi.min() >= pi_min
    assert pi.max() <= 1.0
    assert pi.mean() == pytest.approx(max(share, pi_min), abs=1e-6)


def test_more_uncertain_answers_are_judged_more_often() -> None:
    residual = np.array([0.0, 0.01, 0.04, 0.16])
    pi = inclusion(residual, scale_for(residual, 0.3, 0.05), 0.05)
    assert (np.diff(pi) > 0).all()
    assert pi[3] / pi[2] == pytest.approx(2.0), "as the root of the squared error"


def test_without_a_window_only_the_floor_holds() -> None:
    assert scale_for(np.array([]), 0.5, 0.05) == 0.0


@pytest.mark.parametrize(("calls", "share"), [(None, 0.2), (1000.0, 0.2), (100.0, 0.1), (1.0, 0.05)])
def test_a_budget_lowers_the_share_to_the_floor_at_most(calls: float | None, share: float) -> None:
    assert affordable_share(0.2, 1000.0, calls, 0.05) == pytest.approx(share)
    assert affordable_share(0.2, 0.0, calls, 0.05) == 0.2


@pytest.mark.parametrize(("kind", "pi_min", "wider"), [(0.01, 0.1, 1.02), (0.05, 0.1, 1.1), (0.01, 0.05, 1.07)])
def test_the_cost_of_a_kind_without_an_expected_error(kind: float, pi_min: float, wider: float) -> None:
    """Share 0.2. Other answers have a mean of 0.8; those of the kind are all bad, and the model expects no error there.

    The spread of 4 000 means of 2 000 answers has a standard error of 1.6 %, hence 0.06 of the ratio at 2.6.
    """
    rng = np.random.default_rng(7)
    n, known = 2_000, 4_000
    residual = np.where(np.arange(n) < kind * n, 0.0, 0.16)
    values = np.where(residual == 0.0, 0.0, (rng.random(n) < 0.8).astype(float))
    model = np.full(n, 0.16)  # what the scale is chosen on: the kind is new
    pi = inclusion(residual, scale_for(model, 0.2, pi_min), pi_min)

    def spread(pi: np.ndarray) -> float:
        drawn = (rng.random((known, n)) < pi) / pi
        means = (drawn * values).sum(axis=1) / drawn.sum(axis=1)
        return float(np.sqrt(np.mean((means - values.mean()) ** 2)))

    assert spread(pi) / spread(np.full(n, 0.2)) == pytest.approx(wider, abs=0.06)
