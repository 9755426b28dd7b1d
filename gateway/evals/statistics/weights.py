"""Means of what was sampled with known, unequal probability, as they would be over everything.

Plain functions on arrays first; then WeightedMean, the accumulator behind the gauges and the report. How to use it:

    quality = WeightedMean()
    quality.add("error", 0.0)                   # one scored exchange of stratum "error"
    quality.add_not_applicable("error")         # the scorer had nothing to say: counts for the rate, not for the mean
    quality.add_nonresponse("rest")             # scorer error, timeout or budget
    quality.estimate({"error": 40, "rest": 3960})     # N_h, from the Tallies

Realised rates: a stratum's weight is w_h = N_h / n_h, n_h = scored + not applicable (never scored alone: what does not
apply would silently be given the value of what does), so drops and nonresponse inside a stratum are made up for.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gateway.evals.statistics.asymptotic import Tuning, half_width
from gateway.evals.statistics.domains import Floats, at_least, finite, not_negative, positive, same_length, vector
from gateway.evals.statistics.state import State, load

SCORES = (0.0, 1.0)
UNBOUNDED = (-math.inf, math.inf)


def horvitz_thompson_mean(values: ArrayLike, pi: ArrayLike, population: float) -> float:
    """sum(y / pi) / N: unbiased, but not bounded by the values. N > 0; see hajek_mean for values and pi.

    Source: Horvitz & Thompson 1952, JASA 47.
    """
    y, weights = _weighted("values, pi", values, pi)
    if weights.max() > 1:
        raise ValueError(f"pi: {weights.max()} is outside (0, 1]")
    return float((y / weights).sum()) / positive("population", population)


def hajek_mean(values: ArrayLike, weights: ArrayLike) -> float:
    """sum(w y) / sum(w): between the smallest and the largest value; its bias is of order 1/n.

    values, weights: shape (n,), n >= 1, finite, weights > 0 (1 / pi, or realised). Source: Hajek 1971.
    """
    y, w = _weighted("values, weights", values, weights)
    return float((w * y).sum() / w.sum())


def kish_size(weights: ArrayLike) -> float:
    """(sum w)^2 / sum(w^2): so many equally weighted values tell as much. Source: Kish 1965, section 11.7."""
    w = _weighted("weights", weights, weights)[1]
    return float(w.sum() ** 2 / (w**2).sum())


def hajek_terms(values: ArrayLike, weights: ArrayLike) -> Floats:
    """z_i = n w_i (y_i - mean) / sum(w): the Hajek mean moves like their plain mean; variance sum(z^2) / n^2.

    Shapes as in hajek_mean, result (n,), summing to 0. Source: Saerndal, Swensson & Wretman 1992, result 5.7.1.
    """
    y, w = _weighted("values, weights", values, weights)
    return np.asarray(y.size * w * (y - hajek_mean(y, w)) / w.sum(), dtype=np.float64)


def realised_weight(population: float, responded: float) -> float | None:
    """w_h = N_h / n_h, 0.0 for an empty stratum; None if n_h = 0 < N_h: nothing is known there, so there is no mean.

    population, responded >= 0; else ValueError.
    """
    not_negative("population", population)
    if not_negative("responded", responded) == 0:
        return None if population > 0 else 0.0
    return population / responded


@dataclass(frozen=True, slots=True)
class WeightedEstimate:
    """A weighted mean and what it rests on."""

    mean: float | None  # None: a stratum without a single answer (see missing), or nothing applicable
    low: float  # valid at any time; the support while mean is None or effective_n is below the burn-in
    high: float
    n: int  # scored
    not_applicable: int
    effective_n: float  # Kish; 0.0 if nothing is scored
    nonresponse: float | None  # share of the population whose scoring fails (error, timeout, budget); None: no samples
    missing: tuple[str, ...]  # strata with n_h = 0 < N_h


@dataclass(frozen=True, slots=True)
class Totals:
    """Increments of two counters whose ratio, over any window, is the weighted mean."""

    weighted_sum: float
    weight: float
    unspent: dict[str, float]  # N_h of the strata without an answer


@dataclass(slots=True)
class Stratum:
    """Sums over one stratum. u: the weight of one unit before calibration, nearly always 1."""

    n: int = 0  # scored
    not_applicable: int = 0
    nonresponse: int = 0  # error, timeout, budget
    responded: float = 0.0  # sum of u over scored and not applicable
    u: float = 0.0  # sums over the scored
    u_x: float = 0.0
    uu: float = 0.0
    uu_x: float = 0.0
    uu_xx: float = 0.0

    def __post_init__(self) -> None:
        for name in ("n", "not_applicable", "nonresponse"):
            at_least(name, getattr(self, name), 0)
        for name in ("responded", "u", "u_x", "uu", "uu_x", "uu_xx"):
            finite(name, getattr(self, name))

    @classmethod
    def from_sums(
        cls, n: int, total: float, squares: float, not_applicable: int = 0, nonresponse: int = 0
    ) -> "Stratum":
        """From what SQL gives: COUNT, SUM(value), SUM(value * value) of the scored, and the other counts; all u = 1."""
        return cls(n, not_applicable, nonresponse, n + not_applicable, n, total, n, total, squares)

    def add(self, x: float, u: float) -> None:
        """One scored unit."""
        self.n += 1
        self.responded += u
        self.u += u
        self.u_x += u * x
        self.uu += u * u
        self.uu_x += u * u * x
        self.uu_xx += u * u * x * x

    def merge(self, other: "Stratum") -> None:
        """Adds other's sums."""
        for name, value in asdict(other).items():
            setattr(self, name, getattr(self, name) + value)

    @property
    def samples(self) -> int:
        """Everything of this stratum that reached the scorer."""
        return self.n + self.not_applicable + self.nonresponse


