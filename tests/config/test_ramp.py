"""The section `ramp` of an experiment: its defaults, its freeze windows, its mistakes, the plan that it makes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.config.checks import cross_section_mistakes
from gateway.config.config import Config
from gateway.config.derive import paces_of, plans_of
from gateway.config.ramp import RampConfig, freeze_window
from gateway.core.plan import plan_from_json
from gateway.core.ramp import FreezeWindow

BASE: dict[str, Any] = {
    "model": "chat",
    "control": {"upstream": "a", "model": "m"},
    "candidate": {"upstream": "b", "model": "n"},
    "primary": "error_rate",
}


def raw(**changes: Any) -> dict[str, Any]:
    return {
        "open": True,
        "upstreams": {n: {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"} for n in ("a", "b")},
        "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
        "experiments": {"swap": {**BASE, **changes}},
    }


def test_an_empty_section_is_a_careful_ramp() -> None:
    config = Config.model_validate(raw(ramp={}))
    plan = plans_of(config)["swap"]
    assert plan.ramp is not None
    assert (plan.ramp.steps, plan.ramp.soak_s) == ((0.01, 0.05, 0.25, 0.5, 1.0), 3600.0)
    assert (plan.mode, plan.split, plan.unit, plan.shadow) == ("both", 0.0, "conversation", 0.1)
    assert paces_of(config)["swap"].mode == "advise"


def test_a_plan_with_a_ramp_survives_json() -> None:
    plan = plans_of(Config.model_validate(raw(ramp={"largest_exposure": {"requests": 500}})))["swap"]
    assert plan_from_json(plan.to_json()) == plan
    assert plan_from_json(plan.to_json()).hash == plan.hash


def test_pace_is_no_part_of_the_plan_and_steps_are() -> None:
    one, paced, other = (
        plans_of(Config.model_validate(raw(ramp=section)))["swap"].hash
        for section in ({}, {"mode": "auto", "cooldown_s": 5, "freeze": ["Sat 00:00 - Mon 00:00"]}, {"soak_s": 60})
    )
    assert one == paced != other


def test_a_plan_without_a_ramp_keeps_its_hash() -> None:
    plan = plans_of(Config.model_validate(raw()))["swap"]
    assert "ramp" not in plan.fields()
    assert replace(plan, ramp=RampConfig().design).hash != plan.hash


@pytest.mark.parametrize(
    ("text", "window"),
    [
        ("Fri 16:00 - Mon 08:00", FreezeWindow(403_200.0, 28_800.0, weekly=True)),
        ("friday 16:00 - sat 0:30", FreezeWindow(403_200.0, 433_800.0, weekly=True)),
        ("2026-12-20T00:00Z - 2026-12-21T01:00+01:00", FreezeWindow(1_797_724_800.0, 1_797_811_200.0)),
    ],
)
def test_a_freeze_window_is_weekly_or_of_two_times(text: str, window: FreezeWindow) -> None:
    assert freeze_window(text) == window


@pytest.mark.parametrize("text", ["Fri 16:00", "Fri 16:00 - Fri 16:00", "Foo 16:00 - Mon 08:00", "now - later"])
def test_a_freeze_window_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValidationError, match="expected"):
        RampConfig.model_validate({"freeze": [text]})


@pytest.mark.parametrize(
    ("changes", "mistake"),
    [
        ({"mode": "shadow"}, "experiments.swap.mode: a ramp has shadows"),
        ({"split": 0.3}, "experiments.swap.split: has no effect with `ramp`"),
        ({"primary": None}, "set `primary`"),
        ({"record": 0.5}, "experiments.swap.record: 0.5, but a ramp counts every answer"),
        ({"primary": "feedback:thumb"}, "experiments.swap.ramp.largest_exposure: feedback is given on served answers"),
        ({"max_pairs": 500}, "experiments.swap.max_pairs: has no effect with `ramp`"),
        (
            {"candidate": None, "candidates": {n: {"upstream": "b", "model": n} for n in "xy"}},
            "experiments.swap.ramp: there are 2 candidates, and a ramp has one",
        ),
    ],
)
def test_what_a_ramp_contradicts_is_a_mistake(changes: dict[str, Any], mistake: str) -> None:
    found = raw(ramp={}, **changes)
    section = {name: value for name, value in found["experiments"]["swap"].items() if value is not None}
    found["experiments"]["swap"] = section
    assert any(mistake in each for each in cross_section_mistakes(found)), list(cross_section_mistakes(found))
    assert not list(cross_section_mistakes(raw(ramp={}, mode="both")))


def test_steps_end_with_all_traffic() -> None:
    with pytest.raises(ValidationError, match=r"expected rising shares above 0 that end at 1\.0"):
        RampConfig.model_validate({"steps": [0.1, 0.5]})
