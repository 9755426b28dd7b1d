"""The cheaper tier of a model: its fallbacks with `on: [budget]`, for callers whose budget in dollars is nearly spent.

A call of the tier is in no experiment, since its arm would not answer. It reserves at the prices of the tier's targets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from gateway.core.errors import GatewayError, QuotaExceeded
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.limits.estimate import ModelEstimate
from gateway.proxy.limits.limiter import CallReservation, Limiter
from gateway.proxy.limits.refusal import RunEnded, RunReserved
from gateway.proxy.request.call import Call
from gateway.proxy.routing.router import Route


class BudgetTier:
    """The cheaper tiers of one config."""

    def __init__(self, limiter: Limiter, estimates: Mapping[str, ModelEstimate], metrics: ProxyMetrics) -> None:
        """estimates: of calls to the tiers, by alias."""
        self._limiter = limiter
        self._estimates = estimates
        self._metrics = metrics

    async def reserve(self, call: Call, route: Route) -> tuple[CallReservation, Route]:
        """Reserves for a call that the tier may answer, and returns its route.

        The tier answers if a limit in dollars is used up to `budgets.tier_down_at`, or too small for the targets.
        Raises as Limiter.reserve and wait do."""
        limiter, caller = self._limiter, call.caller
        if not limiter.nearly_spent(caller, call):
            try:
                return limiter.reserve(caller, call) or await limiter.wait(caller, call), route
            except (QuotaExceeded, RunReserved) as refused:
                if "usd" not in str(refused.details.get("limit", "")):
                    raise
        reservation = await self._in_tier(call)
        self._metrics.counts.of(self._metrics.tier_down, call.alias).n += 1
        return reservation, tiered_down(route)

    async def _in_tier(self, call: Call) -> CallReservation:
        """Reserves at the prices of the tier; once the dollars of a run are used up, from what it may use after."""
        limiter, estimate = self._limiter, self._estimates[call.alias]
        try:
            return await limiter.reserve_at(estimate, call.caller, call)
        except (QuotaExceeded, RunReserved) as refused:
            if refused.details.get("limit") != "usd_per_run" or not limiter.goes_on(call):
                raise
            ended: GatewayError = refused
        reservation = await limiter.reserve_at(estimate, call.caller, call, tier=True)
        if isinstance(ended, RunEnded):
            limiter.note_end(call, ended, "tier")
        return reservation


def tiered_down(route: Route) -> Route:
    return replace(route, candidates=route.tier, assignment=None, choice=None, tiered_down=True)
