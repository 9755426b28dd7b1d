"""Comparison of two judges on the answers that both scored, some of which people labelled. Pure.

The second judge replaces the first if its squared distance to people is larger by less than a margin, and if it moves
no target against the others by more than a margin: a judge that agrees on the mean may still favour one model, and
every verdict would be wrong by that. Where it does move a target, people's labels say which of the two is right. All
intervals that decide are valid at every look.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from gateway.statistics.calibration import LEAST, LabelledProbabilities, mean_at_any_look
from gateway.statistics.domains import Floats
from gateway.statistics.partly_labelled import LinearMean, PartlyLabelled, linear_mean
from gateway.statistics.special import normal_quantile, two_sided_z

POWER = 0.8
TRUE_DIFFERENCE = 0.05
"""The difference of two targets, as people judge, for which the numbers of pairs are computed."""
Conclusion = Literal["replace", "keep", "undecided"]


@dataclass(frozen=True, slots=True)
class ComparisonOptions:
    first: str
    second: str
    margin: float = 0.02
    """The largest increase of the mean squared distance to people, in (0, 1)."""
    shift: float = 0.05
    """The largest shift of one target against the others, in (0, 1)."""
    alpha: float = 0.05


@dataclass(frozen=True, slots=True)
class JudgedTwice:
    """Answers that both judges scored, as arrays of shape (n,)."""

    first: Floats
    """Scores in [0, 1], 1 best."""
    second: Floats
    people: Floats
    """People's verdicts in [0, 1]; NaN without a label."""
    weight: Floats
    """The number of calls that each stands for."""
    label_weight: Floats
    """The same for a labelled one among labelled ones: more, where it was labelled with a small probability."""
    units: tuple[str, ...]
    """The conversation of each."""
    targets: tuple[str, ...]
    pairs: tuple[str, ...] = ()
    """The pair of an experiment that each belongs to; "" for none. () if no answer has one."""

    @property
    def n(self) -> int:
        return int(self.first.size)

    @property
    def labelled(self) -> NDArray[np.bool_]:
        return ~np.isnan(self.people)

    def partly_labelled(self) -> PartlyLabelled:
        """All answers, with verdicts that the scores of both judges predict."""
        both = np.column_stack([self.first, self.second])
        return PartlyLabelled(both, self.people, self.weight, self.label_weight, self.units)

    def by_people(self) -> Self:
        """The labelled answers alone, with the weights of labels."""
        there = np.flatnonzero(self.labelled)
        units, targets = (tuple(values[i] for i in there) for values in (self.units, self.targets))
        first, second, people, weight = (
            values[there] for values in (self.first, self.second, self.people, self.label_weight)
        )
        return type(self)(first, second, people, weight, weight, units, targets)


@dataclass(frozen=True, slots=True)
class AnyLook:
    """A mean with an interval that is valid at every look. n: answers that it is of."""

    value: float
    low: float
    high: float
    n: int

    def within(self, margin: float) -> bool:
        return -margin <= self.low and self.high <= margin

    def beyond(self, margin: float) -> bool:
        return self.low > margin or self.high < -margin


@dataclass(frozen=True, slots=True)
class JudgePrice:
    """Price of a score. usd_per_1k: None if the store knows no cost."""

    usd_per_1k: float | None
    seconds: float | None
    """Mean time of a score."""


@dataclass(frozen=True, slots=True)
class JudgeFigures:
    """One of the two judges on the answers that both scored."""

    name: str
    version: str
    config_hash: str
    loss: AnyLook | None
    """Mean squared distance to people; None below 30 effective labels, like the next three."""
    bias: AnyLook | None
    """The mean score less people's."""
    right: float | None
    """The share of answers on whose side of one half people and the judge agree. For one look."""
    pairs: int | None
    """Pairs of answers with which a fixed test finds a true difference of 0.05 with probability 0.8. For one look; None
    if the judge does not tell good answers from bad ones."""
    price: JudgePrice


@dataclass(frozen=True, slots=True)
class TargetShift:
    """A target against all others."""

    target: str
    answers: int
    shift: AnyLook
    """The mean of the second judge's scores of its answers less the first's; from this, the same of all others."""
    error: AnyLook | None
    """The mean of the second judge's scores of its answers less people's verdicts; from this, the same of all others.
    None where labels are too few."""


