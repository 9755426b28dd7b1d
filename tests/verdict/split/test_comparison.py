"""A split: weighted as over all traffic, one increment a unit, less what was known before; and the sample ratio."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.core.served_answer import ServedAnswer
from gateway.verdict.split.comparison import SplitTerms, compare_arms
from gateway.verdict.split.outcomes import ArmOutcomes
from gateway.verdict.split.ratio import planned_shares, ratio_test_at

RUNS = 60


@pytest.fixture
def plan(simulation: Any) -> Any:
    """A plan of a split with primary `quality` and a margin of 0.1."""
    return simulation.a_plan(mode="split", split=0.5, repeat_control=0.0, shadow=0.0, primary="quality", margin=0.1)


def row(i: int, arm: str, unit: str, pi: float = 1.0, stratum: str = "split:swap", prompt: int = 100) -> ServedAnswer:
    return ServedAnswer(
        f"e{i}", arm, unit, (arm, "chat", f"a/{arm}", stratum), "ok", 200, 1.0, None, 5, None, pi, prompt
    )


def scored(values: list[float]) -> ArmOutcomes:
    return ArmOutcomes("quality", np.array(values), 1.0, True)


def traffic(rng: random.Random, n: int, effect: float = 0.0, turns: int = 1) -> tuple[list[ServedAnswer], list[float]]:
    """Units whose level depends on the size of their prompts, each with several turns of about the same score."""
    rows, values = [], []
    for unit in range(n):
        arm = "candidate" if rng.random() < 0.5 else "control"
        prompt = int(math.exp(rng.uniform(3, 8)))
        level = 0.15 + 0.1 * math.log(prompt) / 1.2 + rng.gauss(0, 0.08) + (effect if arm == "candidate" else 0.0)
        for _ in range(turns):
            rows.append(row(len(rows), arm, f"u{unit}", prompt=prompt))
            values.append(min(1.0, max(0.0, level + rng.gauss(0, 0.02))))
    return rows, values


def test_an_effect_is_found_sooner_with_earlier_facts(plan: Any) -> None:
    rows, values = traffic(random.Random(1), 1200, effect=0.1)
    made = compare_arms(rows, scored(values), SplitTerms(plan))
    blind = compare_arms([row(i, r.arm, r.unit) for i, r in enumerate(rows)], scored(values), SplitTerms(plan))
    assert made is not None
    assert blind is not None
    assert made.direction_found == "better"
    assert made.difference.value == pytest.approx(0.1, abs=0.02)

    def width(c: Any) -> float:
        return float(c.difference.high - c.difference.low)

    assert width(made) < 0.9 * width(blind)


def test_looking_now_and_then_is_wrong_no_more_often_than_alpha(plan: Any) -> None:
    """Units of several turns, without an effect."""
    wrong = 0
    for seed in range(RUNS):
        rows, values = traffic(random.Random(seed), 400, turns=3)
        looks = [compare_arms(rows[:n], scored(values[:n]), SplitTerms(plan)) for n in (700, 1200)]
        wrong += any(c is not None and c.direction_found != "unclear" for c in looks)
    assert wrong <= RUNS * 0.05 + 3 * (RUNS * 0.05 * 0.95) ** 0.5


def test_records_sampled_by_what_the_answer_was_are_weighed(plan: Any) -> None:
    """Bad answers are all recorded, good ones to a tenth: the naive means are far off, the weighted ones are not."""
    rng, rows, values = random.Random(2), [], []
    seen: dict[tuple[str, str, str, str], int] = {}
    for i in range(20_000):
        arm = "candidate" if rng.random() < 0.5 else "control"
        bad = rng.random() < (0.2 if arm == "control" else 0.1)
        stratum, pi = ("bad", 1.0) if bad else ("good", 0.1)
        cell = (arm, "chat", f"a/{arm}", stratum)
        seen[cell] = seen.get(cell, 0) + 1
        if rng.random() < pi:
            rows.append(row(i, arm, f"u{i}", pi, stratum))
            values.append(0.0 if bad else 1.0)
    made = compare_arms(rows, scored(values), SplitTerms(plan, seen))
    assert made is not None
    assert (made.a.value, made.b.value) == (pytest.approx(0.8, abs=0.01), pytest.approx(0.9, abs=0.01))
    assert made.direction_found == "better"
    naive = np.mean([v for r, v in zip(rows, values, strict=True) if r.arm == "control"])
    assert naive < 0.4


def test_one_arm_alone_has_no_comparison(plan: Any) -> None:
    assert compare_arms([row(i, "control", f"u{i}") for i in range(300)], scored([0.5] * 300), SplitTerms(plan)) is None
    few = compare_arms([row(0, "control", "u0"), row(1, "candidate", "u1")], scored([0.5, 0.6]), SplitTerms(plan))
    assert few is not None
    assert few.difference.low is None, "too few for any interval"


def test_a_shifted_ratio_is_an_alarm_and_the_planned_one_is_not(plan: Any) -> None:
    assert planned_shares(plan) == {"control": 0.5, "candidate": 0.5}
    assert ratio_test_at(plan, {"control": 5300, "candidate": 4700}, 0.0).p_value < 0.01
    assert ratio_test_at(plan, {"control": 5020, "candidate": 4980}, 0.0).p_value > 0.5
    assert ratio_test_at(plan, {"control": 5020, "candidate": 4980}, 9.0).p_value == pytest.approx(math.exp(-9))
    candidates = (*plan.candidates, ("other", plan.control))
    three = planned_shares(replace(plan, split=0.6, candidates=candidates))
    assert three == {"control": 0.4, "candidate": 0.3, "other": 0.3}
