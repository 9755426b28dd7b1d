"""A plan's segments as derived from recent traffic before it starts: their values, and how often each is shadowed.

Values that few calls have are one segment, `other`. A small segment is shadowed more often than the rest, so that it is
decided with it: its additional pairs are in no mean of all calls, which stay a draw with one probability.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

import orjson

from gateway.core.json_values import parse_object
from gateway.core.plan import Plan
from gateway.core.plan_horizon import SCORE_VARIANCE, horizon_of
from gateway.core.segments import (
    KNOWN_VALUES,
    MOST_SEGMENTS,
    MOST_VALUES,
    OTHER,
    TAIL_BYTES,
    RequestFacts,
    SegmentDesign,
    raw_values,
    segment_name,
)
from gateway.features.experiments.rows.traffic import RecentRequest, recent_requests
from gateway.store.query import Reading
from gateway.verdict.segments.shares import Shares, declared_shares
from gateway.verdict.sequences.difference import segment_pairs

DAY_S = 86_400.0
FEWEST = 50  # recorded calls from which a caution is possible
_WORTH = 1.1  # a smaller factor is not worth a rate of its own
_MOST = 20.0


def with_segments(connection: Reading, plan: Plan, now: float, variance: float | None = None) -> Plan:
    """The plan with its segments' values, and with the rates of the small ones. now: Unix seconds.

    variance: of one difference, from earlier pairs; None if it is assumed.
    """
    design = plan.segments
    if design is None or not design.by:
        return plan
    shares = traffic_shares(connection, plan, now)
    if shares is None:
        return plan
    frozen = replace(design, frozen=tuple(_frozen(design, shares)))
    plan = replace(plan, segments=frozen)
    return replace(plan, segments=replace(frozen, more=tuple(_factors(plan, frozen, shares, variance))))


def segment_refusal(connection: Reading | None, plan: Plan, now: float) -> str | None:
    """Reason why a plan cannot start: no value of a declared property is known, so `ship` would need nothing of it.

    plan: with its segments. connection: None before there is a store. now: Unix seconds.
    """
    design = plan.segments
    if design is None or not design.unknown:
        return None
    at, prop, remedy = f"experiments.{plan.name}.segments", design.unknown[0], "write `values`"
    shares = None if connection is None else traffic_shares(connection, plan, now)
    if shares is None:
        return (
            f"{at}: fewer than {FEWEST} calls of {plan.model} were recorded in the last day, so the values of "
            f"{prop} are unknown: {remedy}, or start after some traffic"
        )
    if not shares[prop]:
        return f"{at}: no call of the last day has {prop}: {remedy}, or start after some traffic"
    return (
        f"{at}: no value of {prop} has {design.least_share:.0%} of the last day's calls, so they would be one segment: "
        f"{remedy}, or lower `least_share`"
    )


def traffic_shares(connection: Reading, plan: Plan, now: float) -> Shares | None:
    """Shares of the last day's recorded calls, each of which stands for 1 / π; None if too few were recorded."""
    design = plan.segments
    rows = recent_requests(connection, plan, now - DAY_S) if design is not None else []
    if design is None or len(rows) < FEWEST:
        return None
    counts: dict[str, Counter[str]] = {prop: Counter() for prop in design.by}
    total = 0.0
    for row in rows:
        total += 1.0 / row.pi
        for prop, value in raw_values(design.by, _facts(row)).items():
            counts[prop][value] += 1.0 / row.pi  # type: ignore[assignment]  # weights
    return {prop: {value: n / total for value, n in of.items()} for prop, of in counts.items()}


def _facts(row: RecentRequest) -> RequestFacts:
    fields = parse_object(row.request) or {}
    texts = fields.get("messages") or fields.get("prompt")
    tail = orjson.dumps(texts)[-TAIL_BYTES:] if texts else b""
    return RequestFacts(row.caller, row.api, row.stream, row.size, fields, tail)


def _frozen(design: SegmentDesign, shares: Shares) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The values of each property without stated ones: those with enough of the traffic, the most frequent first."""
    stated, most = dict(design.values), max(1, MOST_SEGMENTS // max(1, len(design.by)) - 1)
    for prop in design.by:
        found = [(-share, value) for value, share in shares[prop].items() if share >= design.least_share]
        of_two = len(KNOWN_VALUES.get(prop, ())) == 2  # both have a name, however rare one is
        if prop not in stated and found and not of_two:
            yield prop, tuple(value for _, value in sorted(found)[: min(MOST_VALUES, most)])


def _factors(
    plan: Plan, design: SegmentDesign, shares: Shares, variance: float | None
) -> Iterator[tuple[str, str, float]]:
    """Factors by which small segments are shadowed more often, so that they have their pairs when the primary does."""
    pairs = plan.max_pairs or horizon_of(plan, variance)
    if not pairs:
        return
    wanted = segment_pairs(plan, math.sqrt(SCORE_VARIANCE if variance is None else variance), design.margin)
    for (prop, value), share in declared_shares(design, shares).items():
        factor = wanted / (share * pairs) if share >= design.least_share else 1.0
        if factor > _WORTH:
            yield prop, value, round(min(factor, _MOST), 2)


def segment_cautions(connection: Reading, plan: Plan, now: float) -> Iterator[str]:
    """Cautions about segments that recent traffic does not have, and about unknown values."""
    design = plan.segments
    shares = traffic_shares(connection, plan, now) if design is not None and design.by else None
    if design is None or shares is None:
        return
    known = replace(design, frozen=tuple(_frozen(design, shares)))
    for segment, share in declared_shares(known, shares).items():
        if not share and segment[1] != OTHER:
            yield (
                f"experiment {plan.name}: no recorded call of {plan.model} in the last day had the segment "
                f"{segment_name(*segment)}, so nothing would be known about it; remove it from `segments`"
            )
