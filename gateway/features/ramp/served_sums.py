"""The values of the units that one arm of a ramp served, as sums. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from gateway.features.experiments.split import ArmMean
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.domains import Floats


@dataclass(frozen=True, slots=True)
class ServedSums:
    """The values of one arm's units: each unit counts once, with its mean."""

    n: float = 0  # a sum of weights where callers are thinned
    total: float = 0.0
    squares: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> ServedSums:
        """values: shape (n,), without NaN."""
        return cls(values.size, float(values.sum()), float(values @ values))

    @property
    def mean(self) -> float:
        return self.total / self.n if self.n else 0.0

    def arm_mean(self, bounded: bool, tuning: Tuning) -> ArmMean:
        """n must be above 0. bounded: the variance gains what a run of equal values leaves open (split.py)."""
        variance = max(self.squares / self.n - self.mean**2, 0.0)
        if bounded and self.n >= tuning.burn_in:
            variance += (half_width(1.0, self.n, tuning) / 2.0) ** 2
        return ArmMean(self.mean, variance, float(self.n), round(self.n))

    def plus(self, other: ServedSums) -> ServedSums:
        return ServedSums(self.n + other.n, self.total + other.total, self.squares + other.squares)
