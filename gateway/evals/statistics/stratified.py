"""From sums by stratum to weighted means as they would be over all traffic. Pure; store and report feed it."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from gateway.evals.statistics.asymptotic import Tuning
from gateway.evals.statistics.weights import Stratum, WeightedEstimate, WeightedMean


@dataclass(frozen=True, slots=True)
class StratumSums:
    """What was sampled of one stratum. name: unique among those averaged together (with alias and model, if these
    differ). inverse_pi: sum of 1 / pi over all its samples. population: N_h from the Tallies; 0: none has come. units:
    sums over units of n scores that add up to t, which are what is independent: of n², n t and t²; None: every exchange
    is a unit of its own."""

    name: str
    scored: int
    total: float
    squares: float
    not_applicable: int = 0
    nonresponse: int = 0
    inverse_pi: float = 0.0
    population: float = 0.0
    units: tuple[float, float, float] | None = None


def weighted_mean(
    strata: Iterable[StratumSums], bounds: tuple[float | None, float | None], tuning: Tuning | None = None
) -> WeightedEstimate:
    """The Hajek mean with realised rates N_h / n_h, and its interval, valid at any time.

    While no Tally has come for any of these strata, N_h is estimated by the sum of 1 / pi: nominal rates. bounds: of a
    value; the interval stays inside them.
    """
    mean, population, nominal = WeightedMean(), {}, {}
    for s in strata:
        sums = Stratum.from_sums(s.scored, s.total, s.squares, s.not_applicable, s.nonresponse)
        if s.units is not None:
            sums.uu, sums.uu_x, sums.uu_xx = s.units
        mean.strata[s.name] = sums
        population[s.name] = s.population
        nominal[s.name] = s.inverse_pi
    counted = any(population.values())
    low, high = bounds
    support = (-math.inf if low is None else low, math.inf if high is None else high)
    return mean.estimate(population if counted else nominal, tuning, support)
