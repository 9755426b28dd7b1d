"""The ramp of a guard as gateways apply it: by state and step, by unit, and as its record is stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.guard_ramp import (
    GuardRampDesign,
    design_of,
    guard_ramp_begun,
    ramp_in_force,
    ramp_name,
    ramped_guard,
)
from gateway.core.ramp import (
    RampChange,
    RampEvent,
    RampRecord,
    advanced,
    record_from_json,
    rolled_back,
    stopped,
)

pytestmark = pytest.mark.quick
SECRET = b"a secret of this deployment"
CHANGE = RampChange(1000.0, "ada", "as agreed")
DESIGN = GuardRampDesign("block", "observe", "c1", (0.05, 0.25, 1.0), 60.0, 10, 0.02, 0.02, 0.02, 600.0, 0.05)


def begun(design: GuardRampDesign = DESIGN) -> RampRecord:
    return guard_ramp_begun("injection", design, CHANGE, None)


def at_step(step: int, design: GuardRampDesign = DESIGN) -> RampRecord:
    record = begun(design)
    for _ in range(step + 1):
        record = advanced(record, design.ramp, CHANGE)
    return record


def applied(record: RampRecord, design: GuardRampDesign = DESIGN) -> tuple[str, str, float] | None:
    found = ramp_in_force(record, design, SECRET)
    return None if found is None else (found.action, found.before, found.share)


def test_each_state_has_its_actions() -> None:
    assert applied(begun()) == ("flag", "flag", 1.0)
    assert [applied(at_step(i)) for i in range(3)] == [("block", "flag", share) for share in (0.05, 0.25, 1.0)]
    promoted = at_step(3)
    assert (promoted.state, applied(promoted)) == ("promoted", ("block", "flag", 1.0))
    assert applied(rolled_back(at_step(1), CHANGE, 60.0)) is None
    assert applied(stopped(at_step(1), CHANGE)) is None


def test_the_first_phase_is_never_weaker_than_the_config() -> None:
    assert applied(begun(replace(DESIGN, before="redact")), replace(DESIGN, before="redact")) == ("redact", "redact", 1)
    flag = replace(DESIGN, to="flag")
    assert applied(begun(flag), flag) == ("observe", "observe", 1.0)
    assert applied(at_step(0, flag), flag) == ("flag", "observe", 0.05)


def test_calls_are_counted_until_the_promotion() -> None:
    counted = [getattr(ramp_in_force(record, DESIGN, SECRET), "counted", None) for record in (begun(), at_step(2))]
    assert counted == [True, True]
    assert getattr(ramp_in_force(at_step(3), DESIGN, SECRET), "counted", None) is False


@given(unit=st.text(), shares=st.lists(st.floats(0, 1), min_size=2, max_size=2))
def test_a_larger_share_moves_no_unit_back(unit: str, shares: list[float]) -> None:
    lower, higher = sorted(shares)
    made = ramp_in_force(at_step(0), DESIGN, SECRET)
    assert made is not None
    if replace(made, share=lower).action_of(unit) == "block":
        assert replace(made, share=higher).action_of(unit) == "block"


def test_the_record_survives_its_way_through_json() -> None:
    record = at_step(1)
    read = record_from_json(record.to_json())
    assert read == record
    assert design_of(read) == DESIGN
    assert b"design" not in replace(record, design=None).to_json(), "an experiment's record stays as it was"
    assert design_of(replace(record, design={"to": "block"})) is None


def test_a_ramp_is_named_as_no_experiment_can_be() -> None:
    assert ramped_guard(ramp_name("injection")) == "injection"
    assert ramped_guard("swap") is None


def test_the_audit_names_the_first_phase() -> None:
    assert RampEvent("1", begun(), None, {}).kind == "begun"
    assert RampEvent("2", at_step(0), ("shadow", -1), {}).kind == "advanced"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"to": "observe"}, "stricter than observe"),
        ({"to": "flag", "before": "block"}, "stricter than block"),
        ({"steps": (0.5, 0.1, 1.0)}, "rising shares"),
        ({"steps": (0.5,)}, "end at 1.0"),
    ],
)
def test_a_design_that_is_no_ramp_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(DESIGN, **fields)


def test_other_steps_are_another_plan() -> None:
    assert len({DESIGN.hash, replace(DESIGN, steps=(0.5, 1.0)).hash, replace(DESIGN, config="c2").hash}) == 3
