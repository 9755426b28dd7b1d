"""The gateway.yaml that `gateway up` writes: valid, without secrets, whatever servers call their models."""

from __future__ import annotations

import hashlib

from hypothesis import given
from hypothesis import strategies as st

from gateway.config.config import Config
from gateway.config.loading import parse
from gateway.core.providers import PROVIDERS
from gateway.up.discovery import DiscoveredUpstream
from gateway.up.starter_config import MAX_MODELS, gateway_yaml, names, needs_local, offers

DIGEST = hashlib.sha256(b"key").hexdigest()
KEYS = {v.key_env: "sk-secret" for v in PROVIDERS.values() if v.key_env}


def written(*found: DiscoveredUpstream) -> tuple[Config, str]:
    text = gateway_yaml(found, DIGEST, ".gateway/key")
    return parse(text, environ=KEYS), text


def test_nothing_found_is_a_local_model_that_up_runs() -> None:
    config, _ = written()
    upstream = config.upstreams["local"]
    assert (upstream.kind, upstream.run and upstream.run.model) == ("llamacpp", "smollm2")
    assert [t.upstream for t in config.models["smollm2"].targets] == ["local"]
    assert config.sampling.rate == 1.0
    assert set(config.scorers) == set(
        ["valid_json", "json_schema", "tool_calls", "refusal", "repetition", "truncation", "length", "latency"]
    )
    assert [(k.name, k.sha256) for k in config.keys] == [("up", DIGEST)]


def test_a_server_and_a_provider_are_written_with_their_models() -> None:
    config, text = written(
        DiscoveredUpstream(PROVIDERS["vllm"], 8001, ("org/m",)),
        DiscoveredUpstream(PROVIDERS["openai"], models=("gpt-x",)),
    )
    assert config.upstreams["vllm"].url == "http://127.0.0.1:8001/v1"
    assert config.upstreams["openai"].api_key == "sk-secret"
    assert 'api_key: "${OPENAI_API_KEY}"' in text
    assert "sk-secret" not in text
    assert list(config.models) == ["org/m", "gpt-x"]


def test_a_kind_that_stands_twice_is_named_by_its_port() -> None:
    found = [
        DiscoveredUpstream(PROVIDERS["vllm"], 8000, ("a",)),
        DiscoveredUpstream(PROVIDERS["vllm"], 8001, ("a",)),
        DiscoveredUpstream(PROVIDERS["ollama"], 1),
    ]
    assert names(found) == ["vllm-8000", "vllm-8001", "ollama"]
    config, _ = written(*found)
    assert [t.upstream for t in config.models["a"].targets] == ["vllm-8000"]
    assert [t.upstream for t in config.models["vllm-8001/a"].targets] == ["vllm-8001"]


def test_a_provider_without_a_model_list_gets_no_alias() -> None:
    found = DiscoveredUpstream(PROVIDERS["anthropic"], trouble="HTTP 401\nmodels: {}")
    assert needs_local([found])
    config, text = written(found)
    assert list(config.upstreams) == ["anthropic", "local"]
    assert list(config.models) == ["smollm2"]
    assert "# anthropic did not list its models (HTTP 401 models: {})" in text


def test_a_server_that_asks_for_a_key_is_left_as_a_comment() -> None:
    config, text = written(DiscoveredUpstream(PROVIDERS["openai"], 8000, trouble="it requires a key"))
    assert list(config.upstreams) == ["local"]
    assert '# openai: {kind: openai, base_url: "http://127.0.0.1:8000/v1", api_key: "${NAME}"}' in text


def test_only_chat_models_get_aliases_and_long_lists_are_cut() -> None:
    listed = ("gpt-x", "text-embedding-3", "whisper-1", "gpt-x", *(f"m{i}" for i in range(30)))
    found = DiscoveredUpstream(PROVIDERS["openai"], models=listed)
    assert offers(found)[:2] == ["gpt-x", "m0"]
    config, text = written(found)
    assert len(config.models) == MAX_MODELS
    assert f"openai has {31 - MAX_MODELS} more" in text


@given(st.lists(st.lists(st.text(max_size=30), max_size=4), max_size=3))
def test_whatever_servers_call_their_models_the_file_is_valid(listed: list[list[str]]) -> None:
    found = [DiscoveredUpstream(PROVIDERS["vllm"], 8000 + i, tuple(models)) for i, models in enumerate(listed)]
    config, _ = written(*found)
    known = {(name, model) for name, f in zip(names(found), found, strict=True) for model in f.models}
    targets = {(t.upstream, t.model) for m in config.models.values() for t in m.targets}
    assert targets <= known | {("local", "smollm2")}


@given(
    st.sampled_from(
        ["yes", "no", "null", "1", "1e3", "~", "'", "- a", "#", "a: b", "!!x", "&a", "*a", "[a", "é", "日本"]
    )
)
def test_names_that_mean_something_to_yaml_stay_names(name: str) -> None:
    config, _ = written(DiscoveredUpstream(PROVIDERS["vllm"], 8001, (name, "other")))
    assert set(config.models) == {n for n in (name, "other") if " " not in n and "*" not in n and n.isascii()}
