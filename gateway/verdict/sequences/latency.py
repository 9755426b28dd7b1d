"""The difference between two arms' 95th percentiles of latency, with an interval valid at any time. Pure.

Pairs are compared by order statistics. An order statistic takes into account neither weights of answers nor shared
units. The share of an arm's answers above some duration is a mean: it is linear, takes weights, and its error is that
of sums by unit. The p95 is where that share is 5 %, so an interval for the share gives one for the p95 (Woodruff 1952,
JASA 47; Francisco & Fuller 1991, Annals of Statistics 19). The two arms' intervals give that of their difference
without an estimate of any density (Zou & Donner 2008, Statistics in Medicine 27). Each arm has its part of an
asymptotic confidence sequence, so it holds at every look.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gateway.reports.model import Comparison, Estimate, direction_finding, margin_finding
from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.domains import Floats
from gateway.statistics.quantiles import quantile_ranks

Places = NDArray[np.intp]
SLOWEST = 0.05  # share of the answers above the p95
FEWEST = 100.0  # effective units of an arm before an interval
_N_STAR = 1000.0  # effective units of both arms at which the interval is tightest


@dataclass(frozen=True, slots=True)
class ArmSeconds:
    """The durations of one arm's answers."""

    seconds: Floats  # shape (n,), finite
    units: Sequence[str] | Places  # shape (n,), names or 0, 1, …: answers of one unit depend on each other
    weights: Floats | None = None  # shape (n,), positive; None: all alike

    @property
    def weighted(self) -> Floats:
        return np.ones(self.seconds.size) if self.weights is None else self.weights


@dataclass(frozen=True, slots=True)
class SlowShare:
    """The p95 of both arms, and the share of each arm's answers that is slower than the control's p95."""

    a: Estimate  # p95 of the control, in seconds
    b: Estimate  # p95 of the candidate
    difference: Estimate  # a − b: positive is better for the candidate
    share_a: float  # of the control's answers: SLOWEST, or less where durations are equal
    share_b: float  # of the candidate's answers
    units: tuple[int, int]  # (control, candidate)
    effective: float  # units of both arms, as many as their weights and sizes leave


@dataclass(frozen=True, slots=True)
class _Arm:
    seconds: Floats  # ascending
    above: Floats  # share of the weight that is slower than each of them
    p95: float
    error: float  # standard error of the share above the p95
    effective: float
    units: int


def slow_share(a: ArmSeconds, b: ArmSeconds, alpha: float) -> SlowShare:
    """The comparison of both arms' p95. a: of the control, b: of the candidate; each with an answer at least.

    alpha: in (0, 1), two-sided, over all looks. An interval is open while an arm has fewer than FEWEST effective units,
    and on a side for which an arm has too few slow answers. Raises ValueError without answers.
    """
    first, second = _arm(a), _arm(b)
    n = first.effective + second.effective
    enough = min(first.effective, second.effective) >= FEWEST
    z = math.sqrt(n) * half_width(1.0, n, Tuning(alpha, _N_STAR, FEWEST)) if enough else math.inf
    one, other = _interval(first, z), _interval(second, z)
    share_b = float(b.weighted[b.seconds > first.p95].sum() / b.weighted.sum())
    share_a = float(a.weighted[a.seconds > first.p95].sum() / a.weighted.sum())
    return SlowShare(one, other, _between(one, other), share_a, share_b, (first.units, second.units), n)


def _arm(of: ArmSeconds) -> _Arm:
    if not of.seconds.size:
        raise ValueError("an arm has no answer: a p95 needs at least one in each")
    w, total = of.weighted, float(of.weighted.sum())
    # Without weights the order of equal durations changes nothing, and the sort that ignores it takes a fifth.
    order = np.argsort(of.seconds, kind="quicksort" if of.weights is None else "stable")
    seconds = of.seconds[order]
    above = 1.0 - np.cumsum(w[order]) / total
    p95 = _at(seconds, above, SLOWEST) or float(seconds[-1])
    unit = of.units if isinstance(of.units, np.ndarray) else _places(of.units)
    sizes = np.bincount(unit, weights=w)
    n = total**2 / float((sizes**2).sum())
    terms = np.bincount(unit, weights=w * ((of.seconds > p95) - SLOWEST))
    # Answers of a unit that are alike raise the variance; that of independent answers is known, and the least.
    independent = SLOWEST * (1.0 - SLOWEST) * float((w**2).sum()) / total**2
    error = math.sqrt(max(float((terms**2).sum()) / total**2, independent))
    return _Arm(seconds, above, p95, error, n, sizes.size)


