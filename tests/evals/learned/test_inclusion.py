"""The mean probability is the share that was asked for, and none is below the floor."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.learned.inclusion import affordable_share, inclusion, scale_for


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
