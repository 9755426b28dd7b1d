"""The search for weak spots of a plan: it takes the pairs in order, block by block.

It runs for plans with `segments.weak_spots`, on the primary's differences of pairs that were drawn from all calls, one
pair of a conversation. A ramp's larger steps wait for it: the average may ship while a part of the traffic loses.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from gateway.core.json_values import as_list, parse_object
from gateway.core.plan import Plan
from gateway.core.plan_evidence import SegmentRow
from gateway.statistics.weak_spots import (
    BLOCK,
    MOST_FITTED,
    NOTHING,
    FittedRule,
    WeakSpotSearch,
    columns_of,
    fit_rule,
)
from gateway.verdict.segments.exploratory import MOST_VALUES, parts_of

_TURNS = ((2, "1"), (6, "2 to 5"))
Parts = Mapping[str, str]
"""Property → value, of one request."""


def searches(plan: Plan) -> bool:
    """Whether the plan asks for the search."""
    return plan.segments is not None and plan.segments.weak_spots > 0 and plan.primary is not None


def searched(plan: Plan, state: Mapping[str, Any], rows: Sequence[SegmentRow]) -> dict[str, Any] | None:
    """The state after these rows, which are in order; None if they are less than a block. state: {} before the
    first.
    """
    design = plan.segments
    if design is None:
        return None
    fresh = WeakSpotSearch(design.margin, design.weak_spots)
    search = WeakSpotSearch.from_state(state["search"]) if state else fresh
    found = {name: state.get(name) for name in ("where", "share")}
    parts = [request_parts(row) for row in rows]
    differences = np.array([row.difference for row in rows], dtype=float)
    place, first = int(state.get("place", 0)), sum(row.place <= int(state.get("place", 0)) for row in rows)
    for at in range(first, len(rows) - BLOCK + 1, BLOCK):
        known = found["where"] is not None
        rule, chosen = (NOTHING, []) if known else _rule(differences, parts, at, search.margin)
        columns = np.array([[p.get(n) == v for n, v in chosen] for p in parts[at : at + BLOCK]], dtype=bool)
        search.bet(differences[at : at + BLOCK], rule.selects(columns.reshape(BLOCK, len(chosen))), rule.size)
        if search.alarm and not known:
            found = {"where": " and ".join(f"{n} = {v}" for n, v in chosen), "share": rule.share}
        place = rows[at + BLOCK - 1].place
    return {"search": search.state(), "place": place, **found} if place != int(state.get("place", 0)) else None


def _rule(differences: Any, parts: Sequence[Parts], at: int, margin: float) -> tuple[FittedRule, list[tuple[str, str]]]:
    """The rule that is fitted to the pairs before this one, and the (property, value) of its columns."""
    first = max(0, at - MOST_FITTED)
    names, features = columns_of(parts[first:at], MOST_VALUES)
    rule = fit_rule(differences[first:at], features, margin)
    chosen = [names[column] for column in rule.columns]
    return (NOTHING if not chosen else replace(rule, columns=tuple(range(len(chosen))))), chosen


def of_one_each(rows: Sequence[SegmentRow]) -> list[SegmentRow]:
    """The first pair of each conversation, and every pair without one."""
    seen: set[str] = set()
    found = []
    for row in rows:
        if row.cluster is not None and row.cluster in seen:
            continue
        seen |= {row.cluster} if row.cluster is not None else set()
        found.append(row)
    return found


def request_parts(row: SegmentRow) -> dict[str, str]:
    """The properties of a request that the search may select by."""
    found, request = parts_of(row), parse_object(row.request or b"") or {}
    if row.request is not None:
        found["code"] = "yes" if b"```" in row.request else "no"
    messages = len(as_list(request.get("messages")))
    if messages:
        found["turns"] = next((name for most, name in _TURNS if messages < most), "6 or more")
    return found
