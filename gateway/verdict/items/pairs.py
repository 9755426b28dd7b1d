"""Two arms compared item by item, with an interval of one look or one valid at any time. Pure.

The number of items is fixed in advance, so a look at the end may use paired_difference. A look before the end may only
use the betting sequence, which is valid where the order of the items does not depend on the answers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.score import Bounds, Direction
from gateway.reports.model import Comparison, Estimate, IntervalTrail, direction_finding, margin_finding
from gateway.reports.number_format import with_sign
from gateway.statistics.betting import BettingMean
from gateway.statistics.paired import mcnemar_exact, mean_error, paired_difference, wilson
from gateway.statistics.score_interval import SPARSE, cluster_means, few_differences
from gateway.statistics.special import student_quantile

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ItemMetric:
    """A quantity by which targets are compared."""

    name: str
    direction: Direction
    bounds: Bounds
    """The lowest and the highest possible value; None: unbounded."""
    unit: str = ""
    preference: bool = False
    """True if values are preferences for a candidate's answer over the control's, ½ for a tie; the control has ½ where
    it was compared."""

    @property
    def worst(self) -> float | None:
        """The value of a failed answer. None if there is no worst value, or it depends on the other answer."""
        if self.preference:
            return None
        low, high = self.bounds
        return {"maximise": low, "minimise": high}.get(self.direction)

    @property
    def bounded(self) -> bool:
        return None not in self.bounds

    @property
    def span(self) -> float:
        """The highest minus the lowest value. Only for a bounded metric."""
        low, high = self.bounds
        return float(high or 0.0) - float(low or 0.0)


Kind = Literal["primary", "guardrail", "other"]


_TRAIL_POINTS = 200


@dataclass(frozen=True, slots=True)
class ComparisonTerms:
    """The terms on which one metric is compared."""

    role: Kind
    alpha: float
    margin: float | None = None
    """The margin; None if the metric is shown and not tested."""
    complete: bool = True
    """Every planned request is answered, so the fixed-n interval is valid."""


@dataclass(frozen=True, slots=True)
class PairedValues:
    """The items for which both targets have a number."""

    a: Floats
    b: Floats
    clusters: list[str]
    """The cluster of each item."""
    better: Floats
    """Differences, positive where b is better."""

    @property
    def n(self) -> int:
        return int(self.a.size)


def paired(metric: ItemMetric, a: Floats, b: Floats, clusters: Sequence[str]) -> PairedValues:
    both = np.isfinite(a) & np.isfinite(b)
    kept = [c for c, here in zip(clusters, both, strict=True) if here]
    first, second = a[both], b[both]
    better = first - second if metric.direction == "minimise" else second - first
    return PairedValues(first, second, kept, better)


def comparison(
    metric: ItemMetric, pairs: PairedValues, terms: ComparisonTerms, noise: Estimate | None = None
) -> tuple[Comparison, IntervalTrail]:
    """The comparison, and the course of the betting interval, without points if the metric is not bounded."""
    trail = betting_trail(metric, pairs, terms.alpha)
    n, clusters = pairs.n, len(set(pairs.clusters))
    difference, method = _difference(metric, pairs, terms, trail)
    margin = "unclear" if terms.margin is None else margin_finding(difference, terms.margin)
    result = Comparison(
        metric=metric.name,
        unit=metric.unit,
        role=terms.role,
        a=mean_estimate(pairs.a, pairs.clusters, terms.alpha, metric.bounds),
        b=mean_estimate(pairs.b, pairs.clusters, terms.alpha, metric.bounds),
        difference=difference,
        noise=noise,
        pairs=n,
        effective_n=float(clusters),
        margin=terms.margin,
        direction_found="unclear" if metric.direction == "neutral" else direction_finding(difference),
        margin_found=margin,
        pairs_needed=pairs_needed(difference, terms.margin, n) if margin == "unclear" else None,
        method=method,
        better="lower" if metric.direction == "minimise" else "higher",
        binary=n > 0 and all(bool(np.isin(arm, (0.0, 1.0)).all()) for arm in (pairs.a, pairs.b)),
    )
    return result, trail


def _difference(
    metric: ItemMetric, pairs: PairedValues, terms: ComparisonTerms, trail: IntervalTrail
) -> tuple[Estimate, str]:
    n, clusters = pairs.n, len(set(pairs.clusters))
    value = float(pairs.better.mean()) if n else None
    _, by_cluster, low, high = trail.points[-1] if trail.points else (0, 0.0, 0.0, 0.0)
    at_any_time = f"at any time (betting): {with_sign(low, 4)} … {with_sign(high, 4)}" if trail.points else ""
    if value is None or clusters < 2:
        return Estimate(value), "too few items for an interval"
    if not terms.complete:
        if not trail.points:
            return Estimate(value), "no interval before the replay is complete"
        return Estimate(by_cluster, low, high), "betting confidence sequence, one step per cluster"
    if metric.bounded and (found := sparse_interval(pairs, metric.span, terms.alpha)):
        method = f"fixed n, few items differ (Agresti–Min), {clusters} clusters"
        return Estimate(value, *found), _joined(method, mcnemar_text(pairs), at_any_time)
    found_t = paired_difference(np.zeros(n), pairs.better, terms.alpha, pairs.clusters)
    method = _joined(f"fixed n, paired t over {clusters} clusters", mcnemar_text(pairs), at_any_time)
    return Estimate(value, found_t.low, found_t.high), method


def mcnemar_text(pairs: PairedValues) -> str:
    """McNemar's test of no difference, for yes-or-no scores of independent items; "" for others."""
    known = set(np.unique((pairs.a, pairs.b)).tolist()) <= {0.0, 1.0}
    if not known or len(set(pairs.clusters)) < pairs.n:
        return ""
    return f"McNemar p {mcnemar_exact(int((pairs.better < 0).sum()), int((pairs.better > 0).sum())):.2g}"


