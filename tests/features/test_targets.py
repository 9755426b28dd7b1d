"""Words become targets, with the settings that they name."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.target_config import TARGETS_CONFIG

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.core.exchange import Target
from gateway.features.targets import RequestSettings, TargetError, resolve_targets, setting


@pytest.fixture
def config() -> Config:
    """The parsed TARGETS_CONFIG."""
    return parse(TARGETS_CONFIG)


@pytest.mark.parametrize(
    ("word", "everywhere", "replaced"),
    [
        ("fixed", RequestSettings(), ()),
        ("fixed,top_p=0.5", RequestSettings(), ()),
        ("fixed,temperature=1", RequestSettings(), ("temperature",)),
        ("fixed,temperature=null", RequestSettings(), ("temperature",)),
        ("fixed,max_completion_tokens=9", RequestSettings(), ("max_tokens",)),
        ("fixed", RequestSettings((("temperature", 0),)), ("temperature",)),
        ("fixed", RequestSettings(system="s"), ("system",)),
    ],
)
def test_settings_of_an_alias_yield_to_the_replay(
    word: str, everywhere: RequestSettings, replaced: tuple[str, ...]
) -> None:
    fixed = "{upstream: local, model: small, set: {temperature: 0.2, max_tokens: 5}, system: x}"
    config = parse(f"{TARGETS_CONFIG}  fixed: {{targets: [{fixed}]}}\n")
    [target] = resolve_targets([word], config, own=True, settings=everywhere)
    [plain] = resolve_targets(["fixed"], config, own=True)
    assert target.replaces == replaced
    assert target.alias == ("replay-target-1" if replaced else "fixed")
    assert (target.definition != plain.definition) == bool(replaced), "answers of before are those of another replay"
    if replaced:
        with pytest.raises(TargetError, match="leave out --gateway"):
            resolve_targets([word], config, own=False, settings=everywhere)


def test_a_model_name_is_a_target(config: Config) -> None:
    fast, chat = resolve_targets(["fast", "chat"], config, own=False)
    assert (fast.alias, fast.headers, fast.seeded) == ("fast", {}, True)
    assert not chat.seeded, "its fallback takes no seed"


def test_upstream_and_model_force_that_target(config: Config) -> None:
    [running] = resolve_targets(["claude/big"], config, own=False)
    assert (running.alias, running.forced) == ("chat", Target("claude", "big"))
    assert running.headers == {"x-gateway-target": "claude/big"}
    [own] = resolve_targets(["claude/other"], config, own=True)
    assert (own.alias, own.extra, own.headers) == ("replay-target-1", True, {})


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["fast,temperature=0", "fast, temperature=0"], "named twice"),
        (["fast,model=x"], "model cannot be set"),
        (["fast,temperature=0", "gone,temperature=0"], "'gone' is not a target"),
    ],
)
def test_wrong_settings_of_a_target_are_reported(config: Config, words: list[str], why: str) -> None:
    with pytest.raises(TargetError, match=why):
        resolve_targets(words, config, own=True)


def test_a_variant_in_the_config_is_another_definition(config: Config) -> None:
    plain = "{upstream: local, model: small}]}\n"
    varied = parse(TARGETS_CONFIG.replace(plain, "{upstream: local, model: small, set: {temperature: 0}}]}\n"))
    [one], [other] = (resolve_targets(["fast"], each, own=False) for each in (config, varied))
    assert one.definition != other.definition
    assert one.definition == "d7123814d7f7", "as before there were variants"
    retiring = parse(TARGETS_CONFIG.replace(plain, "{upstream: local, model: small, retires: 2027-01-14}]}\n"))
    assert resolve_targets(["fast"], retiring, own=False)[0].definition == one.definition, "a date decides no answer"
    [forced] = resolve_targets(["local/small"], varied, own=False)
    assert forced.alias == "chat", "the other alias has it only in a variant"


def test_a_running_gateway_serves_only_targets_of_its_models(config: Config) -> None:
    with pytest.raises(TargetError, match=r"claude/other.*is not a target of any model in the config"):
        resolve_targets(["claude/other"], config, own=False)


def test_every_wrong_name_is_reported_with_a_suggestion(config: Config) -> None:
    with pytest.raises(TargetError) as error:
        resolve_targets(["chatt", "locla/small", "nothing", "fast", "fast"], config, own=True)
    assert str(error.value).splitlines() == [
        "--targets: 'fast' is named twice",
        "--targets: 'chatt' is not a target; did you mean \"chat\"?",
        "--targets: 'locla/small' is not a target; did you mean \"local/small\"?",
        "--targets: 'nothing' is not a target; expected one of chat, fast, local/MODEL, claude/MODEL",
    ]


@pytest.mark.parametrize(
    ("word", "value"),
    [("temperature=0", 0), ('stop=["a"]', ["a"]), ("reasoning_effort=low", "low"), ("x=a=b", "a=b"), ("x=", "")],
)
def test_a_setting_is_json_or_text(word: str, value: Any) -> None:
    assert setting(word) == (word.partition("=")[0], value)


@pytest.mark.parametrize("word", ["temperature", "=1", "model=x", "stream=true", "n=2"])
def test_members_that_the_replay_sets_are_refused(word: str) -> None:
    with pytest.raises(ValueError, match=r"NAME=VALUE|cannot be set"):
        setting(word)
