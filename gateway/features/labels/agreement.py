"""Agreement of a scorer's verdicts with people's, as good or bad: table, kappa and error rates with intervals. Pure.

Answers that were drawn with unequal probabilities are weighted, and sizes are effective sizes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.features.labels.correction import Labels, error_rates
from gateway.statistics.agreement import cohen_kappa, krippendorff_alpha
from gateway.statistics.judge_rates import JudgeAccuracy
from gateway.statistics.paired import wilson

_GOOD = 0.5  # people's verdict from which an answer is good


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """A share and its interval, which is valid for one look."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class ConfusionTable:
    """Numbers of labelled answers."""

    hit: int  # people say good, and the scorer says good
    miss: int  # people say good, and the scorer says bad
    false_alarm: int  # people say bad, and the scorer says good
    correct_rejection: int  # people say bad, and the scorer says bad


@dataclass(frozen=True, slots=True)
class Agreement:
    table: ConfusionTable
    kappa: RateEstimate | None
    """Cohen's kappa; None if undefined, because both sides always give the same verdict."""
    tpr: RateEstimate | None
    """The share of good answers that the scorer calls good; None if people called all good, or none."""
    tnr: RateEstimate | None
    """The share of bad answers that the scorer calls bad; None as for tpr."""

    @property
    def accuracy(self) -> JudgeAccuracy | None:
        """Computes both rates with their effective sizes; None if they are unknown."""
        if self.tpr is None or self.tnr is None:
            return None
        return JudgeAccuracy(self.tnr.value, self.tnr.n, self.tpr.value, self.tpr.n)


def agreement(labels: Labels, cut: float, alpha: float = 0.05) -> Agreement:
    """cut: the verdict in [0, 1] from which the scorer calls an answer good."""
    good, called = labels.y >= _GOOD, labels.f >= cut
    cells = (good & called, good & ~called, ~good & called, ~good & ~called)
    table = ConfusionTable(*(int(cell.sum()) for cell in cells))
    rates = error_rates(labels, cut)
    if rates is None:
        return Agreement(table, _kappa(labels, cut, alpha), None, None)
    (low0, high0), (low1, high1) = rates.intervals(alpha)
    tpr, tnr = RateEstimate(rates.tpr, low1, high1, rates.m1), RateEstimate(rates.tnr, low0, high0, rates.m0)
    return Agreement(table, _kappa(labels, cut, alpha), tpr, tnr)


def _kappa(labels: Labels, cut: float, alpha: float) -> RateEstimate | None:
    counts = np.zeros((2, 2))
    cells = ((labels.y >= _GOOD).astype(int), (labels.f >= cut).astype(int))
    np.add.at(counts, cells, labels.shares * labels.effective)
    try:
        found = cohen_kappa(counts, alpha)
    except ValueError:  # both sides always give the same verdict
        return None
    return RateEstimate(found.kappa, max(-1.0, found.low), min(1.0, found.high), round(labels.effective))


def share_of(flags: Sequence[float], alpha: float = 0.05) -> RateEstimate | None:
    """The mean of flags in [0, 1] with Wilson's interval. None if there are no flags."""
    if not flags:
        return None
    hits = float(sum(flags))
    low, high = wilson(hits, len(flags), alpha)
    return RateEstimate(hits / len(flags), low, high, len(flags))


def between_people(verdicts: Iterable[Mapping[str, float]]) -> float | None:
    """Krippendorff's alpha (interval) of the labellers: the best that a scorer can reach against them.

    verdicts: labeller → value, for each item. None if no item has two verdicts, or all verdicts are equal.
    """
    shared = [by for by in verdicts if len(by) > 1]
    names = sorted({name for by in shared for name in by})
    if not shared:
        return None
    try:
        return krippendorff_alpha([[by.get(name) for by in shared] for name in names])
    except ValueError:  # all ratings are equal
        return None
