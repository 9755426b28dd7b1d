"""Betting on the mean of values in [0, 1]: the tightest confidence sequence where the conditional mean is constant.

For replays, and for plans that say `stationary: true`. Live traffic drifts and needs empirical_bernstein.py.
Source: Waudby-Smith & Ramdas 2024, "Estimating means of bounded random variables by betting", JRSS-B 86(1),
arXiv:2010.09686 (equation numbers below are those of the arXiv version).
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, at_least, between, finite, inside, not_negative, same_length, vector
from gateway.statistics.stored_state import State, Stored, dump

TRUNCATION = 0.5  # c: no bet risks more than half of the wealth


def bet(alpha: float, n: int, squares: ArrayLike) -> Floats:
    """lambda_t = sqrt(2 ln(2/alpha) / (sigma^2_{t-1} t ln(1 + t))), before truncation, for t = n + 1.

    n: number of values so far, >= 0. squares: sum of (x_i - mu_i)^2 over them, a scalar, or an array with one sum for
    each of many sequences; mu_i = (1/2 + x_1 + ... + x_i) / (i + 1), sigma^2_n = (1/4 + squares) / (n + 1). alpha: in
    (0, 1); else ValueError. The result has the shape of squares.
    Source: equations 24 to 26 (predictable plug-in, empirical Bernstein).
    """
    t = n + 1
    variance = (0.25 + np.asarray(squares, dtype=np.float64)) / t
    return np.asarray(np.sqrt(2.0 * math.log(2.0 / inside("alpha", alpha)) / (variance * t * math.log1p(t))))


def next_squares(x: float, n: int, total: float, squares: float) -> float:
    """The `squares` of bet after the value x, given the n values before it and their total."""
    return squares + (x - (0.5 + total + x) / (n + 2)) ** 2


def log_gains(x: ArrayLike, size: ArrayLike, means: Floats) -> tuple[Floats, Floats]:
    """(ln(1 + l+ (x - m)), ln(1 - l- (x - m))) for each m in means, l+ = min(size, c / m), l- = min(size, c / (1 - m)).

    means: in [0, 1]. x, in [0, 1], and size, > 0: scalars, or arrays that broadcast with means.
    Source: equations 27 and 28 (hedged capital, truncated at c = 1/2, so that no wealth reaches 0).
    """
    with np.errstate(divide="ignore"):  # m = 0 or 1 needs no truncation: c / 0 = inf
        up = np.minimum(size, TRUNCATION / means)
        down = np.minimum(size, TRUNCATION / (1.0 - means))
    apart = np.asarray(x, dtype=np.float64) - means
    return np.log1p(up * apart), np.log1p(-down * apart)


@dataclass(slots=True)
class BettingMean(Stored):
    """The confidence sequence {m: max(K+(m), K-(m)) / 2 < 1/alpha}: peeking is allowed, drift is not.

    K+(m) = prod(1 + l+_i (x_i - m)), K-(m) = prod(1 - l-_i (x_i - m)) on the grid m = 0, 1/cells, ..., 1. K+ falls and
    K- rises in m, so the set is an interval; its ends are rounded outward to the grid. Raises ValueError outside the
    domains.
    Source: Waudby-Smith & Ramdas 2024, JRSS-B 86(1), arXiv:2010.09686, section 4.
    """

    alpha: float = 0.05  # in (0, 1)
    cells: int = 1000  # of the grid of means, >= 2
    n: int = 0  # values so far
    total: float = 0.0  # their sum
    squares: float = 0.0  # sum of their squared distances from the means before them
    log_up: list[float] = field(default_factory=list)  # ln K+ at each grid point; empty: no value yet
    log_down: list[float] = field(default_factory=list)
    low: float = 0.0  # the running intersection: the highest low and the lowest high so far
    high: float = 1.0
    _means: Floats = field(init=False, repr=False, compare=False)
    _up: Floats = field(init=False, repr=False, compare=False)
    _down: Floats = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        inside("alpha", self.alpha)
        at_least("cells", self.cells, 2)
        at_least("n", self.n, 0)
        finite("total", self.total)
        not_negative("squares", self.squares)
        self._means = np.linspace(0.0, 1.0, self.cells + 1)
        nothing = np.zeros(self.cells + 1)
        self._up = vector("log_up", self.log_up) if self.log_up else nothing
        self._down = vector("log_down", self.log_down) if self.log_down else nothing
        same_length("grid, log_up, log_down", self._means, self._up, self._down)

    def add(self, x: float) -> None:
        """Takes the next value, in order of arrival. Raises ValueError outside [0, 1]."""
        between("x", x)
        up, down = log_gains(x, bet(self.alpha, self.n, self.squares), self._means)
        self._up, self._down = self._up + up, self._down + down
        self.squares = next_squares(x, self.n, self.total, self.squares)
        self.total += x
        self.n += 1
        low, high = self.interval()
        self.low, self.high = max(self.low, low), min(self.high, high)

    def interval(self) -> tuple[float, float]:
        """(low, high) by the current wealth. low > high: no constant mean fits, so the mean has moved."""
        threshold = math.log(2.0 / self.alpha)
        above = np.flatnonzero(self._up >= threshold)  # means shown to be too low
        below = np.flatnonzero(self._down >= threshold)
        low = float(self._means[above[-1]]) if above.size else 0.0
        high = float(self._means[below[0]]) if below.size else 1.0
        return low, high

    def running_interval(self) -> tuple[float, float]:
        """The intersection of all intervals so far: equally valid, never wider. low > high: the mean has moved."""
        return self.low, self.high

    def state(self) -> State:
        """A JSON-able dict from which from_state continues bit-identically; about 40 kB at 1000 cells."""
        return dump(self) | {"log_up": self._up.tolist(), "log_down": self._down.tolist()}
