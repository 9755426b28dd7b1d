"""Whether a probability is true: what people's labels say of the probability that a scorer gave.

Labels may have been drawn with unequal probability: all means weight them by 1 / pi (Hajek). Labels of one conversation
count as one cluster. Only `mean_bias` is valid at any look; the rest is for one look, and no alarm reads it.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.domains import Floats, at_least, between, inside, positive, same_length, vector
from gateway.statistics.paired import wilson
from gateway.statistics.special import student_quantile

LEAST = 30  # labels below which nothing is shown
MANY = 200  # labels from which on there are ten bins instead of five
_USUAL_LABELS = 200.0  # at which the interval for any look is tightest
_RESAMPLES = 200
_SEED = 20_261_203


@dataclass(frozen=True, slots=True)
class LabelledProbabilities:
    """Probabilities with the outcomes that people gave, as arrays of shape (n,)."""

    p: Floats
    """The scorer's probabilities."""
    y: Floats
    """Outcomes in [0, 1]: the mean of people's verdicts, 1 if all call it good."""
    weight: Floats
    """1 / pi of each label, up to a common factor."""
    cluster: NDArray[np.intp]
    """Number of the conversation of each label, from 0 on."""

    @classmethod
    def of(
        cls, p: ArrayLike, y: ArrayLike, weight: ArrayLike | None = None, clusters: Sequence[Hashable] | None = None
    ) -> LabelledProbabilities:
        """weight: > 0; None if all are equal. clusters: None if labels are independent. Raises ValueError for p or y
        outside [0, 1], weights that are not positive, and arrays of different lengths."""
        probability, outcome = _in_unit("p", p), _in_unit("y", y)
        w = np.ones(probability.size) if weight is None else vector("weight", weight)
        positive("smallest weight", float(w.min()))
        labels = range(probability.size) if clusters is None else clusters
        same_length("p, y, weight, clusters", probability, outcome, w, labels)
        numbers: dict[Hashable, int] = {}
        codes = np.array([numbers.setdefault(label, len(numbers)) for label in labels], dtype=np.intp)
        return cls(probability, outcome, w, codes)

    @property
    def n(self) -> int:
        return int(self.p.size)

    @property
    def clusters(self) -> int:
        return int(self.cluster.max()) + 1

    @property
    def shares(self) -> Floats:
        """The share of the traffic that each label represents; they sum to 1."""
        return np.asarray(self.weight / self.weight.sum())

    @property
    def effective(self) -> float:
        """(sum w)^2 / sum w^2, and the number of conversations at most."""
        return min(_kish(self.weight), float(self.clusters))

    def mean(self, values: Floats) -> tuple[float, float]:
        """(weighted mean, its standard error over clusters), by linearisation with G / (G - 1)."""
        share, groups = self.shares, self.clusters
        mean = float(share @ values)
        sums = np.bincount(self.cluster, share * (values - mean))
        unseen = (mean**2 + (1.0 - mean) ** 2) / self.effective**2
        return mean, math.sqrt(float((sums**2).sum()) * groups / max(groups - 1, 1) + unseen)


