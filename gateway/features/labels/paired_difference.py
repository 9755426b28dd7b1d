"""The difference of two arms as people judge, from the scores of pairs and the labels of some of their answers. Pure.

Each pair has an estimate of its own: the prediction of people's verdicts on both answers from the judge's scores, and,
where an answer was labelled, the error of the prediction, divided by the probability of the label. Its mean is unbiased
whatever errors the judge makes, on either arm, and the common part of the two answers to a request cancels out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.core.horizon import BURN_IN, guarded
from gateway.features.labels.correction import MIN_LABELS, Labels, unseen_variance
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.domains import Floats, inside
from gateway.statistics.special import student_quantile, two_sided_z

_TIGHTEST = 0.05  # standard error at which the interval is tightest
_ARMS = (0, 1)


@dataclass(frozen=True, slots=True)
class JudgedAnswer:
    f: float
    """The judge's score in [0, 1]."""
    y: float = 0.0
    """People's verdict in [0, 1], where there is one."""
    pi: float = 0.0
    """The probability with which it came to be labelled; 0 if it is not labelled."""
    exact: bool = False
    """True if f is people's verdict without a label, as for an answer that failed."""


@dataclass(frozen=True, slots=True)
class JudgedPairs:
    """Pairs of answers. f, y, pi and exact are those of JudgedAnswer, as arrays of shape (n, 2): the control's column,
    then the candidate's."""

    f: Floats
    y: Floats
    pi: Floats
    exact: NDArray[np.bool_]
    units: Sequence[str]
    """The conversation of each pair, shape (n,). The difference is the mean over conversations of their means."""

    @classmethod
    def of(cls, pairs: Iterable[tuple[JudgedAnswer, JudgedAnswer, str]]) -> JudgedPairs:
        """pairs: (control, candidate, conversation)."""
        rows = list(pairs)
        ends = [(a, b) for a, b, _ in rows]
        f, y, pi, exact = (
            np.array([[getattr(end, name) for end in pair] for pair in ends], dtype=np.float64).reshape(-1, 2)
            for name in ("f", "y", "pi", "exact")
        )
        return cls(f, y, pi, exact.astype(np.bool_), [unit for _, _, unit in rows])

    def __post_init__(self) -> None:
        shape = (len(self.units), 2)
        shapes = [each.shape for each in (self.f, self.y, self.pi, self.exact)]
        if shapes != [shape] * 4:
            raise ValueError(f"shapes of f, y, pi, exact: {shapes!r}, expected {shape!r} of each")
        if self.pi.size and not (self.pi.min() >= 0.0 and self.pi.max() <= 1.0 + 1e-12):
            raise ValueError(f"pi: {float(self.pi.min())!r} to {float(self.pi.max())!r}, expected probabilities")

    @property
    def labelled(self) -> NDArray[np.bool_]:
        return (self.pi > 0) & ~self.exact

    @property
    def labels(self) -> tuple[int, int]:
        """Labelled answers of each arm."""
        control, candidate = self.labelled.sum(axis=0)
        return int(control), int(candidate)

    @property
    def both(self) -> int:
        """Pairs of which both answers are labelled."""
        return int(self.labelled.all(axis=1).sum())


@dataclass(frozen=True, slots=True)
class PeoplesDifference:
    """The candidate's mean minus the control's as people judge, with an interval that is valid at every look."""

    value: float
    low: float
    high: float
    se: float
    trust: float
    """lambda: by how much people's verdicts rise with the judge's, in [0, 1]."""