def _joined(*parts: str) -> str:
    return "; ".join(p for p in parts if p)


def sparse_interval(pairs: PairedValues, span: float, alpha: float) -> tuple[float, float] | None:
    """An interval for rare differences. None if SPARSE or more clusters differ."""
    means = cluster_means(pairs.better, pairs.clusters)
    if int(np.count_nonzero(means)) >= SPARSE:
        return None
    return few_differences(means, span, alpha)


def betting_trail(metric: ItemMetric, pairs: PairedValues, alpha: float) -> IntervalTrail:
    """The running interval, one step per cluster, with differences mapped to [0, 1]; thinned to _TRAIL_POINTS."""
    if not metric.bounded or metric.direction == "neutral" or not pairs.n or metric.span <= 0:
        return IntervalTrail(metric.name, ())
    means, span = cluster_means(pairs.better, pairs.clusters), metric.span
    bets = BettingMean(alpha)
    step = max(1, math.ceil(means.size / _TRAIL_POINTS))
    points = []
    for i, difference in enumerate(means.tolist(), 1):
        bets.add(min(1.0, max(0.0, (difference / span + 1.0) / 2.0)))
        if i % step == 0 or i == means.size:
            low, high = bets.running_interval()
            points.append((i, float(means[:i].mean()), (2.0 * low - 1.0) * span, (2.0 * high - 1.0) * span))
    return IntervalTrail(metric.name, tuple(points))


def mean_estimate(values: Floats, clusters: Sequence[str], alpha: float, bounds: Bounds = (None, None)) -> Estimate:
    """The mean of one target with a clustered t interval.

    If all but fewer than SPARSE clusters are at one of the bounds, it is Wilson's interval with one trial per cluster:
    a score between the bounds varies no more than one at the bounds. That interval is never empty.
    """
    if not values.size:
        return Estimate(None)
    if len(set(clusters)) < 2:
        return Estimate(float(values.mean()))
    found = mean_error(values, clusters)
    low, high = bounds
    if low is not None and high is not None and low < high:
        means = cluster_means(values, clusters)
        if min(np.count_nonzero(means != low), np.count_nonzero(means != high)) < SPARSE:
            ends = wilson((found.mean - low) / (high - low) * found.clusters, found.clusters, alpha)
            return Estimate(found.mean, *(low + (high - low) * end for end in ends))
    half = student_quantile(1.0 - alpha / 2.0, found.clusters - 1) * found.se
    return Estimate(found.mean, found.mean - half, found.mean + half)


def pairs_needed(difference: Estimate, margin: float | None, n: int) -> int | None:
    """Estimates how many more items would decide if the difference stays as it is: intervals narrow as 1 / sqrt(n)."""
    if margin is None or difference.value is None or difference.low is None or difference.high is None:
        return None
    half, distance = (difference.high - difference.low) / 2.0, abs(difference.value + margin)
    if distance <= 0 or half <= 0:
        return None
    needed = n * (half / distance) ** 2 - n
    return max(1, math.ceil(needed)) if needed < 1e9 else None
