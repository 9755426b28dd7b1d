"""A split waits for hours of traffic before it ships, and says which hours and which units its verdict has seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Exchange, cluster_digest
from gateway.core.plan import Guardrail, Plan, PlanState
from gateway.features.experiments.conditions import conditions_of, pace_of, progress_of
from gateway.features.experiments.findings import Finding, SequenceStates, finding
from gateway.features.experiments.report.as_json import to_dict
from gateway.features.experiments.report.build import report_of
from gateway.features.experiments.split_traffic import covered_s
from gateway.features.experiments.traffic_facts import NO_HOURS, UNITS_ASSUMED, sentences
from gateway.features.experiments.traffic_time import LONGEST_GAP_S, TrafficTime
from gateway.store import engine
from gateway.store.plans import StoredPlan, save_plans
from gateway.store.query import reading

HOUR_S = 3600.0
START, LATER = 1_790_000_000.0, 2e9  # LATER: after every window
UNITS = 1400  # enough for the gate srm


@pytest.fixture
def halves(plan: Plan) -> Plan:
    return replace(
        plan, mode="split", split=0.5, shadow=0.0, repeat_control=0.0, unit="user", rules=2, min_hours=24.0,
        guardrails=(Guardrail("error_rate", 0.1),),
    )  # fmt: skip


Look = Callable[..., Finding]


@pytest.fixture
def look(keep: Callable[..., str], exchange: Callable[..., Exchange]) -> Look:
    """look(plan, hours, …): what a split of one call a unit finds. hours: from the first call to the last one."""

    def go(plan: Plan, hours: float, candidate: str = "1", clusters: bool = True, **more: Any) -> Finding:
        records = []
        for i in range(UNITS):
            arm = ("control", "candidate")[i % 2]
            late = more.get("late", 0.0) * HOUR_S if arm == "candidate" else 0.0
            at = START + late + (hours * HOUR_S - late) * i / (UNITS - 1)
            made = exchange(
                candidate if arm == "candidate" else "1", arm=arm, received=at, experiment=plan.name, plan=plan.hash,
                target=plan.target(arm),
            )  # fmt: skip
            records.append(replace(made, cluster=f"u{i}" if clusters else cluster_digest(made.id)))
        url = keep(records)
        opened = engine.writer(url)
        with opened.begin() as connection:
            save_plans(connection, [PlanState(plan, "running", START)], START)
        opened.dispose()
        with reading(url) as connection:
            stored = StoredPlan(plan, plan.hash, "running", START)
            found = finding(connection, stored, "candidate", LATER)
            states = SequenceStates(connection, stored)
            go.progress = progress_of(found, states)  # type: ignore[attr-defined]
            go.conditions = {c.name: c for c in conditions_of(found, states)}  # type: ignore[attr-defined]
            return found

    return go


def test_ship_waits_for_the_hours_of_both_arms(halves: Plan, look: Look) -> None:
    found = look(halves, 6.0)
    assert found.decision.verdict == "hold"
    (hours,) = (gate for gate in found.gates if gate.name == "hours")
    assert (hours.state, hours.says) == (0, "needs 24 hours of traffic; 6 so far")
    assert "needs 24 hours of traffic" in found.decision.sentence


def test_ship_comes_once_the_hours_are_covered(halves: Plan, look: Look) -> None:
    found = look(halves, 25.0)
    assert found.decision.verdict == "ship"
    (hours,) = (gate for gate in found.gates if gate.name == "hours")
    assert (hours.state, hours.says) == (1, "the answers of both arms cover 25 hours of traffic")


def test_the_arm_with_fewer_hours_counts(halves: Plan, look: Look) -> None:
    """The candidate has served for 5 of 25 hours."""
    found = look(halves, 25.0, late=20.0)
    assert found.decision.verdict == "hold"
    assert found.traffic is not None
    assert found.traffic.hours == pytest.approx(5.0, abs=0.1)


def test_reject_waits_while_hours_could_make_up_for_the_harm(halves: Plan, look: Look) -> None:
    found = look(halves, 1.0, candidate="0")
    assert found.decision.verdict == "hold"
    assert "so far" in found.decision.sentence
    assert found.primary is not None
    assert found.primary.hours_share == pytest.approx(1 / 24, rel=0.1)
    assert look(replace(halves, rules=1, min_hours=0.0), 1.0, candidate="0").decision.verdict == "reject"


def test_reject_of_a_large_harm_comes_before_the_hours(halves: Plan, look: Look) -> None:
    assert look(halves, 8.0, candidate="0").decision.verdict == "reject"


def test_only_answers_with_a_value_of_the_primary_cover_time(halves: Plan, look: Look) -> None:
    """Nothing has scored these answers by the primary."""
    found = look(replace(halves, primary="unknown"), 30.0)
    assert found.traffic is not None
    assert found.traffic.hours == 0.0


def test_without_hours_the_first_line_says_so(halves: Plan, look: Look) -> None:
    found = look(replace(halves, min_hours=0.0), 1.0)
    assert found.decision.verdict == "ship"
    assert found.decision.sentence.endswith(NO_HOURS)
    assert "hours" not in [gate.name for gate in found.gates]


def test_plans_of_the_first_rules_wait_for_no_hours(halves: Plan, look: Look) -> None:
    found = look(replace(halves, rules=1, min_hours=0.0), 1.0)
    assert (found.decision.verdict, found.traffic) == ("ship", None)
    assert found.decision.sentence.endswith("Ship.")


KNOWN = [
    ({"unit": "user"}, True, "units"),
    ({"unit": "user"}, False, "assumed"),  # no call named a user
    ({"unit": "request"}, False, "assumed"),
    ({"unit": "request", "independent": True}, False, "declared"),
]


@pytest.mark.parametrize(("changes", "named", "independence"), KNOWN)
def test_the_first_line_names_what_is_taken_as_independent(
    halves: Plan, look: Look, changes: dict[str, Any], named: bool, independence: str
) -> None:
    found = look(replace(halves, **changes), 25.0, candidate="0", clusters=named)
    assert found.decision.verdict == "reject"
    assert found.traffic is not None
    assert found.traffic.independence == independence
    assert (UNITS_ASSUMED in found.decision.sentence) == (independence == "assumed")
    text = " ".join(sentences(found.traffic))
    assert "The answers of both arms cover 25 hours of traffic; 24 are needed for ship." in text
    assert "pairs" not in text


def test_status_says_how_long_the_hours_take(halves: Plan, look: Look) -> None:
    """1400 units in six hours: 18 hours more at that pace take three times as many."""
    found = look(halves, 6.0)
    assert look.conditions["hours"].more_values == pytest.approx(3 * UNITS, rel=0.01)  # type: ignore[attr-defined]
    assert pace_of(found).pairs_a_day == pytest.approx(4 * UNITS, rel=0.01)
    progress = look.progress  # type: ignore[attr-defined]
    assert (progress.waits_for, progress.days) == ("hours", pytest.approx(0.75, rel=0.01))


def test_the_facts_are_in_the_report(halves: Plan, keep: Callable[..., str], look: Look) -> None:
    look(halves, 25.0)
    with reading(keep([])) as connection:
        report = report_of(connection, "swap", now=LATER)
    traffic = to_dict(report)["traffic"]
    assert (traffic["source"], traffic["independence"], traffic["min_hours"]) == ("served", "units", 24.0)
    assert traffic["hours"] == pytest.approx(25.0, rel=0.01)
    assert "The answers of both arms cover 25 hours of traffic; 24 are needed for ship." in report.limits


def test_where_pairs_decide_the_primary_their_hours_count(halves: Plan, look: Look) -> None:
    """In `both`, a score is compared in pairs and errors in the split."""
    both = replace(halves, mode="both", shadow=0.1, repeat_control=0.0, aa="alarm")
    errors = look(replace(both, primary="error_rate", guardrails=()), 25.0)
    assert errors.traffic is not None
    assert (errors.traffic.source, round(errors.traffic.hours)) == ("served", 25)


@given(st.lists(st.floats(0.0, 3 * LONGEST_GAP_S), max_size=30))
def test_hours_are_counted_as_those_of_pairs_are(gaps: Sequence[float]) -> None:
    times = START + np.cumsum([0.0, *gaps])
    counted = TrafficTime()
    for at in times:
        counted.add(float(at))
    assert covered_s(times) == pytest.approx(counted.covered_s)
    assert covered_s(times[:0]) == 0.0
