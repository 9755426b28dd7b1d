"""The gauge `gateway_limit_used_ratio`: how much of each limit is used, for as many limits as a scrape can bear."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.core.limits import Limit, LimitScope
from gateway.observability.eval_metrics import ProxyMetrics

MOST_SERIES = 300
"""Limits with a series of their own: 30 KB of a scrape. Of the others, the fullest of each name is `scope="other"`."""
OTHER = "other"

LimitUse = tuple[LimitScope, Limit, float]
"""A limit of a scope, and the share of it that is used in the current window."""


class LimitGauges:
    """The series of one process."""

    def __init__(self, metrics: ProxyMetrics) -> None:
        self._metrics = metrics
        self._shown: dict[tuple[str, str], float] = {}

    def show(self, used: Iterable[LimitUse]) -> None:
        """used: every limit that is in use; the series of all others are set to 0, since their windows have ended."""
        now = dict.fromkeys(self._shown, 0.0)
        for scope, limit, share in used:
            series = self._series(str(scope), limit.name)
            now[series] = max(now.get(series, 0.0), share)
        self._shown = now
        counts, gauge = self._metrics.counts, self._metrics.limit_used
        for (scope_name, limit_name), share in now.items():
            counts.set(gauge, share, scope_name, limit_name)

    def _series(self, scope: str, limit: str) -> tuple[str, str]:
        series = (scope, limit)
        if series not in self._shown and len(self._shown) >= MOST_SERIES:
            return (OTHER, limit)
        self._shown.setdefault(series, 0.0)
        return series
