"""A map from a scorer's probability to one that people's labels bear out, tried at few, fixed numbers of labels.

Below 200 labels, flexible maps harm a scorer that was calibrated all along; two parameters that are drawn towards "no
change" do not, and a map is used only if labels that it has not seen say so.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from gateway.statistics.domains import Floats, between, finite, inside, positive, same_length, vector
from gateway.statistics.special import normal_quantile, student_quantile

FIRST_TRY = 100  # labels; each further try has twice as many
LEVEL = 0.1
"""Largest probability that any try accepts a map where the scorer is calibrated."""
EDGE = 1e-3  # probabilities are moved at least this far from 0 and 1, so that one label cannot decide a fit
_RIDGE = 1.0  # weight of one label, on each parameter
_STEPS = 50
_CENTRE = np.array([0.0, 1.0])  # intercept and slope of identity


@dataclass(frozen=True, slots=True)
class PlattMap:
    """p' = expit(intercept + slope logit p). Frozen: what was accepted is what is used."""

    intercept: float = 0.0
    slope: float = 1.0

    def __call__(self, p: ArrayLike) -> Floats:
        """p: in [0, 1], of any shape."""
        return expit(self.intercept + self.slope * logit(p))

    @property
    def is_identity(self) -> bool:
        return (self.intercept, self.slope) == (0.0, 1.0)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that differ where the map does."""
        return hashlib.sha256(f"platt {self.intercept!r} {self.slope!r}".encode()).hexdigest()[:12]


IDENTITY = PlattMap()


@dataclass(frozen=True, slots=True)
class MapTry:
    """One try of a map, at a number of labels that was fixed beforehand."""

    labels: int
    level: float
    """Part of the error probability."""
    map: PlattMap
    gain: float
    """Mean log loss of the map in force less that of this one, on the newer third."""
    accepted: bool


def logit(p: ArrayLike) -> Floats:
    """ln(p / (1 - p)), of p moved to [0.001, 0.999]. p: in [0, 1]; else ValueError. Source: Berkson 1944, JASA 39."""
    x = np.asarray(p, dtype=np.float64)
    if x.size:
        between("smallest p", float(x.min()))
        between("largest p", float(x.max()))
    clipped = np.clip(x, EDGE, 1.0 - EDGE)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def expit(x: ArrayLike) -> Floats:
    """1 / (1 + exp(-x))."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * np.asarray(x, dtype=np.float64))))


def fit_platt(p: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None) -> PlattMap:
    """The map with the smallest weighted log loss + (intercept^2 + (slope - 1)^2) / 2, by Newton's method.

    Weights are scaled to sum to their effective size, so that few heavy labels do not outvote the ridge.
    p: shape (n,), in [0, 1], n >= 1. y: outcomes in [0, 1]. weight: 1 / pi, > 0; None if all are equal. Raises
    ValueError outside these domains.
    Source: Platt 1999, "Probabilistic outputs for support vector machines"; the ridge towards identity: none.
    """
    x, outcome, w = _sample(p, y, weight)
    w = w * (w.sum() / (w**2).sum())
    design, beta = np.stack([np.ones(x.size), x], axis=1), _CENTRE
    for _ in range(_STEPS):
        q = expit(design @ beta)
        slope = design.T @ (w * (q - outcome)) + _RIDGE * (beta - _CENTRE)
        curvature = (design * (w * q * (1.0 - q))[:, None]).T @ design + _RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, slope)
        if float(np.abs(step).max()) < 1e-10:
            break
        beta = _shorter(lambda b: _penalized(b, design, outcome, w), beta, step)
    return PlattMap(finite("intercept", float(beta[0])), finite("slope", float(beta[1])))


def _penalized(beta: Floats, design: Floats, y: Floats, w: Floats) -> float:
    x = design @ beta
    return float(w @ (np.logaddexp(0.0, x) - y * x)) + 0.5 * _RIDGE * float(((beta - _CENTRE) ** 2).sum())


def _shorter(loss: Callable[[Floats], float], beta: Floats, step: Floats) -> Floats:
    """Takes the step, or a part of it with which the loss does not rise: far from the optimum, Newton overshoots."""
    before = loss(beta)
    for _ in range(_STEPS):
        if loss(beta - step) <= before:
            return beta - step
        step = 0.5 * step
    return beta


