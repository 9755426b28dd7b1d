"""The probability with which a judge sees an exchange: π(x) = clip(c √r̂(x), π_min, 1). Pure.

r̂ is the predicted squared error of the prediction. For a fixed mean of π, the variance of the judge's estimated mean is
smallest where π is proportional to the root of the error's second moment. The probability is known before the draw, so
a poor r̂ costs precision and never correctness.
Source: Angelopoulos et al., "Cost-Optimal Active AI Model Evaluation", arXiv:2506.07949.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_STEPS = 60
TINY = 1e-6
"""Lower bound of a predicted squared error: a model that claims to know everything is not believed."""


def inclusion(residual: Floats, c: float, pi_min: float) -> Floats:
    """π of each exchange. residual: shape (n,), predicted squared errors. Returns shape (n,), in [pi_min, 1]."""
    return np.clip(c * np.sqrt(np.maximum(residual, TINY)), pi_min, 1.0)


def scale_for(residual: Floats, share: float, pi_min: float) -> float:
    """The c with which the mean of π is `share`; 0 where the floor alone reaches it. residual: as in inclusion."""
    if residual.size == 0 or share <= pi_min:
        return 0.0
    low, high = 0.0, 1.0 / float(np.sqrt(TINY))
    for _ in range(_STEPS):
        middle = (low + high) / 2
        low, high = (low, middle) if inclusion(residual, middle, pi_min).mean() > share else (middle, high)
    return low


def affordable_share(share: float, exchanges_a_day: float, calls_a_day: float | None, pi_min: float) -> float:
    """The share that a budget affords, at least pi_min: the judge then stops when the budget is spent, as always.

    exchanges_a_day: that are recorded. calls_a_day: that today's budget pays; None if it is unlimited, or what a call
    costs is not known yet.
    """
    if calls_a_day is None or exchanges_a_day <= 0:
        return share
    return max(pi_min, min(share, calls_a_day / exchanges_a_day))
