"""When `reject` need not wait for the hours that `ship` waits for. Pure.

A candidate that is worse in the first hours may be as good as the control in the rest of the day: failures come in
bursts, and a load or a task has its time. So `reject` is about the mean over `min_hours`, too. While the pairs cover a
share of them, the part of that mean which is known is the share times the mean so far. Were the candidate exactly as
good as the control in all the hours left, the whole would be that. `reject` comes early where this is shown to be worse
than the margin: the interval's upper end, times the share, lies below it.

The upper end holds at every look and for the running mean of a difference that moves, so this errs as rarely as a
`reject` after the hours, for every candidate that is not better than the control in the hours left.
"""

from __future__ import annotations

import math

from gateway.core.plan import Plan
from gateway.features.experiments.sequences import DifferenceSequence
from gateway.reports.model import Comparison
from gateway.reports.number_format import number

REJECT_WAITS = "`reject` only while the hours left could make up for the harm seen"
"""How a sentence on the hours of `ship` goes on."""
_HOUR_S = 3600.0


def share_of_hours(plan: Plan, hours: float) -> float:
    """The share of `min_hours` that these hours of traffic are, at most 1; 1 where the plan asks for none."""
    if plan.rules < 2 or not plan.min_hours:
        return 1.0
    return min(1.0, max(hours, 0.0) / plan.min_hours)


def share_of_pairs(plan: Plan, sequence: DifferenceSequence | None) -> float:
    """The share of `min_hours` that the values of a sequence cover; 1 where none of them has a time."""
    if sequence is None or sequence.time.last is None:
        return 1.0
    return share_of_hours(plan, sequence.time.covered_s / _HOUR_S)


def rejects(c: Comparison) -> bool:
    """Whether the metric is worse by more than its margin over all of `min_hours`, whatever the hours left show."""
    if c.margin_found != "inferior" or c.margin is None:
        return False
    return c.hours_share >= 1.0 or (c.difference.high is not None and c.difference.high * c.hours_share < -c.margin)


def too_early(c: Comparison) -> bool:
    """Whether the metric is shown to be worse so far, but not over all of `min_hours`."""
    return c.margin_found == "inferior" and not rejects(c)


def pairs_until_reject(c: Comparison) -> int | None:
    """About how many more pairs reject, if the interval stays and they come at the same pace. None: it is not known."""
    if not too_early(c) or not c.hours_share or c.difference.high is None or c.margin is None:
        return None
    return max(1, math.ceil(c.pairs * (-c.margin / c.difference.high / c.hours_share - 1.0)))


def waits(c: Comparison, places: int) -> str:
    """What a reject on this metric waits for. c: one that is too early. places: decimals of the numbers."""
    if not c.hours_share:
        return "its values cover no time yet"
    bound = number(-(c.margin or 0.0) / c.hours_share, places)
    return f"its values cover {c.hours_share:.0%} of the hours; a reject now takes an interval below {bound}"