def tries(labels: int) -> Iterator[tuple[int, float]]:
    """(number of labels, error probability) of each try up to this number: 100, 200, 400, …, with 5 %, 2.5 %, ….

    The parts sum to LEVEL over all tries that may ever come. Source: none (Bonferroni).
    """
    n, level = FIRST_TRY, LEVEL / 2.0
    while n <= labels:
        yield n, level
        n, level = 2 * n, level / 2.0


def try_map(
    p: ArrayLike,
    y: ArrayLike,
    weight: ArrayLike | None = None,
    clusters: Sequence[Hashable] | None = None,
    *,
    level: float,
    before: PlattMap = IDENTITY,
) -> MapTry:
    """Fits a map to the older two thirds, and asks the newer third: accepted if its log loss is smaller than with the
    map in force, by more than it would be with this probability if that map were true.

    If it were, the gain of each label would be c + d y with y drawn by p, which gives its mean, below 0, and variance;
    that has more power than a t test of "the gain is above 0".
    p, y, weight: as in fit_platt, in the order in which labels came, n >= 6. clusters: shape (n,), the conversation of
    each; the error is that of sums by conversation, if that is larger. None: labels are independent. level: in (0, 1).
    before: the map in force. Raises ValueError outside these domains.
    Source: Cox 1958, Biometrika 45(3/4) (tests of probabilities that are given); held-out labels keep the level.
    """
    x, outcome, w = _sample(p, y, weight)
    older = x.size - x.size // 3
    positive("newer third", x.size // 3 - 1)
    probability = np.asarray(p, dtype=np.float64)
    fitted = fit_platt(probability[:older], outcome[:older], w[:older])
    newer, share = probability[older:], w[older:] / w[older:].sum()
    without, with_each = (_gains(before, fitted, newer, np.full(newer.size, end)) for end in (0.0, 1.0))
    gain = float(share @ (without + outcome[older:] * (with_each - without)))
    true = before(newer)
    expected = float(share @ (without + true * (with_each - without)))
    se = math.sqrt(float((share**2 * true * (1.0 - true) * (with_each - without) ** 2).sum()))
    margin = -normal_quantile(inside("level", level)) * se
    if clusters is not None:
        same_length("p, clusters", probability, clusters)
        surprise = share * (outcome[older:] - true) * (with_each - without)
        margin = max(margin, _clustered_margin(surprise, clusters[older:], level))
    return MapTry(x.size, level, fitted, gain, gain > 0.0 and gain - expected > margin)


def _clustered_margin(terms: Floats, clusters: Sequence[Hashable], level: float) -> float:
    """Student's bound of a sum of terms that have mean 0 and depend on each other within clusters; 0.0 if each term is
    a cluster of its own."""
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(cluster, len(numbers)) for cluster in clusters], dtype=np.intp)
    groups = len(numbers)
    if groups == terms.size:
        return 0.0
    if groups < 2:
        return math.inf
    se = math.sqrt(float((np.bincount(codes, terms) ** 2).sum()) * groups / (groups - 1))
    return student_quantile(1.0 - level, groups - 1) * se


def _gains(before: PlattMap, after: PlattMap, p: Floats, y: Floats) -> Floats:
    return _log_loss(before, p, y) - _log_loss(after, p, y)


def _log_loss(map: PlattMap, p: Floats, y: Floats) -> Floats:
    x = map.intercept + map.slope * logit(p)
    return np.asarray(np.logaddexp(0.0, x) - y * x)


def _sample(p: ArrayLike, y: ArrayLike, weight: ArrayLike | None) -> tuple[Floats, Floats, Floats]:
    """(logit p, y, weight), checked."""
    x, outcome = logit(vector("p", p)), vector("y", y)
    w = np.ones(x.size) if weight is None else vector("weight", weight)
    same_length("p, y, weight", x, outcome, w)
    between("smallest y", float(outcome.min()))
    between("largest y", float(outcome.max()))
    positive("smallest weight", float(w.min()))
    return x, outcome, w
