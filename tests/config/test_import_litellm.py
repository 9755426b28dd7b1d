"""A LiteLLM config becomes a gateway.yaml that is valid and routes alike; what has no equal has a line of its own."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args

import pytest
import yaml
from fixtures.litellm_files import BEDROCK, CLOUD, CLOUDS, TIERS
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

import gateway
from gateway.config.config import Config
from gateway.config.import_litellm import (
    ImportedConfig,
    from_litellm,
    read_litellm,
    remaining_mistakes,
    summary,
    to_yaml,
    variables_in,
)
from gateway.config.loading import parse
from gateway.core.errors import ConfigError

TODAY = date(2026, 11, 26)
TABLES = Path(gateway.__file__).parent


def imported(text: str) -> ImportedConfig:
    return from_litellm(yaml.safe_load(text), TODAY)


def config_of(done: ImportedConfig) -> Config:
    text = to_yaml(done, "config.yaml")
    return parse(text, environ=dict.fromkeys(variables_in(yaml.safe_load(text)), "value"))


def noted(done: ImportedConfig) -> dict[str, str]:
    return {note.path: f"{note.loss}: {note.text}" for note in done.notes}


def test_deployments_of_one_name_become_targets_with_their_weights() -> None:
    config = config_of(imported(CLOUD))
    large = config.models["large"]
    assert [(t.upstream, t.model, t.weight) for t in large.targets] == [
        ("res-eu", "large-eu", 600.0),
        ("res-us", "large-us", 300.0),
    ]
    assert large.strategy == "weighted"
    assert config.models["gpt-4"] == large
    eu = config.upstreams["res-eu"]
    assert (eu.kind, eu.base_url, eu.api_version) == ("azure", "https://res-eu.openai.azure.com", "2024-10-21")


def test_a_name_without_a_prefix_is_of_litellms_default_provider() -> None:
    done = imported(CLOUD)
    assert done.sections["upstreams"]["openai"] == {
        "kind": "openai",
        "api_key": "${OPENAI_API_KEY}",
        "headers": {"OpenAI-Organization": "org-7"},
    }
    assert done.sections["models"]["embed"]["targets"] == [{"upstream": "openai-2", "model": "text-embedding-3-small"}]


def test_fallbacks_follow_each_other_and_keep_their_causes() -> None:
    config = config_of(imported(CLOUD))
    by_target = {f.model: f.on for f in config.models["large"].fallback}
    assert by_target == {
        "gpt-4o-mini": ("error", "timeout", "rate_limit"),
        "claude-x": ("error", "timeout", "rate_limit"),
    }
    small = {f.model: f.on for f in config.models["small"].fallback}
    assert small["large-eu"] == small["large-us"] == ("context_length",)
    assert small["claude-x"] == ("error", "timeout", "rate_limit")


def test_retries_timeouts_and_prices_are_converted() -> None:
    config = config_of(imported(CLOUD))
    assert config.models["large"].retries.attempts == 4, "LiteLLM counts retries, the gateway attempts"
    assert config.models["large"].timeouts.answer_s == 60
    claude = config.models["claude"].timeouts
    assert (claude.answer_s, claude.total_s) == (700, 700)
    assert config.prices is not None
    price = config.prices.models["res-eu/large-eu"]
    assert (price.input, price.output, config.prices.as_of) == (2.5, 10.0, TODAY)


def test_parameters_of_a_deployment_become_the_variant_of_its_target() -> None:
    config = config_of(imported(CLOUD))
    [target] = config.models["claude"].targets
    assert target.set == {"temperature": 0.2}
    assert [f.set for f in config.models["small"].fallback if f.model == "claude-x"] == [{"temperature": 0.2}]


def test_settings_without_an_equivalent_are_noted_with_their_path() -> None:
    notes = noted(imported(CLOUD))
    assert notes["model_list[0].litellm_params.rpm"].startswith("changed: ")
    assert notes["model_list[4].litellm_params.temperature"].startswith("changed: became `set`")
    assert notes["litellm_settings.drop_params"].startswith("changed: ")
    assert notes["litellm_settings.callbacks"].startswith(("lost: langfuse", "changed: prometheus"))
    assert notes["general_settings.database_url"].startswith(
        "changed: --database-url takes over its keys, teams, people"
    )
    assert "MASTER" in notes["general_settings.master_key"], "nobody but its owner knows the digest"


def test_the_master_key_becomes_a_key_for_callers() -> None:
    done = imported(CLOUD.replace("os.environ/MASTER", "sk-1"))
    assert done.sections["keys"] == [{"name": "master", "sha256": sha256(b"sk-1").hexdigest()}]
    assert "sk-1" not in to_yaml(done, "config.yaml")


def test_a_higher_order_is_a_fallback_and_defaults_hold_for_all() -> None:
    config = config_of(imported(TIERS))
    mid = config.models["mid"]
    assert [t.model for t in mid.targets] == ["org/mid"]
    assert [f.model for f in mid.fallback] == ["mid-70b", "big"]
    assert [f.model for f in config.models["tiny"].fallback] == ["big"]
    assert config.models["big"].fallback == ()
    assert mid.strategy == "least_in_flight"
    assert config.upstreams["ollama"].base_url == "http://127.0.0.1:11434/v1"
    assert config.upstreams["vllm"].api_key is None
    breaker = config.upstreams["groq"].breaker
    assert (breaker.failures, breaker.open_s, breaker.max_open_s) == (3, 60, 60)


def test_bedrocks_models_are_asked_where_their_api_is_spoken() -> None:
    """Converse is used where LiteLLM uses it, with the same model, region and credentials."""
    done = imported(BEDROCK)
    notes, upstreams = noted(done), done.sections["upstreams"]
    assert "its InvokeModel is not spoken here" in notes["model_list[5].litellm_params.model"]
    assert "see whether it is served there" in notes["model_list[4].litellm_params.model"]
    assert [f"model_list[{i}].litellm_params.model" in notes for i in range(6)] == [*[False] * 4, True, True]
    models = config_of(done).models
    found = {n: models[n].targets[0] for n in ("titan", "nova", "claude", "oss", "invoked")}
    assert {n: target.model for n, target in found.items()} == {
        "titan": "amazon.titan-text",
        "nova": "us.amazon.nova-pro-v1:0",
        "claude": "us.anthropic.claude-sonnet-4-5-20250929-v1:0",
        "oss": "openai.gpt-oss-120b",
        "invoked": "anthropic.claude-haiku-4-5-20251001",
    }
    assert upstreams[found["claude"].upstream] == {
        "kind": "bedrock_converse",
        "base_url": "https://bedrock-runtime.eu-west-1.amazonaws.com",
        "auth": {"kind": "sigv4", "region": "eu-west-1", "role_arn": "arn:aws:iam::1:role/gateway"},
    }
    assert upstreams[found["nova"].upstream]["base_url"] == "https://bedrock-runtime.${AWS_REGION}.amazonaws.com"
    assert upstreams[found["oss"].upstream]["auth"]["secret_access_key"] == "${SK}"
    assert upstreams[found["invoked"].upstream] == {
        "kind": "anthropic",
        "base_url": "https://bedrock-mantle.eu-west-1.api.aws/anthropic/v1",
        "auth": {"kind": "sigv4", "region": "eu-west-1", "service": "bedrock-mantle"},
    }


ARN = "arn:aws:bedrock:eu-west-1:1:application-inference-profile/x"
RUNTIME = "https://bedrock-runtime.us-west-2.amazonaws.com"


@pytest.mark.parametrize(
    ("params", "model", "base_url"),
    [
        ({"model": f"bedrock/converse/{ARN}"}, ARN, RUNTIME),
        ({"model": "bedrock_converse/x.y"}, "x.y", RUNTIME),
        ({"model": "bedrock/us-east-1/meta.llama3-8b"}, "meta.llama3-8b", RUNTIME),
        ({"model": "bedrock/us-gov-east-1/meta.llama3-8b", "aws_region_name": None}, "meta.llama3-8b",
         "https://bedrock-runtime.us-gov-east-1.amazonaws.com"),
        ({"model": "bedrock/qwen.x", "aws_bedrock_runtime_endpoint": "https://vpce.example/"}, "qwen.x",
         "https://vpce.example"),
        ({"model": "bedrock/converse_like/meta.llama3-8b", "api_base": "os.environ/BASE"}, "meta.llama3-8b", "${BASE}"),
        ({"model": "bedrock/amazon.nova-canvas-v1:0"}, None, None),
        ({"model": "bedrock/cohere.embed-english-v3"}, None, None),
        ({"model": "bedrock/invoke/meta.llama3-8b"}, None, None),
    ],
)  # fmt: skip
def test_each_form_of_a_bedrock_model(params: dict[str, Any], model: str | None, base_url: str | None) -> None:
    entry = {"model_name": "m", "litellm_params": {"aws_region_name": "us-west-2", **params}}
    done = from_litellm({"model_list": [entry]}, TODAY)
    upstreams = done.sections["upstreams"]
    if model is None:
        assert (done.translated, upstreams) == (0, {})
        return
    (target,) = done.sections["models"]["m"]["targets"]
    assert target["model"] == model
    assert (upstreams["bedrock_converse"]["kind"], upstreams["bedrock_converse"]["base_url"]) == (
        "bedrock_converse",
        base_url,
    )
    assert done.notes == []


def test_tokens_of_google_and_entra_take_the_place_of_keys() -> None:
    done = imported(CLOUDS)
    config, notes = config_of(done), noted(done)
    assert "only Gemini is served" in notes["model_list[1].litellm_params.model"]
    vertex = config.upstreams["vertex"]
    base = "https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/endpoints/openapi"
    assert vertex.base_url == base
    assert vertex.auth is not None
    assert vertex.auth.credentials_file == "/run/sa.json"
    assert config.models["gemini/*"].targets[0].model == "google/gemini-*"
    large, small = (config.upstreams[config.models[n].targets[0].upstream] for n in ("large", "small"))
    assert large.auth is not None
    assert (large.auth.kind, large.auth.tenant_id, large.auth.client_secret) == ("entra", "t", "value")
    assert small.auth is not None
    assert (small.auth.tenant_id, small.api_key) == (None, None), "Azure's usual order"


def test_wildcards_become_aliases_with_a_star() -> None:
    done = imported(CLOUDS)
    models, notes = config_of(done).models, noted(done)
    assert models["openai/*"].targets[0].model == "*"
    assert "each provider has its own entry" in notes["model_list[5]"]
    assert [f.model for f in models["large"].fallback] == ["gpt-5"], "a name that only the wildcard serves"
    assert "a wildcard follows only a wildcard" in notes["litellm_settings.fallbacks"]
    assert models["small"].fallback == ()


@pytest.mark.parametrize(
    ("name", "text", "share"),
    [("cloud", CLOUD, 1.0), ("bedrock", BEDROCK, 5 / 6), ("tiers", TIERS, 1.0), ("clouds", CLOUDS, 4 / 6)],
)
def test_the_share_that_is_translated(name: str, text: str, share: float, capsys: pytest.CaptureFixture[str]) -> None:
    done = imported(text)
    with capsys.disabled():
        print(f"\n{name}: {summary(done)}")  # noqa: T201
    assert done.translated / done.deployments == share
    assert remaining_mistakes(to_yaml(done, "config.yaml")) == ()


def test_equal_settings_are_one_upstream_and_two_providers_are_two() -> None:
    entries = [
        {
            "model_name": f"m{i}",
            "litellm_params": {"model": f"openai/m{i}", "api_base": base, "api_key": "os.environ/K"},
        }
        for i, base in enumerate(("http://one.example/v1", "http://two.example/v1", "http://one.example/v1"))
    ]
    done = from_litellm({"model_list": entries}, TODAY)
    assert list(done.sections["upstreams"]) == ["openai", "two"]
    assert [done.sections["models"][f"m{i}"]["targets"][0]["upstream"] for i in range(3)] == ["openai", "two", "openai"]


def test_a_key_in_the_file_is_kept_and_pointed_out() -> None:
    entry = {"model_name": "m", "litellm_params": {"model": "openai/m", "api_key": "sk-plain"}}
    done = from_litellm({"model_list": [entry]}, TODAY)
    assert done.sections["upstreams"]["openai"]["api_key"] == "sk-plain"
    assert "is in the config itself" in noted(done)["model_list[0].litellm_params.api_key"]


@pytest.mark.parametrize(
    ("text", "message"),
    [("a: [", "not YAML"), ("upstreams: {}", "no `model_list`"), ("- 1", "no `model_list`")],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_litellm(path)


WORDS = st.sampled_from(
    ["gpt-4", "openai/a", "azure/b", "ollama/c", "bedrock/d", "x/y", "*", "", "claude", "os.environ/K"]
)
VALUES = st.one_of(st.none(), st.booleans(), st.integers(-5, 999), st.floats(-2, 99), WORDS)
PARAMS = st.dictionaries(
    st.sampled_from(
        [
            "model",
            "api_base",
            "api_key",
            "rpm",
            "tpm",
            "weight",
            "order",
            "timeout",
            "max_parallel_requests",
            "headers",
            "temperature",
            "input_cost_per_token",
            "output_cost_per_token",
        ]
    ),
    st.one_of(VALUES, st.just("http://h.example/v1"), st.dictionaries(WORDS, VALUES, max_size=2)),
)
ENTRIES = st.one_of(
    VALUES,
    st.fixed_dictionaries(
        {"model_name": WORDS, "litellm_params": st.one_of(PARAMS, VALUES)}, optional={"model_info": PARAMS}
    ),
)
STRATEGIES = st.sampled_from(["simple-shuffle", "least-busy", "cost-based-routing", "usage-based-routing-v2"])
CHAINS = st.lists(st.dictionaries(WORDS, st.one_of(VALUES, st.lists(WORDS, max_size=3)), max_size=2), max_size=3)
FILES = st.fixed_dictionaries(
    {"model_list": st.lists(ENTRIES, max_size=5)},
    optional={
        "router_settings": st.one_of(
            VALUES,
            st.fixed_dictionaries(
                {},
                optional={
                    "fallbacks": st.one_of(CHAINS, VALUES),
                    "context_window_fallbacks": CHAINS,
                    "model_group_alias": st.dictionaries(WORDS, st.one_of(WORDS, st.dictionaries(WORDS, WORDS))),
                    "num_retries": VALUES,
                    "cooldown_time": VALUES,
                    "routing_strategy": st.one_of(WORDS, STRATEGIES),
                },
            ),
        ),
        "general_settings": st.one_of(VALUES, st.dictionaries(WORDS, VALUES, max_size=2)),
        "callbacks": VALUES,
    },
)


@given(FILES)
def test_any_file_is_translated_or_noted(raw: dict[str, Any]) -> None:
    done = from_litellm(raw, TODAY)
    assert done.deployments == len(raw["model_list"])
    lost = {note.path.partition("]")[0] for note in done.notes if note.path.startswith("model_list[")}
    assert done.deployments - done.translated <= len(lost), "an entry without a target has a line"
    yaml.safe_load(to_yaml(done, "config.yaml"))


CHAINS = """
model_list:
  - {model_name: chat, litellm_params: {model: openai/a}}
  - {model_name: own, litellm_params: {model: openai/b}}
  - {model_name: spare, litellm_params: {model: openai/c}}
  - {model_name: last, litellm_params: {model: openai/d}}
