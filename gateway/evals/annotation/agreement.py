"""A scorer's verdicts against people's, as good or bad: the table, kappa, both error rates, with intervals. Pure.

Where answers were drawn with unequal probability, everything is weighted, and sizes are effective ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gateway.evals.annotation.correction import Labels, error_rates
from gateway.evals.statistics.agreement import cohen_kappa, krippendorff_alpha
from gateway.evals.statistics.paired import wilson

GOOD = 0.5  # from here on people's verdict is "good"


@dataclass(frozen=True, slots=True)
class RateEstimate:
    """A share and its interval, for one look."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, slots=True)
class ConfusionTable:
    """How many labelled answers: hit and miss are good by people's word, called good and bad; false_alarm and
    correct_rejection bad by people's word, called good and bad."""

    hit: int
    miss: int
    false_alarm: int
    correct_rejection: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """kappa: None: undefined, since both always say the same one word. tpr, tnr: None: people called nothing good, or
    nothing bad."""

    table: ConfusionTable
    kappa: RateEstimate | None
    tpr: RateEstimate | None
    tnr: RateEstimate | None


def agreement(labels: Labels, cut: float, alpha: float = 0.05) -> Agreement:
    """cut: the verdict in [0, 1] from which the scorer calls an answer good."""
    good, called = labels.y >= GOOD, labels.f >= cut
    table = ConfusionTable(
        int((good & called).sum()), int((good & ~called).sum()),
        int((~good & called).sum()), int((~good & ~called).sum()),
    )  # fmt: skip
    rates = error_rates(labels, cut)
    if rates is None:
        return Agreement(table, _kappa(labels, cut, alpha), None, None)
    (low0, high0), (low1, high1) = rates.intervals(alpha)
    tpr, tnr = RateEstimate(rates.tpr, low1, high1, rates.m1), RateEstimate(rates.tnr, low0, high0, rates.m0)
    return Agreement(table, _kappa(labels, cut, alpha), tpr, tnr)


def _kappa(labels: Labels, cut: float, alpha: float) -> RateEstimate | None:
    counts = np.zeros((2, 2))
    places = ((labels.y >= GOOD).astype(int), (labels.f >= cut).astype(int))
    np.add.at(counts, places, labels.shares * labels.effective)
    try:
        found = cohen_kappa(counts, alpha)
    except ValueError:  # one word only
        return None
    return RateEstimate(found.kappa, max(-1.0, found.low), min(1.0, found.high), round(labels.effective))


def share_of(flags: Sequence[float], alpha: float = 0.05) -> RateEstimate | None:
    """The share of those that are 1, with Wilson's interval; None of nothing."""
    if not flags:
        return None
    hits = float(sum(flags))
    low, high = wilson(hits, len(flags), alpha)
    return RateEstimate(hits / len(flags), low, high, len(flags))


def between_people(said: Iterable[Mapping[str, float]]) -> float | None:
    """Krippendorff's alpha (interval) of the labellers; said: labeller → value, by item. None: no item has two, or all
    say one thing. It is the best that a scorer could reach against them."""
    shared = [by for by in said if len(by) > 1]
    names = sorted({name for by in shared for name in by})
    if not shared:
        return None
    try:
        return krippendorff_alpha([[by.get(name) for by in shared] for name in names])
    except ValueError:  # all ratings are equal
        return None
