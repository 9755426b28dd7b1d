"""The default on live traffic: an empirical-Bernstein confidence sequence for the running mean of bounded values.

The mean may drift. Alternatives: betting.py (tighter, for a constant mean), asymptotic.py (unbounded values),
bernoulli.py (rates), quantiles.py.
"""

import math
from dataclasses import dataclass
from typing import Literal

from gateway.statistics.boundaries import GammaExponentialMixture, best_rho
from gateway.statistics.domains import at_least, between, finite, inside, not_negative, one_of, positive
from gateway.statistics.stored_state import Stored

Side = Literal["two", "greater", "less"]  # greater: the claim is that the mean is greater than the null's


def bernstein_bound(v: float, alpha: float, width: float, v_opt: float) -> float:
    """u(v) with P(exists t: |sum of (X_i - E[X_i | past])| >= u(V_t)) <= alpha, alpha / 2 for each side.

    v: sum of squared distances between values and their predictions, >= 0. alpha: in (0, 1). width: of the values'
    range, > 0. v_opt: the v at which the bound is tightest, > 0. The unit is that of the values. Raises ValueError
    outside these domains.
    Source: Howard et al. 2021 (arXiv:1810.08240), theorem 4 with proposition 9, c = width.
    """
    return _mixture(alpha, width, v_opt).bound(v, inside("alpha", alpha) / 2.0)


def _mixture(alpha: float, width: float, v_opt: float) -> GammaExponentialMixture:
    return GammaExponentialMixture(best_rho(v_opt, inside("alpha", alpha) / 2.0, two_sided=False), width)


@dataclass(slots=True)
class EmpiricalBernstein(Stored):
    """Confidence sequence for (1/t) sum E[X_i | past], valid at every t at once: peeking is allowed, drift is allowed.

    mean_t +- u(V_t) / t, V_t = sum (x_i - p_i)^2, where p_i = (middle + x_1 + ... + x_{i-1}) / i is the prediction.
    Raises ValueError outside the domains.
    Source: Howard, Ramdas, McAuliffe & Sekhon 2021, Annals of Statistics 49(2), arXiv:1810.08240, theorem 4.
    """

    alpha: float = 0.05  # in (0, 1)
    lowest: float = 0.0  # values lie in [lowest, highest]
    highest: float = 1.0
    v_opt: float = 10.0  # sum of squared deviations at which it is tightest: 10 is 100 values of variance 0.1
    boundary: Literal["mixture"] = "mixture"  # the only one; a key of every stored state
    n: int = 0  # values so far
    total: float = 0.0  # their sum
    v: float = 0.0  # sum of their squared distances from the predictions

    def __post_init__(self) -> None:
        inside("alpha", self.alpha)
        finite("highest", self.highest)
        positive("highest - lowest", self.highest - finite("lowest", self.lowest))
        positive("v_opt", self.v_opt)
        one_of("boundary", self.boundary, ("mixture",))
        at_least("n", self.n, 0)
        finite("total", self.total)
        not_negative("v", self.v)

    def add(self, x: float) -> None:
        """Takes the next value, in order of arrival. Raises ValueError outside [lowest, highest]."""
        between("x", x, self.lowest, self.highest)
        prediction = (0.5 * (self.lowest + self.highest) + self.total) / (self.n + 1)
        self.v += (x - prediction) ** 2
        self.total += x
        self.n += 1

    @property
    def mean(self) -> float | None:
        """The mean of the values so far; None before the first."""
        return self.total / self.n if self.n else None

    def interval(self) -> tuple[float, float]:
        """(low, high) within [lowest, highest]; the whole range before the first value."""
        if self.n == 0:
            return self.lowest, self.highest
        half = bernstein_bound(self.v, self.alpha, self.highest - self.lowest, self.v_opt) / self.n
        mean = self.total / self.n
        return max(self.lowest, mean - half), min(self.highest, mean + half)

    def log_e_value(self, mean: float, side: Side = "two") -> float:
        """ln of the current e-value against "every E[X_i | past] is this mean"; input for e_bh.

        side "greater": against "at most this mean"; "less": against "at least this mean". With s = total - n mean and m
        the gamma-exponential mixture, the e-value is m(s, V), m(-s, V), or for two sides their average, which is a
        supermartingale. Raises ValueError unless mean is finite and side is known.
        """
        s = self.total - self.n * finite("mean", mean)
        above, below = self._log_mixture(s), self._log_mixture(-s)
        if one_of("side", side, ("two", "greater", "less")) == "two":
            most = max(above, below)
            return most + math.log1p(math.exp(min(above, below) - most)) - math.log(2.0)
        return above if side == "greater" else below

    def _log_mixture(self, s: float) -> float:
        width = self.highest - self.lowest
        mixture = _mixture(self.alpha, width, self.v_opt)
        # The closed form is undefined further down; the mixture itself is positive there, so 0 is conservative.
        return mixture.log_mixture(s, self.v) if s > -(self.v + mixture.rho) / width else -math.inf
