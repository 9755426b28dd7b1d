from __future__ import annotations

import pytest
from pydantic import ValidationError

from gateway.config.upstreams import EngineRun, TargetRef, Upstream


def test_defaults_come_from_the_kind() -> None:
    openai, local = Upstream(kind="openai"), Upstream(kind="vllm", base_url="http://127.0.0.1:8001/v1/")
    assert openai.url == "https://api.openai.com/v1"
    assert local.url == "http://127.0.0.1:8001/v1"
    assert (local.continues_prefill, openai.continues_prefill) == (True, False)
    assert (openai.requests_usage, Upstream(kind="mistral").requests_usage) == (True, False)


def test_explicit_settings_override_the_kind() -> None:
    changed = Upstream(kind="vllm", base_url="http://gpu:1/v1", prefill=False, stream_usage="never")
    assert (changed.url, changed.continues_prefill, changed.requests_usage) == ("http://gpu:1/v1", False, False)


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "http1"),
        ({"transport": "http1"}, "http1"),
        ({"transport": "httpx"}, "httpx"),
        ({"http2": True}, "httpx"),
        ({"proxy": "http://proxy.example"}, "http1"),
        ({"proxy": "http://proxy.example", "base_url": "http://far.example/v1"}, "httpx"),
        ({"proxy": "https://proxy.example"}, "httpx"),
        ({"proxy": "socks5://proxy.example"}, "httpx"),
        ({"proxy": "none"}, "http1"),
    ],
)
def test_http2_and_some_proxies_need_httpx(options: dict[str, object], name: str) -> None:
    assert Upstream.model_validate({"kind": "openai", **options}).transport_name == name


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"set": {"model": "x"}}, "own key `model`"),
        ({"set": {"n": 2}}, "as many choices as it asked for"),
        ({"set": {"stream": True}}, "as it asked for"),
        ({"set": {"messages": []}}, "what the client asks"),
        ({"set": {"system": "x"}}, "own key `system`"),
        ({"set": {"seed": 1}}, "independent"),
        ({"set": {"store": True}}, "a shadow would do it twice"),
        ({"set": {"tools": [{"type": "web_search"}]}}, "tools that the client runs"),
        ({"set": {"a b": 1}}, "pattern"),
        ({"system": ""}, "at least 1 character"),
        ({"headers": {"Authorization": "Bearer x"}}, "credentials belong to its upstream"),
        ({"headers": {"x-gateway-sample": "never"}}, "cannot be set"),
        ({"headers": {"x-a": "b\r\nc: d"}}, "not a valid header"),
    ],
)
def test_a_target_cannot_change_what_is_not_its_own(options: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        TargetRef.model_validate({"upstream": "u", "model": "m", **options})


def test_a_target_may_set_or_remove_any_other_parameter() -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    ref = TargetRef.model_validate(
        {"upstream": "u", "model": "m", "set": {"odd": {"a": [1]}, "stop": None, "tools": tools}}
    )
    assert (ref.varied, ref.set["stop"]) == (True, None)
    assert not TargetRef(upstream="u", model="m").varied


@pytest.mark.parametrize("options", [{"proxy": "socks5://proxy.example"}, {"http2": True}])
def test_http1_with_http2_or_a_proxy_that_it_cannot_use_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="http1 supports no HTTP/2, and of proxies only http:// ones"):
        Upstream.model_validate({"kind": "openai", "transport": "http1", **options})


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({}, "engine"),
        ({"engine": "ollama"}, "engine"),
        ({"engine": "vllm"}, "vllm needs a Hugging Face name or a folder, not the packaged smollm2"),
        ({"engine": "llamacpp", "args": ["-c"]}, r"args need a program that reads them; add command"),
        ({"engine": "llamacpp", "command": []}, "command"),
        ({"engine": "llamacpp", "name": "a b"}, "name"),
    ],
)
def test_a_run_that_cannot_start_an_engine_is_refused(section: dict[str, object], expected: str) -> None:
    with pytest.raises(ValidationError, match=expected):
        EngineRun.model_validate(section)


def test_an_engine_without_options_runs_the_packaged_model() -> None:
    assert EngineRun(engine="llamacpp").model == "smollm2"


@pytest.mark.parametrize("model", ["", "a b", "modèle", "x" * 301])
def test_a_target_model_is_printable_ascii_without_spaces(model: str) -> None:
    with pytest.raises(ValidationError, match="model"):
        TargetRef(upstream="u", model=model)


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"kind": "anthropic"}, "no Responses API of its own"),
        ({"responses": "chat"}, "no Responses API of its own"),
        ({"http2": True}, "does not go with http2"),
        ({"proxy": "socks5://proxy.example"}, "does not go with proxy"),
        ({"compress": "zstd"}, "does not go with compress"),
    ],
)
def test_websockets_to_a_server_that_cannot_have_them_are_refused(options: dict[str, object], why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        Upstream.model_validate({"kind": "openai", "websocket": True, **options})


def test_the_summary_of_a_transport_names_what_is_not_usual() -> None:
    assert Upstream(kind="openai").transport_summary() == "http1"
    assert Upstream(kind="openai", websocket=True).transport_summary() == "http1 (WebSocket)"
    far = Upstream(kind="openai", http2=True, proxy="http://user:pass@proxy.example:3128")
    assert far.transport_summary() == "httpx (HTTP/2, by proxy.example:3128)"
