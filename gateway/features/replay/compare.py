"""Targets on one metric: each alone, and two compared item by item with fixed-n and anytime-valid intervals. Pure.

A score sheet holds one number for each item and target, with repeats averaged. The number of rows of a replay is fixed
in advance, so a look at its end may use paired_difference. A look before the end may only use the betting sequence,
which is valid here because the order of the rows does not depend on the answers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gateway.core.score import Bounds, Direction
from gateway.reports.model import (
    Arm,
    ArmLatency,
    Comparison,
    Estimate,
    IntervalTrail,
    direction_finding,
    margin_finding,
)
from gateway.reports.number_format import with_sign
from gateway.statistics.betting import BettingMean
from gateway.statistics.paired import mcnemar_exact, mean_error, paired_difference, wilson
from gateway.statistics.quantiles import quantile_ranks
from gateway.statistics.score_interval import SPARSE, cluster_means, few_differences
from gateway.statistics.special import student_quantile

if TYPE_CHECKING:
    from gateway.features.replay.rows import ReplayAnswer, ReplayScore

Floats = NDArray[np.float64]
MEASURES = ("failed", "seconds", "input_tokens", "output_tokens", "cost_usd")


@dataclass(frozen=True, slots=True)
class ReplayMetric:
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


FAILED = ReplayMetric("error_rate", "minimise", (0.0, 1.0))
SECONDS = ReplayMetric("total_s", "minimise", (0.0, None), "s")
OUTPUT = ReplayMetric("output_tokens", "neutral", (0.0, None), "tokens")
COST = ReplayMetric("cost_per_1k", "minimise", (0.0, None), "USD per 1k")


@dataclass(slots=True)
class ScoreSheet:
    """One replay as arrays of shape (items, repeats), NaN where there is no number."""

    targets: tuple[str, ...]
    clusters: list[str]
    """The cluster of each item."""
    measures: dict[tuple[str, str], Floats]
    """Values by (measure, target)."""
    scores: dict[tuple[str, str], Floats]
    """Values by (scorer, target)."""
    unscored: dict[tuple[str, str], Counter[str]] = field(default_factory=dict)
    """The number of scores without a value, by (scorer, target) and status."""
    reasons: dict[str, Counter[str]] = field(default_factory=dict)
    """scorer → why its scores failed, with counts."""
    others: Counter[str] = field(default_factory=Counter)
    """Number of answers of another upstream and model than the first one, by target."""

    def failed(self, target: str) -> Floats:
        return self.measures["failed", target]

    def answers(self, target: str) -> int:
        """The number of answers, failed ones included."""
        return int(np.isfinite(self.failed(target)).sum())

    def values(self, metric: ReplayMetric, target: str, others: Sequence[str] = ()) -> Floats:
        """One number for each item, NaN if there is none. others: the targets that it is compared with.

        A failed answer has the worst value if the metric has one, and if another answer to the same item was scored:
        then the metric applies to the item.
        """
        scored = self.scores[metric.name, target]
        if metric.worst is not None:
            applies = np.zeros(scored.shape[0], dtype=bool)
            for other in (target, *others):
                applies |= np.isfinite(self.scores[metric.name, other]).any(axis=1)
            failed = (self.failed(target) == 1.0) & applies[:, None]
            scored = np.where(failed, metric.worst, scored)
        return row_means(scored)

    def measured(self, name: str, target: str) -> Floats:
        return row_means(self.measures[name, target])


def row_means(values: Floats) -> Floats:
    """The mean of each row's numbers; NaN for a row without numbers."""
    seen = np.isfinite(values)
    n = seen.sum(axis=1)
    total = np.where(seen, values, 0.0).sum(axis=1)
    return np.asarray(np.where(n > 0, total / np.maximum(n, 1), np.nan), dtype=np.float64)


def sheet(
    shape: tuple[int, int],
    targets: Sequence[str],
    scorers: Mapping[str, tuple[str, str]],
    answers: Iterable[ReplayAnswer],
    scored: Iterable[ReplayScore],
) -> ScoreSheet:
    """shape: (items, repeats); others are left out. scorers: name → the version and config hash whose scores count."""
    items, repeats = shape
    result = ScoreSheet(
        tuple(targets),
        [""] * items,
        {(m, t): np.full(shape, np.nan) for m in MEASURES for t in targets},
        {(s, t): np.full(shape, np.nan) for s in scorers for t in targets},
    )
    by: dict[str, tuple[str, str | None]] = {}
    for a in answers:
        if a.item > items or a.repeat > repeats or a.target not in result.targets:
            continue
        result.clusters[a.item - 1] = a.cluster
        _take(result, a)
        if a.upstream is not None:
            target = (a.upstream, a.model)
            result.others[a.target] += by.setdefault(a.target, target) != target
    for s in scored:
        if s.item <= items and s.repeat <= repeats and scorers.get(s.scorer) == (s.version, s.config_hash):
            _score(result, s)
    return result


