"""Count, mean and spread of a sample, one value at a time or merged. Knows no interval."""

from dataclasses import dataclass

from numpy.typing import ArrayLike

from gateway.evals.statistics.domains import at_least, finite, not_negative, vector


@dataclass(frozen=True, slots=True)
class Moments:
    """n values with this mean and sum of squared deviations from it.

    Source: Welford 1962 (one value), Chan, Golub & LeVeque 1983 equation 2.1 (merging): no cancellation.
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
        """values: shape (n,), n >= 1, finite."""
        array = vector("values", values)
        mean = float(array.mean())
        return cls(array.size, mean, float(((array - mean) ** 2).sum()))

    @classmethod
    def from_sums(cls, n: int, total: float, squares: float) -> "Moments":
        """From n >= 1, the sum and the sum of squares, as SQL gives them; loses digits when mean^2 >> variance.

        Raises ValueError if the squares are smaller than total^2 / n by more than rounding.
        """
        mean = finite("total", total) / at_least("n", n, 1)
        m2 = finite("squares", squares) - total * mean
        return cls(n, mean, 0.0 if -1e-9 * squares <= m2 < 0 else m2)

    def add(self, x: float) -> "Moments":
        """These moments and one more finite value."""
        step = finite("x", x) - self.mean
        mean = self.mean + step / (self.n + 1)
        return Moments(self.n + 1, mean, self.m2 + step * (x - mean))

    def merge(self, other: "Moments") -> "Moments":
        """The moments of both samples together; any order gives the same up to rounding."""
        n = self.n + other.n
        if n == 0:
            return self
        step = other.mean - self.mean
        return Moments(n, self.mean + step * other.n / n, self.m2 + other.m2 + step**2 * self.n * other.n / n)

    def variance(self, ddof: int = 0) -> float:
        """m2 / (n - ddof). Raises ValueError if n <= ddof."""
        return self.m2 / (at_least("n", self.n, ddof + 1) - ddof)