litellm_settings: {default_fallbacks: [last], fallbacks: [{"*": [spare]}, {chat: [own]}],
                   turn_off_message_logging: true}
"""


def test_a_models_own_fallbacks_come_before_those_of_every_model() -> None:
    config = config_of(imported(CHAINS))
    assert [t.model for t in config.models["chat"].fallback] == ["b", "c", "d"]
    assert [t.model for t in config.models["own"].fallback] == ["c", "d"]


def test_logging_that_was_off_stays_off() -> None:
    """Prompts of a proxy that stored none would otherwise be stored in clear."""
    done = imported(CHAINS)
    assert config_of(done).redaction.default == "metadata"
    assert "redaction.default" in noted(done)["litellm_settings.turn_off_message_logging"]


MIXED = """
model_list:
  - {model_name: m, litellm_params: {model: openai/a, weight: 3, timeout: 5, max_retries: 2, guardrails: [pii]}}
  - {model_name: m, litellm_params: {model: openai/b}, model_info: {mode: realtime}}
  - {model_name: named, litellm_params: {model: openai/c, litellm_credential_name: shared}}
  - {model_name: unnamed, litellm_params: {model: openai/d, litellm_credential_name: absent}}
credential_list:
  - {credential_name: shared, credential_values: {api_key: os.environ/SHARED, api_base: "https://proxy.example/v1"}}
