"""The score sheet of a replay: one number for each item and target, with repeats averaged; and each target alone. Pure.

The order of the rows does not depend on the answers, so that a look before the end may use the betting sequence.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from gateway.core.score import Bounds
from gateway.reports.model import (
    Arm,
    ArmLatency,
    Estimate,
)
from gateway.statistics.quantiles import quantile_ranks
from gateway.verdict.items.pairs import Floats, ItemMetric, mean_estimate

if TYPE_CHECKING:
    from gateway.features.replay.rows import ReplayAnswer, ReplayScore

MEASURES = ("failed", "seconds", "input_tokens", "output_tokens", "cost_usd")


FAILED = ItemMetric("error_rate", "minimise", (0.0, 1.0))
SECONDS = ItemMetric("total_s", "minimise", (0.0, None), "s")
OUTPUT = ItemMetric("output_tokens", "neutral", (0.0, None), "tokens")
COST = ItemMetric("cost_per_1k", "minimise", (0.0, None), "USD per 1k")


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
    requests: Mapping[str, int] = field(default_factory=dict)
    """The number of answers by target, where an item is more than one of them: a run."""

    def failed(self, target: str) -> Floats:
        return self.measures["failed", target]

    def answers(self, target: str) -> int:
        """The number of answers, failed ones included."""
        return int(np.isfinite(self.failed(target)).sum())

    def asked(self, target: str) -> int:
        """The number of single answers, failed ones included."""
        return self.requests.get(target, self.answers(target))

    def values(self, metric: ItemMetric, target: str, others: Sequence[str] = ()) -> Floats:
        """One number for each item, NaN if there is none. others: the targets that it is compared with."""
        return row_means(self.filled(metric, target, others))

    def filled(self, metric: ItemMetric, target: str, others: Sequence[str] = ()) -> Floats:
        """The scores by repeat, with those of failed answers.

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
        return scored

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


def fill_preferences(sheet: ScoreSheet, metrics: Iterable[ItemMetric]) -> None:
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


def summarize(sheet: ScoreSheet, target: str, metrics: Sequence[ItemMetric], alpha: float) -> TargetSummary:
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
