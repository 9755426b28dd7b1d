"""A plan is the same in every process, and any change of what decides its result is another plan."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from gateway.core.exchange import Target
from gateway.core.plan import (
    CONTROL,
    REPEAT,
    Guardrail,
    Plan,
    PlanState,
    plan_from_json,
    plan_states,
    shipped_decisions,
    still_shipped,
)

PLAN = Plan(
    name="swap",
    model="chat",
    control=Target("openai", "gpt-x"),
    candidates=(("candidate", Target("local", "small")),),
    repeat_control=0.25,
    primary="judge",
    guardrails=(Guardrail("error_rate", 0.01),),
    keys=("web",),
)


def test_a_plan_crosses_the_stream_server_unchanged() -> None:
    assert plan_from_json(PLAN.to_json()) == PLAN
    assert plan_from_json(PLAN.to_json()).hash == PLAN.hash


@pytest.mark.parametrize("change", [{"margin": 0.03}, {"shadow": 0.2}, {"primary": "exact"}, {"keys": None}])
def test_a_change_is_another_plan(change: dict[str, object]) -> None:
    assert replace(PLAN, **change).hash != PLAN.hash  # type: ignore[arg-type]


def test_a_target_in_another_variant_is_another_plan_and_survives() -> None:
    varied = replace(PLAN, candidates=(("candidate", Target("local", "small", "temperature=0")),))
    assert varied.hash != PLAN.hash
    assert plan_from_json(varied.to_json()) == varied
    assert b"variant" not in PLAN.to_json(), "a plan without variants keeps its hash"


def test_certificates_are_part_of_a_plan() -> None:
    """Decisions that obey other certificates answer other calls. A plan without them keeps its hash."""
    assert PLAN.hash == "55ffb7ca630a431e"
    obeys = replace(PLAN, accept=(("candidate", ("refund",)),))
    assert plan_from_json(obeys.to_json()) == obeys
    assert len({PLAN.hash, obeys.hash, replace(PLAN, accept=(("candidate", ("refund", "team")),)).hash}) == 3
    assert b"accept" not in PLAN.to_json()


def test_shipping_with_certificates_ships_nothing_more() -> None:
    obeys = replace(PLAN, accept=(("candidate", ("refund",)),))
    target = Target("local", "small")
    raw, obeying = (PlanState(plan, "stopped", 1.0, shipped=("candidate",)) for plan in (PLAN, obeys))
    assert shipped_decisions([raw], target) == shipped_decisions([raw], target, ("refund",)) == {"chat"}
    assert shipped_decisions([obeying], target, ("refund",)) == {"chat"}
    assert shipped_decisions([obeying], target) == shipped_decisions([obeying], target, ("team",)) == set()
    assert still_shipped(raw, obeys) == still_shipped(obeying, obeys) == ("candidate",)
    assert still_shipped(obeying, PLAN) == ()


OLD = (  # as a plan was stored before it had a method
    b'{"name":"swap","model":"chat","control":{"upstream":"openai","model":"gpt-x"},"candidates":[["candidate",'
    b'{"upstream":"local","model":"small"}]],"mode":"shadow","shadow":0.1,"split":0.0,"repeat_control":0.25,'
    b'"unit":"request","primary":"judge","margin":0.02,"alpha":0.05,"guardrails":[{"metric":"error_rate",'
    b'"margin":0.01}],"strata":[],"stationary":%s,"keys":["web"],"apis":["chat","completions"],"deadline_s":null,'
    b'"start":null,"stop":null}'
)


@pytest.mark.parametrize(
    ("stationary", "method", "plan_hash"),
    [(b"false", "guaranteed", "55ffb7ca630a431e"), (b"true", "stationary", "975aa67d1db3f9f3")],
)
def test_a_plan_without_a_method_keeps_its_hash(stationary: bytes, method: str, plan_hash: str) -> None:
    """An experiment in progress keeps its evidence."""
    plan = plan_from_json(OLD % stationary)
    assert (plan.method, plan.max_pairs, plan.aa, plan.compare) == (method, None, "proof", "served")
    assert plan.hash == plan_hash
    assert orjson.loads(plan.to_json()) == orjson.loads(OLD % stationary)


def test_a_plan_with_a_method_survives_the_stream_server() -> None:
    plan = replace(PLAN, method="hybrid", max_pairs=300, auto_horizon=True, aa="alarm", compare="repeat")
    assert plan_from_json(plan.to_json()) == plan
    state = PlanState(plan, "running", 1.0)
    assert plan_states({b"swap": state.to_json()})["swap"].plan == plan
    assert len({plan.hash, PLAN.hash, replace(plan, aa="proof").hash, replace(plan, max_pairs=301).hash}) == 4


@pytest.mark.parametrize("wrong", [{"method": "magic"}, {"aa": "never"}, {"compare": "x"}, {"max_pairs": 3}])
def test_a_plan_of_a_version_that_knows_more_is_not_run(wrong: dict[str, object]) -> None:
    state = PlanState(replace(PLAN, **wrong), "running", 1.0)  # type: ignore[arg-type]
    assert plan_states({b"swap": state.to_json()}) == {}


def test_a_plan_from_before_there_were_methods_continues() -> None:
    stored = plan_from_json(OLD % b"false")
    now = replace(stored, method="hybrid", max_pairs=300, auto_horizon=True, aa="alarm")
    assert now.continues(stored)
    assert replace(now, method="anytime", max_pairs=None, auto_horizon=False).continues(stored)
    for changed in ({"margin": 0.1}, {"auto_horizon": False}, {"compare": "repeat"}, {"aa": "proof"}):
        assert not replace(now, **changed).continues(stored)  # type: ignore[arg-type]
    assert not now.continues(now)
    steady = plan_from_json(OLD % b"true")
    assert replace(steady, aa="alarm").continues(steady)
    assert not now.continues(steady)
    assert not replace(steady, aa="alarm").continues(stored)


def test_a_computed_horizon_is_not_a_change_of_the_design() -> None:
    auto = replace(PLAN, method="hybrid", max_pairs=300, auto_horizon=True)
    assert auto.same_design(replace(auto, max_pairs=500))
    assert not auto.same_design(replace(auto, margin=0.1))
    given = replace(auto, auto_horizon=False)
    assert not given.same_design(auto)
    assert not given.same_design(replace(given, max_pairs=500))


def test_the_control_asked_again_is_an_arm_of_its_own() -> None:
    assert PLAN.arms == (CONTROL, "candidate", REPEAT)
    assert PLAN.target(REPEAT) == PLAN.control
    with pytest.raises(KeyError):
        PLAN.target("nobody")


def test_an_upgrade_alone_does_not_change_a_stored_plan() -> None:
    """The file is byte-identical: what the older version did not know is not a change by anybody."""
    stored = plan_from_json(OLD % b"false")
    wanted = replace(stored, method="hybrid", max_pairs=300, auto_horizon=True, aa="alarm")
    later = replace(wanted, rules=2, min_hours=24.0, empty="failed", headers="model", independent=True)
    for now in (stored, wanted, later):
        assert stored.follows_from(now)
    first = replace(wanted, rules=1)
    assert first.follows_from(later)
    assert not later.follows_from(replace(later, margin=0.1))
    assert not first.follows_from(replace(later, margin=0.1))