router_settings: {model_group_alias: {secret: {model: m, hidden: true}}}
general_settings: {allowed_ips: ["10.0.0.1"], enable_jwt_auth: true, max_parallel_requests: 5, max_request_size_mb: 3,
                   global_max_parallel_requests: 9, pass_through_endpoints: []}
"""
EQUIVALENTS = {
    "model_list[1].litellm_params": "m: b weighs 0, and others more: it gets no call while they work",
    "model_list[0].litellm_params.timeout": "5 s holds for the whole model",
    "model_list[0].litellm_params.max_retries": "retries.attempts",
    "model_list[0].litellm_params.guardrails": "until `guards` has it",
    "model_list[1].model_info.mode": "realtime",
    "model_list[3].litellm_params.litellm_credential_name": "absent",
    "router_settings.model_group_alias.secret.hidden": "keys[].models",
    "general_settings.allowed_ips": "`networks`",
    "general_settings.enable_jwt_auth": "`jwt`",
    "general_settings.max_parallel_requests": "concurrency",
    "general_settings.global_max_parallel_requests": "concurrency",
    "general_settings.max_request_size_mb": "limits.max_body_mb",
    "general_settings.pass_through_endpoints": "`passthrough`",
}


def test_each_setting_without_an_equal_names_what_is_near() -> None:
    notes = noted(imported(MIXED))
    for path, text in EQUIVALENTS.items():
        assert text in notes.get(path, ""), path


LIMITED = """
model_list:
  - {model_name: m, litellm_params: {model: openai/a, rpm: 600, tpm: 90000, max_parallel_requests: 8}}
  - {model_name: m, litellm_params: {model: openai/a, rpm: 100}}
  - {model_name: m, litellm_params: {model: openai/b, order: 1}}
  - {model_name: n, litellm_params: {model: openai/a, rpm: 0, weight: 2}}
  - {model_name: n, litellm_params: {model: openai/b, weight: "3", tags: [eu]}}
