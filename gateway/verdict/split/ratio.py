"""Whether the arms of a split have the units that the plan gives them: the sample ratio, and its alarm."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from gateway.core.plan import CONTROL, Plan, StoredPlan
from gateway.core.sequence import SequenceName
from gateway.reports.model import GateResult
from gateway.statistics.srm import SequentialRatio
from gateway.verdict.gates.sample_ratio import likelihood_ratios, srm_gate, units_for_srm

SRM = "srm"
TESTED_RULES = 3  # from which shares near the planned ones are shown by likelihood ratios


@dataclass(frozen=True, slots=True)
class RatioPeaks:
    """The largest evidence at any look so far."""

    log_peak: float = 0.0
    """ln Bayes factor against the planned shares."""
    near: tuple[float, ...] = ()
    """ln likelihood ratios of the planned shares over others, at most the one that is needed; () before rules 3."""

    def state(self) -> dict[str, Any]:
        return {name: value for name, value in asdict(self).items() if value != ()}


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


def peaks_at(plan: Plan, counts: Mapping[str, int], before: RatioPeaks) -> RatioPeaks:
    """The largest evidence after a look at these counts. counts: arm → units."""
    test = ratio_test_at(plan, counts, before.log_peak)
    if plan.rules < TESTED_RULES:
        return RatioPeaks(test.log_peak)
    now = tuple(likelihood_ratios(test.counts, test.shares))
    pairs = zip(now, before.near or (0.0,) * len(now), strict=True)
    return RatioPeaks(test.log_peak, tuple(min(max(pair), _needed(plan)) for pair in pairs))


def _needed(plan: Plan) -> float:
    """The ln likelihood ratio that shows a share to be near its plan, at the error that `ship` has."""
    return math.log(2.0 * len(plan.candidates) / plan.alpha)


def ratio_gate(plan: Plan, counts: Mapping[str, int], before: RatioPeaks) -> GateResult:
    """counts: arm → units. before: the largest evidence at earlier looks."""
    arms = [arm for arm, share in planned_shares(plan).items() if share > 0]
    if len(arms) < 2:
        return GateResult(SRM, 0, "no share is split")
    test = ratio_test_at(plan, counts, before.log_peak)
    if plan.rules < TESTED_RULES:
        return srm_gate(test, arms)
    return srm_gate(test, arms, min(peaks_at(plan, counts, before).near) >= _needed(plan))


def ratio_peaks(plan: StoredPlan, states: Mapping[SequenceName, str]) -> RatioPeaks:
    """The largest evidence so far. states: as JSON."""
    text = states.get(ratio_name(plan))
    state = orjson.loads(text) if text is not None else {}
    return RatioPeaks(float(state.get("log_peak", 0.0)), tuple(state.get("near", ())))


def units_for_ratio(plan: Plan) -> int:
    """Estimates how many units make the gate green, if each arm gets exactly its share."""
    shares = [share for share in planned_shares(plan).values() if share > 0]
    return units_for_srm(shares, None if plan.rules < TESTED_RULES else _needed(plan))
