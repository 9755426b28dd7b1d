"""Names become targets, rows become requests, and the hash is of all that decides an answer."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.core.exchange import Target
from gateway.features.replay.datasets.datasets import item_of
from gateway.features.replay.design import (
    ReplayDesign,
    ReplayTarget,
    RequestSettings,
    TargetError,
    body,
    resolve_targets,
    setting,
)

CONFIG = """
open: true
upstreams:
  local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}
  claude: {kind: anthropic, api_key: secret-of-mine}
models:
  chat: {targets: [{upstream: local, model: small}], fallback: [{upstream: claude, model: big}]}
  fast: {targets: [{upstream: local, model: small}]}
"""


@pytest.fixture
def config() -> Config:
    """The parsed CONFIG."""
    return parse(CONFIG)


ITEM = item_of({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]}, 1).item


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
    config = parse(f"{CONFIG}  fixed: {{targets: [{fixed}]}}\n")
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


def test_a_target_may_have_settings_of_its_own(config: Config) -> None:
    words = ["fast", "fast,temperature=0,system=Be brief, please.", 'local/other, stop=["a","b"],top_p=null']
    plain, brief, other = resolve_targets(words, config, own=True)
    assert (plain.name, plain.base, plain.alias) == ("fast", "fast", "fast")
    assert brief.name.startswith("fast[temperature=0,system=#")
    assert (brief.alias, brief.fields, brief.system) == ("fast", (("temperature", 0),), "Be brief, please.")
    assert (other.base, other.fields) == ("local/other", (("stop", ["a", "b"]), ("top_p", None)))
    settings = RequestSettings((("temperature", 1), ("top_p", 0.5)), system="all")
    made = [body(ITEM, target, settings, 1) for target in (plain, brief, other)]
    assert [m["temperature"] for m in made] == [1, 0, 1]
    assert [m.get("top_p") for m in made] == [0.5, 0.5, None]
    assert [m["messages"][0]["content"] for m in made] == ["all", "Be brief, please.", "all"]
    assert ReplayDesign("d", (plain,), settings).hash != ReplayDesign("d", (brief,), settings).hash


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
    varied = parse(CONFIG.replace(plain, "{upstream: local, model: small, set: {temperature: 0}}]}\n"))
    [one], [other] = (resolve_targets(["fast"], each, own=False) for each in (config, varied))
    assert one.definition != other.definition
    assert one.definition == "d7123814d7f7", "as before there were variants"
    retiring = parse(CONFIG.replace(plain, "{upstream: local, model: small, retires: 2027-01-14}]}\n"))
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


def test_each_repeat_has_the_next_seed_if_upstreams_accept_it() -> None:
    seeded, not_seeded = ReplayTarget("a", "a", seeded=True), ReplayTarget("b", "b")
    assert [body(ITEM, seeded, RequestSettings(seed=7), repeat)["seed"] for repeat in (1, 2, 3)] == [7, 8, 9]
    assert "seed" not in body(ITEM, not_seeded, RequestSettings(), 1)
    assert "seed" not in body(ITEM, seeded, RequestSettings(seed=None), 1)
    own = item_of({"messages": [{"role": "user", "content": "q"}], "seed": 40}, 1).item
    assert body(own, seeded, RequestSettings(), 2)["seed"] == 41


def test_settings_and_the_system_message_replace_a_rows_own() -> None:
    made = body(ITEM, ReplayTarget("a", "alias"), RequestSettings((("temperature", 0),), system="be short"), 1)
    assert made["model"] == "alias"
    assert made["temperature"] == 0
    assert made["messages"] == [{"role": "system", "content": "be short"}, {"role": "user", "content": "q"}]
    responses = item_of({"request": {"input": "x"}, "api": "responses"}, 1).item
    assert body(responses, ReplayTarget("a", "a"), RequestSettings(system="s"), 1)["instructions"] == "s"


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


def test_the_hash_covers_all_that_determines_an_answer(config: Config) -> None:
    targets = resolve_targets(["chat", "fast"], config, own=False)
    base = ReplayDesign("d", targets, RequestSettings())
    assert base.hash == ReplayDesign("d", targets[::-1], RequestSettings()).hash
    elsewhere = resolve_targets(["chat", "fast"], parse(CONFIG.replace("127.0.0.1:1", "127.0.0.1:2")), own=False)
    other = [
        ReplayDesign("e", targets, RequestSettings()),
        ReplayDesign("d", targets[:1], RequestSettings()),
        ReplayDesign("d", targets, RequestSettings(seed=1)),
        ReplayDesign("d", targets, RequestSettings((("top_p", 1),))),
        ReplayDesign("d", elsewhere, RequestSettings()),
    ]
    assert len({base.hash, *(d.hash for d in other)}) == 6
    rotated = resolve_targets(["chat", "fast"], parse(CONFIG.replace("secret-of-mine", "another")), own=False)
    assert ReplayDesign("d", rotated, RequestSettings()).hash == base.hash
    assert "secret" not in base.json
