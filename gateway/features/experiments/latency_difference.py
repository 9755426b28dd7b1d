"""The difference between two arms' 95th percentiles of latency, with an interval valid at any time. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.features.experiments.slow_share import SlowShare
from gateway.reports.model import Comparison, Estimate, direction_finding, margin_finding
from gateway.statistics.quantiles import quantile_ranks

P95 = "latency_p95"
_N_OPT = 1000.0


def quantile(values: Sequence[float], p: float, alpha: float) -> Estimate:
    """The p-quantile with its confidence sequence; a bound is None while there are too few values for it.

    values: shape (n,), in ascending order. p, alpha: in (0, 1). Source: statistics/quantiles.py.
    """
    n = len(values)
    if not n:
        return Estimate(None)
    low, high = quantile_ranks(n, p, alpha, _N_OPT)
    return Estimate(
        values[min(n - 1, int(p * n))], values[low - 1] if low >= 1 else None, values[high - 1] if high <= n else None
    )


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
    difference = p95_difference(first, second, alpha)
    return Comparison(
        metric=P95,
        unit="s",
        role="other" if margin is None else "guardrail",
        a=quantile(first, 0.95, alpha),
        b=quantile(second, 0.95, alpha),
        difference=difference,
        noise=None,
        pairs=min(len(first), len(second)),
        effective_n=float(min(len(first), len(second))),
        margin=margin,
        direction_found=direction_finding(difference),
        margin_found="unclear" if margin is None else margin_finding(difference, margin),
        method="quantile confidence sequences of both arms",
    )


def slow_share_comparison(found: SlowShare, margin: float | None) -> Comparison:
    """The comparison of both arms' p95 by the share of answers that are slower."""
    return Comparison(
        metric=P95,
        unit="s",
        role="other" if margin is None else "guardrail",
        a=found.a,
        b=found.b,
        difference=found.difference,
        noise=None,
        pairs=sum(found.units),
        effective_n=found.effective,
        margin=margin,
        direction_found=direction_finding(found.difference),
        margin_found="unclear" if margin is None else margin_finding(found.difference, margin),
        method=(
            "asymptotic confidence sequence on the share of answers slower than the p95, by unit; slower than the "
            f"control's: {found.share_a:.1%} of the control's answers, {found.share_b:.1%} of the candidate's"
        ),
    )
