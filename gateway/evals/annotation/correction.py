"""A scorer's mean over everything it judged, corrected by the few answers that people labelled. Pure.

Two phases: traffic was sampled and judged with known weights, and of what was judged some was drawn for people with
known probability. PPI++ for such samples: with all weights equal it is statistics.ppi.powered_mean.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.evals.statistics.domains import Floats, inside, positive, same_length, vector
from gateway.evals.statistics.judge import CorrectedRate, JudgeAccuracy, corrected_rate
from gateway.evals.statistics.special import student_quantile

LEAST = 10  # labels below which nothing is said
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class JudgedSample:
    """All that a scorer judged, of one kind of traffic. weight: the calls it stands for; mean, variance: of verdicts
    in [0, 1], by these weights; good: the share called good; effective: as many equally weighted ones tell as much."""

    n: int
    weight: float
    mean: float
    variance: float
    good: float
    effective: float


@dataclass(frozen=True, slots=True)
class Labels:
    """Labelled answers, shape (n,) each. y: what people say, f: what the scorer said, in [0, 1]; weight: calls that
    the judged answer stands for; pi: probability with which a judged answer came to be labelled."""

    y: Floats
    f: Floats
    weight: Floats
    pi: Floats

    @classmethod
    def of(cls, y: ArrayLike, f: ArrayLike, weight: ArrayLike, pi: ArrayLike) -> Labels:
        """Raises ValueError for arrays of different lengths, weights that are not positive, pi outside (0, 1]."""
        made = cls(vector("y", y, 0), vector("f", f, 0), vector("weight", weight, 0), vector("pi", pi, 0))
        same_length("y, f, weight, pi", made.y, made.f, made.weight, made.pi)
        if made.n:
            positive("smallest weight", float(made.weight.min()))
            positive("smallest pi", float(made.pi.min()))
            inside("largest pi", float(made.pi.max()), 0.0, 1.0 + 1e-12)
        return made

    @property
    def n(self) -> int:
        return int(self.y.size)

    @property
    def shares(self) -> Floats:
        """What part of everything each label stands for; they sum to 1."""
        whole = self.weight / self.pi
        return np.asarray(whole / whole.sum(), dtype=np.float64)

    @property
    def effective(self) -> float:
        return float(1.0 / (self.shares**2).sum()) if self.n else 0.0


@dataclass(frozen=True, slots=True)
class Corrected:
    """The mean as people would have it. trust: lambda, how much of the scorer's own mean is in it. of_labels: the part
    of se^2 that more labels make smaller, in proportion; of_judged: the part that only more judged answers do."""

    mean: float
    se: float
    low: float
    high: float
    trust: float
    of_labels: float
    of_judged: float


def corrected(labels: Labels, judged: JudgedSample, alpha: float = 0.05) -> Corrected | None:
    """lambda mean(f) + mean of (y - lambda f) over the labels, each standing for weight / pi calls; None below LEAST.

    lambda = cov(y, f) / var(f), in [0, 1]. se^2 = sum (1 - pi) s^2 (e - mean e)^2 + sum s w (y - mean)^2 / W, s the
    labels' shares, e = y - lambda f, W the weight of all judged; Student's t with effective - 1 degrees of freedom;
    t / (2 effective) is added in quadrature to se: what a run of equal labels leaves open (compare Wilson's interval).
    For one look. Source: Angelopoulos, Duchi & Zrnic 2023, arXiv:2311.01453; variances of two-phase sampling from
    Särndal, Swensson & Wretman 1992, chapter 9.
    """
    inside("alpha", alpha)
    size = labels.effective
    if labels.n < LEAST or size <= 2.0 or judged.n < 1:
        return None
    share, more = labels.shares, size / (size - 1.0)
    trust = _trust(labels, judged)
    rest = labels.y - trust * labels.f
    middle = float((share * rest).sum())
    mean = trust * judged.mean + middle
    of_labels = more * float(((1.0 - labels.pi) * share**2 * (rest - middle) ** 2).sum())
    of_labels += _left_open(labels, trust, middle)
    of_judged = more * float((share * labels.weight * (labels.y - mean) ** 2).sum()) / judged.weight
    se, t = math.sqrt(of_labels + of_judged), student_quantile(1.0 - alpha / 2.0, size - 1.0)
    half = t * se
    return Corrected(_clip(mean), se, _clip(mean - half), _clip(mean + half), trust, of_labels, of_judged)


def _left_open(labels: Labels, trust: float, middle: float) -> float:
    """The variance that one more good and one more bad label would add among the answers the scorer calls bad, and
    among those it calls good."""
    added = 0.0
    for half in (labels.f < 0.5, labels.f >= 0.5):
        if half.any():
            share, drawn = float(labels.shares[half].mean()), float(labels.pi[half].mean())
            offset = trust * float(labels.f[half].mean()) + middle
            added += (1.0 - drawn) * share**2 * ((1.0 - offset) ** 2 + offset**2)
    return added


def _trust(labels: Labels, judged: JudgedSample) -> float:
    if judged.variance <= 0:
        return 0.0
    share = labels.shares
    y, f = labels.y - float((share * labels.y).sum()), labels.f - float((share * labels.f).sum())
    return _clip(float((share * y * f).sum()) / judged.variance)


def rogan_gladen(labels: Labels, judged: JudgedSample, cut: float, alpha: float = 0.05) -> CorrectedRate | None:
    """The share of good answers, by both error rates and their uncertainty; None where a rate is not known, or the
    scorer is no better than chance. Sizes are effective ones. Only for labels that say good or bad."""
    rates = error_rates(labels, cut)
    if rates is None or labels.n < LEAST:
        return None
    try:
        return corrected_rate(judged.good, max(1, math.floor(judged.effective)), rates, alpha)
    except ValueError:  # no better than chance
        return None


def error_rates(labels: Labels, cut: float) -> JudgeAccuracy | None:
    """TNR and TPR, weighted, with effective sizes rounded down; None where people called nothing bad, or nothing good.

    cut: the verdict from which the scorer calls an answer good; people's is one half.
    """
    good, called = labels.y >= 0.5, labels.f >= cut
    if not good.any() or good.all():
        return None
    (tnr, m0), (tpr, m1) = _rate(labels, ~good, ~called), _rate(labels, good, called)
    return JudgeAccuracy(tnr, m0, tpr, m1)


def _rate(labels: Labels, among: Mask, right: Mask) -> tuple[float, int]:
    """A weighted share and the size of the simple sample that would be as sure of it: share (1 - share) / variance, or
    Kish's where all agree. Source: Dean & Pagano 2015, "Evaluating confidence interval methods for binomial proportions
    in clustered surveys", J. Surv. Stat. Methodol. 3, section 2.
    """
    weight = (labels.weight / labels.pi)[among]
    hits = right[among]
    share = float(weight[hits].sum() / weight.sum())
    squares = float((weight**2 * (hits - share) ** 2).sum())
    if weight.min() == weight.max():
        size = float(weight.size)
    elif squares == 0:
        size = float(weight.sum() ** 2 / (weight**2).sum())
    else:  # with two more of each, as heavy as these are: few heavy ones decide, and some were not seen
        squares += 2.0 * ((weight[hits].mean() * (1.0 - share)) ** 2 + (weight[~hits].mean() * share) ** 2)
        size = share * (1.0 - share) * float(weight.sum()) ** 2 / squares
    return share, max(1, math.floor(min(float(weight.size), size) + 1e-9))


def labels_needed(found: Corrected, n: int, half_width: float, alpha: float = 0.05) -> int | None:
    """How many labels in all make the interval so narrow, if they go on like these n. None: no number does, since what
    was judged is itself too few."""
    target = (half_width / student_quantile(1.0 - alpha / 2.0, max(n - 1.0, 2.0))) ** 2 - found.of_judged
    if target <= 0:
        return None
    return max(n, math.ceil(n * found.of_labels / target)) if found.high - found.low > 2 * half_width else n


def _clip(x: float) -> float:
    return min(1.0, max(0.0, x))
