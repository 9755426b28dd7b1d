"""One target by itself: what its answers scored, cost and took, each with an interval. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gateway.core.score import Bounds
from gateway.evals.experiments.report import Arm, ArmLatency, Estimate
from gateway.evals.replay.compare import mean_estimate
from gateway.evals.replay.sheet import Floats, ReplayMetric, ScoreSheet
from gateway.evals.statistics.quantiles import quantile_ranks

_CURVE_POINTS = 100


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """asked: the failed included. means: by metric, over the items it has a score for. cost_per_1k: None: no answer has
    a price. curve: (seconds, share of answers at most so late)."""

    target: str
    asked: int
    failed: int
    means: dict[str, Estimate]
    cost_per_1k: Estimate | None
    input_tokens: float | None
    output_tokens: float | None
    p50: Estimate
    p95: Estimate
    curve: tuple[tuple[float, float], ...]

    def arm(self) -> Arm:
        answered = self.asked - self.failed
        tokens = self.input_tokens, self.output_tokens
        return Arm(self.target, self.target, self.asked, self.failed, answered, self.cost_per_1k, *tokens)

    def latency(self) -> ArmLatency:
        return ArmLatency(
            self.target, "total_s", self.asked - self.failed, self.p50, self.p95, self.curve, comparable=True
        )


def standing(sheet: ScoreSheet, target: str, metrics: Sequence[ReplayMetric], alpha: float) -> TargetSummary:
    """alpha: of each interval by itself."""
    times = sheet.measures["seconds", target]
    seconds = np.sort(times[np.isfinite(times)])
    cost = _mean(1000.0 * sheet.measured("cost_usd", target), sheet, alpha)
    return TargetSummary(
        target=target, asked=sheet.answers(target), failed=int(np.nansum(sheet.failed(target))),
        means={m.name: _mean(sheet.values(m, target, sheet.targets), sheet, alpha, m.bounds) for m in metrics},
        cost_per_1k=None if cost.value is None else cost,
        input_tokens=_tokens(sheet, "input_tokens", target), output_tokens=_tokens(sheet, "output_tokens", target),
        p50=_quantile(seconds, 0.5, alpha), p95=_quantile(seconds, 0.95, alpha), curve=_curve(seconds),
    )  # fmt: skip


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
