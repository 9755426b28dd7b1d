"""The primary's difference by parts of the traffic: where a candidate is better or worse. Exploratory.

A segment is one value of one property: the caller, the alias, the language, the length of the prompt, whether tools are
offered, an entry of the request's metadata, a tag. Segments overlap and nobody planned them, so they decide nothing.
Their intervals hold for all segments together and at every look: Holm's procedure over the segments with enough pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from gateway.core.horizon import likelihood_scale
from gateway.core.json_values import parse_object
from gateway.core.plan import CONTROL, REPEAT
from gateway.core.segments import length_name
from gateway.features.experiments.findings import FALLBACK, Finding
from gateway.features.experiments.rows.queries import PairwiseVerdict, SegmentRow, segment_rows
from gateway.reports.model import ArmStrength, Estimate, SegmentDifference, Wins, direction_finding
from gateway.statistics.bernoulli import bernoulli_interval
from gateway.statistics.bradley_terry import Duels, fit_bradley_terry
from gateway.statistics.hybrid import guarded_half_width
from gateway.statistics.moments import Moments
from gateway.store.query import Reading

FEWEST = 20  # pairs of a segment that is shown
MOST_VALUES = 8  # of one property, the most frequent ones
MOST_KEYS = 5  # of the metadata
MOST_PAIRS = 5000  # the newest ones
_N_STAR = 200.0
_CUT = 40  # characters of a value


def segments_of(connection: Reading, found: Finding) -> tuple[SegmentDifference, ...]:
    """Segments that are shown to be worse, then those shown to be better, then the others."""
    name = found.names.get(found.primary.metric) if found.primary else None
    plan = found.stored_plan.plan
    if name is None or found.primary is None or (found.primary.unit and not plan.likelihood):
        return ()
    rows = segment_rows(connection, name.values, MOST_PAIRS)
    largest = likelihood_scale(plan.margin or FALLBACK)[1] if plan.likelihood else 1.0
    parts = collected((parts_of(row), row.difference) for row in rows)
    return with_intervals(parts, plan.alpha / len(plan.candidates), largest)


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


ALPHA = 0.05  # of each share's interval
_N_OPT = 300.0  # verdicts at which it is tightest


def wins_of(verdicts: Sequence[PairwiseVerdict], arm: str) -> Wins | None:
    """The wins of one arm against the served answers; None if there is no verdict."""
    ours = [v for v in verdicts if v.arm == arm]
    if not ours:
        return None
    flips = [v.detail["flip"] for v in ours if "flip" in v.detail]
    slots = [v.detail["first_slot"] for v in ours if "first_slot" in v.detail]
    counts = (sum(v.value > 0.5 for v in ours), sum(v.value == 0.5 for v in ours), sum(v.value < 0.5 for v in ours))
    shares = [_share(k, len(ours)) for k in counts]
    return Wins(
        *counts,
        flip_rate=sum(flips) / len(flips) if flips else None,
        first_slot_rate=sum(slots) / len(slots) if slots else None,
        win_share=shares[0],
        tie_share=shares[1],
        loss_share=shares[2],
    )


def _share(k: int, n: int) -> Estimate:
    """A share with its interval, which is valid at every look for this share alone."""
    return Estimate(k / n, *bernoulli_interval(k, n, ALPHA, _N_OPT))


def duels_of(verdicts: Sequence[PairwiseVerdict]) -> list[Duels]:
    """Counts each verdict as two duels, one for each order.

    A verdict that is the same in both orders is a win in each; one that flipped is two wins for the same slot.
    """
    won: Counter[tuple[str, str]] = Counter()
    lost: Counter[tuple[str, str]] = Counter()
    for v in verdicts:
        if v.arm == REPEAT:
            continue
        orders = ((CONTROL, v.arm), (v.arm, CONTROL))
        if v.detail.get("flip"):
            first = float(v.detail.get("first_slot", 0.5))
            shares = (first, first)
        else:
            shares = (1 - v.value, v.value)
        for order, share in zip(orders, shares, strict=True):
            won[order] += share  # type: ignore[assignment]  # a tie is half
            lost[order] += 1 - share  # type: ignore[assignment]
    return [Duels(first, second, won[first, second], lost[first, second]) for first, second in sorted(won)]


def strengths_of(verdicts: Sequence[PairwiseVerdict]) -> tuple[tuple[ArmStrength, ...], float | None]:
    """(strengths, advantage of the first slot); ((), None) for fewer than three models, or if one never lost."""
    duels = duels_of(verdicts)
    if len({name for d in duels for name in (d.first, d.second)}) < 3:
        return (), None
    try:
        found = fit_bradley_terry(duels, CONTROL, order_effect=True)
    except ValueError:
        return (), None
    # Both orders of a pair are one verdict, so there are half as many independent verdicts as rows.
    wider = 2**0.5
    strengths = tuple(ArmStrength(arm, value, wider * found.robust_se[arm]) for arm, value in found.strength.items())
    return strengths, found.order
