"""gateway.yaml: what is read, and that every mistake is named at once."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gateway.config.environment import environment, key_of
from gateway.config.loading import Config, Upstream, data_directory, keys_in_environment, load, parse
from gateway.core.errors import ConfigError
from gateway.core.providers import VENDORS

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
GOOD = f"""
keys: [{{name: web, sha256: "{DIGEST}", models: [chat]}}]
upstreams:
  local: {{kind: vllm, base_url: "http://127.0.0.1:8001/v1/"}}
  openai: {{kind: openai, api_key: "${{OPENAI_API_KEY}}"}}
models:
  chat:
    targets: [{{upstream: local, model: smollm2, weight: 9}}, {{upstream: openai, model: gpt-x}}]
    fallback: [{{upstream: openai, model: gpt-x}}]
experiments:
  swap:
    model: chat
    control: {{upstream: openai, model: gpt-x}}
    candidate: {{upstream: local, model: smollm2}}
    shadow: 0.2
    allow: {{keys: [web]}}
scorers: {{valid_json: {{}}, politeness: {{use: "mine:Politeness", strict: true}}}}
"""


def mistakes(text: str, environ: dict[str, str] | None = None) -> list[str]:
    """Without the file's name, which stands before each."""
    with pytest.raises(ConfigError) as caught:
        parse(dedent(text), "f.yaml", {"OPENAI_API_KEY": "sk"} if environ is None else environ)
    assert all(m.startswith("f.yaml: ") for m in caught.value.mistakes)
    return [m.removeprefix("f.yaml: ") for m in caught.value.mistakes]


def read(text: str = GOOD, **environ: str) -> Config:
    return parse(text, environ={"OPENAI_API_KEY": "sk", **environ})


def test_what_is_left_out_comes_from_the_row_of_the_vendor() -> None:
    config = read()
    local, openai = config.upstreams["local"], config.upstreams["openai"]
    assert openai.url == "https://api.openai.com/v1"
    assert local.url == "http://127.0.0.1:8001/v1"
    assert (openai.api_key, local.api_key) == ("sk", None)
    assert (openai.wire, local.continues_prefill, openai.continues_prefill) == ("http1", True, False)
    assert [t.weight for t in config.models["chat"].targets] == [9, 1]


def test_a_fallback_makes_a_cut_answer_go_on_elsewhere() -> None:
    config = read()
    assert config.models["chat"].cut == "continue"
    assert parse("upstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}").models["m"].cut == (
        "error"
    )


def test_a_scorer_keeps_the_options_that_only_it_knows() -> None:
    scorers = read().scorers
    assert scorers["politeness"].options == {"strict": True}
    assert scorers["valid_json"].options == {}


def test_the_summary_says_what_a_file_holds() -> None:
    assert read().summary() == (
        "2 upstreams, 1 model, 1 key, 2 scorers, 1 experiment (swap: shadow on 20%); 10% of traffic sampled. Ready."
    )


def test_an_upstream_that_is_run_here_has_the_place_that_up_tells() -> None:
    text = (
        "upstreams: {l: {kind: llamacpp, run: {engine: llamacpp}}}\nmodels: {m: {targets: [{upstream: l, model: m}]}}"
    )
    told = environment({"l": "http://127.0.0.1:5/v1", "gone": "http://127.0.0.1:6/v1"}, DIGEST)
    config = parse(text, environ=told)
    assert config.upstreams["l"].url == "http://127.0.0.1:5/v1"
    assert [(k.name, k.sha256) for k in config.keys] == [("up", DIGEST)]
    assert parse(text, environ={}).upstreams["l"].url == "http://127.0.0.1:8080/v1"
    assert parse(text, environ={}).keys == ()


