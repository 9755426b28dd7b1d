"""Whether a calibrated probability has stopped being true: an e-process over labels that came after the calibration.

Bets are placed on p being too high and too low, and on it being too sure, which cancels in the mean. The null allows a
bias of a margin, since a map that few labels fitted is never exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, between, inside, same_length, vector

ALPHA = 0.05
"""Probability of an alarm, ever, while the bias is at most the margin."""
MARGIN = 0.02
"""Bias that is no drift."""
RESTART_EVERY = 50
"""Labels after which a further e-value begins, so that a quiet past hides no change."""
_SIZES = np.array([0.1, 0.2, 0.4, 0.8])


@dataclass(frozen=True, slots=True)
class DriftEvidence:
    """The e-process after the last label."""

    log_e: float
    """ln of its value now."""
    log_peak: float
    """The largest value so far; the alarm is on from ln(1 / alpha) on, and stays on."""
    labels: int
    first_alarm: int | None
    """Number of labels at the alarm; None while there is none."""

    @property
    def alarm(self) -> bool:
        return self.first_alarm is not None


def calibration_drift(
    p: ArrayLike, y: ArrayLike, weights: ArrayLike = 1.0, margin: float = MARGIN, alpha: float = ALPHA
) -> DriftEvidence:
    """The evidence that the mean of y - p, or of (y - p) sign(p - 1/2), is outside [-margin, margin].

    Each bet multiplies 1 + l w (d - margin) or 1 - l w (d + margin), l = 0.1, 0.2, 0.4, 0.8; one begins every 50
    labels, with the prior weight 1 / ((k + 1) (k + 2)), and the weight of those to come is kept: the average of all is
    an e-process, so the probability that it ever reaches 1 / alpha is at most alpha.
    p: shape (n,), in [0, 1]: probabilities of a map that was frozen before these labels. y: outcomes in [0, 1], in the
    order in which labels came. weights: in [0, 1], smallest pi / pi. margin: in [0, 0.2]. alpha: in (0, 1). Raises
    ValueError outside these domains.
    Source: Waudby-Smith & Ramdas 2024, arXiv:2010.09686, section 4 (bets on a mean); Shin, Ramdas & Rinaldo 2022,
    arXiv:2203.03532, section 2 (e-values that begin later); Ville 1939.
    """
    limit = -math.log(inside("alpha", alpha))
    between("margin", margin, 0.0, 0.2)
    sample = _checked(p, y, weights)
    if not sample[0].size:
        return DriftEvidence(0.0, 0.0, 0, None)
    log_e = _log_e(sample, margin)
    reached = np.flatnonzero(log_e >= limit)
    first = int(reached[0]) + 1 if reached.size else None
    return DriftEvidence(float(log_e[-1]), max(0.0, float(log_e.max())), int(log_e.size), first)


def _checked(p: ArrayLike, y: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats, Floats]:
    probability, outcome = vector("p", p, 0), vector("y", y, 0)
    same_length("p, y", probability, outcome)
    w = np.broadcast_to(np.asarray(weights, dtype=np.float64), probability.shape)
    for name, values in (("p", probability), ("y", outcome), ("weights", w)):
        if values.size:
            between(f"smallest of {name}", float(values.min()))
            between(f"largest of {name}", float(values.max()))
    return probability, outcome, w


def _log_e(sample: tuple[Floats, Floats, Floats], margin: float) -> Floats:
    """ln of the e-process after each label, shape (n,)."""
    p, y, w = sample
    plain = y - p
    directed = plain * np.where(p >= 0.5, 1.0, -1.0)
    excess = [w * (side - margin) for d in (plain, directed) for side in (d, -d)]
    gains = np.log1p(np.stack(excess, axis=1)[:, :, None] * _SIZES).reshape(p.size, -1)
    after = np.cumsum(gains, axis=0)
    starts = np.arange(p.size) % RESTART_EVERY == 0
    k = np.arange(p.size) // RESTART_EVERY
    prior = -np.log((k + 1.0) * (k + 2.0))
    begun = np.where(starts[:, None], prior[:, None] + gains - after, -np.inf)
    running = after + np.logaddexp.accumulate(begun, axis=0)
    mixed = np.logaddexp.reduce(running, axis=1) - math.log(gains.shape[1])
    return np.asarray(np.logaddexp(mixed, -np.log(k + 2.0)))  # what has not begun is worth 1 / (k + 2)
