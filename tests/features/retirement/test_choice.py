"""The target that a name means."""

from __future__ import annotations

import pytest
from fixtures.retirements import OLD, TODAY, config_of

from gateway.features.retirement.choice import ConfiguredTargets, replaceable

MODELS = {
    "chat": {"targets": [OLD, {**OLD, "model": "x"}]},
    "code": {"targets": [{"upstream": "mine", "model": "m"}], "fallback": [OLD]},
    "m": {"targets": [{"upstream": "mine", "model": "n"}, {"upstream": "mine", "model": "o"}]},
}


@pytest.fixture
def found() -> ConfiguredTargets:
    """The targets of MODELS."""
    return replaceable(config_of(models=MODELS), TODAY)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        (None, {"openai/gpt-4o-mini": ["chat", "code"]}),
        ("chat", {"openai/gpt-4o-mini": ["chat"]}),
        ("openai/gpt-4o-mini", {"openai/gpt-4o-mini": ["chat", "code"]}),
        ("gpt-4o-mini", {"openai/gpt-4o-mini": ["chat", "code"]}),
        ("code", {"mine/m": ["code"]}),
        ("m", {"mine/n": ["m"], "mine/o": ["m"]}),
        ("mine/m", {"mine/m": ["code"]}),
        ("x", {"openai/x": ["chat"]}),
        ("nothing", {}),
    ],
)
def test_a_name_is_an_alias_first(found: ConfiguredTargets, name: str | None, meant: dict[str, list[str]]) -> None:
    groups = found.named(name)
    assert {model: [each.alias for each in targets] for model, targets in groups.items()} == meant


def test_a_target_knows_its_days_and_successor(found: ConfiguredTargets) -> None:
    [[of]] = found.named("chat").values()
    assert (of.successor, of.days_left, of.name) == ("gpt-6-luna", 41, "openai/gpt-4o-mini")
    [[dateless]] = found.named("x").values()
    assert dateless.days_left is None
