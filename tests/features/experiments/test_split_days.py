"""The difference of a split by day, and the caution where it moves from day to day."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.plan import Plan, PlanState
from gateway.features.experiments.findings import Finding, finding
from gateway.features.experiments.report.as_json import to_dict
from gateway.features.experiments.report.build import report_of
from gateway.features.experiments.traffic_facts import sentences, slope_caution
from gateway.features.experiments.traffic_time import DAY_S
from gateway.store import engine
from gateway.store.plans import StoredPlan, save_plans
from gateway.store.query import reading

FIRST_DAY = 20_700
LATER = 2e9
A_DAY = 200
Read = Callable[..., tuple[Finding, str]]


@pytest.fixture
def halves(plan: Plan) -> Plan:
    return replace(plan, mode="split", split=0.5, shadow=0.0, repeat_control=0.0, unit="user", guardrails=(), rules=2)


@pytest.fixture
def read(keep: Callable[..., str], exchange: Callable[..., Exchange]) -> Read:
    def look(plan: Plan, lead: list[float], rates: tuple[float, float] = (1.0, 1.0)) -> tuple[Finding, str]:
        """lead: of the candidate, by day. rates: at which answers are recorded, below 0.5 and from there on."""
        rng, made = random.Random(3), []
        for i in range(A_DAY * len(lead)):
            day, arm = i // A_DAY, ("candidate", "control")[i % 2]
            value = 0.5 + rng.uniform(-0.2, 0.2) + (lead[day] if arm == "candidate" else 0.0)
            pi = rates[value >= 0.5]
            if rng.random() >= pi:
                continue
            same: Any = {"experiment": plan.name, "plan": plan.hash, "target": plan.target(arm), "pi": pi}
            at = DAY_S * (FIRST_DAY + day) + 400.0 * (i % A_DAY)
            made.append(exchange(f"{value:.3f}", arm=arm, cluster=f"u{i}", received=at, **same))
        url = keep(made)
        opened = engine.writer(url)
        with opened.begin() as connection:
            save_plans(connection, [PlanState(plan, "running", 1.0)], 1.0)
        opened.dispose()
        with reading(url) as connection:
            return finding(connection, StoredPlan(plan, plan.hash, "running", 0.0), "candidate", LATER), url

    return look


def test_an_advantage_that_fades_is_a_caution_in_a_split(halves: Plan, read: Read) -> None:
    found, url = read(halves, [0.3, 0.2, 0.1, 0.0])
    facts = found.traffic
    assert facts is not None
    assert [(each.day, each.pairs) for each in facts.days] == [(FIRST_DAY + i, A_DAY) for i in range(4)]
    assert [each.difference for each in facts.days] == pytest.approx([0.3, 0.2, 0.1, 0.0], abs=0.06)
    assert facts.slope == pytest.approx(-0.1, abs=0.03)
    assert "changes by -0." in next(slope_caution(facts))
    assert "The difference by day (UTC), with its units: 2026-09-04 +0.3" in " ".join(sentences(facts))
    with reading(url) as connection:
        report = report_of(connection, "swap", now=LATER)
    assert to_dict(report)["traffic"]["slope"] == pytest.approx(facts.slope)
    assert any("changes by -0." in each for each in report.cautions)


def test_a_difference_that_stays_is_none(halves: Plan, read: Read) -> None:
    found, _ = read(halves, [0.1] * 5)
    assert found.traffic is not None
    assert found.traffic.slope == pytest.approx(0.0, abs=0.03)
    assert list(slope_caution(found.traffic)) == []


def test_two_days_have_no_slope(halves: Plan, read: Read) -> None:
    found, _ = read(halves, [0.1, 0.3])
    assert found.traffic is not None
    assert (len(found.traffic.days), found.traffic.slope) == (2, None)


def test_the_days_are_weighted_as_the_whole_is(halves: Plan, read: Read) -> None:
    """Low answers are recorded always, high ones half of the time."""
    found, _ = read(halves, [0.1] * 4, rates=(1.0, 0.5))
    assert found.traffic is not None
    assert [each.difference for each in found.traffic.days] == pytest.approx([0.1] * 4, abs=0.07)


def test_less_is_better_for_errors(halves: Plan, read: Read) -> None:
    found, _ = read(replace(halves, primary="error_rate", margin=0.05), [0.0, 0.0, 0.0])
    assert found.traffic is not None
    assert [each.difference for each in found.traffic.days] == [0.0, 0.0, 0.0]
    assert found.traffic.slope is None, "nothing fails, so nothing is known of its variance"


def test_the_first_rules_show_no_days(halves: Plan, read: Read) -> None:
    found, _ = read(replace(halves, rules=1, headers="all"), [0.1] * 3)
    assert found.traffic is None
