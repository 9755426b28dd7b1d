"""The next step of a ramp: what advances it, what holds it, and what takes it back whatever else holds."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ramp import (
    FreezeWindow,
    RampChange,
    RampDecision,
    RampDesign,
    RampPace,
    RampRecord,
    advanced,
    overridden,
    paused,
    started,
)
from gateway.ramps.breakers import BreakerReport
from gateway.ramps.decision import decide_ramp, follow
from gateway.ramps.evidence import RampEvidence, ServedFinding
from gateway.reports.model import Estimate, WeakSpot

DESIGN = RampDesign((0.1, 0.5, 1.0), 60.0, 100, 1000, 5.0)
AUTO = RampPace("auto", stale_s=300.0)
BEGUN = RampChange(0.0, "t", "t")
NOW = 1000.0
SHADOW = started("swap", "p", BEGUN)
STEP = advanced(SHADOW, DESIGN, BEGUN)
FINE = RampEvidence(NOW, "ship", "Ship.", 300, True, units=100, requests=100, newest=NOW - 1)


def found(state: str = "inferior", metric: str = "error_rate", step: int | None = 0) -> ServedFinding:
    return ServedFinding(metric, step, Estimate(-0.3, -0.5, -0.1), 0.02, state, (900, 100))  # type: ignore[arg-type]


def decided(record: RampRecord = STEP, pace: RampPace = AUTO, **changes: Any) -> RampDecision:
    return decide_ramp(record, DESIGN, replace(FINE, **changes), NOW, pace)


def test_everything_holds_so_the_next_step_is_taken() -> None:
    assert decided(SHADOW, units=0).action == "advance"
    assert decided(STEP).action == "advance"
    last = replace(STEP, step=2)
    assert decided(last).action == "promote"
    assert follow(last, DESIGN, decided(last), NOW, AUTO).state == "promoted"


def test_advice_waits_for_a_person() -> None:
    waits = decided(pace=RampPace("advise"))
    assert waits == RampDecision("ready", "everything holds for 0.5 of the units: waits for `gateway ab promote swap`")


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"verdict": "hold", "sentence": "Undecided."}, "Undecided."),
        ({"newest": None}, "no data"),
        ({"newest": NOW - 301}, "stale: the candidate's newest answer is 301 s old"),
        ({"lag_s": 301.0}, "stale: the evidence is 301 s behind"),
        ({"at": NOW - 301}, "stale: the evidence is 301 s behind"),
        ({"lost_gateways": 1}, "1 gateway processes stopped reporting"),
        ({"units": 99}, "99 of 100 units at this step"),
        ({"blind": True}, "no alarm could tell yet"),
    ],
)
def test_missing_undecided_and_stale_evidence_holds(changes: dict[str, Any], reason: str) -> None:
    held = decided(**changes)
    assert held.action == "hold"
    assert reason in held.reason


def test_a_step_soaks() -> None:
    assert decided(replace(STEP, since=NOW - 10)) == RampDecision("hold", "soaks for another 50 s")


def test_a_freeze_window_and_a_cool_down_hold() -> None:
    frozen = replace(AUTO, freeze=(FreezeWindow(NOW - 1, NOW + 1),))
    assert decided(pace=frozen) == RampDecision("hold", "a freeze window holds")
    assert decided(replace(STEP, cooling_until=NOW + 5)).reason == "cools down after a rollback for another 5 s"


@pytest.mark.parametrize("pace", [AUTO, RampPace("advise"), replace(AUTO, freeze=(FreezeWindow(0, 1e12),))])
@pytest.mark.parametrize(
    "record", [STEP, paused(STEP, BEGUN), overridden(STEP, DESIGN, BEGUN), replace(STEP, state="promoted")]
)
def test_an_alarm_rolls_back_whatever_else_holds(record: RampRecord, pace: RampPace) -> None:
    back = decided(record, pace, served=(found("non_inferior", "cost_per_1k"), found()))
    assert back.action == "roll_back"
    assert back.reason == (
        "error_rate at step 1: worse by more than 0.02 on served answers (difference −0.3, at most −0.1; "
        "100 units of the candidate, 900 of the control)"
    )
    after = follow(record, DESIGN, back, NOW, pace)
    assert (after.state, after.cooling_until) == ("rolled_back", NOW + 3600)


def test_a_reject_rolls_back_unless_somebody_overrode_it() -> None:
    assert decided(SHADOW, verdict="reject", sentence="Reject.") == RampDecision("roll_back", "Reject.")
    forced = overridden(SHADOW, DESIGN, BEGUN)
    assert decided(forced, verdict="reject", sentence="Reject.") == RampDecision("hold", "Reject.")


def test_exposure_before_the_first_verdict_is_bounded() -> None:
    undecided = {"verdict": "hold", "decided": False}
    assert decided(**undecided, requests=999).action == "hold"
    over = decided(**undecided, requests=1000)
    assert over.action == "stop"
    assert over.reason.startswith("no verdict after 1000 requests")
    assert decided(**undecided, usd=5.0).action == "stop"
    assert decided(verdict="hold", decided=True, requests=1000).action == "hold", "there has been a verdict"
    assert decided(overridden(SHADOW, DESIGN, BEGUN), **undecided, requests=1000).action == "hold"
    assert follow(STEP, DESIGN, over, NOW, AUTO).state == "stopped"


def test_feedback_needs_a_first_step_before_it_has_a_verdict() -> None:
    undecided = {"verdict": "hold", "sentence": "Undecided.", "served_primary": True, "decided": False}
    assert decided(SHADOW, **undecided).action == "advance"
    assert decided(STEP, **undecided).action == "hold"


def test_all_traffic_needs_feedback_that_is_shown_to_be_harmless() -> None:
    before_all = replace(STEP, step=1)
    thumb = found("unclear", "feedback:thumb", None)
    assert decided(STEP, proofs=(thumb,)).action == "advance", "an earlier step needs no proof"
    assert decided(before_all, proofs=(thumb,)).reason.startswith("feedback:thumb is not shown to be harmless")
    assert decided(before_all, proofs=(replace(thumb, found="equivalent"),)).action == "advance"


def test_a_pause_holds_and_says_who_paused() -> None:
    held = paused(STEP, RampChange(NOW, "mia", "on call until six"))
    assert decided(held) == RampDecision("hold", "paused by mia: on call until six")


@given(
    st.sampled_from(["shadow", "ramp", "promoted", "rolled_back", "stopped"]),
    st.integers(0, 2),
    st.booleans(),
    st.sampled_from(["ship", "reject", "hold"]),
    st.none() | st.floats(0, NOW),
    st.integers(0, 300),
    st.booleans(),
)
def test_a_step_needs_a_verdict_and_fresh_data(
    state: str, step: int, held: bool, verdict: str, newest: float | None, units: int, alarm: bool
) -> None:
    record = replace(STEP, state=state, step=step, paused=held)  # type: ignore[arg-type]
    decision = decided(record, verdict=verdict, newest=newest, units=units, served=(found(),) if alarm else ())
    if decision.action in ("advance", "promote"):
        assert state in ("shadow", "ramp")
        assert not held
        assert not alarm
        assert verdict == "ship"
        assert newest is not None
        assert NOW - newest <= AUTO.stale_s
    if alarm and state not in ("rolled_back", "stopped"):
        assert decision.action == "roll_back"


BROKEN = BreakerReport(1, 1, False, 31.0, 1)


def test_an_open_breaker_holds_and_a_broken_candidate_rolls_back() -> None:
    assert decided(breakers=replace(BROKEN, failing_s=5.0)).reason.startswith("the candidate's circuit breaker is open")
    for record in (STEP, replace(STEP, state="promoted"), replace(STEP, paused=True)):
        assert decided(record, breakers=BROKEN).action == "roll_back"
    assert decided(SHADOW, breakers=BROKEN).action == "hold", "it serves nobody yet"


def test_outcomes_that_are_read_late_hold() -> None:
    assert decided(late="late: the consumers are 200 s behind") == RampDecision(
        "hold", "late: the consumers are 200 s behind"
    )


def test_a_sample_ratio_that_does_not_fit_pauses() -> None:
    found = decided(ratio="sample ratio: 310 of 2000 units")
    assert found == RampDecision("pause", "sample ratio: 310 of 2000 units")
    after = follow(STEP, DESIGN, found, NOW, AUTO)
    assert (after.paused, after.state, after.step) == (True, "ramp", 0)
    assert decided(replace(STEP, paused=True), ratio="red").action == "hold"


def test_an_automatic_ramp_waits_for_independence() -> None:
    assert "set `unit: request`" in decided(independence="assumed").reason
    for known in ("checked", "declared", "alarm", None):
        assert decided(independence=known).action == "advance"
    assert decided(independence="assumed", pace=RampPace("advise")).action == "ready", "a person decides"


def test_a_hold_says_everything_that_it_waits_for() -> None:
    """The step before all traffic: the verdict, the soak time, units, and proofs with and without enough units."""
    few = ServedFinding("error_rate", None, Estimate(0.0), 0.01, "unclear", (900, 310), needed=7260)
    many = ServedFinding("quality", None, Estimate(-0.03, -0.061, 0.0), 0.05, "unclear", (900, 800), needed=700)
    record = replace(STEP, step=1, since=NOW - 30)
    holds = decided(record, verdict="hold", sentence="Undecided.", units=20, proofs=(few, many))
    assert (holds.action, holds.reason) == ("hold", "Undecided.")
    assert holds.also == (
        "soaks for another 30 s",
        "20 of 100 units at this step",
        "error_rate is not shown to be harmless on served answers yet: 310 of about 7260 units an arm",
        "quality is not shown to be harmless on served answers yet: the difference may be −0.061, and must be above "
        "−0.05 (800 units an arm)",
    )


EXCEPT = {"verdict": "ship_except", "sentence": "Ship, but keep tools=yes.", "excepted": ("tools=yes",)}


def test_a_verdict_with_exceptions_waits_for_a_person_even_in_auto() -> None:
    held = decided(**EXCEPT)
    assert (held.action, held.without) == ("hold", ("tools=yes",))
    assert held.reason == (
        "Ship, but keep tools=yes. With `gateway ab promote swap --except tools=yes` the rest goes on"
    )
    agreed = replace(STEP, kept=("stream=yes", "tools=yes"))
    assert decided(agreed, **EXCEPT).action == "advance"
    assert decided(agreed).action == "advance", "a later ship takes nothing back"
    more = decided(agreed, **{**EXCEPT, "excepted": ("tools=yes", "api=chat")})
    assert more.without == ("tools=yes", "api=chat"), "another segment is asked for again"


def weak(pairs: int, alarm: bool = False) -> WeakSpot:
    return WeakSpot(pairs, 800, 0.01 if alarm else 0.4, alarm, "prompt = over 16 KB" if alarm else "")


def test_a_step_to_a_quarter_waits_for_the_search_for_weak_spots() -> None:
    small = RampDesign((0.1, 0.2, 1.0), 60.0, 100)
    for found in (weak(100), weak(2000, alarm=True)):
        assert decide_ramp(SHADOW, small, replace(FINE, weak_spot=found), NOW, AUTO).action == "advance", "to 0.1"
    assert decided(STEP, weak_spot=weak(799)) == RampDecision(
        "hold", "the search for weak spots has seen 799 of 800 pairs"
    )
    assert decided(STEP, weak_spot=weak(800)).action == "advance"
    held = decided(STEP, weak_spot=weak(2000, alarm=True))
    assert held.action == "hold"
    assert held.reason.startswith("a weak spot: the candidate is worse where prompt = over 16 KB")


def test_the_promotion_waits_for_the_search_for_weak_spots_too() -> None:
    last = replace(STEP, step=len(DESIGN.steps) - 1)
    assert decided(last, weak_spot=weak(800)).action == "promote"
    assert decided(last, weak_spot=weak(2000, alarm=True)).action == "hold"


def test_the_audit_keeps_segments_and_the_search() -> None:
    assert "weak_spot" not in FINE.fields()
    assert "excepted" not in FINE.fields()
    found = replace(FINE, weak_spot=weak(10), excepted=("tools=yes",)).fields()
    assert (found["weak_spot"]["pairs"], found["excepted"]) == (10, ["tools=yes"])
