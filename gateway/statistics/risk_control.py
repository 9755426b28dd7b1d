"""Thresholds with a guarantee: who acts alone where p >= t is wrong in at most a share of those cases.

The threshold is chosen first, from predicted errors; then labels inside its zone test it, at any look. A threshold that
is chosen by its observed errors breaks the promise in about half of all worlds.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, at_least, between, inside, not_negative, same_length, vector
from gateway.statistics.special import beta_cdf, smallest

RATES = np.array([0.02, 0.05, 0.1, 0.2, 0.3, 0.45, 0.6, 0.8])
"""Error rates that are bet on, in units of the bound."""
AIMS = (0.6, 0.3)
"""Predicted error of the candidates' zones, in units of the bound: the wide one, and a stricter one. The error
probability is divided among them."""
MOST_LABELS = 20_000  # that a price is sought for


@dataclass(frozen=True, slots=True)
class RiskClaim:
    """A promise: the mean loss is at most `bound`, and the probability of promising it wrongly at most `delta`."""

    bound: float
    delta: float

    def __post_init__(self) -> None:
        inside("bound", self.bound)
        inside("delta", self.delta)

    @property
    def log_limit(self) -> float:
        """The log_evidence from which on the promise is shown."""
        return -math.log(self.delta)

    def shared(self, candidates: int) -> "RiskClaim":
        """The claim for each of several candidates, any of which may be promised."""
        return RiskClaim(self.bound, self.delta / at_least("candidates", candidates, 1))


_ROUNDING = 1e-12  # of a mean of 1 - p


def log_evidence(losses: ArrayLike, bound: float, weights: ArrayLike = 1.0) -> Floats:
    """ln of the e-value against "the mean loss is above the bound" after each label, shape (n,); valid at every look.

    The mean over the rates r of prod(1 + l_r w (bound - loss)), l_r = (bound - r) / (bound (1 - bound)). With w = 1 it
    is the likelihood ratio (r / bound)^wrong ((1 - r) / (1 - bound))^right. Once it reaches ln(1 / delta), the promise
    holds with confidence 1 - delta.
    losses: shape (n,), in [0, 1], in the order in which labels came. bound: in (0, 1). weights: in [0, 1], smallest
    pi / pi where labels were drawn with unequal probability. Raises ValueError outside these domains.
    Source: Waudby-Smith & Ramdas 2024, arXiv:2010.09686, section 4 (betting on bounded means); Angelopoulos, Bates,
    Candes, Jordan & Lei 2021, "Learn then test", arXiv:2110.01052 (thresholds as hypotheses).
    """
    loss = vector("losses", losses, 0)
    w = np.broadcast_to(np.asarray(weights, dtype=np.float64), loss.shape)
    for name, values in (("losses", loss), ("weights", w)):
        if values.size:
            between(f"smallest of {name}", float(values.min()))
            between(f"largest of {name}", float(values.max()))
    size = (1.0 - RATES) / (1.0 - inside("bound", bound))
    gains = np.cumsum(np.log1p(size * (w * (bound - loss))[:, None]), axis=0)
    return np.asarray(np.logaddexp.reduce(gains, axis=1) - math.log(RATES.size))


def candidate_threshold(probabilities: ArrayLike, aim: float, weights: ArrayLike | None = None) -> float | None:
    """The smallest t whose zone p >= t has a weighted mean of 1 - p of at most aim; None if there is none.

    probabilities: shape (n,), n >= 1, in [0, 1]: calibrated, of all traffic. aim: in (0, 1). weights: shape (n,), >= 0;
    None if all are equal. Raises ValueError outside these domains.
    Source: none; the test of the zone does not rely on it.
    """
    p = _in_unit("probabilities", probabilities)
    w = np.ones(p.size) if weights is None else vector("weights", weights)
    same_length("probabilities, weights", p, w)
    not_negative("smallest weight", float(w.min()))
    order = np.argsort(-p, kind="stable")
    errors = np.cumsum((w * (1.0 - p))[order])
    return _last_threshold(p[order], errors <= (inside("aim", aim) + _ROUNDING) * np.cumsum(w[order]))


def average_threshold(probabilities: ArrayLike, losses: ArrayLike, bound: float) -> float | None:
    """The smallest t with (sum of the losses where p >= t + 1) / (n + 1) <= bound; None if there is none.

    Acting where p >= t then has a mean loss over *all* traffic of at most the bound, on average over draws of these
    labels; no single threshold is guaranteed.
    probabilities, losses: shape (n,), n >= 1, in [0, 1], of labels that were drawn with equal probability and that the
    calibration of p has not seen. bound: in (0, 1). Raises ValueError outside these domains.
    Source: Angelopoulos, Bates, Fisch, Lei & Schuster 2022, "Conformal risk control", arXiv:2208.02814, theorem 1.
    """
    p, loss = _in_unit("probabilities", probabilities), _in_unit("losses", losses)
    same_length("probabilities, losses", p, loss)
    order = np.argsort(-p, kind="stable")
    return _last_threshold(p[order], np.cumsum(loss[order]) + 1.0 <= inside("bound", bound) * (p.size + 1.0))


def labels_at_any_look(true_error: float, claim: RiskClaim, power: float = 0.8, most: int = MOST_LABELS) -> int | None:
    """Labels in the zone after which a promise that holds is shown with this probability, if each look counts.

    true_error: of the zone, in [0, 1). power: in (0, 1). most: None is the answer if this many do not suffice. Raises
    ValueError outside these domains.
    Source: the recursion over the number of wrong labels (Armitage, McPherson & Rowe 1969, JRSS-A 132(2), section 2).
    """
    not_negative("true_error", between("true_error", true_error, 0.0, 1.0))
    inside("power", power)
    if true_error >= claim.bound:
        return None
    going = np.zeros(_reach(most, claim.bound))  # probability of each number of wrong labels, nothing shown yet
    going[0], shown, allowed = 1.0, 0.0, -1
    for n in range(1, at_least("most", most, 1) + 1):
        going[1:] = going[1:] * (1.0 - true_error) + going[:-1] * true_error
        going[0] *= 1.0 - true_error
        if _log_e(allowed + 1, n, claim.bound) >= claim.log_limit:
            allowed += 1
        shown += float(going[: allowed + 1].sum())
        going[: allowed + 1] = 0.0
        if shown >= power:
            return n
    return None


def labels_at_one_look(true_error: float, claim: RiskClaim, power: float = 0.8, most: int = MOST_LABELS) -> int | None:
    """Labels in the zone with which the exact binomial test shows a promise that holds with this probability, if their
    number is fixed beforehand and only it counts. Arguments and errors as in labels_at_any_look.
    Source: Clopper & Pearson 1934, Biometrika 26(4).
    """
    inside("power", power)
    if not between("true_error", true_error) < claim.bound:
        return None
    return smallest(lambda n: _power(n, true_error, claim) >= power, 1, at_least("most", most, 1))


def _power(n: int, true_error: float, claim: RiskClaim) -> float:
    """Probability that the exact test of n labels shows the claim."""
    low, high = -1, n  # wrong labels that are few enough, and those that are too many
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _at_most(middle, n, claim.bound) <= claim.delta else (low, middle)
    return _at_most(low, n, true_error) if low >= 0 else 0.0


def _at_most(k: int, n: int, rate: float) -> float:
    """P(Bin(n, rate) <= k), for 0 <= k < n."""
    return beta_cdf(n - k, k + 1, 1.0 - rate)


def _log_e(wrong: int, n: int, bound: float) -> float:
    if wrong > n:
        return -math.inf
    right = (n - wrong) * (np.log1p(-RATES * bound) - math.log1p(-bound))
    return float(np.logaddexp.reduce(wrong * np.log(RATES) + right) - math.log(RATES.size))


def _reach(most: int, bound: float) -> int:
    """Numbers of wrong labels that are followed; with more, nothing can be shown within `most` labels."""
    return int(most * bound + 10) + 1


def _last_threshold(falling: Floats, enough: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> float | None:
    """The last of the falling probabilities at which the condition holds, after all that are equal to it."""
    last = np.append(falling[1:] < falling[:-1], True)
    fitting = np.flatnonzero(enough & last)
    return float(falling[fitting[-1]]) if fitting.size else None


def _in_unit(name: str, values: ArrayLike) -> Floats:
    array = vector(name, values)
    between(f"smallest of {name}", float(array.min()))
    between(f"largest of {name}", float(array.max()))
    return array