def test_up_tells_no_key_to_a_file_that_has_its_own_or_is_open() -> None:
    told = environment({}, "0" * 64) | {"OPENAI_API_KEY": "sk"}
    assert [k.name for k in parse(GOOD, environ=told).keys] == ["web"]
    open_file = "open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}"
    assert parse(open_file, environ=told).keys == ()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        # unknown keys, at every depth
        (("\nmodels:", "\nmodells: {}\nmodels:"), 'modells: unknown key; did you mean "models"?'),
        (("base_url:", "base_ur:"), 'upstreams.local.base_ur: unknown key; did you mean "base_url"?'),
        (("weight: 9", "wieght: 9"), 'models.chat.targets[0].wieght: unknown key; did you mean "weight"?'),
        (("shadow: 0.2", "shadoww: 0.2"), 'experiments.swap.shadoww: unknown key; did you mean "shadow"?'),
        (("name: web", "nmae: x, name: web"), 'keys[0].nmae: unknown key; did you mean "name"?'),
        (("\nmodels:", "\nzzz: 1\nmodels:"), "zzz: unknown key"),
        # values
        (("weight: 9", "weight: half"), "models.chat.targets[0].weight: expected a number, got 'half'"),
        (("weight: 9", "weight: '9'"), "models.chat.targets[0].weight: expected a number, got '9'"),
        (("weight: 9", "weight: true"), "models.chat.targets[0].weight: expected a number, got True"),
        (("weight: 9", "weight: 0"), "models.chat.targets[0].weight: input should be greater than 0, got 0"),
        (("shadow: 0.2", "shadow: 2"), "experiments.swap.shadow: input should be less than or equal to 1, got 2"),
        ((DIGEST, "abc"), "keys[0].sha256: expected the SHA-256 of a key: 64 hexadecimal digits in lower case"),
        (("http://127.0.0.1:8001/v1/", "127.0.0.1:8001"), "upstreams.local.base_url: expected http://… or https://…"),
        (("\nmodels:", "\nsampling: {rate: 0.0001}\nmodels:"), "sampling: rate 0.0001 is below pi_min 0.001"),
        (
            ("\nmodels:", "\nstream: {url: 'http://x'}\nmodels:"),
            "stream.url: expected redis://…, rediss://… or unix://…",
        ),
        # names that mean nothing
        (("kind: vllm", "kind: vlm"), 'upstreams.local.kind: no kind "vlm"; did you mean "vllm"?'),
        (("kind: vllm", "kind: azzure"), 'upstreams.local.kind: no kind "azzure"; did you mean "azure"?'),
        (("[{upstream: local,", "[{upstream: locl,"), 'targets[0].upstream: no upstream "locl"; did you mean "local"?'),
        (("models: [chat]", "models: [chta]"), 'keys[0].models[0]: no model "chta"; did you mean "chat"?'),
        (("model: chat", "model: chst"), 'experiments.swap.model: no model "chst"; did you mean "chat"?'),
        (("keys: [web]", "keys: [wbe]"), 'experiments.swap.allow.keys[0]: no key "wbe"; did you mean "web"?'),
        (("\nmodels:", "\npassthrough: opnai\nmodels:"), 'passthrough: no upstream "opnai"; did you mean "openai"?'),
        (
            ("control: {upstream: openai, model: gpt-x}", "control: {upstream: openai, model: gpt-y}"),
            "experiments.swap.control: openai/gpt-y is no target of models.chat",
        ),
        # what is missing
        (("kind: vllm, ", "kind: llamacpp, run: {}, "), "upstreams.local.run.engine: missing"),
        (
            ("kind: vllm, ", "kind: vllm, run: {engine: llamacpp}, "),
            "upstreams.local.run.engine: a vllm upstream cannot be run by llamacpp",
        ),
        (("kind: vllm, ", "kind: vllm, run: {engine: vllm}, "), "upstreams.local.run: model: missing; vllm runs"),
        (
            ("kind: vllm, ", "kind: llamacpp, run: {engine: llamacpp, args: [-c]}, "),
            "upstreams.local.run: args are for a program of yours",
        ),
        (("{kind: vllm, ", "{"), "upstreams.local.kind: missing; it must be given"),
        (
            ('kind: vllm, base_url: "http://127.0.0.1:8001/v1/"', "kind: azure"),
            "upstreams.local.base_url: missing; a az",
        ),
    ],
)
def test_a_mistake_is_named_with_its_path_and_what_was_meant(change: tuple[str, str], expected: str) -> None:
    before, after = change
    assert before in GOOD
    found = mistakes(GOOD.replace(before, after, 1))
    assert any(expected in m for m in found), found
    assert len(found) == 1, found


