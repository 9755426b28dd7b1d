"""The planned pairs are spread over the hours that `ship` waits for; the share of shadows is never raised."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated import a_plan

from gateway.core.plan import Plan, PlanState, plan_from_json, plan_states
from gateway.features.experiments.pair_pace import FRESH_S, LEAST, paced, paced_start
from gateway.store.plans import save_plans

NOW = 1_790_000_000.0
CALLS = 48  # within two hours, each recorded with a probability of 0.1: 240 an hour


def plan_2(**changes: Any) -> Plan:
    usual = {"rules": 2, "method": "hybrid", "auto_horizon": True, "max_pairs": 288, "min_hours": 24.0, "shadow": 0.5}
    return a_plan(**{**usual, **changes})


@pytest.fixture
def traffic(store: Any, exchange: Any) -> Any:
    store.write(
        *(exchange("1", alias="chat", api="chat", pi=0.1, received=NOW - 7200.0 + 150.0 * i) for i in range(CALLS))
    )
    return store


def test_the_share_is_lowered_to_what_the_hours_take(traffic: Any) -> None:
    found = traffic.run(lambda c: paced(c, plan_2(), NOW))
    assert found.plan.shadow == 0.055, "1.1 times 288 pairs from 5 760 calls, rounded up"
    assert found.plan.same_design(plan_2())
    assert plan_from_json(found.plan.to_json()) == found.plan
    assert found.says == (
        "experiment swap: shadow is lowered from 0.5 to 0.055, so that the planned 288 pairs take the 24 hours that "
        "`ship` waits for (the last day had 240 calls an hour)"
    )
    fixed = traffic.run(lambda c: paced(c, plan_2(auto_horizon=False), NOW))
    assert fixed.plan.shadow == 0.045, "it closes at its last pair, which comes after the hours"
    assert traffic.run(lambda c: paced(c, plan_2(max_pairs=20, min_hours=8000.0), NOW)).plan.shadow == LEAST


@pytest.mark.parametrize("changes", [{"shadow": 0.05}, {"min_hours": 0.0}, {"rules": 1}, {"max_pairs": None}])
def test_it_is_never_raised_and_never_lowered_without_hours(traffic: Any, changes: dict[str, Any]) -> None:
    plan = plan_2(**changes)
    found = traffic.run(lambda c: paced(c, plan, NOW))
    assert (found.plan, found.says) == (plan, None)


def test_unknown_traffic_is_said(store: Any) -> None:
    found = store.run(lambda c: paced(c, plan_2(), NOW))
    assert found.plan == plan_2()
    assert found.says is not None
    assert "too few calls of chat are recorded to spread the pairs over the 24 hours" in found.says


def test_another_share_in_the_settings_is_another_design(traffic: Any) -> None:
    found = traffic.run(lambda c: paced(c, plan_2(), NOW))
    assert not found.plan.same_design(plan_2(shadow=0.25))
    assert found.plan.hash != plan_2().hash
    assert replace(found.plan, shadow=0.5, shadow_asked=None).hash == plan_2().hash


def test_what_a_gateway_starts_has_the_pace_of_a_command(traffic: Any) -> None:
    started = PlanState(plan_2(), "running", NOW, unpaced=True)
    assert traffic.run(lambda c: paced_start(c, started, NOW + 1.0)) == traffic.run(
        lambda c: paced(c, plan_2(), NOW + 1.0)
    )
    late = traffic.run(lambda c: paced_start(c, started, NOW + FRESH_S + 1.0))
    assert late.plan == plan_2(), "its first pairs are on their way"


def test_a_stored_plan_of_the_design_goes_on(traffic: Any) -> None:
    """The stream server has lost its data: a gateway starts the plan again, and its evidence stays."""
    before = replace(plan_2(), shadow=0.2, shadow_asked=0.5)
    traffic.run(lambda c: save_plans(c, [PlanState(before, "running", NOW - 9999.0)], NOW - 9999.0))
    found = traffic.run(lambda c: paced_start(c, PlanState(plan_2(), "running", NOW, unpaced=True), NOW))
    assert found.plan == before


def test_the_mark_of_a_plan_without_a_pace_is_stored() -> None:
    marked, usual = (PlanState(plan_2(), "running", NOW, unpaced=mark) for mark in (True, False))
    assert plan_states({b"swap": marked.to_json()})["swap"] == marked
    assert b"unpaced" not in usual.to_json()
    assert plan_states({b"swap": usual.to_json()})["swap"] == usual
