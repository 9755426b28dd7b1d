"""A ramp's record: its share, the changes that are allowed, and the changes that are refused."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ramp import (
    FreezeWindow,
    RampChange,
    RampDecision,
    RampDesign,
    RampEvent,
    RampRecord,
    RampRefused,
    advanced,
    holdout_ended,
    overridden,
    paused,
    promoted,
    ramp_records,
    record_from_json,
    resumed,
    rolled_back,
    started,
    stopped,
)

DESIGN = RampDesign((0.01, 0.5, 1.0), 60.0, 10)
AT = RampChange(100.0, "mia", "because")


def fresh() -> RampRecord:
    return started("swap", "abc", AT)


def test_the_share_rises_step_by_step_to_everything() -> None:
    record, shares = fresh(), []
    while record.state != "promoted":
        shares.append(record.share(DESIGN))
        record = advanced(record, DESIGN, AT)
    assert shares == [0.0, 0.01, 0.5, 1.0]
    assert record.share(DESIGN) == 1.0
    assert record.version == 5


def test_a_rollback_serves_nothing_and_cools_down() -> None:
    back = rolled_back(advanced(fresh(), DESIGN, AT), AT, 3600.0)
    assert (back.state, back.share(DESIGN), back.cooling_until) == ("rolled_back", 0.0, 3700.0)
    with pytest.raises(RampRefused, match="cools down after a rollback for another 3600 s"):
        resumed(back, AT)
    again = resumed(back, replace(AT, at=3700.0))
    assert (again.state, again.step, again.version) == ("shadow", -1, back.version + 1)
    with pytest.raises(RampRefused, match="rolled back already"):
        rolled_back(back, AT, 0.0)


def test_a_pause_keeps_the_share_and_the_start_of_the_step() -> None:
    step = advanced(fresh(), DESIGN, AT)
    held = paused(step, replace(AT, at=200.0))
    assert (held.share(DESIGN), held.since, held.at) == (0.01, 100.0, 200.0)
    with pytest.raises(RampRefused, match="paused"):
        advanced(held, DESIGN, AT)
    assert not resumed(held, AT).paused


def test_a_step_waits_for_evidence_unless_it_is_overridden() -> None:
    step = advanced(fresh(), DESIGN, AT)
    with pytest.raises(RampRefused, match=r"undecided\. To go on all the same: override it"):
        promoted(step, DESIGN, AT, RampDecision("hold", "undecided"))
    with pytest.raises(RampRefused, match="no evidence yet"):
        promoted(step, DESIGN, AT, None)
    assert promoted(step, DESIGN, AT, RampDecision("ready", "all holds")).step == 1
    forced = overridden(step, DESIGN, AT)
    assert (forced.step, forced.overridden) == (1, True)
    whole = overridden(fresh(), DESIGN, AT, full=True)
    assert (whole.state, whole.overridden) == ("promoted", True)


@pytest.mark.parametrize("reason", ["", "  "])
def test_a_person_has_to_give_a_reason(reason: str) -> None:
    silent = replace(AT, reason=reason)
    for change in (
        lambda: paused(fresh(), silent),
        lambda: resumed(paused(fresh(), AT), silent),
        lambda: overridden(fresh(), DESIGN, silent),
        lambda: rolled_back(fresh(), silent, 0.0),
        lambda: promoted(fresh(), DESIGN, silent, RampDecision("ready", "")),
    ):
        with pytest.raises(RampRefused, match="a reason is needed"):
            change()


def test_a_stopped_ramp_has_no_next_step() -> None:
    end = stopped(fresh(), AT)
    assert end.share(DESIGN) == 0.0
    with pytest.raises(RampRefused, match="it is stopped, so there is no next step"):
        advanced(end, DESIGN, AT)
    with pytest.raises(RampRefused, match="nothing to pause"):
        paused(end, AT)


@given(
    st.sampled_from(["shadow", "ramp", "promoted", "rolled_back", "stopped"]),
    st.integers(-1, 9),
    st.booleans(),
    st.text(max_size=20),
)
def test_a_record_survives_json(state: str, step: int, held: bool, reason: str) -> None:
    record = replace(fresh(), state=state, step=step, paused=held, reason=reason)  # type: ignore[arg-type]
    again = record_from_json(record.to_json())
    assert again == record
    assert again.raw == record.to_json()
    assert 0.0 <= again.share(DESIGN) <= 1.0


def test_records_that_cannot_be_read_are_missing() -> None:
    fine = fresh()
    fields = {
        b"swap": fine.to_json(),
        b"other": fine.to_json(),
        b"state": replace(fine, experiment="state", state="odd").to_json(),  # type: ignore[arg-type]
        b"step": replace(fine, experiment="step", step=-2).to_json(),
        b"more": fine.to_json().replace(b'"step"', b'"steps"'),
        b"text": b"{",
        b"list": b"[]",
    }
    assert ramp_records(fields) == {"swap": fine}


@pytest.mark.parametrize("steps", [(), (0.5,), (0.5, 0.5, 1.0), (0.0, 1.0), (1.0, 0.5), (0.5, 1.5)])
def test_steps_rise_to_everything(steps: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="expected rising shares"):
        RampDesign(steps, 0.0, 1)


def test_a_weekly_freeze_spans_the_weekend() -> None:
    window = FreezeWindow(4 * 86_400 + 16 * 3600, 8 * 3600, weekly=True)  # Fri 16:00 - Mon 08:00

    def at(day: int, hour: int) -> float:
        return datetime(2026, 11, day, hour, tzinfo=UTC).timestamp()

    frozen = [(27, 15), (27, 16), (29, 3), (30, 7), (30, 8)]  # the 27th is a Friday
    assert [window.holds(at(*each)) for each in frozen] == [False, True, True, True, False]


def test_an_event_says_what_happened_in_one_word() -> None:
    step = advanced(fresh(), DESIGN, AT)
    assert RampEvent("1-0", fresh(), None, {}).kind == "shadowing"
    assert RampEvent("1-1", step, ("shadow", -1), {}).kind == "advanced"
    assert RampEvent("1-2", paused(step, AT), ("ramp", 0), {}).kind == "paused"
    assert RampEvent("1-3", rolled_back(step, AT, 1.0), ("ramp", 0), {}).kind == "rolled_back"


HELD = RampDesign((0.25, 1.0), 0.0, 1, holdout=0.02, holdout_days=28.0)


def test_the_last_step_leaves_the_holdout_to_the_control() -> None:
    begun = started("swap", "p", RampChange(0.0, "t", "t"))
    first = advanced(begun, HELD, RampChange(1.0, "t", "t"))
    last = advanced(first, HELD, RampChange(2.0, "t", "t"))
    done = advanced(last, HELD, RampChange(3.0, "t", "t"))
    assert [each.share(HELD) for each in (begun, first, last, done)] == [0.0, 0.25, 0.98, 0.98]
    assert done.holds_out(HELD)
    assert not last.holds_out(HELD)
    ended = holdout_ended(done, HELD, RampChange(4.0, "t", "its days are over"))
    assert (ended.state, ended.share(HELD), ended.holds_out(HELD)) == ("promoted", 1.0, False)
    assert RampEvent("1", ended, ("promoted", done.step), {}).kind == "holdout_ended"
    assert record_from_json(ended.to_json()) == ended, "an older version reads it too"
    with pytest.raises(RampRefused, match="it has no holdout"):
        holdout_ended(ended, HELD, RampChange(5.0, "t", "again"))
    with pytest.raises(RampRefused, match="at a step"):
        holdout_ended(last, HELD, RampChange(5.0, "t", "too early"))


def test_without_a_holdout_the_last_step_is_everything() -> None:
    plain = RampDesign((0.25, 1.0), 0.0, 1)
    done = replace(started("swap", "p", RampChange(0.0, "t", "t")), state="promoted", step=1)
    assert (done.share(plain), done.holds_out(plain)) == (1.0, False)
