"""What the switch to a candidate did: the units that kept the control against all others, while the holdout lasts.

Both arms are drawn from the same traffic for the whole time, so no day is compared with another. The intervals are
asymptotic confidence sequences, valid at every look.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from gateway.core.plan import CONTROL
from gateway.features.experiments.sequences import BURN_IN
from gateway.features.experiments.split import difference_of
from gateway.features.ramp.rows import SwitchSums, unit_sums
from gateway.features.ramp.served import SETTLES_S, StepPeriod, drawn_stratum, keyed_units
from gateway.features.ramp.served_proof import ServedSums
from gateway.statistics.asymptotic import Tuning
from gateway.store.plans import StoredPlan
from gateway.store.query import Reading

EVERY_S = 3_600.0  # a month of answers is summed no more often


def switch_of(connection: Reading, plan: StoredPlan, period: StepPeriod) -> list[dict[str, Any]]:
    """The difference of each metric since the promotion, JSON-able. period: of the promoted candidate."""
    arm = plan.plan.candidates[0][0]
    targets = {each: str(plan.plan.target(each)) for each in (CONTROL, arm)}
    span = (period.start + SETTLES_S, period.end)
    found = unit_sums(connection, plan.hash, targets, span, drawn_stratum(plan.plan), keyed=keyed_units(plan.plan))
    tuning = Tuning(plan.plan.alpha, burn_in=BURN_IN)
    return [made for each in found if (made := _difference(each, arm, tuning)) is not None]


def _difference(of: SwitchSums, arm: str, tuning: Tuning) -> dict[str, Any] | None:
    a, b = (ServedSums(*of.arms.get(each, ())) for each in (CONTROL, arm))
    if not a.n or not b.n:
        return None
    made, _, _ = difference_of(a.arm_mean(of.bounded, tuning), b.arm_mean(of.bounded, tuning), 1.0, tuning)
    return {
        "metric": of.metric, "control": a.mean, "candidate": b.mean, "difference": made.value, "low": made.low,
        "high": made.high, "units": [a.n, b.n],
    }  # fmt: skip


def switch_line(of: Mapping[str, Any]) -> str:
    """One metric in one line."""
    low, high = of.get("low"), of.get("high")
    interval = "too few units for an interval" if low is None or high is None else f"{low:+.3g} to {high:+.3g}"
    a, b = of["units"]
    return (
        f"{of['metric']}: {of['control']:.4g} with the control, {of['candidate']:.4g} with the candidate, difference "
        f"{of['difference']:+.3g} ({interval}; {a} and {b} units)"
    )