@dataclass(frozen=True, slots=True)
class MeanBias:
    """Calibration in the large: the mean of p - y. Above 0, the scorer is too sure that answers are good."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class ReliabilityBin:
    """Labels of about equal probabilities. Its intervals are for one look."""

    probability: float
    """The weighted mean of p."""
    rate: float
    """The weighted mean of y."""
    low: float
    high: float
    band_low: float
    """Ends of the interval that holds in all bins at once."""
    band_high: float
    traffic: float
    """The share of the traffic in it."""
    n: int
    effective: float


@dataclass(frozen=True, slots=True)
class BrierParts:
    """The mean of (p - y)^2, and its parts: reliability - resolution + uncertainty, up to the spread within bins. For
    one look."""

    brier: float
    low: float
    high: float
    reliability: float
    """Squared distance of p from the rates of the bins, less its bias; below 0 by chance."""
    resolution: float
    uncertainty: float
    n: int


@dataclass(frozen=True, slots=True)
class CalibrationError:
    """Distance of p from the rates of the bins. For one look."""

    square: float
    """The squared distance, less its bias; below 0 by chance."""
    root: float
    """The root of the square; 0 where that is negative."""
    low: float
    """Ends of the interval of the root."""
    high: float
    plug_in: float
    """The plug-in ECE, which is biased upwards: 0.04 at 500 labels of a perfectly calibrated scorer."""
    n: int


def mean_bias(sample: LabelledProbabilities, alpha: float = 0.05) -> MeanBias:
    """The weighted mean of p - y with an interval that is valid at every look; see `mean_at_any_look`.

    Source: Cox 1958, Biometrika 45(3/4) (calibration in the large).
    """
    value, low, high = mean_at_any_look(sample, sample.p - sample.y, alpha)
    return MeanBias(value, low, high, sample.n)


def mean_at_any_look(sample: LabelledProbabilities, values: Floats, alpha: float = 0.05) -> tuple[float, float, float]:
    """(weighted mean, low, high) of a value of each label, valid at every look; (-1, 1) below 30 effective labels.

    An asymptotic confidence sequence over the effective labels; 1 / effective is added to the standard error in
    quadrature, since equal labels prove no certainty. values: in [-1, 1], shape (n,). alpha: in (0, 1). Raises
    ValueError outside these domains. Source: Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, arXiv:2103.06476,
    equation 9.
    """
    between("smallest value", float(values.min()), -1.0)
    between("largest value", float(values.max()), -1.0)
    value, se = sample.mean(values)
    size = sample.effective
    half = half_width(math.hypot(se, 1.0 / size) * math.sqrt(size), size, Tuning(alpha, _USUAL_LABELS, LEAST))
    return value, max(-1.0, value - half), min(1.0, value + half)


def reliability_bins(sample: LabelledProbabilities, alpha: float = 0.05) -> tuple[ReliabilityBin, ...]:
    """Bins of about as many labels each, five below 200 labels and ten from there on; equal p are never parted.

    Wilson's interval of each rate at the effective size of its labels; the band divides alpha among the bins. alpha: in
    (0, 1). For one look. Raises ValueError outside this domain.
    Source: Wilson 1927, JASA 22; Kish 1965, section 11.7; Broecker & Smith 2007, Weather and Forecasting 22(3).
    """
    codes = _bins(sample)
    count = int(codes.max()) + 1
    return tuple(_bin(sample, codes == code, alpha, count) for code in range(count))


def brier_parts(sample: LabelledProbabilities, alpha: float = 0.05) -> BrierParts:
    """The Brier score with Student's interval, and its parts without the bias of few labels in a bin.

    Of bins with shares w_b, rates y_b and sizes n_b, sum w_b y_b (1 - y_b) / (n_b - 1) is taken from reliability and
    resolution, and y (1 - y) / (n - 1) is added to resolution and uncertainty. alpha: in (0, 1). For one look. Raises
    ValueError outside this domain.
    Source: Ferro & Fricker 2012, "A bias-corrected decomposition of the Brier score", QJRMS 138(668), equations 12-14.
    """
    score, se = sample.mean((sample.p - sample.y) ** 2)
    half = se * student_quantile(1.0 - inside("alpha", alpha) / 2.0, max(sample.effective - 1.0, 1.0))
    sums = _bin_sums(sample, _bins(sample), np.ones((1, sample.clusters)))
    rate = float(sample.shares @ sample.y)
    spare = rate * (1.0 - rate) / max(_kish(sample.weight) - 1.0, 1.0)
    bias = float(sums.bias.sum())
    return BrierParts(
        brier=score,
        low=max(0.0, score - half),
        high=min(1.0, score + half),
        reliability=float((sums.share * (sums.p - sums.y) ** 2).sum()) - bias,
        resolution=float((sums.share * (sums.y - rate) ** 2).sum()) - bias + spare,
        uncertainty=rate * (1.0 - rate) + spare,
        n=sample.n,
    )


def calibration_error(sample: LabelledProbabilities, alpha: float = 0.05) -> CalibrationError:
    """The debiased distance sum w_b [(p_b - y_b)^2 - y_b (1 - y_b) / (n_b - 1)] over the bins, with an interval.

    The interval is by resampling clusters 200 times, with a fixed seed, around the plug-in value that a resample
    estimates. alpha: in (0, 1). For one look. Raises ValueError outside this domain.
    Source: Broecker 2012, Climate Dynamics 39; Kumar, Liang & Ma 2019, "Verified uncertainty calibration",
    arXiv:1909.10155, section 4; Davison & Hinkley 1997, chapter 5.
    """
    inside("alpha", alpha)
    codes = _bins(sample)
    here = _bin_sums(sample, codes, np.ones((1, sample.clusters)))
    drawn = np.random.default_rng(_SEED).multinomial(
        sample.clusters, np.full(sample.clusters, 1.0 / sample.clusters), size=_RESAMPLES
    )
    again = _bin_sums(sample, codes, drawn.astype(np.float64))
    square, plug_in = float(here.debiased[0]), float((here.share * (here.p - here.y) ** 2).sum())
    errors = np.quantile(again.debiased - plug_in, (alpha / 2.0, 1.0 - alpha / 2.0))
    low, high = square + min(0.0, float(errors[0])), square + max(0.0, float(errors[1]))
    ece = float((here.share * np.abs(here.p - here.y)).sum())
    return CalibrationError(square, _root(square), _root(low), _root(high), ece, sample.n)


@dataclass(frozen=True, slots=True)
class _BinSums:
    """Weighted means by bin, of shape (resamples, bins); bins without labels have share 0."""

    share: Floats
    p: Floats
    y: Floats
    bias: Floats
    """Value of share y (1 - y) / (n - 1)."""

    @property
    def debiased(self) -> Floats:
        return np.asarray((self.share * (self.p - self.y) ** 2 - self.bias).sum(axis=1))


def _bin_sums(sample: LabelledProbabilities, codes: NDArray[np.intp], times: Floats) -> _BinSums:
    """times: how often each cluster counts, of shape (resamples, clusters)."""
    w, bins = sample.weight, int(codes.max()) + 1
    cell, shape = sample.cluster * bins + codes, (sample.clusters, bins)

    def total(values: Floats) -> Floats:
        return np.asarray(times @ np.bincount(cell, values, minlength=shape[0] * bins).reshape(shape))

    weight, squares = total(w), total(w * w)
    safe = np.where(weight > 0, weight, 1.0)
    p, y = total(w * sample.p) / safe, total(w * sample.y) / safe
    size = weight**2 / np.where(squares > 0, squares, 1.0)
    share = weight / weight.sum(axis=1, keepdims=True)
    return _BinSums(share, p, y, share * y * (1.0 - y) / np.maximum(size - 1.0, 1.0))


def _bin(sample: LabelledProbabilities, members: NDArray[np.bool_], alpha: float, count: int) -> ReliabilityBin:
    w, p, y = sample.weight[members], sample.p[members], sample.y[members]
    size, rate = _kish(w), float(w @ y / w.sum())
    (low, high), (band_low, band_high) = (wilson(min(size, rate * size), size, a) for a in (alpha, alpha / count))
    share = float(w.sum() / sample.weight.sum())
    return ReliabilityBin(float(w @ p / w.sum()), rate, low, high, band_low, band_high, share, int(w.size), size)


def _bins(sample: LabelledProbabilities) -> NDArray[np.intp]:
    """The bin of each label, from 0 on without gaps."""
    at_least("labels", sample.n, 2)
    count = 10 if sample.n >= MANY else 5
    edges = np.unique(np.quantile(sample.p, np.arange(1, count) / count, method="lower"))
    _, codes = np.unique(np.searchsorted(edges, sample.p, side="left"), return_inverse=True)
    return np.asarray(codes, dtype=np.intp)


def _kish(weights: Floats) -> float:
    return float(weights.sum() ** 2 / (weights**2).sum())


def _root(square: float) -> float:
    return math.sqrt(max(0.0, square))


def _in_unit(name: str, values: ArrayLike) -> Floats:
    array = vector(name, values)
    between(f"smallest of {name}", float(array.min()))
    between(f"largest of {name}", float(array.max()))
    return array
