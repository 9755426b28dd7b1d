"""Reading a whole gateway.yaml: every mistake is reported in one run, and no secret is shown."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from gateway.config.environment import data_directory
from gateway.config.loading import GATEWAY_ONLY, load, load_for_consumer, parse
from gateway.core.errors import ConfigError

GOOD = """
upstreams: {openai: {kind: openai, api_key: "${OPENAI_API_KEY}"}}
models: {chat: {targets: [{upstream: openai, model: gpt-x}]}}
"""


def mistakes(text: str, environ: dict[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(dedent(text), "f.yaml", environ)
    return list(caught.value.mistakes)


def test_all_mistakes_are_reported_at_once() -> None:
    text = """
        keys: [{name: a, sha256: "${MISSING}"}, {name: a, sha256: "x", sample: never}]
        upstreams: {local: {kind: vllm, base_ur: x}}
        models: {chat: {targets: [{upstream: locl, model: m, weight: half}]}}
        """
    assert mistakes(text, {}) == [
        "f.yaml: keys[0].sha256: $MISSING is not set. Set it, or remove the value that uses it",
        'f.yaml: keys[1].name: another key has the name "a" and other settings; while a key is replaced, the old and '
        "the new one may have one name, but then everything but sha256 must agree",
        "f.yaml: keys[1].sha256: expected the SHA-256 of a key: 64 hexadecimal digits in lower case",
        'f.yaml: models.chat.targets[0].upstream: no upstream "locl"; did you mean "local"?',
        "f.yaml: models.chat.targets[0].weight: expected a number, got 'half'",
        'f.yaml: upstreams.local.base_ur: unknown key; did you mean "base_url"?',
    ]


def test_only_the_variable_is_reported_when_it_is_not_set() -> None:
    assert mistakes(GOOD, {}) == [
        "f.yaml: upstreams.openai.api_key: $OPENAI_API_KEY is not set. Set it, or remove the value that uses it"
    ]


@pytest.mark.parametrize(
    "text",
    [
        GOOD.replace('"${OPENAI_API_KEY}"', "[sk-secret]"),
        GOOD + "stream: {url: 'http://u:sk-secret@x'}",
        GOOD.replace("kind: openai,", "kind: openai, headers: {x: [sk-secret]},"),
        GOOD + "stream: {password: 12345678}",
        GOOD + "stream: {sentinel_password: 12345678}",
        GOOD + "stream: {username: 12345678}",
        GOOD.replace('"${OPENAI_API_KEY}"', "12345678"),
        GOOD + "metrics: {sha256: 12345678}",
        GOOD + "stream: {url: 12345678}",
    ],
)
def test_no_secret_is_shown_in_a_mistake(text: str) -> None:
    """A number too: a password in digits is not a string for YAML."""
    found = "".join(mistakes(text, {"OPENAI_API_KEY": "sk"}))
    assert "sk-secret" not in found
    assert "12345678" not in found


def test_a_scorer_keeps_the_options_that_only_it_knows() -> None:
    text = GOOD + 'scorers: {valid_json: {}, politeness: {use: "mine:Politeness", strict: true}}'
    scorers = parse(text, environ={"OPENAI_API_KEY": "sk"}).scorers
    assert scorers["politeness"].options == {"strict": True}
    assert scorers["valid_json"].options == {}


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone\.yaml: cannot be read: No such file"):
        load(tmp_path / "gone.yaml")


def test_the_data_directory_is_option_variable_or_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GATEWAY_DATA", raising=False)
    assert data_directory(None) == Path(".gateway")
    monkeypatch.setenv("GATEWAY_DATA", "/srv/gw")
    assert data_directory(None) == Path("/srv/gw")
    assert data_directory(Path("d")) == Path("d")


def test_a_key_and_its_successor_may_share_a_name() -> None:
    one, two = "a" * 64, "b" * 64
    keys = f'keys: [{{name: web, sha256: "{one}"}}, {{name: web, sha256: "{two}"}}]\n'
    config = parse(GOOD.replace("open: true", "") + keys, "f.yaml", {"OPENAI_API_KEY": "k"})
    assert [(k.name, k.sha256[0]) for k in config.keys] == [("web", "a"), ("web", "b")]


def test_a_truncated_file_is_reported_by_its_cause() -> None:
    """The two hundred keys whose models are gone are not listed."""
    keys = ", ".join(f'{{name: k{i}, sha256: "{i:064d}", models: [chat]}}' for i in range(200))
    assert mistakes(f"keys: [{keys}]\nupstreams: {{local: {{kind: vllm}}}}\n", {}) == [
        "f.yaml: models: missing; it is required"
    ]


def test_mistakes_of_a_list_are_in_its_order() -> None:
    keys = ", ".join(f'{{name: k{i}, sha256: "{i:064d}", models: [chart]}}' for i in range(12))
    found = mistakes(GOOD.replace("open: true", "") + f"keys: [{keys}]\n", {"OPENAI_API_KEY": "k"})
    assert [m.partition("]")[0] for m in found] == [f"f.yaml: keys[{i}" for i in range(12)]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("model_list: []", "this is the config of a LiteLLM proxy"),
        (
            'model_list: [{model_name: "openai/*", litellm_params: {model: "openai/*", api_key: os.environ/K}}]',
            '(1 entries of model_list, os.environ/NAME, wildcards such as "openai/*"); `gateway import litellm f.yaml',
        ),
        (
            "upstreams: {o: {kind: openai, api_key: os.environ/K}}\nmodels: {m: {targets: [{upstream: o, model: m}]}}",
            "write ${NAME}",
        ),
    ],
)
def test_keys_of_litellm_get_a_hint(text: str, hint: str) -> None:
    assert hint in "\n".join(mistakes(text, {}))


SECRETIVE = """
keys:
  - {name: a, sha256: "${A}", models: [chat]}
  - {name: b, sha256: "${file:/nowhere}"}
