"""Rows become requests, and the hash is of all that decides an answer."""

from __future__ import annotations

import pytest
from fixtures.target_config import TARGETS_CONFIG

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.features.replay.datasets.datasets import item_of
from gateway.features.replay.design import ReplayDesign, body
from gateway.features.targets import ReplayTarget, RequestSettings, resolve_targets


@pytest.fixture
def config() -> Config:
    """The parsed TARGETS_CONFIG."""
    return parse(TARGETS_CONFIG)


ITEM = item_of({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "q"}]}, 1).item


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


def test_the_hash_covers_all_that_determines_an_answer(config: Config) -> None:
    targets = resolve_targets(["chat", "fast"], config, own=False)
    base = ReplayDesign("d", targets, RequestSettings())
    assert base.hash == ReplayDesign("d", targets[::-1], RequestSettings()).hash
    elsewhere = resolve_targets(
        ["chat", "fast"], parse(TARGETS_CONFIG.replace("127.0.0.1:1", "127.0.0.1:2")), own=False
    )
    other = [
        ReplayDesign("e", targets, RequestSettings()),
        ReplayDesign("d", targets[:1], RequestSettings()),
        ReplayDesign("d", targets, RequestSettings(seed=1)),
        ReplayDesign("d", targets, RequestSettings((("top_p", 1),))),
        ReplayDesign("d", elsewhere, RequestSettings()),
    ]
    assert len({base.hash, *(d.hash for d in other)}) == 6
    rotated = resolve_targets(["chat", "fast"], parse(TARGETS_CONFIG.replace("secret-of-mine", "another")), own=False)
    assert ReplayDesign("d", rotated, RequestSettings()).hash == base.hash
    assert "secret" not in base.json
