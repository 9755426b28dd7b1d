"""E-values: evidence against a null hypothesis that is valid at every look. The betting test, and e-BH."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.statistics.betting import bet, log_gains, next_squares
from gateway.statistics.domains import at_least, between, finite, inside, not_negative, vector
from gateway.statistics.stored_state import Stored


def aa_increment(to_candidate: float, to_repeat: float) -> float:
    """(T + 1) / 2 for T = d(A1, B) - d(A1, A2): under "B is like A" its conditional mean is 1/2.

    to_candidate: d(A1, B). to_repeat: d(A1, A2). Both in [0, 1]; else ValueError. Input for BettingTest(mean=0.5).
    """
    return 0.5 * (between("to_candidate", to_candidate) - between("to_repeat", to_repeat) + 1.0)


@dataclass(slots=True)
class BettingTest(Stored):
    """Two-sided test of E[X_i | past] = mean for X in [0, 1], by betting; stopping at any time is allowed.

    The e-value (K+(mean) + K-(mean)) / 2 is a nonnegative martingale that starts at 1 under the null, K as in
    BettingMean. Raises ValueError outside the domains.
    Source: Waudby-Smith & Ramdas 2024, arXiv:2010.09686, section 4.
    """

    mean: float = 0.5  # in (0, 1)
    alpha: float = 0.05  # in (0, 1); only tunes the bets
    n: int = 0  # values so far
    total: float = 0.0  # their sum
    squares: float = 0.0  # sum of their squared distances from the means before them
    log_up: float = 0.0  # ln K+(mean)
    log_down: float = 0.0  # ln K-(mean)
    log_peak: float = 0.0  # the largest log_e_value so far, at least 0

    def __post_init__(self) -> None:
        inside("mean", self.mean)
        inside("alpha", self.alpha)
        at_least("n", self.n, 0)
        not_negative("squares", self.squares)
        for name in ("total", "log_up", "log_down", "log_peak"):
            finite(name, getattr(self, name))

    def add(self, x: float) -> None:
        """Takes the next value, in order of arrival. Raises ValueError outside [0, 1]."""
        between("x", x)
        up, down = log_gains(x, bet(self.alpha, self.n, self.squares), np.array([self.mean]))
        self.log_up += float(up[0])
        self.log_down += float(down[0])
        self.squares = next_squares(x, self.n, self.total, self.squares)
        self.total += x
        self.n += 1
        self.log_peak = max(self.log_peak, self.log_e_value)

    @property
    def log_e_value(self) -> float:
        """ln of the current e-value. exp of it may overflow."""
        most, least = max(self.log_up, self.log_down), min(self.log_up, self.log_down)
        return most + math.log1p(math.exp(least - most)) - math.log(2.0)

    @property
    def p_value(self) -> float:
        """1 / the largest e-value so far, at most 1: valid at any time (Ville's inequality). e-BH needs log_e_value."""
        return math.exp(-self.log_peak)


def e_bh(log_e_values: Sequence[float], alpha: float) -> list[int]:
    """Indices, ascending, of the nulls rejected with false discovery rate <= alpha under any dependence.

    The k largest, for the largest k whose k-th largest e-value is at least n / (alpha k). Take current e-values, never
    running maxima. log_e_values: shape (n,), may be empty; -inf (e = 0) is allowed, NaN and inf are not. alpha: in
    (0, 1). Raises ValueError outside these domains.
    Source: Wang & Ramdas 2022, "False discovery rate control with e-values", JRSS-B 84(3), arXiv:2009.02824, section 4.
    """
    inside("alpha", alpha)
    values = vector("log_e_values", [max(float(e), -1e300) for e in log_e_values], 0)
    order = np.argsort(-values, kind="stable")
    needed = math.log(max(values.size, 1) / alpha) - np.log(np.arange(1, values.size + 1))
    enough = np.flatnonzero(values[order] >= needed)
    return sorted(int(i) for i in order[: enough[-1] + 1]) if enough.size else []
