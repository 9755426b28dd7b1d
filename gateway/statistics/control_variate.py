"""The mean of a judge's (or people's) verdicts with a model's predictions as control variates.

A model predicts every recorded exchange; a judge sees each with a known probability; people may see a part of what was
judged. Every later stage corrects the previous one: mean(g on all) + mean(xi/pi (h - g)), weighted by the value of the
prediction. The correction has expectation 0 whatever the model predicts, because the probability and the prediction are
fixed before the draw: a bad model costs precision, never validity. Everything is computed from sums by stratum, see
StageSums. The training, the choice of pi and the tables are elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.domains import Floats, at_least, not_negative
from gateway.statistics.special import student_quantile, two_sided_z

FEWEST = 10.0  # effective answers of the last stage; with fewer there is no interval for one look


@dataclass(frozen=True, slots=True)
class StageSums:
    """Sums over the exchanges of one stratum, of the vector x = (B, D, E1, E2, E1', E2', ...).

    With delta_k: stage k was drawn, pi_k: the probability of that given the stage before, P_k = product of
    delta_j / pi_j up to stage k, K: the last stage, a: it answered and the scorer applies, y: the last stage's verdict
    and p_k what predicts it at stage k (the model's g at stage 1, the judge's h at stage 2), all in [0, 1]:
    B = P_K a y, D = P_K a, E1 = P_(k-1) (1 - delta_k / pi_k), E2 = p_k E1, one pair for each stage.
    store/prediction_sums.py keeps them for one stage.
    """

    name: str  # unique among the strata that are averaged together
    n: int  # exchanges with a prediction, whether a judge was drawn or not
    sums: Floats  # shape (2 + 2 K,)
    products: Floats  # shape (2 + 2 K, 2 + 2 K): sums of x x'
    population: float = 0.0  # N_h: the calls that they stand for; 0.0: n
    failed: float = 0.0  # sum of 1 / pi where the judge was drawn and gave no answer (error, timeout, budget)

    def __post_init__(self) -> None:
        """Raises ValueError for negative counts, and sums of the wrong shape or that are not finite."""
        at_least("n", self.n, 0)
        not_negative("failed", self.failed)
        not_negative("population", self.population)
        size = self.sums.size
        if size < 4 or size % 2 or self.products.shape != (size, size):
            raise ValueError(f"sums {self.sums.shape} and products {self.products.shape} do not fit together")
        if not (np.isfinite(self.sums).all() and np.isfinite(self.products).all()):
            raise ValueError(f"stratum {self.name}: a sum is not a finite number")

    @property
    def stages(self) -> int:
        return self.sums.size // 2 - 1

    @property
    def weight(self) -> float:
        """The calls that each exchange stands for; at least itself, since a Tally may lag behind."""
        return self.size / self.n if self.n else 0.0

    @property
    def size(self) -> float:
        """N_h, or n while there is no Tally."""
        return max(self.population, float(self.n))


@dataclass(frozen=True, slots=True)
class ControlledEstimate:
    """A mean in [0, 1], and the value of the predictions for it."""

    mean: float | None  # None: a stratum without an answer, or nothing applicable
    low: float  # valid at any time: peeking is allowed
    high: float
    fixed_low: float  # valid for one look, and narrower
    fixed_high: float
    weights: tuple[float, ...]  # lambda of each stage, in [0, 1]; 0 means that its predictions are not used
    variance_ratio: float  # estimated variance over that with all lambda = 0; at most 1, as lambda is fitted
    effective_n: float  # judged answers, equally weighted and without predictions, with the same information
    n: int  # exchanges with a prediction
    nonresponse: float | None  # share of the population whose judging fails; None if nothing was drawn
    missing: tuple[str, ...] = ()  # strata without an answer of the last stage, sorted
    se: float = 0.0  # of the mean


def controlled_mean(
    strata: Iterable[StageSums], tuning: Tuning | None = None, *, controlled: bool = True
) -> ControlledEstimate:
    """Estimates mu = sum_h W_h (B + sum_k lambda_k (E2_k - c_k E1_k)) / sum_h W_h D, with two intervals.

    c_1: the mean prediction, from the regression of E2 on E1, so that a constant bias of the predictions costs nothing.
    c_k of later stages: mu_0, since people's labels are few, and a c that is fitted to few biases the mean. lambda_k:
    minus the regression of B - mu_0 D on E2 - c E1 (mu_0: the mean without predictions), clipped to [0, 1]; the stages'
    terms are uncorrelated, so that each has its own. controlled=False: all lambda = 0. The bias of a ratio, of the
    order 1 / n, is removed: with pi = 0.05 for all poor answers, it was 0.06 standard errors of one estimate. The
    always-valid interval is an asymptotic confidence sequence on the linearised terms, at n = Kish's effective size of
    the last stage's answers; the one for one look is Student's t. Both have an addition for the uncertainty of a run of
    equal values (compare Wilson's interval), as sampled_mean.weighted_mean does, which this equals where lambda = 0 and
    pi is constant. Sums are over exchanges: answers of one conversation count as independent. Raises ValueError if the
    strata have different numbers of stages. Source: Angelopoulos, Duchi & Zrnic 2023, "PPI++", arXiv:2311.01453;
    Angelopoulos et al. 2023, arXiv:2301.09633; Särndal, Swensson & Wretman 1992, sections 6.4 (regression estimator)
    and 9.7 (two phases); Tin 1965, JASA 60 (bias of a ratio); asymptotic.half_width.
    """
    cells = list(strata)
    if len({c.stages for c in cells}) > 1:
        raise ValueError("all strata need the same number of stages")
    missing = tuple(sorted(c.name for c in cells if c.size > 0 and not c.sums[1] > 0 and not _inapplicable(c)))
    sums, products, with_d = _weighted(cells)
    if missing or not sums[1] > 0:
        return _nothing(cells, missing)
    start = np.zeros(sums.size)
    start[:2] = 1.0, -sums[0] / sums[1]
    terms, weights = _fit(start, products) if controlled else (start, (0.0,) * (sums.size // 2 - 1))
    plain = max(0.0, float(start @ products @ start))
    mean = float((sums[0] + terms[2:] @ sums[2:]) / sums[1] + terms @ with_d / sums[1] ** 2)
    terms[1] = -mean
    spread = max(0.0, float(terms @ products @ terms)) if any(weights) else plain
    judged = float(sums[1] ** 2 / products[1, 1])
    ratio = min(1.0, spread / plain) if plain > 0 else 1.0
    mean, variance = min(1.0, max(0.0, mean)), spread / float(products[1, 1])
    low, high = _always_valid(mean, variance, judged, tuning or Tuning())
    once = _once(mean, variance, judged, sum(w > 0 for w in weights), (tuning or Tuning()).alpha)
    effective, se = judged / ratio if ratio > 0 else math.inf, math.sqrt(spread) / float(sums[1])
    n, nonresponse = sum(c.n for c in cells), _nonresponse(cells)
    return ControlledEstimate(mean, low, high, *once, weights, ratio, effective, n, nonresponse, se=se)


def _fit(start: Floats, products: Floats) -> tuple[Floats, tuple[float, ...]]:
    """(the coefficients of x in the linearised term, lambda by stage)."""
    terms, weights = start.copy(), []
    for at in range(2, start.size, 2):
        one = float(products[at, at])
        fitted = float(products[at, at + 1]) / one if one > 0 else 0.0
        centre = fitted if at == 2 else -float(start[1])
        control = np.zeros(start.size)
        control[at], control[at + 1] = -centre, 1.0
        variance = float(control @ products @ control)
        useful = variance > 1e-12 * max(one, float(products[at + 1, at + 1]), 1e-300)
        weight = min(1.0, max(0.0, -float(start @ products @ control) / variance)) if useful else 0.0
        terms += weight * control
        weights.append(weight)
    return terms, tuple(weights)


def _weighted(cells: Sequence[StageSums]) -> tuple[Floats, Floats, Floats]:
    """(sums of x, sums of x x', covariances of x with D inside the strata), weighted."""
    size = cells[0].sums.size if cells else 4
    sums, products, with_d = np.zeros(size), np.zeros((size, size)), np.zeros(size)
    for c in cells:
        sums += c.weight * c.sums
        products += c.weight**2 * c.products
        with_d += c.weight**2 * (c.products[1] - c.sums * c.sums[1] / max(c.n, 1))
    return sums, products, with_d


def _inapplicable(cell: StageSums) -> bool:
    """Whether the judge answered, and the scorer applied to nothing: delta / pi adds up to n - E1."""
    return cell.n - float(cell.sums[2]) - cell.failed > 1e-6 * max(cell.n, 1)


def _nonresponse(cells: Sequence[StageSums]) -> float | None:
    asked = [(c.size, c.failed, c.n - float(c.sums[2])) for c in cells if c.n - c.sums[2] > 1e-6]
    total = sum(size for size, _, _ in asked)
    return sum(size * min(1.0, failed / drawn) for size, failed, drawn in asked) / total if total else None


def _nothing(cells: Sequence[StageSums], missing: tuple[str, ...]) -> ControlledEstimate:
    n = sum(c.n for c in cells)
    return ControlledEstimate(None, 0.0, 1.0, 0.0, 1.0, (), 1.0, 0.0, n, _nonresponse(cells), missing)


def _always_valid(mean: float, variance: float, size: float, tuning: Tuning) -> tuple[float, float]:
    unit = half_width(1.0, size, tuning)
    if math.isinf(unit):
        return 0.0, 1.0
    half = unit * math.sqrt(variance + (unit / 2.0) ** 2)
    return max(0.0, mean - half), min(1.0, mean + half)


def _once(mean: float, variance: float, size: float, fitted: int, alpha: float) -> tuple[float, float]:
    """Student's t with one degree of freedom less for each fitted lambda."""
    freedom = size - 1.0 - fitted
    if size < FEWEST or freedom < 2.0:
        return 0.0, 1.0
    t = student_quantile(1.0 - alpha / 2.0, freedom)
    half = t * math.sqrt(variance / freedom + (t / (2.0 * size)) ** 2)
    return max(0.0, mean - half), min(1.0, mean + half)


@dataclass(frozen=True, slots=True)
class VarianceRatio:
    """Variance of a mean with predictions over that without, for equally many judged answers. Below 1: they help."""

    ratio: float
    low: float
    high: float
    weight: float  # lambda


def variance_ratio(h: ArrayLike, g: ArrayLike, pi: ArrayLike, calls: ArrayLike) -> VarianceRatio:
    """Variance with predictions g and probabilities pi, over that with no predictions and their mean probability.

    An exchange adds (h - mu)^2 + (1 / pi - 1)(h - mu - lambda (g - c))^2 to the one and (h - mu)^2 / mean pi to the
    other. h: verdicts on judged exchanges that the model was not fitted on; pi: what the model gives each; calls: how
    many calls each stands for (1 / the probability with which it was judged). Shapes (n,), n >= 2. The 95 % interval is
    the delta method's on the logarithm, with lambda fixed: it is at the minimum, so that its error is of second order.
    Without variation of h, the ratio is 1.
    Source: as controlled_mean; arXiv:2506.07949 for the variance as a function of pi.
    """
    y, p, q, w = (np.asarray(each, dtype=np.float64) for each in (h, g, pi, calls))
    w = w / w.sum()
    around, more = y - w @ y, 1.0 / q - 1.0
    unjudged = float(w @ more)
    predicted = p - (w @ (more * p) / unjudged if unjudged > 0 else w @ p)
    spread = float(w @ (more * predicted**2))
    weight = min(1.0, max(0.0, float(w @ (more * around * predicted)) / spread)) if spread > 0 else 0.0
    rest = around - weight * predicted
    ours, plain = around**2 + more * rest**2, around**2
    if not w @ plain > 1e-12:
        return VarianceRatio(1.0, 1.0, 1.0, weight)
    a, mean_pi, b = (float(w @ each) for each in (ours, q, plain))
    slope = 2.0 * float(w @ (more * rest))  # of a, in what is taken away from h - lambda g
    moved = around - (weight * more * predicted / unjudged if unjudged > 0 else 0.0)  # how each row moves that
    influence = w * ((ours - slope * moved) / a + q / mean_pi - plain / b - 1.0)
    ratio = a * mean_pi / b
    factor = math.exp(two_sided_z(0.05) * math.sqrt(float(influence @ influence)))
    return VarianceRatio(ratio, ratio / factor, ratio * factor, weight)
