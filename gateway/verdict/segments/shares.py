"""Shares of the traffic that declared segments have."""

from __future__ import annotations

from collections.abc import Mapping

from gateway.core.plan import Plan
from gateway.core.segments import OTHER, SegmentDesign

Shares = Mapping[str, Mapping[str, float]]
"""Property → value → its share of the calls."""


def declared_shares(design: SegmentDesign, shares: Shares) -> dict[tuple[str, str], float]:
    """Declared segment → its share of the calls."""
    found = dict.fromkeys(design.segments, 0.0)
    for prop, values in design.declared.items():
        known = {value: shares[prop].get(value, 0.0) for value in values}
        found |= {(prop, value): share for value, share in known.items()}
        if (prop, OTHER) in found:
            found[prop, OTHER] = max(0.0, 1.0 - sum(known.values()))
    return found


def added_share(plan: Plan, shares: Shares | None) -> float:
    """Pairs that are drawn for small segments alone, for each pair that is drawn from all calls; at most this many."""
    design = plan.segments
    if design is None or shares is None or not plan.shadow:
        return 0.0
    known = declared_shares(design, shares)
    most = 1.0 / plan.shadow
    return sum(known.get((prop, value), 0.0) * (min(factor, most) - 1.0) for prop, value, factor in design.more)
