"""Guards as candidates: the target that stands for one, the defaults of its experiment, and what does not fit it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.derive import plans_of
from gateway.config.guard_candidates import guard_candidate
from gateway.config.loading import parse
from gateway.core.plan import plan_from_json

BASE: dict[str, Any] = {
    "open": True,
    "upstreams": {"u": {"kind": "openai", "api_key": "sk"}},
    "models": {
        "chat": {"targets": [{"upstream": "u", "model": "m"}]},
        "other": {"targets": [{"upstream": "u", "model": "n"}]},
    },
    "scorers": {"helpful": {"use": "refusal"}},
    "guards": {"own": {"on": "answer", "scorer": "secrets"}, "asked": {"on": "request", "scorer": "prompt_injection"}},
}
EXPERIMENT: dict[str, Any] = {
    "model": "chat",
    "control": {"upstream": "u", "model": "m"},
    "candidate": {"guard": "own"},
    "primary": "helpful",
    "margin": 0.01,
}


def config_of(guards: dict[str, Any] | None = None, **changes: Any) -> Any:
    experiment = {name: value for name, value in {**EXPERIMENT, **changes}.items() if value is not None}
    merged = {name: {**guard, **(guards or {}).get(name, {})} for name, guard in BASE["guards"].items()}
    return parse(yaml.safe_dump({**BASE, "guards": merged, "experiments": {"e": experiment}}), "f.yaml", {})


def test_a_guard_is_a_candidate_for_which_nothing_is_sent() -> None:
    config = config_of()
    plan = plans_of(config)["e"]
    target = plan.target("candidate")
    assert plan.guarded
    assert str(target).startswith("guard/own[")
    assert (plan.mode, plan.shadow, plan.repeat_control, plan.method) == ("shadow", 1.0, 0.0, "guaranteed")
    assert plans_of(config_of(shadow=0.3))["e"].shadow == 0.3
    assert not plan.has_pace, "its pairs cost nothing"
    assert plan_from_json(plan.to_json()) == plan
    found = guard_candidate(config, target)
    assert found is not None
    assert (found.name, found.config_hash) == ("own", config.guards["own"].config_hash({}))


def test_several_guards_are_compared_with_the_answer_that_went_out() -> None:
    plan = plans_of(config_of(candidate=None, candidates={"a": {"guard": "own"}, "b": {"guard": "asked"}}))["e"]
    assert [str(target).partition("[")[0] for _, target in plan.candidates] == ["guard/own", "guard/asked"]
    assert all(target.variant for _, target in plan.candidates)


@pytest.mark.parametrize(
    "change",
    [
        {"scorer": "personal_data"},
        {"threshold": 0.9},
        {"if_late": "block"},
        {"deadline_ms": 5},
        {"text": "No."},
        {"models": ["chat"]},
    ],
)
def test_a_guard_that_refuses_otherwise_is_another_candidate(change: dict[str, Any]) -> None:
    before, after = (config_of({"own": of}) for of in ({}, change))
    plans = [plans_of(config)["e"] for config in (before, after)]
    assert plans[0].hash != plans[1].hash
    assert guard_candidate(after, plans[0].target("candidate")) is None


def test_a_plan_keeps_the_if_late_of_its_start() -> None:
    """Plans were begun when an unset `if_late` meant `pass`."""
    begun = plans_of(config_of({"own": {"if_late": "pass"}}))["e"].target("candidate")
    unset = config_of()
    found = guard_candidate(unset, begun)
    assert found is not None
    assert not found.guard.blocks_late("block")
    again = guard_candidate(unset, plans_of(unset)["e"].target("candidate"))
    assert again is not None
    assert again.guard.blocks_late("block"), "started again"
    assert guard_candidate(config_of({"own": {"if_late": "block"}}), begun) is None


def test_settings_that_change_no_refusal_keep_the_plan() -> None:
    before, after = (config_of({"own": of}) for of in ({}, {"record": 0.5, "action": "flag", "concurrency": 2}))
    assert plans_of(before)["e"].hash == plans_of(after)["e"].hash
