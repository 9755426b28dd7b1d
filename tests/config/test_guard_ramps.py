"""The section `guards.NAME.ramp`: its mistakes, and what ends a ramp when the guard changes."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.config import Config
from gateway.config.guard_ramps import GUARD_STEPS, GuardRampConfig
from gateway.config.loading import parse
from gateway.core.errors import ConfigError
from gateway.core.ramp import RampPace

pytestmark = pytest.mark.quick


def config(ramp: dict[str, Any] | None = None, scorers: dict[str, Any] | None = None, **guard: Any) -> Config:
    own = {"on": "request", "scorer": "prompt_injection", **guard}
    text = {
        "open": True,
        "upstreams": {"a": {"kind": "fake"}},
        "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}]}},
        "scorers": scorers or {},
        "guards": {"own": {**own, **({} if ramp is None else {"ramp": ramp})}},
    }
    return parse(yaml.safe_dump(text))


@pytest.mark.parametrize(
    ("ramp", "message"),
    [
        ({"steps": [0.25, 0.05, 1]}, "rising shares above 0"),
        ({"steps": [0.05]}, "end at 1.0"),
        ({"to": "observe"}, "'flag', 'redact' or 'block'"),
        ({"max_block_rate": 0}, "max_block_rate"),
        ({"retries": 0}, "retries"),
        ({"alpha": 0.5}, "alpha"),
        ({"freeze": ["Friday"]}, "expected FROM - TO"),
        ({"step": [1]}, 'did you mean "steps"'),
    ],
)
def test_a_mistake_is_named(ramp: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config(ramp)
    assert "guards.own.ramp" in str(caught.value)
    assert message in str(caught.value)


def test_a_ramp_to_redact_needs_a_rule_with_places() -> None:
    with pytest.raises(ConfigError, match="action redact needs a rule that knows where it matches"):
        config({"to": "redact"}, scorer="length", max_chars=9)


def test_a_design_takes_the_config_or_the_command() -> None:
    found = config({"retries": None, "max_block_rate": 0.1})
    design = found.guards["own"].ramp_design(found.scorers)
    assert (design.to, design.before, design.steps) == ("block", "observe", GUARD_STEPS)
    assert (design.max_block_rate, design.retries, design.thumbs_down) == (0.1, None, 0.02)
    other = found.guards["own"].ramp_design(found.scorers, "flag", (0.5, 1.0))
    assert (other.to, other.steps) == ("flag", (0.5, 1.0))
    assert GuardRampConfig(mode="advise", stale_s=60).pace == RampPace("advise", 3600.0, 60.0)


CHANGES: list[tuple[dict[str, Any], bool]] = [
    ({"threshold": 0.9}, True),
    ({"if_late": "block"}, True),
    ({"models": ["chat"]}, True),
    ({"on": "answer"}, True),
    ({"scorers": {"own_scorer": {"use": "contains", "words": ["b"]}}}, True),
    ({"text": "No, {id}."}, False),
    ({"deadline_ms": 50}, False),
    ({"ramp": {"max_block_rate": 0.5}}, False),
]


@pytest.mark.parametrize(("change", "ends"), CHANGES)
def test_a_change_of_what_is_a_hit_ends_a_ramp(change: dict[str, Any], ends: bool) -> None:
    plain: dict[str, Any] = {"scorer": "length", "max_chars": 9}
    if "scorers" in change:
        plain = {"scorer": "own_scorer", "scorers": {"own_scorer": {"use": "contains", "words": ["a"]}}}
    before, after = config(**plain), config(**{**plain, **change})
    hashes = [each.guards["own"].judged_hash(each.scorers) for each in (before, after)]
    assert (hashes[0] != hashes[1]) == ends