general_settings: {alerting: [slack], background_health_checks: true}
litellm_settings: {max_end_user_budget: 5, allowed_fails: 2, guardrails: []}
router_settings: {enable_tag_filtering: true, unheard_of: 1}
"""


def test_rates_of_a_deployment_are_limits_of_its_own_upstream() -> None:
    """Two deployments of one address and key have two limits, and one without limits has neither."""
    done = imported(LIMITED)
    config = config_of(done)
    upstreams = [config.upstreams[t.upstream] for t in config.models["m"].fallback]
    assert [(u.limits.requests_per_minute, u.limits.tokens_per_minute) for u in upstreams if u.limits] == [
        (600, 90000), (100, None),
    ]  # fmt: skip
    assert [u.concurrency for u in upstreams] == [8, None]
    assert [t.upstream for t in config.models["m"].targets] == ["openai-3"], "the order of one is before none of others"
    assert config.upstreams["openai-3"].limits is None
    notes = noted(done)
    assert "`limits.tokens_per_minute` of its own upstream" in notes["model_list[0].litellm_params.tpm"]
    assert notes["model_list[3].litellm_params.rpm"] == "lost: 0: expected a number of at least 1"


def test_each_line_names_what_there_is() -> None:
    notes = noted(imported(LIMITED))
    for path, text in {
        "general_settings.alerting": "set `notify`",
        "general_settings.background_health_checks": "`upstreams.NAME.health`",
        "litellm_settings.max_end_user_budget": "`limits.per_user`",
        "litellm_settings.allowed_fails": "breaker.failures",
        "litellm_settings.guardrails": "until `guards` has it",
        "router_settings.enable_tag_filtering": "`tags` sums usage",
        "router_settings.unheard_of": "not translated; docs/configuration.md lists",
        "model_list[4].litellm_params.weight": "'3' is not a number, with which LiteLLM's router fails; counted as 3",
        "model_list[4].litellm_params.tags": "no target is chosen by tags here",
    }.items():
        assert text in notes.get(path, ""), path
    assert config_of(imported(LIMITED)).upstreams["openai"].breaker.failures == 3


def names_of(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[str]:
    """The names of all settings below a section."""
    for name, field in () if model in seen else model.model_fields.items():
        seen.add(model)
        yield field.alias or name
        for inner in sections_in(field.annotation):
            yield from names_of(inner, seen)


def sections_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for each in get_args(annotation):
        yield from sections_in(each)


SETTING = re.compile(r"[a-z_]+(?:\[\])?(?:\.[A-Za-z_]+(?:\[\])?)*")
VALUES_AND_MEMBERS = {"session", "prefix", "metadata", "user", "model_info"}


def test_every_setting_that_a_line_names_exists() -> None:
    """A line that sends its reader to a setting which is not there would be worse than none."""
    known = {*names_of(Config, set()), *VALUES_AND_MEMBERS, "NAME"}
    tables = (TABLES / "config" / "import_litellm.toml", TABLES / "features" / "litellm" / "litellm.toml")
    lines = [line for path in tables for line in path.read_text().splitlines() if not line.startswith("#")]
    named = [each for line in lines for each in re.findall(r"`([^`]+)`", line)]
    settings = [each.partition(":")[0] for each in named if SETTING.fullmatch(each.partition(":")[0])]
    assert len(settings) > 60
    unknown = {each for each in settings if not {part.removesuffix("[]") for part in each.split(".")} <= known}
    assert unknown == set()


def test_credentials_are_followed_by_their_name() -> None:
    done = imported(MIXED)
    [target] = done.sections["models"]["named"]["targets"]
    upstream = done.sections["upstreams"][target["upstream"]]
    assert (upstream["api_key"], upstream["base_url"]) == ("${SHARED}", "https://proxy.example/v1")
    assert "credential_list" not in noted(done)