metrics: {sha256: "${M}"}
upstreams:
  openai: {kind: openai, api_key: "${K}", headers: {x-org: "${H}"}, proxy: "http://u:${P}@proxy:3128", ca_file: "${C}"}
  own: {kind: vllm, base_url: "http://x/v1", run: {engine: vllm, model: m, environ: {HF_TOKEN: "${T}"}, args: ["${R}"]}}
models: {chat: {targets: [{upstream: openai, model: gpt-x}]}}
experiments: {e: {model: chat, control: {upstream: openai, model: gpt-x}, candidate: {upstream: own, model: m},
  allow: {keys: [a]}}}
evals: {base_url: "http://g/v1", api_key: "${E}"}
store: {url: "${S}"}
"""


def test_a_consumer_needs_only_its_own_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "gateway.yaml"
    path.write_text(SECRETIVE)
    with pytest.raises(ConfigError) as caught:
        load_for_consumer(path)
    assert {m.split(": ")[1] for m in caught.value.mistakes} == {"evals.api_key", "store.url"}
    monkeypatch.setenv("E", "sk-evals")
    monkeypatch.setenv("S", "sqlite:////x.db")
    monkeypatch.setenv("K", "sk-not-for-consumers")
    config = load_for_consumer(path)
    assert (config.evals.api_key, config.store.url) == ("sk-evals", "sqlite:////x.db")
    assert "sk-not-for-consumers" not in repr(config)
    with pytest.raises(ConfigError, match=r"upstreams\.openai\.headers"):
        load(path)


def test_mistakes_next_to_secrets_are_still_reported() -> None:
    text = SECRETIVE.replace("kind: openai", "kind: opnai").replace("keys: [a]", "keys: [c]")
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml", {"E": "x", "S": "sqlite:////x.db"}, GATEWAY_ONLY)
    assert {m.split(": ")[1] for m in caught.value.mistakes} == {"upstreams.openai.kind", "experiments.e.allow.keys[0]"}
