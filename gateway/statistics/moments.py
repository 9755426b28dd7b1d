"""Count, mean and variance of a sample. Intervals are in the modules that use them."""

import math
from dataclasses import dataclass

from numpy.typing import ArrayLike

from gateway.statistics.domains import at_least, finite, not_negative, vector

_set = object.__setattr__


@dataclass(frozen=True, slots=True)
class Moments:
    """Moments of n values with this mean and sum of squared deviations from it.

    Raises ValueError for a negative n or m2, and for a mean that is not finite. Source: Welford 1962 (no cancellation).
    """

    n: int = 0
    mean: float = 0.0  # 0.0 while n = 0
    m2: float = 0.0  # sum of (x - mean)^2

    def __post_init__(self) -> None:
        at_least("n", self.n, 0)
        finite("mean", self.mean)
        not_negative("m2", self.m2)

    @classmethod
    def of(cls, values: ArrayLike) -> "Moments":
        """The moments of values: shape (n,), n >= 1, finite; else ValueError."""
        array = vector("values", values)
        mean = float(array.mean())
        return cls(array.size, mean, float(((array - mean) ** 2).sum()))

    def add(self, x: float) -> "Moments":
        """The moments with one more value. Raises ValueError unless x is finite."""
        step = finite("x", x) - self.mean
        mean = self.mean + step / (self.n + 1)
        m2 = self.m2 + step * (x - mean)
        if not m2 < math.inf:
            return Moments(self.n + 1, mean, m2)  # raises where it has to
        made = object.__new__(Moments)  # without its checks, which take longer than the rest and hold here
        _set(made, "n", self.n + 1)
        _set(made, "mean", mean)
        _set(made, "m2", m2)
        return made

    def variance(self, ddof: int = 0) -> float:
        """m2 / (n - ddof). Raises ValueError if n <= ddof."""
        return self.m2 / (at_least("n", self.n, ddof + 1) - ddof)