@dataclass(frozen=True, slots=True)
class JudgeComparison:
    options: ComparisonOptions
    answers: int
    labels: int
    labels_of: str
    """The scorer under whose name people labelled."""
    first: JudgeFigures
    second: JudgeFigures
    loss_difference: AnyLook | None
    """The second judge's loss less the first's; None below 30 effective labels."""
    shifts: tuple[TargetShift, ...]
    conclusion: Conclusion
    reasons: tuple[str, ...]
    labels_needed: int | None
    """Labels in total that are likely to decide; None if it is decided, or if labels are not what is missing."""


def compare(
    judged: JudgedTwice,
    options: ComparisonOptions,
    versions: tuple[tuple[str, str], tuple[str, str]],
    prices: tuple[JudgePrice, JudgePrice],
    labels_of: str = "",
) -> JudgeComparison:
    """versions: (version, config hash) of both judges. At least two answers."""
    labelled = judged.by_people()
    sample = None
    if labelled.n >= 2:
        sample = LabelledProbabilities.of(labelled.second, labelled.people, labelled.weight, labelled.units)
        sample = sample if sample.effective >= LEAST else None
    losses = [(scores - labelled.people) ** 2 for scores in (labelled.first, labelled.second)]
    predicted = judged.partly_labelled()
    apart = judged.second - judged.first
    # The second's squared distance less the first's: (b - y)^2 - (a - y)^2 = (b - a) (a + b) - 2 (b - a) y.
    difference = linear_mean(predicted, apart * (judged.first + judged.second), -2.0 * apart)
    loss_difference = _any_look(difference, predicted, options.margin, options.alpha, labelled.n)
    shifts = tuple(_shifts(judged, predicted, options))
    conclusion, reasons = _concluded(loss_difference, shifts, options)
    names = (options.first, options.second)
    first, second = (
        JudgeFigures(
            name,
            *versions[at],
            loss=_mean(sample, losses[at], options.alpha) if sample else None,
            bias=_any_look(
                linear_mean(predicted, scores, -np.ones(judged.n)), predicted, options.shift, options.alpha, labelled.n
            ),
            right=float(sample.shares @ ((given >= 0.5) == (labelled.people >= 0.5))) if sample else None,
            pairs=_pairs(judged, labelled, sample, at) if sample else None,
            price=prices[at],
        )
        for at, (name, scores, given) in enumerate(
            zip(names, (judged.first, judged.second), (labelled.first, labelled.second), strict=True)
        )
    )
    needed = _labels_needed(labelled.n, loss_difference, options) if conclusion == "undecided" else None
    return JudgeComparison(
        options, judged.n, labelled.n, labels_of, first, second, loss_difference, shifts, conclusion, reasons, needed
    )


def _mean(sample: LabelledProbabilities, values: Floats, alpha: float) -> AnyLook:
    return AnyLook(*mean_at_any_look(sample, values, alpha), sample.n)


def _any_look(mean: LinearMean | None, sample: PartlyLabelled, margin: float, alpha: float, n: int) -> AnyLook | None:
    """Tightest where the interval is about to fit a margin."""
    ends = mean.interval(sample.clusters, margin / 4.0, alpha) if mean is not None else None
    return AnyLook(mean.value, *ends, n) if mean is not None and ends is not None else None


def _shifts(judged: JudgedTwice, sample: PartlyLabelled, options: ComparisonOptions) -> Iterator[TargetShift]:
    """One for each target, if there are two at least. Their intervals hold together: each has its part of alpha."""
    targets = sorted(set(judged.targets))
    if len(targets) < 2:
        return
    alpha, ones = options.alpha / len(targets), np.ones(judged.n)
    for target in targets:
        here = np.array([of == target for of in judged.targets], dtype=np.bool_)
        moved = _against_others(sample, judged.second - judged.first, None, here)
        wrong = _against_others(sample, judged.second, -ones, here)
        shift = _any_look(moved, sample, options.shift, alpha, int(here.sum()))
        error = _any_look(wrong, sample, options.shift, alpha, int((here & judged.labelled).sum()))
        if shift is not None:
            yield TargetShift(target, int(here.sum()), shift, error)


