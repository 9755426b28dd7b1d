"""A plan is the same in every process, and any change of what decides its result is another plan."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.exchange import Target
from gateway.core.plan import CONTROL, REPEAT, Guardrail, Plan, plan_from_json

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


def test_the_control_asked_again_is_an_arm_of_its_own() -> None:
    assert PLAN.arms == (CONTROL, "candidate", REPEAT)
    assert PLAN.target(REPEAT) == PLAN.control
    with pytest.raises(KeyError):
        PLAN.target("nobody")
