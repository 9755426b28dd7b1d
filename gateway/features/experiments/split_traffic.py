"""The hours of traffic that the answers of a split cover, and the units that its intervals count. Pure.

The intervals of a split are those of units, so the calls of one may be alike. What is left to assume is that units do
not depend on each other: where each call is one, that calls do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from gateway.core.exchange import cluster_digest
from gateway.core.plan import Plan
from gateway.features.experiments.split_days import SplitDays
from gateway.features.experiments.split_rows import SplitRows
from gateway.features.experiments.traffic_facts import HOURS, hours_needed
from gateway.features.experiments.traffic_time import LONGEST_GAP_S
from gateway.reports.model import GateResult, Independence, TrafficFacts
from gateway.statistics.domains import Floats


@dataclass(frozen=True, slots=True)
class SplitTraffic:
    """What the answers of both arms are spread over."""

    hours: float
    """Covered by the answers with a value of the primary, of the arm where these are fewer."""
    named: bool
    """A call named its unit; otherwise each is a unit of its own."""
    by_day: SplitDays = field(default_factory=SplitDays)
    """The primary's differences."""


def split_traffic(rows: SplitRows, counted: NDArray[np.bool_]) -> SplitTraffic:
    """counted: shape (n,): which of the n answers have a value of the primary."""
    named = any(row.unit != cluster_digest(row.id) and row.unit != row.id for row in rows)
    return SplitTraffic(_hours(rows, _received(rows), counted), named)


def hours_by_metric(rows: SplitRows, counted: Mapping[str, NDArray[np.bool_]]) -> dict[str, float]:
    """metric → hours covered by the answers with a value of it, of the arm where these are fewer.

    counted: metric → which of the n answers have one, shape (n,).
    """
    received = _received(rows)
    return {metric: _hours(rows, received, which) for metric, which in counted.items()}


def _received(rows: SplitRows) -> Floats:
    return np.array([row.received for row in rows], dtype=np.float64)


def _hours(rows: SplitRows, received: Floats, counted: NDArray[np.bool_]) -> float:
    return min(covered_s(received[arm.at][counted[arm.at]]) for arm in rows.arms) / 3600.0


def covered_s(times: Floats) -> float:
    """Seconds of traffic from the first to the last of these times, as TrafficTime counts them. times: ascending."""
    return float(np.minimum(np.diff(times), LONGEST_GAP_S).sum()) if times.size else 0.0


def split_hours_gate(plan: Plan, traffic: SplitTraffic | None) -> GateResult | None:
    """Whether both arms cover enough hours of traffic for `ship`. None: the plan asks for none."""
    if traffic is None or not plan.min_hours:
        return None
    if traffic.hours >= plan.min_hours:
        return GateResult(
            HOURS, 1, f"the answers of both arms cover {traffic.hours:.3g} hours of traffic", traffic.hours
        )
    return GateResult(HOURS, 0, hours_needed(plan, traffic.hours), traffic.hours)


def split_facts(plan: Plan, traffic: SplitTraffic | None) -> TrafficFacts | None:
    """The facts of a split. None: the plan's rules do not ask for them."""
    if traffic is None:
        return None
    independence: Independence = "declared" if plan.independent else "assumed"
    if plan.unit != "request" and traffic.named:
        independence = "units"
    estimand = "that of the arms' means over answers, each weighted by how often such answers are recorded"
    facts = TrafficFacts(independence, (), traffic.hours, plan.min_hours, estimand, source="served")
    facts, slope = replace(facts, days=traffic.by_day.days), traffic.by_day.slope
    return facts if slope is None else replace(facts, slope=slope.per_day, slope_p=slope.p)
