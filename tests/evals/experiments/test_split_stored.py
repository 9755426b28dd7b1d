"""A split as its report reads it from a store."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.plan import Guardrail, Plan
from gateway.evals.experiments.report import Comparison
from gateway.evals.experiments.split import SplitResult, split_of
from gateway.evals.store.experiments.plans import StoredPlan
from gateway.evals.store.query import reading

LATER = 2e9  # after every window


@pytest.fixture
def halves(plan: Plan) -> Plan:
    rails = (Guardrail("latency_p95", 0.5),)
    return replace(
        plan, mode="split", split=0.5, shadow=0.0, repeat_control=0.0, unit="user", guardrails=rails, rules=2
    )


@pytest.fixture
def read(keep: Callable[..., str]) -> Callable[..., SplitResult]:
    def look(plan: Plan, records: list[Exchange], since: float = 0.0, state: str = "running") -> SplitResult:
        with reading(keep(records)) as connection:
            return split_of(connection, StoredPlan(plan, plan.hash, state, since), "candidate", LATER)

    return look


def of(found: SplitResult, metric: str) -> Comparison:
    (comparison,) = (c for c in found.comparisons if c.metric == metric)
    return comparison


def calls(plan: Plan, exchange: Callable[..., Exchange], slower: float, units: int = 400) -> list[Exchange]:
    """Of users who call six times each, as fast as their network is."""
    rng, made = random.Random(1), []
    for i in range(units):
        arm, level = ("candidate", "control")[i % 2], rng.gauss(0, 0.2)
        for _ in range(6):
            seconds = rng.lognormvariate(level, 0.4) * (slower if arm == "candidate" else 1.0)
            same: Any = {"experiment": plan.name, "plan": plan.hash, "target": plan.target(arm), "cluster": f"u{i}"}
            made.append(exchange(arm=arm, total_s=seconds, **same))
    return made


def test_the_p95_is_compared_where_units_call_often(
    halves: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    slow = of(read(halves, calls(halves, exchange, 2.0)), "latency_p95")
    assert (slow.direction_found, slow.margin_found, slow.role) == ("worse", "inferior", "guardrail")
    assert (slow.unit, slow.pairs) == ("s", 400)
    assert "slower than the control's: 5.0% of the control's answers, " in slow.method


def test_plans_of_the_first_rules_have_no_p95_of_units(
    halves: Plan, exchange: Callable[..., Exchange], read: Callable[..., SplitResult]
) -> None:
    older = replace(halves, rules=1)
    found = read(older, calls(older, exchange, 2.0, 100))
    assert "latency_p95" not in [c.metric for c in found.comparisons]