def peoples_difference(pairs: JudgedPairs, alpha: float = 0.05, inflation: float = 1.0) -> PeoplesDifference | None:
    """The mean over pairs of m(f_b) - m(f_a) + (y_b - m(f_b)) / pi_b - (y_a - m(f_a)) / pi_a, the fractions of labelled
    answers alone; m(f) = c + lambda f, with c by arm so that the fractions of each arm add up to 0.

    inflation: the factor of its variance by which pairs of one user or key depend on each other. None if an arm that
    needs labels has fewer than MIN_LABELS, or there are fewer than BURN_IN conversations.

    The standard error is that of the pairs' estimates (by conversation), with a floor for differences and for errors of
    the judge that have not been seen yet, times Student's quantile at the smaller arm's effective labels in units of
    the normal one. Further pairs and further labels both add information to this mean in independent increments (of a
    label with the probability pi1, and pi2 later, the covariance is the later variance), so an asymptotic confidence
    sequence over the information 1 / se^2 is valid whenever labellers or readers look. Sources: Angelopoulos, Duchi &
    Zrnic 2023, arXiv:2311.01453; Särndal, Swensson & Wretman 1992, section 6.4 (the generalised regression estimator);
    Waudby-Smith et al. 2024, arXiv:2103.06476, theorem 2.5.
    """
    inside("alpha", alpha)
    _, unit, sizes = np.unique(np.asarray(pairs.units), return_inverse=True, return_counts=True)
    weight = 1.0 / sizes[unit] if len(unit) else np.zeros(0)
    needing = [arm for arm in _ARMS if not pairs.exact[:, arm].all()]
    if len(sizes) < BURN_IN or any(pairs.labels[arm] < MIN_LABELS for arm in needing):
        return None
    labels = {arm: _labels(pairs, arm, weight) for arm in needing}
    trust = _trust(list(labels.values()))
    ends, unseen = np.where(pairs.exact, pairs.f, 0.0), 0.0
    for arm, of in labels.items():
        offset = float((of.shares * (of.y - trust * of.f)).sum())
        ends[:, arm] += _estimates(pairs, arm, weight, trust, offset)
        open_share = float(weight[~pairs.exact[:, arm]].sum() / weight.sum())
        unseen += open_share**2 * unseen_variance(of, trust, offset)
    means = np.bincount(unit, weight * (ends[:, 1] - ends[:, 0]))
    m2 = guarded(float(((means - means.mean()) ** 2).sum()), 1.0)
    fewest = min((min(of.effective, float(of.conversations)) for of in labels.values()), default=math.inf)
    student = student_quantile(1.0 - alpha / 2.0, max(fewest - 1.0, 1.0)) / two_sided_z(alpha) if labels else 1.0
    se = student * math.sqrt(inflation * (m2 / len(means) ** 2 + unseen))
    value, half = float(means.mean()), at_every_look(se, alpha)
    return PeoplesDifference(value, max(-1.0, value - half), min(1.0, value + half), se, trust)


def at_every_look(se: float, alpha: float) -> float:
    """Half of the width of a confidence sequence over the information 1 / se^2, tightest at _TIGHTEST."""
    information = (_TIGHTEST / se) ** 2
    return half_width(se * math.sqrt(information), information, Tuning(alpha, 1.0, 0.0))


def _labels(pairs: JudgedPairs, arm: int, weight: Floats) -> Labels:
    there = pairs.labelled[:, arm]
    units = [unit for unit, labelled in zip(pairs.units, there, strict=True) if labelled]
    return Labels.of(pairs.y[there, arm], pairs.f[there, arm], weight[there], pairs.pi[there, arm], units)


def _estimates(pairs: JudgedPairs, arm: int, weight: Floats, trust: float, offset: float) -> Floats:
    """Estimates of the answers that are not exact; 0 for the others."""
    there, open_ = pairs.labelled[:, arm], ~pairs.exact[:, arm]
    predicted = np.where(open_, offset + trust * pairs.f[:, arm], 0.0)
    calls = np.divide(1.0, pairs.pi[:, arm], out=np.zeros(len(there)), where=there)
    scale = weight[open_].sum() / (weight * calls).sum()
    return np.asarray(predicted + scale * calls * (pairs.y[:, arm] - offset - trust * pairs.f[:, arm]), np.float64)


def _trust(arms: Sequence[Labels]) -> float:
    """The slope of people's verdicts on the judge's within the arms, with the weights of the labels' variance."""
    covariance = spread = 0.0
    for of in arms:
        share = of.shares / of.pi
        share = share / share.sum()
        y, f = of.y - float((share * of.y).sum()), of.f - float((share * of.f).sum())
        covariance += float((share * y * f).sum())
        spread += float((share * f * f).sum())
    return min(1.0, max(0.0, covariance / spread)) if spread > 0 else 0.0
