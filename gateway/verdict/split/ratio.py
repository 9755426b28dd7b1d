"""Whether the arms of a split have the units that the plan gives them: the sample ratio, and its alarm."""

from __future__ import annotations

from collections.abc import Mapping

import orjson

from gateway.core.plan import CONTROL, Plan, StoredPlan
from gateway.core.sequence import SequenceName
from gateway.reports.model import GateResult
from gateway.statistics.srm import SequentialRatio
from gateway.verdict.gates.sample_ratio import srm_gate

SRM = "srm"


def ratio_name(plan: StoredPlan) -> SequenceName:
    return SequenceName(plan.hash, "", SRM, "-")


def planned_shares(plan: Plan) -> dict[str, float]:
    """arm → the planned share of units."""
    each = plan.split / len(plan.candidates)
    return {CONTROL: 1.0 - plan.split, **{arm: each for arm, _ in plan.candidates}}


def ratio_test_at(plan: Plan, counts: Mapping[str, int], peak: float) -> SequentialRatio:
    """The sequential ratio test after these counts. peak: the largest ln Bayes factor at any earlier look."""
    planned = {arm: share for arm, share in planned_shares(plan).items() if share > 0}
    test = SequentialRatio(list(planned.values()), counts=[counts.get(arm, 0) for arm in planned], log_peak=peak)
    test.add(0, 0)
    return test


def ratio_gate(plan: Plan, counts: Mapping[str, int], peak: float) -> GateResult:
    """counts: arm → units. peak: as ratio_test_at takes it."""
    arms = [arm for arm, share in planned_shares(plan).items() if share > 0]
    if len(arms) < 2:
        return GateResult(SRM, 0, "no share is split")
    return srm_gate(ratio_test_at(plan, counts, peak), arms)


def ratio_peak(plan: StoredPlan, states: Mapping[SequenceName, str]) -> float:
    """The largest ln Bayes factor against the planned shares so far. states: as JSON."""
    text = states.get(ratio_name(plan))
    return float(orjson.loads(text)["log_peak"]) if text is not None else 0.0
