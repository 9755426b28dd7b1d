"""The live default: an empirical-Bernstein confidence sequence for the running mean of bounded values; drift is fine.

Its relatives: betting.py (tighter, for a constant mean), asymptotic.py (no bounds), bernoulli.py, quantiles.py,
predictable.py; the curves they use are in boundaries.py.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from gateway.evals.statistics.boundaries import GammaExponentialMixture, StitchedBoundary, best_rho
from gateway.evals.statistics.domains import at_least, between, finite, inside, not_negative, one_of, positive
from gateway.evals.statistics.state import State, dump, load

Boundary = Literal["mixture", "stitched"]
Side = Literal["two", "greater", "less"]  # greater: the claim is that the mean is greater than the null's


def bernstein_bound(v: float, alpha: float, width: float, v_opt: float, boundary: Boundary = "mixture") -> float:
    """u(v) with P(exists t: |sum of (X_i - E[X_i | past])| >= u(V_t)) <= alpha, alpha / 2 for each side.

    v >= 0: the sum of squared distances between values and their predictions; width > 0: that of the values' range;
    v_opt > 0: the v at which the mixture is tightest (for "stitched": v_min, from where it is).
    Source: Howard et al. 2021 (arXiv:1810.08240), theorem 4 with proposition 9 or theorem 1, c = width.
    """
    each_side = inside("alpha", alpha) / 2.0
    if boundary == "stitched":
        return StitchedBoundary(v_opt, positive("width", width)).bound(v, each_side)
    return GammaExponentialMixture(best_rho(v_opt, each_side, two_sided=False), width).bound(v, each_side)


@dataclass(slots=True)
class EmpiricalBernstein:
    """A confidence sequence for (1/t) sum E[X_i | past], valid at every t at once: one may peek, and the mean may move.

    mean_t +- u(V_t) / t, V_t = sum (x_i - p_i)^2, where p_i = (middle + x_1 + ... + x_{i-1}) / i is the prediction.
    Values lie in [lowest, highest]. Source: Howard et al. 2021, theorem 4. Raises ValueError outside the domains.
    """

    alpha: float = 0.05
    lowest: float = 0.0
    highest: float = 1.0
    v_opt: float = 10.0  # sum of squared deviations at which it is tightest: 10 is 100 values of variance 0.1
    boundary: Boundary = "mixture"
    n: int = 0
    total: float = 0.0
    v: float = 0.0

    def __post_init__(self) -> None:
        inside("alpha", self.alpha)
        finite("highest", self.highest)
        positive("highest - lowest", self.highest - finite("lowest", self.lowest))
        positive("v_opt", self.v_opt)
        one_of("boundary", self.boundary, ("mixture", "stitched"))
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
        """(low, high) within [lowest, highest], which it is before the first value."""
        if self.n == 0:
            return self.lowest, self.highest
        width = self.highest - self.lowest
        half = bernstein_bound(self.v, self.alpha, width, self.v_opt, self.boundary) / self.n
        mean = self.total / self.n
        return max(self.lowest, mean - half), min(self.highest, mean + half)

    def log_e_value(self, mean: float, side: Side = "two") -> float:
        """ln of the evidence against "every E[X_i | past] is this mean" ("greater": at most it, "less": at least it).

        ln((m(s, V) + m(-s, V)) / 2), or one of the two m, with s = total - n mean and m the gamma-exponential mixture:
        a supermartingale, current value. Feed evalues.e_bh. ValueError for the stitched boundary, which is no mixture.
        """
        one_of("boundary", self.boundary, ("mixture",))
        s = self.total - self.n * finite("mean", mean)
        above, below = self._log_mixture(s), self._log_mixture(-s)
        if one_of("side", side, ("two", "greater", "less")) == "two":
            most = max(above, below)
            return most + math.log1p(math.exp(min(above, below) - most)) - math.log(2.0)
        return above if side == "greater" else below

    def _log_mixture(self, s: float) -> float:
        width = self.highest - self.lowest
        mixture = GammaExponentialMixture(best_rho(self.v_opt, self.alpha / 2.0, two_sided=False), width)
        # Further down the closed form ends; the mixture itself is positive there, so 0 errs to the safe side.
        return mixture.log_mixture(s, self.v) if s > -(self.v + mixture.rho) / width else -math.inf

    def state(self) -> State:
        """A JSON-able dict from which from_state continues with the same bits."""
        return dump(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "EmpiricalBernstein":
        """Raises ValueError if the state is of another kind."""
        return load(cls, state)


def pairs_needed(variance: float, margin: float, alpha: float, width: float = 2.0, v_opt: float = 10.0) -> int:
    """About how many values make the interval's half-width fall below margin, if their variance stays what it is.

    The smallest n with bernstein_bound(variance n) <= margin n. variance >= 0, margin > 0, width: as above.
    """
    not_negative("variance", variance)
    positive("margin", margin)

    def wide(n: int) -> bool:
        return bernstein_bound(variance * n, alpha, width, v_opt) > margin * n

    high = 1
    while wide(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if wide(middle) else (low, middle)
    return high