@dataclass(slots=True)
class WeightedMean:
    """A mean by stratum, added to one exchange at a time or merged; N_h comes in only when it is read.

    So the same sums serve the gauge now and the report later, and no order of arrival or merging matters (up to
    rounding). Where a stratum's pi changed with a new configuration, pass weight = 1 / pi: the weights of a stratum are
    scaled to sum to N_h, which for equal ones is N_h / n_h. With conversations as units, add one value a conversation,
    its mean, with its length as weight.
    """

    strata: dict[str, Stratum] = field(default_factory=dict)

    def add(self, stratum: str, value: float, weight: float = 1.0) -> None:
        """One scored exchange. Raises ValueError unless value is finite and weight positive."""
        finite("value", value)
        self._at(stratum).add(value, positive("weight", weight))

    def add_not_applicable(self, stratum: str, weight: float = 1.0) -> None:
        """One exchange to which the scorer does not apply: it counts in n_h, not in the mean."""
        sums = self._at(stratum)
        sums.responded += positive("weight", weight)
        sums.not_applicable += 1

    def add_nonresponse(self, stratum: str) -> None:
        """One exchange whose scoring ended in error, timeout or budget: taken to be like the others of its stratum."""
        self._at(stratum).nonresponse += 1

    def merge(self, other: "WeightedMean") -> None:
        """Adds all of other, e.g. of another process or another interval with the same rates."""
        for name, sums in other.strata.items():
            self._at(name).merge(sums)

    def totals(self, population: Mapping[str, float]) -> Totals:
        """What to add to the two counters when an interval of Tallies closes; population: N_h of the interval.

        Add `unspent` to the next interval's population: those exchanges are not represented yet.
        """
        factors = self._factors(population)
        known = [(factor, self._sums(name)) for name, factor in factors.items() if factor is not None]
        return Totals(
            weighted_sum=sum(factor * sums.u_x for factor, sums in known),
            weight=sum(factor * sums.u for factor, sums in known),
            unspent={name: population.get(name, 0.0) for name, factor in factors.items() if factor is None},
        )

    def estimate(
        self,
        population: Mapping[str, float] | None = None,
        tuning: Tuning | None = None,
        support: tuple[float, float] = SCORES,
    ) -> WeightedEstimate:
        """The Hajek mean over the applicable part of the population, with an interval valid at any time.

        mean = sum_h f_h sum(u x) / sum_h f_h sum(u), f_h = N_h / sum(u over scored and not applicable). The interval is
        an asymptotic confidence sequence on the terms f u (x - mean), at n = effective_n; weights are taken as fixed,
        which errs to the wide side. On a bounded support the variance gains (w (highest - lowest) / 2)^2, w being the
        half-width for deviation 1: what a run of equal values leaves open (compare Wilson's interval). Without it the
        rate of a rule that 99 % pass would be missed in 24 % of the sequences.

        population: N_h by stratum. A Tally may lag behind: N_h is at least what was sampled here. None: the weights as
        given (nominal rates). support: where the mean can lie; UNBOUNDED for latency or cost.
        Raises ValueError if an N_h is negative. Source: hajek_terms, asymptotic.half_width.
        """
        factors = self._factors(population)
        missing = tuple(sorted(name for name, factor in factors.items() if factor is None))
        known = [(factor, self._sums(name)) for name, factor in factors.items() if factor is not None]
        weight = sum(factor * sums.u for factor, sums in known)
        squares = sum(factor**2 * sums.uu for factor, sums in known)
        size = weight**2 / squares if squares else 0.0
        mean = sum(factor * sums.u_x for factor, sums in known) / weight if weight and not missing else None
        low, high = support if mean is None else _interval(known, mean, size, tuning or Tuning(), support)
        scored = sum(sums.n for sums in self.strata.values())
        aside = sum(sums.not_applicable for sums in self.strata.values())
        return WeightedEstimate(mean, low, high, scored, aside, size, self._nonresponse(population), missing)

    def state(self) -> State:
        """A JSON-able dict from which from_state continues with the same bits."""
        return {"strata": {name: asdict(sums) for name, sums in self.strata.items()}}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> "WeightedMean":
        """Raises ValueError if the state is of another kind."""
        mean = load(cls, state)
        mean.strata = {name: load(Stratum, sums) for name, sums in state["strata"].items()}
        return mean

    def _at(self, stratum: str) -> Stratum:
        return self.strata.setdefault(stratum, Stratum())

    def _sums(self, stratum: str) -> Stratum:
        return self.strata.get(stratum, Stratum())

    def _population(self, population: Mapping[str, float]) -> dict[str, float]:
        names = [*population, *(name for name in self.strata if name not in population)]
        for name in population:
            not_negative(f"population[{name!r}]", population[name])
        return {name: max(population.get(name, 0.0), self._sums(name).samples) for name in names}

    def _factors(self, population: Mapping[str, float] | None) -> dict[str, float | None]:
        if population is None:
            return {name: 1.0 if sums.responded else None for name, sums in self.strata.items()}
        sizes = self._population(population)
        return {name: realised_weight(size, self._sums(name).responded) for name, size in sizes.items()}

    def _nonresponse(self, population: Mapping[str, float] | None) -> float | None:
        """By stratum N_h times the share of its samples; strata without samples say nothing."""
        sizes = self._population(population or {})
        parts = [(sizes[name], sums) for name, sums in self.strata.items() if sums.samples]
        total = sum(size for size, _ in parts)
        return sum(size * sums.nonresponse / sums.samples for size, sums in parts) / total if total else None


def _interval(
    known: list[tuple[float, Stratum]], mean: float, size: float, tuning: Tuning, support: tuple[float, float]
) -> tuple[float, float]:
    squares = sum(f * f * sums.uu for f, sums in known)
    spread = sum(f * f * (sums.uu_xx - 2.0 * mean * sums.uu_x + mean * mean * sums.uu) for f, sums in known)
    variance = max(spread, 0.0) / squares
    unit, width = half_width(1.0, size, tuning), support[1] - support[0]
    if math.isinf(unit):
        return support
    if math.isfinite(width):
        variance += (width * unit / 2.0) ** 2
    half = unit * math.sqrt(variance)
    return max(support[0], mean - half), min(support[1], mean + half)


def _weighted(names: str, values: ArrayLike, weights: ArrayLike) -> tuple[Floats, Floats]:
    y, w = vector("values", values), vector("weights", weights)
    same_length(names, y, w)
    positive(f"smallest of {names.rpartition(' ')[2]}", float(w.min()))
    return y, w
