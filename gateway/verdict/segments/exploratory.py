"""The primary's difference by parts of the traffic: where a candidate is better or worse. Exploratory.

A segment is one value of one property: the caller, the alias, the language, the length of the prompt, whether tools are
offered, an entry of the request's metadata, a tag. Segments overlap and nobody planned them, so they decide nothing.
Their intervals hold for all segments together and at every look: Holm's procedure over the segments with enough pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.core.json_values import parse_object
from gateway.core.plan_evidence import SegmentRow
from gateway.core.segments import length_name
from gateway.reports.model import Estimate, SegmentDifference, direction_finding
from gateway.statistics.hybrid import guarded_half_width
from gateway.statistics.moments import Moments

FEWEST = 20  # pairs of a segment that is shown
MOST_VALUES = 8  # of one property, the most frequent ones
MOST_KEYS = 5  # of the metadata
MOST_PAIRS = 5000  # the newest ones
_N_STAR = 200.0
_CUT = 40  # characters of a value


def parts_of(row: SegmentRow) -> dict[str, str]:
    """property → value, of one request."""
    parts = {"caller": row.caller, "alias": row.alias, "api": row.api, "stream": "yes" if row.stream else "no"}
    parts["prompt"] = length_name(row.request_bytes)
    if row.language:
        parts["language"] = row.language
    parts |= {f"tag.{key}": value[:_CUT] for key, _, value in (tag.partition("=") for tag in row.tags.split())}
    request = parse_object(row.request or b"")
    if request is not None:
        parts["tools"] = "yes" if request.get("tools") or request.get("functions") else "no"
        parts |= _metadata(request.get("metadata"))
    return parts


def _metadata(metadata: Any) -> dict[str, str]:
    if not isinstance(metadata, dict):
        return {}
    simple = {k: v for k, v in metadata.items() if isinstance(k, str) and isinstance(v, str | int | float | bool)}
    return {f"metadata.{key}"[:_CUT]: str(simple[key])[:_CUT] for key in sorted(simple)[:MOST_KEYS]}


def collected(pairs: Iterable[tuple[Mapping[str, str], float]]) -> dict[tuple[str, str], Moments]:
    """(property, value) → its differences. Left out: values with few pairs, and properties with one value."""
    found: dict[tuple[str, str], Moments] = {}
    total = 0
    for parts, difference in pairs:
        total += 1
        for part in parts.items():
            found[part] = found.get(part, Moments()).add(difference)
    shown: dict[tuple[str, str], Moments] = {}
    seen: Counter[str] = Counter()
    for part, moments in sorted(found.items(), key=lambda each: (-each[1].n, each[0])):
        if FEWEST <= moments.n < total and seen[part[0]] < MOST_VALUES:
            shown[part] = moments
            seen[part[0]] += 1
    return shown


def with_intervals(
    found: Mapping[tuple[str, str], Moments], alpha: float, largest: float = 1.0
) -> tuple[SegmentDifference, ...]:
    """alpha: of all segments together. largest: the largest difference, see core.horizon.guarded."""
    left = list(found)
    intervals: dict[tuple[str, str], Estimate] = {}
    while left:
        intervals |= {part: _interval(found[part], alpha / len(left), largest) for part in left}
        still = [part for part in left if direction_finding(intervals[part]) == "unclear"]
        if len(still) == len(left):
            break
        left = still
    made = [
        SegmentDifference(part[0], part[1], found[part].n, each, direction_finding(each))
        for part, each in intervals.items()
    ]
    return tuple(sorted(made, key=lambda s: (_ORDER.index(s.found), s.property, -s.pairs, s.value)))


_ORDER: Sequence[str] = ("worse", "better", "unclear")


def _interval(moments: Moments, alpha: float, largest: float) -> Estimate:
    half = guarded_half_width(alpha, _N_STAR, moments.n, moments.m2, largest)
    return Estimate(moments.mean, moments.mean - half, moments.mean + half)