def test_all_mistakes_are_named_at_once() -> None:
    assert mistakes(
        """
        keys: [{name: a, sha256: "${MISSING}"}, {name: a, sha256: "x"}]
        upstreams: {local: {kind: vllm, base_ur: x}}
        models: {chat: {targets: [{upstream: locl, model: m, weight: half}]}}
        """
    ) == [
        "keys[0].sha256: $MISSING is not set. Set it, or remove what names it",
        'keys[1].name: "a" stands twice',
        "keys[1].sha256: expected the SHA-256 of a key: 64 hexadecimal digits in lower case",
        'models.chat.targets[0].upstream: no upstream "locl"; did you mean "local"?',
        "models.chat.targets[0].weight: expected a number, got 'half'",
        'upstreams.local.base_ur: unknown key; did you mean "base_url"?',
    ]


def test_a_missing_variable_is_named_and_no_secret_is_shown() -> None:
    assert mistakes(GOOD, {}) == [
        "upstreams.openai.api_key: $OPENAI_API_KEY is not set. Set it, or remove what names it"
    ]
    text = GOOD.replace('api_key: "${OPENAI_API_KEY}"', "api_key: [sk-secret]")
    assert "sk-secret" not in "".join(mistakes(text))
    text = GOOD + "stream: {url: 'http://u:sk-secret@x'}"
    assert "sk-secret" not in "".join(mistakes(text))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "expected sections such as models and upstreams, got NoneType"),
        ("- a", "expected sections such as models and upstreams, got list"),
        ("a: [", "not YAML: "),
        ("models: {}\nmodels: {}", "not YAML: 'models' stands twice"),
        ("upstreams: 3\nmodels: x", "models: "),
        ("upstreams: {}\nmodels: {}", "models: "),
        ("models: {chat: {targets: []}}\nupstreams: {a: {kind: fake}}", "models.chat.targets: tuple should have at l"),
    ],
)
def test_what_is_no_config_at_all_is_said_so(text: str, expected: str) -> None:
    assert any(m.startswith(expected) for m in mistakes(text)), mistakes(text)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read: No such file"):
        load(tmp_path / "gone.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"a: \xff")
    with pytest.raises(ConfigError, match=r"latin\.yaml: not UTF-8 text"):
        load(tmp_path / "latin.yaml")


def test_the_data_directory_is_given_or_named_or_the_usual_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_DATA", raising=False)
    assert data_directory(None) == Path(".gateway")
    monkeypatch.setenv("GATEWAY_DATA", "/srv/gw")
    assert data_directory(None) == Path("/srv/gw")
    assert data_directory(Path("d")) == Path("d")


def test_vendors_are_found_by_their_usual_key(monkeypatch: pytest.MonkeyPatch) -> None:
    for vendor in VENDORS.values():
        if vendor.key_env:
            monkeypatch.delenv(vendor.key_env, raising=False)
    assert keys_in_environment() == []
    monkeypatch.setenv("MISTRAL_API_KEY", "m")
    monkeypatch.setenv("AZURE_OPENAI_API_KEY", "a")  # its place cannot be known
    assert [v.kind for v in keys_in_environment()] == ["mistral"]
    assert key_of(VENDORS["mistral"]) == "m"
    assert key_of(VENDORS["vllm"]) == ""


def test_on_and_off_are_words_as_in_yaml_1_2() -> None:
    text = """
upstreams: {u: {kind: openai}}
models:
  m: {targets: [{upstream: u, model: a}], fallback: [{upstream: u, model: b, on: [timeout]}], on_cut: off}
"""
    model = parse(text, environ={}).models["m"]
    assert model.on_cut == "off"
    assert model.fallback[0].on == ("timeout",)


def test_how_each_upstream_is_reached_is_said_without_a_proxys_password() -> None:
    ways = {
        "lean": {},
        "two": {"http2": True},
        "out": {"proxy": "http://me:secret@proxy.example:3128", "http2": True},
        "chosen": {"transport": "httpx"},
    }
    upstreams = {name: Upstream(kind="openai", **way) for name, way in ways.items()}  # type: ignore[arg-type]
    config = Config.model_construct(upstreams=upstreams)
    said = "lean http1; two httpx (HTTP/2); out httpx (HTTP/2, by proxy.example:3128); chosen httpx"
    assert config.carried() == f"transports: {said}"


def test_the_lean_transport_takes_no_proxy_in_silence() -> None:
    for way in ({"proxy": "http://proxy.example"}, {"http2": True}):
        with pytest.raises(ValueError, match="http1 knows neither HTTP/2 nor a proxy"):
            Upstream(kind="openai", transport="http1", **way)  # type: ignore[arg-type]
