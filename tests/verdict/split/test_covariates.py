"""The covariates of a split: of units, from before their arm's first answer, and watched by a gate."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.core.served_answer import ServedAnswer
from gateway.reports.model import Comparison, Estimate
from gateway.verdict.split.covariates import (
    adjustment,
    adjustment_gate,
    arm_terms,
    covariates_of,
    unit_covariates,
)


@pytest.fixture
def plan(simulation: Any) -> Any:
    """A plan of a split by user that is adjusted."""
    return simulation.a_plan(mode="split", split=0.5, repeat_control=0.0, shadow=0.0, unit="user", adjust=True, rules=2)


def row(i: int, unit: str, size: int | None, pi: float = 1.0) -> ServedAnswer:
    cell = ("control", "chat", "a/control", "split:swap")
    return ServedAnswer(f"e{i}", "control", unit, cell, "ok", 200, 1.0, None, 5, None, pi, size)


def test_a_units_covariate_is_the_length_of_its_first_body(plan: Any) -> None:
    rows = [row(0, "u", 10), row(1, "u", 9000), row(2, "v", 500), row(3, "w", None), row(4, "w", 70)]
    found = covariates_of(rows, "quality", {}, plan)
    first, second = np.log1p(10), np.log1p(500)
    assert found["u"] == [first]
    assert found["v"] == [second]
    assert found["w"] != [np.log1p(70)], "its first body is not known, and a later one may contain answers"
    assert covariates_of(rows, "quality", {}, replace(plan, adjust=False)) == {}
    assert replace(plan, adjust=False, rules=1).adjusts_splits


def test_the_first_recorded_call_is_not_taken_for_the_first(plan: Any) -> None:
    rows = [row(0, "u", 10, 0.5), row(1, "v", 500, 0.5)]
    assert covariates_of(rows, "quality", {}, plan) == {}
    assert covariates_of(rows, "quality", {}, replace(plan, unit="request")) != {}, "a call is a unit of its own"


def test_the_past_of_a_unit_depends_on_the_metric(plan: Any) -> None:
    rows, past = [row(0, "u", None), row(1, "v", None), row(2, "w", None)], {"u": (2.0, 0.5), "v": (4.0, 0.1)}
    assert covariates_of(rows, "total_s", past, plan) == {"u": [2.0], "v": [4.0], "w": [3.0]}
    assert covariates_of(rows, "quality", past, plan)["u"] == [0.5]


def test_the_number_of_calls_of_a_unit_moves_no_covariate() -> None:
    """The candidate makes units with long prompts call more: its mean over calls moves, and that is its effect."""
    rng = np.random.default_rng(4)
    sizes = {name: [float(v)] for name, v in zip((f"u{i}" for i in range(2000)), rng.normal(0, 1, 2000), strict=True)}
    names = list(sizes)
    arms = []
    for arm, own in (("a", names[::2]), ("b", names[1::2])):
        calls = [3 if arm == "b" and sizes[name][0] > 0 else 1 for name in own]
        unit = np.repeat(np.arange(len(own)), calls)
        values = np.array([sizes[own[u]][0] for u in unit]) + rng.normal(0, 0.5, unit.size)
        arms.append((arm_terms(values, np.ones(unit.size), unit.tolist(), len(own)),
                     unit_covariates(sizes, own, np.ones(len(own)))))  # fmt: skip
    (a, x_a), (b, x_b) = arms
    found = adjustment(a, b, x_a, x_b)
    assert found is not None
    assert b.mean - a.mean > 0.3
    assert abs(found.shift) < 0.15, "randomised units are alike, however often they call"
    assert float(((a.terms - found.a) ** 2).sum()) < 0.3 * float((a.terms**2).sum())


def test_the_gate_is_red_if_chance_does_not_explain_the_shift() -> None:
    none = Estimate(None)
    c = Comparison("thumb", "", "primary", none, none, Estimate(-0.03), None, 900, 900.0, 0.1, "unclear", "unclear",
                   raw=Estimate(-0.107), shift=Estimate(-0.077, -0.09, -0.06))  # fmt: skip
    gate = adjustment_gate([c])
    assert gate is not None
    assert (gate.name, gate.state, gate.value) == ("adjustment", -1, -0.077)
    assert "measured −0.107, adjusted −0.03" in gate.says
    fine = adjustment_gate([replace(c, shift=Estimate(0.001, -0.01, 0.012))])
    assert fine is not None
    assert fine.state == 1
    assert adjustment_gate([replace(c, raw=None, shift=None)]) is None