def fill_preferences(sheet: ScoreSheet, metrics: Iterable[ReplayMetric]) -> None:
    """Adds the preferences that no judge is asked for: the control's ½, and the preference over an answer that
    failed."""
    control, *candidates = sheet.targets
    for name in (m.name for m in metrics if m.preference):
        compared = np.zeros(sheet.failed(control).shape, dtype=bool)
        for candidate in candidates:
            values = sheet.scores[name, candidate]
            ours, theirs = sheet.failed(candidate), sheet.failed(control)
            values[(ours == 1.0) & (theirs == 0.0)] = 0.0
            values[(ours == 0.0) & (theirs == 1.0)] = 1.0
            compared |= np.isfinite(values)
        sheet.scores[name, control][compared] = 0.5


def _take(result: ScoreSheet, a: ReplayAnswer) -> None:
    at = (a.item - 1, a.repeat - 1)
    result.measures["failed", a.target][at] = float(a.outcome != "ok")
    if a.outcome == "ok":
        for name in MEASURES[1:]:
            value = getattr(a, name)
            result.measures[name, a.target][at] = np.nan if value is None else value


def _score(result: ScoreSheet, s: ReplayScore) -> None:
    key = (s.scorer, s.target)
    if key not in result.scores:
        return
    if s.value is not None:
        result.scores[key][s.item - 1, s.repeat - 1] = s.value
    else:
        result.unscored.setdefault(key, Counter())[s.status] += 1
        if s.status != "not_applicable" and s.explanation:
            result.reasons.setdefault(s.scorer, Counter())[s.explanation] += 1


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


def paired(metric: ReplayMetric, a: Floats, b: Floats, clusters: Sequence[str]) -> PairedValues:
    both = np.isfinite(a) & np.isfinite(b)
    kept = [c for c, here in zip(clusters, both, strict=True) if here]
    first, second = a[both], b[both]
    better = first - second if metric.direction == "minimise" else second - first
    return PairedValues(first, second, kept, better)


def comparison(
    metric: ReplayMetric, pairs: PairedValues, terms: ComparisonTerms, noise: Estimate | None = None
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
    metric: ReplayMetric, pairs: PairedValues, terms: ComparisonTerms, trail: IntervalTrail
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


def betting_trail(metric: ReplayMetric, pairs: PairedValues, alpha: float) -> IntervalTrail:
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


_CURVE_POINTS = 100


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """One target on its own."""

    target: str
    asked: int
    """Requests with an answer or a final failure."""
    failed: int
    means: dict[str, Estimate]
    """The mean by metric, over the items with a score."""
    cost_per_1k: Estimate | None
    """USD per 1000 requests. None if no answer has a price."""
    input_tokens: float | None
    output_tokens: float | None
    p50: Estimate
    p95: Estimate
    curve: tuple[tuple[float, float], ...]
    """(seconds, share of the answers that took at most that long)."""

    def arm(self) -> Arm:
        answered = self.asked - self.failed
        tokens = self.input_tokens, self.output_tokens
        return Arm(self.target, self.target, self.asked, self.failed, answered, self.cost_per_1k, *tokens)

    def latency(self) -> ArmLatency:
        return ArmLatency(
            self.target, "total_s", self.asked - self.failed, self.p50, self.p95, self.curve, comparable=True
        )


def summarize(sheet: ScoreSheet, target: str, metrics: Sequence[ReplayMetric], alpha: float) -> TargetSummary:
    """alpha: the error of each interval."""
    times = sheet.measures["seconds", target]
    seconds = np.sort(times[np.isfinite(times)])
    cost = _mean(1000.0 * sheet.measured("cost_usd", target), sheet, alpha)
    return TargetSummary(
        target=target,
        asked=sheet.answers(target),
        failed=int(np.nansum(sheet.failed(target))),
        means={m.name: _mean(sheet.values(m, target, sheet.targets), sheet, alpha, m.bounds) for m in metrics},
        cost_per_1k=None if cost.value is None else cost,
        input_tokens=_tokens(sheet, "input_tokens", target),
        output_tokens=_tokens(sheet, "output_tokens", target),
        p50=_quantile(seconds, 0.5, alpha),
        p95=_quantile(seconds, 0.95, alpha),
        curve=_curve(seconds),
    )


def _mean(values: Floats, sheet: ScoreSheet, alpha: float, bounds: Bounds = (None, None)) -> Estimate:
    known = np.isfinite(values)
    clusters = [c for c, k in zip(sheet.clusters, known, strict=True) if k]
    return mean_estimate(values[known], clusters, alpha, bounds)


def _tokens(sheet: ScoreSheet, name: str, target: str) -> float | None:
    counted = sheet.measures[name, target]
    return float(np.nanmean(counted)) if np.isfinite(counted).any() else None


def _curve(seconds: Floats) -> tuple[tuple[float, float], ...]:
    n = int(seconds.size)
    at = np.unique(np.linspace(0, n - 1, min(n, _CURVE_POINTS)).round().astype(int)) if n else ()
    return tuple((float(seconds[i]), float((i + 1) / n)) for i in at)


def _quantile(seconds: Floats, p: float, alpha: float) -> Estimate:
    n = int(seconds.size)
    if not n:
        return Estimate(None)
    low, high = quantile_ranks(n, p, alpha, float(n))
    ends = [float(seconds[rank - 1]) if 1 <= rank <= n else None for rank in (low, high)]
    return Estimate(float(np.quantile(seconds, p)), *ends)
