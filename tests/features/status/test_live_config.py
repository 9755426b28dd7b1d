"""The config as the page shows it: every value has its source, and no secret is in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.loading import parse
from gateway.config.made_experiments import MadeExperiments, file_text
from gateway.features.status.live_config import HIDDEN, ConfigValue, live_config, shown

TEXT = """
keys: [{name: web, sha256: "%s"}]
upstreams:
  a:
    {kind: vllm, base_url: "http://user:hunter2@127.0.0.1:1/v1", api_key: "sk-literal", headers: {x-tenant: "t-secret"}}
  b: {kind: openai, api_key: "${SOME_KEY}"}
models: {chat: {targets: [{upstream: a, model: m}], fallback: [{upstream: b, model: n, on: [error]}]}}
stream: {url: "redis://u:hunter2@127.0.0.1:6379/0"}
admin: {tokens: [{name: ada, sha256: "%s", role: owner}]}
sampling: {rate: 0.25}
""" % ("a" * 64, "b" * 64)  # noqa: UP031
SECRETS = ("hunter2", "sk-literal", "sk-from-outside", "t-secret", "a" * 64, "b" * 64)


def values(made: MadeExperiments | None = None) -> dict[str, ConfigValue]:
    config = parse(TEXT, "gateway.yaml", {"SOME_KEY": "sk-from-outside"})
    found = live_config(TEXT, "gateway.yaml", made or MadeExperiments(Path("gateway.experiments.yaml")), config)
    return {value.path: value for section in found for value in section.values}


def test_every_value_says_where_it_comes_from() -> None:
    found = values()
    assert found["sampling.rate"] == ConfigValue("sampling.rate", "0.25", "gateway.yaml")
    assert found["sampling.unit"] == ConfigValue("sampling.unit", "request", "default")
    assert found["upstreams.b.api_key"].value == "$SOME_KEY"
    assert found["upstreams.b.api_key"].source == "environment, by gateway.yaml"
    assert found["models.chat.fallback[0].on[0]"].value == "error"


def test_no_secret_is_shown() -> None:
    found = values()
    said = " ".join(f"{each.path} {each.value}" for each in found.values())
    assert not [secret for secret in SECRETS if secret in said]
    assert found["upstreams.a.api_key"].value == HIDDEN
    assert found["upstreams.a.headers.x-tenant"].value == HIDDEN
    assert found["upstreams.a.base_url"].value == "http://…@127.0.0.1:1/v1"


def test_experiments_of_the_console_name_their_file() -> None:
    section = {
        "model": "chat",
        "control": {"upstream": "a", "model": "m"},
        "candidate": {"upstream": "a", "model": "o"},
    }
    found = values(MadeExperiments(Path("gateway.experiments.yaml"), file_text({"swap": section})))
    assert found["experiments.swap.model"].source == "gateway.experiments.yaml"


@pytest.mark.parametrize("text", ["", "a: [", "- x"])
def test_a_text_that_cannot_be_read_still_shows_what_is_in_force(text: str) -> None:
    config = parse(TEXT, "gateway.yaml", {"SOME_KEY": "x"})
    found = live_config(text, "gateway.yaml", MadeExperiments(Path("x")), config)
    assert "sampling" in {section.name for section in found}


@given(st.text(alphabet=st.characters(blacklist_categories=("Cs",), blacklist_characters="@/?#[]: \\"), min_size=6))
def test_a_password_in_a_url_is_never_shown(password: str) -> None:
    assert password not in shown(f"redis://me:{password}@localhost:6379/0")
