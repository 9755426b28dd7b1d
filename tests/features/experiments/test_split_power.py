"""The price of a split: from assumed or measured means, and what its interval really takes."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from gateway.features.experiments.power import forecast
from gateway.features.experiments.rows.queries import ServedAnswer
from gateway.features.experiments.split import ArmOutcomes, compare_arms
from gateway.features.experiments.split_power import SplitVariance, units_needed, variance_of
from gateway.reports.model import ArmResponse, Comparison, Estimate, Responses
from gateway.store.plans import StoredPlan

HALVES = {"control": 0.5, "candidate": 0.5}


def a_split(simulation: Any, **changes: Any) -> Any:
    fields = {"mode": "split", "split": 0.5, "repeat_control": 0.0, "shadow": 0.0, "guardrails": (), "margin": 0.1}
    return simulation.a_plan(**{**fields, **changes})


def compared(a: float, b: float, units: int, responses: Any = None) -> Comparison:
    none = Estimate(None)
    return Comparison("m", "", "primary", Estimate(a), Estimate(b), none, None, units, 0.0, 0.1, "unclear", "unclear",
                      responses=responses)  # fmt: skip


def test_the_units_are_those_that_the_interval_of_a_split_takes(simulation: Any) -> None:
    """Equal arms of 0.7: with the forecast's units the margin is decided, with a third fewer it is not."""
    plan, rng = a_split(simulation, primary="quality"), random.Random(3)
    n = units_needed(SplitVariance(0.21, 0.21, 1.0, ""), HALVES, "candidate", 0.1, plan.alpha)
    assert n is not None
    rows, values = [], []
    for i in range(n):
        arm = "candidate" if i % 2 else "control"
        rows.append(ServedAnswer(f"e{i}", arm, f"u{i}", (arm, "c", "t", "s"), "ok", 200, 1.0, None, 5, None, 1.0, 100))
        values.append(float(rng.random() < 0.7))

    def half(units: int) -> float:
        made = compare_arms(rows[:units], ArmOutcomes("quality", np.array(values[:units]), 1.0, True), plan, {}, {})
        assert made is not None
        return float(made.difference.high - made.difference.low) / 2  # type: ignore[operator]

    assert half(n) == pytest.approx(0.1, rel=0.05)
    assert half(2 * n // 3) > 0.11


def test_fewer_units_are_needed_for_a_wider_margin_and_more_for_an_uneven_split() -> None:
    spread = SplitVariance(0.2, 0.2, 1.0, "")
    even, wide = (units_needed(spread, HALVES, "candidate", gap, 0.05) for gap in (0.1, 0.2))
    uneven = units_needed(spread, {"control": 0.9, "candidate": 0.1}, "candidate", 0.1, 0.05)
    assert wide is not None
    assert even is not None
    assert uneven is not None
    assert wide < even < uneven
    assert units_needed(spread, HALVES, "candidate", 1e-6, 0.05) is None


def test_a_variance_is_assumed_then_measured_with_the_share_that_is_rated(simulation: Any) -> None:
    plan = a_split(simulation, primary="feedback:thumb", feedback_window_s=60.0)
    assumed = variance_of(plan, "feedback:thumb", None)
    assert assumed is not None
    assert (assumed.a, assumed.answered) == (0.2, 0.1)
    assert "assumed to be rated" in assumed.basis
    rated = Responses(ArmResponse(100, 30, 0.3), ArmResponse(100, 10, 0.1), 0, Estimate(None), "omit")
    measured = variance_of(plan, "feedback:thumb", compared(0.5, 0.9, 40, rated))
    assert measured is not None
    assert (measured.a, measured.b, measured.answered) == (0.25, pytest.approx(0.09), 0.2)
    zero = variance_of(a_split(simulation, primary="feedback:thumb", feedback_missing="zero"), "feedback:thumb", None)
    assert zero is not None
    assert zero.answered == 1.0
    assert variance_of(plan, "total_s", None) is None


def test_a_forecast_of_a_split_has_its_gate_and_the_answers_without_feedback(simulation: Any) -> None:
    plan = a_split(simulation, primary="feedback:thumb", feedback_window_s=60.0)
    thumb, gate = forecast(None, StoredPlan(plan, plan.hash, "running", 1.0)).metrics
    assert (gate.metric, gate.role, gate.needed) == ("srm", "gate", 1300)
    assert thumb.needed is not None
    assert thumb.pairs[0] == pytest.approx(10 * thumb.needed, abs=10)
    assert 500 < thumb.needed < 1500
