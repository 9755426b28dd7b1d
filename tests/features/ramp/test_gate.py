"""The gate is success only if the next step is shown to be safe: no data, old data and doubt are inconclusive."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.ramps import DESIGN, PLAN

from gateway.core.plan import PlanState
from gateway.core.ramp import RampChange, RampDecision, RampPace, advanced, paused, rolled_back, started, stopped
from gateway.features.ramp.cli import gate_lines
from gateway.features.ramp.gate import gate_of
from gateway.ramps.commands import RampView

NOW = 1000.0
CHANGE = RampChange(NOW - 10, "ada", "as agreed")
BEGUN = started("swap", PLAN.hash, CHANGE)
FIRST = advanced(BEGUN, DESIGN, CHANGE)
DONE = advanced(advanced(FIRST, DESIGN, CHANGE), DESIGN, CHANGE)


def view(record: Any = FIRST, action: str | None = "hold", at: float = NOW - 5, state: Any = "running") -> RampView:
    evidence = {"at": at, "verdict": "ship", "pairs": 12, "decision": {"action": action, "reason": "says so"}}
    return RampView(PlanState(PLAN, state, 1.0), DESIGN, record, {} if action is None else evidence)


@pytest.mark.parametrize(
    ("seen", "status"),
    [
        (view(action="ready"), "success"),
        (view(action="advance"), "success"),
        (view(BEGUN, "promote"), "success"),
        (view(DONE, "hold"), "success"),
        (view(DONE, "hold", at=0.0), "success"),
        (view(action="hold"), "inconclusive"),
        (view(action=None), "inconclusive"),
        (view(None, None), "inconclusive"),
        (view(action="stop"), "inconclusive"),
        (view(action="ready", at=NOW - 301), "inconclusive"),
        (view(paused(FIRST, CHANGE), "ready"), "inconclusive"),
        (view(stopped(FIRST, CHANGE), "hold"), "inconclusive"),
        (view(action="ready", state="stopped"), "inconclusive"),
        (view(action="roll_back"), "failure"),
        (view(DONE, "roll_back"), "failure"),
        (view(rolled_back(FIRST, CHANGE, 60.0), "hold"), "failure"),
        (view(rolled_back(FIRST, CHANGE, 60.0), None), "failure"),
    ],
)
def test_the_status_of_each_state(seen: RampView, status: str) -> None:
    assert gate_of(seen, RampPace(), NOW)["status"] == status


def test_it_says_where_the_ramp_is_and_why() -> None:
    found = gate_of(view(), RampPace("auto"), NOW)
    assert found | {"reason": "", "at": 0} == {
        "status": "inconclusive", "experiment": "swap", "plan": PLAN.hash, "state": "ramp", "step": 0,
        "steps": [0.25, 1.0], "share": 0.25, "holdout": None, "switch": [],
        "paused": False, "overridden": False, "mode": "auto", "verdict": "ship",
        "pairs": 12, "action": "hold", "reason": "", "also": [], "since": NOW - 10, "at": 0,
    }  # fmt: skip
    assert found["reason"] == "says so"


def test_a_promoted_ramp_says_until_when_its_holdout_lasts() -> None:
    held = replace(PLAN, ramp=replace(PLAN.ramp, holdout=0.02, holdout_days=28.0))  # type: ignore[type-var]
    done = replace(FIRST, state="promoted", step=1, plan=held.hash)
    seen = replace(view(), plan=replace(view().plan, plan=held), design=held.ramp, stored=done)
    found = gate_of(seen, RampPace(), NOW)
    assert (found["share"], found["holdout"]) == (0.98, {"share": 0.02, "until": done.since + 28 * 86_400.0})
    switched = replace(seen, evidence={**seen.evidence, "switch": [
        {"metric": "error_rate", "control": 0.01, "candidate": 0.02, "difference": 0.01, "low": None, "high": None,
         "units": [5, 300]}]})  # fmt: skip
    assert gate_of(switched, RampPace(), NOW)["switch"][0].startswith("error_rate: 0.01 with the control")


def test_evidence_of_another_kind_is_none() -> None:
    odd = replace(view(), evidence={"decision": "ship it", "at": NOW})
    assert gate_of(odd, RampPace(), NOW)["status"] == "inconclusive"


def test_it_says_everything_that_a_ramp_waits_for() -> None:
    seen = view()
    decision = RampDecision("hold", "says so", ("soaks for another 30 s", "error_rate is not shown to be harmless"))
    seen.evidence["decision"] = decision.fields()
    found = gate_of(seen, RampPace(), NOW)
    assert found["also"] == list(decision.also)
    assert list(gate_lines(found))[-2:] == [f"  also      {each}" for each in decision.also]
    assert gate_of(replace(seen, stored=rolled_back(FIRST, CHANGE, 60.0)), RampPace(), NOW)["also"] == []