def _places(names: Sequence[str]) -> Places:
    """Names as 0, 1, … in order of their first appearance."""
    places = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return np.fromiter(map(places.__getitem__, names), dtype=np.intp, count=len(names))


def _at(seconds: Floats, above: Floats, share: float) -> float | None:
    """The smallest duration that at most this share of the weight exceeds; None: below that of the slowest answer."""
    if share <= 0.0:
        return None
    i = int(np.searchsorted(-above, -share - 1e-12))
    return float(seconds[min(i, seconds.size - 1)])


def _interval(arm: _Arm, z: float) -> Estimate:
    if not math.isfinite(z):
        return Estimate(arm.p95)
    low = _at(arm.seconds, arm.above, SLOWEST + z * arm.error) if SLOWEST + z * arm.error < 1.0 else None
    return Estimate(arm.p95, low, _at(arm.seconds, arm.above, SLOWEST - z * arm.error))


def _between(a: Estimate, b: Estimate) -> Estimate:
    """a − b, with the distances of the bounds from the values added in squares."""
    if a.value is None or b.value is None:
        return Estimate(None)
    value = a.value - b.value
    low = None if a.low is None or b.high is None else value - math.hypot(a.value - a.low, b.high - b.value)
    high = None if a.high is None or b.low is None else value + math.hypot(a.high - a.value, b.value - b.low)
    return Estimate(value, low, high)


P95 = "latency_p95"
_N_OPT = 1000.0


def quantile(values: Sequence[float], p: float, alpha: float) -> Estimate:
    """The p-quantile with its confidence sequence; a bound is None while there are too few values for it.

    values: shape (n,), in ascending order. p, alpha: in (0, 1). Source: statistics/quantiles.py.
    """
    n = len(values)
    if not n:
        return Estimate(None)
    ranks = quantile_ranks(n, p, alpha, _N_OPT)
    ends = (values[rank - 1] if 1 <= rank <= n else None for rank in ranks)
    return Estimate(values[min(n - 1, int(p * n))], *ends)


def p95_difference(a: Sequence[float], b: Sequence[float], alpha: float) -> Estimate:
    """p95 of a − p95 of b: positive is better for b. Each arm's interval has error alpha / 2, so both cover together.

    a, b: seconds, in ascending order. alpha: in (0, 1).
    """
    one, other = quantile(a, 0.95, alpha / 2), quantile(b, 0.95, alpha / 2)
    if one.value is None or other.value is None:
        return Estimate(None)
    low = None if one.low is None or other.high is None else one.low - other.high
    high = None if one.high is None or other.low is None else one.high - other.low
    return Estimate(one.value - other.value, low, high)


def p95_of(a: Sequence[float], b: Sequence[float], alpha: float, margin: float | None) -> Comparison:
    """The comparison of both arms' p95. a: of the control, b: of the candidate; seconds, in any order."""
    first, second = sorted(a), sorted(b)
    arms = (quantile(first, 0.95, alpha), quantile(second, 0.95, alpha))
    method = "quantile confidence sequences of both arms"
    n = min(len(first), len(second))
    return _comparison((*arms, p95_difference(first, second, alpha)), n, float(n), margin, method)


def slow_share_comparison(found: SlowShare, margin: float | None) -> Comparison:
    """The comparison of both arms' p95 by the share of answers that are slower."""
    method = (
        "asymptotic confidence sequence on the share of answers slower than the p95, by unit; slower than the "
        f"control's: {found.share_a:.1%} of the control's answers, {found.share_b:.1%} of the candidate's"
    )
    estimates = (found.a, found.b, found.difference)
    return _comparison(estimates, sum(found.units), found.effective, margin, method)


def _comparison(
    estimates: tuple[Estimate, Estimate, Estimate], pairs: int, effective_n: float, margin: float | None, method: str
) -> Comparison:
    """estimates: of the control, of the candidate, and of their difference."""
    a, b, difference = estimates
    return Comparison(
        metric=P95,
        unit="s",
        role="other" if margin is None else "guardrail",
        a=a,
        b=b,
        difference=difference,
        noise=None,
        pairs=pairs,
        effective_n=effective_n,
        margin=margin,
        direction_found=direction_finding(difference),
        margin_found="unclear" if margin is None else margin_finding(difference, margin),
        method=method,
    )
