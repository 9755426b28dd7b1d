"""When a metric that is worse rejects before the hours of the plan are over."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures.simulated import a_plan

from gateway.features.experiments.reject_hours import (
    pairs_until_reject,
    rejects,
    share_of_hours,
    share_of_pairs,
    too_early,
)
from gateway.features.experiments.verdict import SwapDescription, decide
from gateway.reports.model import Comparison, Estimate, GateResult, margin_finding

MARGIN = 0.05


def comparison(high: float, share: float, metric: str = "quality") -> Comparison:
    """Worse by 0.1 below this upper end."""
    difference, none = Estimate(high - 0.1, high - 0.2, high), Estimate(0.5)
    found = margin_finding(difference, MARGIN)
    return Comparison(
        metric, "", "primary", none, none, difference, None, 100, 100.0, MARGIN, "unclear", found, hours_share=share
    )


@pytest.mark.parametrize(
    ("high", "share", "verdict"),
    [
        (-0.06, 1.0, True),
        (-0.06, 0.9, True),  # 0.9 × 0.06 is more than the margin
        (-0.06, 0.8, False),
        (-0.21, 0.25, True),
        (-0.19, 0.25, False),
        (-0.9, 0.0, False),
        (-0.04, 1.0, False),  # not shown to be worse by the margin at all
    ],
)
def test_the_share_of_the_harm_must_exceed_the_margin(high: float, share: float, verdict: bool) -> None:
    c = comparison(high, share)
    assert rejects(c) == verdict
    assert too_early(c) == (high < -MARGIN and not verdict)


def test_a_guardrail_that_waits_is_named_first() -> None:
    swap, gate = SwapDescription("chat", "a/m", "b/m"), GateResult("hours", 0, "needs 24 hours of traffic; 1.2 so far")
    good = replace(comparison(-0.06, 1.0), difference=Estimate(0.0, -0.01, 0.01), margin_found="equivalent")
    held = decide(swap, good, [comparison(-0.19, 0.25, "error_rate")], [gate], [])
    assert held.verdict == "hold"
    assert held.reasons[0].startswith("error_rate: worse by more than 0.05 so far")
    assert "cover 25% of the hours; a reject now takes an interval below −0.200" in held.reasons[0]
    assert held.reasons[1] == "open: needs 24 hours of traffic; 1.2 so far"
    assert decide(swap, good, [comparison(-0.21, 0.25, "error_rate")], [gate], []).verdict == "reject"


def test_the_pairs_until_it_rejects_keep_the_pace() -> None:
    """At a share of 0.5 and an upper end of −0.08, 62.5 % of the hours are needed: 25 pairs more than 100."""
    assert pairs_until_reject(comparison(-0.08, 0.5)) == 25
    assert pairs_until_reject(comparison(-0.08, 1.0)) is None


def test_plans_without_hours_have_all_of_them() -> None:
    plan = a_plan(rules=2, min_hours=24.0)
    assert [share_of_hours(plan, hours) for hours in (0.0, 6.0, 30.0)] == [0.0, 0.25, 1.0]
    assert share_of_hours(replace(plan, min_hours=0.0), 0.0) == 1.0
    assert share_of_hours(replace(plan, rules=1), 0.0) == 1.0
    assert share_of_pairs(plan, None) == 1.0