def _against_others(
    sample: PartlyLabelled, known: Floats, slope: Floats | None, here: NDArray[np.bool_]
) -> LinearMean | None:
    """The mean of a target's answers less that of all others."""
    of, others = (linear_mean(sample, known, slope, side) for side in (here, ~here))
    return of - others if of is not None and others is not None else None


def _concluded(
    difference: AnyLook | None, shifts: Sequence[TargetShift], options: ComparisonOptions
) -> tuple[Conclusion, tuple[str, ...]]:
    against, open_ = [], []
    if difference is None:
        open_.append(f"fewer than {LEAST} labels of answers that both judges scored")
    elif difference.low > options.margin:
        against.append(f"{options.second} is further from people by more than {options.margin:g}")
    elif difference.high > options.margin:
        open_.append(f"{options.second} may be further from people by up to {difference.high:.3f}")
    for shift in shifts:
        if shift.shift.within(options.shift) or (shift.error is not None and shift.error.within(options.shift)):
            continue
        if shift.error is not None and shift.error.beyond(options.shift):
            against.append(
                f"{options.second} scores {shift.target} by {shift.error.value:+.3f} against the other targets, "
                "as people's labels show"
            )
        elif shift.shift.beyond(options.shift):
            open_.append(
                f"{options.second} moves {shift.target} by {shift.shift.value:+.3f} against the other targets, and "
                "labels do not yet say which judge is right"
            )
        else:
            open_.append(f"{options.second} may move {shift.target} by up to {_largest(shift.shift):.3f}")
    if against:
        return "keep", tuple(against)
    if open_:
        return "undecided", tuple(open_)
    return "replace", (f"{options.second} is not further from people than {options.first} by {options.margin:g}",)


def _largest(shift: AnyLook) -> float:
    return max(abs(shift.low), abs(shift.high))


def _labels_needed(labels: int, difference: AnyLook | None, options: ComparisonOptions) -> int | None:
    """Half-widths shrink with the root of the number of labels. None where the loss is decided, or its value is so near
    the margin that no practical number of labels decides."""
    if difference is None:
        return LEAST * 3 if labels < LEAST * 3 else None
    if not difference.low <= options.margin < difference.high:
        return None
    room = abs(options.margin - difference.value)
    half = (difference.high - difference.low) / 2.0
    return math.ceil(labels * (half / room) ** 2) if room > half / 10.0 else None


def _pairs(judged: JudgedTwice, labelled: JudgedTwice, sample: LabelledProbabilities, at: int) -> int | None:
    """(z_a + z_b)^2 v / (s d)^2: v is the variance of the judge's differences within pairs of experiments (where there
    are fewer than 30, twice the variance of its scores: as if both answers to a request had nothing in common), s the
    slope of its scores on people's verdicts, by which it shrinks every true difference d.

    Source: Fuller 1987, "Measurement error models", section 1.1 (attenuation).
    """
    scores = (labelled.first, labelled.second)[at]
    people = labelled.people - float(sample.shares @ labelled.people)
    spread = float(sample.shares @ people**2)
    slope = float(sample.shares @ (people * scores)) / spread if spread > 0 else 0.0
    if slope <= 0.0:
        return None
    z = two_sided_z(0.05) + normal_quantile(POWER)
    return math.ceil(z**2 * _variance_of_pairs(judged, at) / (slope * TRUE_DIFFERENCE) ** 2)


def _variance_of_pairs(judged: JudgedTwice, at: int) -> float:
    scores = (judged.first, judged.second)[at]
    together: dict[str, list[float]] = {}
    for name, score in zip(judged.pairs, scores, strict=False):
        if name:
            together.setdefault(name, []).append(float(score))
    differences = [second - first for first, second in (pair for pair in together.values() if len(pair) == 2)]
    if len(differences) >= LEAST:
        return float(np.var(differences, ddof=1))
    share = judged.weight / judged.weight.sum()
    return 2.0 * float(share @ (scores - float(share @ scores)) ** 2)
