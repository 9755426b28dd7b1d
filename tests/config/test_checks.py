"""Every mistake is reported with its path and, where possible, with what was meant."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
import yaml

from gateway.config.derive import plans_of
from gateway.config.loading import parse
from gateway.core.errors import ConfigError
from gateway.core.plan import plan_from_json

DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
GOOD = f"""
keys: [{{name: web, sha256: "{DIGEST}", models: [chat]}}]
upstreams:
  local: {{kind: vllm, base_url: "http://127.0.0.1:8001/v1/"}}
  openai: {{kind: openai, api_key: sk}}
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
"""


def mistakes(text: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f.yaml", {})
    return [m.removeprefix("f.yaml: ") for m in caught.value.mistakes]


def after_models(line: str) -> tuple[str, str]:
    return "\nmodels:", f"\n{line}\nmodels:"


UNKNOWN_KEYS = [
    (after_models("modells: {}"), 'modells: unknown key; did you mean "models"?'),
    (("base_url:", "base_ur:"), 'upstreams.local.base_ur: unknown key; did you mean "base_url"?'),
    (("weight: 9", "wieght: 9"), 'models.chat.targets[0].wieght: unknown key; did you mean "weight"?'),
    (("shadow: 0.2", "shadoww: 0.2"), 'experiments.swap.shadoww: unknown key; did you mean "shadow"?'),
    (("name: web", "nmae: x, name: web"), 'keys[0].nmae: unknown key; did you mean "name"?'),
    (
        after_models("prices: {as_of: 2026-11-01, models: {a: {input: 1, output: 1, ouput: 1}}}"),
        'prices.models.a.ouput: unknown key; did you mean "output"?',
    ),
    (after_models("zzz: 1"), "zzz: unknown key"),
]
VALUES = [
    (("weight: 9", "weight: half"), "models.chat.targets[0].weight: expected a number, got 'half'"),
    (("weight: 9", "weight: '9'"), "models.chat.targets[0].weight: expected a number, got '9'"),
    (("weight: 9", "weight: true"), "models.chat.targets[0].weight: expected a number, got True"),
    (("weight: 9", "weight: 0"), "models.chat.targets[0].weight: input should be greater than 0, got 0"),
    (("shadow: 0.2", "shadow: 2"), "experiments.swap.shadow: input should be less than or equal to 1, got 2"),
    ((DIGEST, "abc"), "keys[0].sha256: expected the SHA-256 of a key: 64 hexadecimal digits in lower case"),
    (("http://127.0.0.1:8001/v1/", "127.0.0.1:8001"), "upstreams.local.base_url: expected http://… or https://…"),
    (after_models("sampling: {rate: 0.0001}"), "sampling: rate 0.0001 is below pi_min 0.001"),
    (after_models("stream: {url: 'http://x'}"), "stream.url: expected redis://…, rediss://… or unix://…"),
    (after_models("metrics: {bind: here}"), "metrics.bind: expected HOST:PORT"),
    (after_models("redaction: {rules: [emial]}"), "got 'emial'; did you mean \"email\"?"),
]
UNKNOWN_NAMES = [
    (after_models("defaults: {images: chta}"), 'defaults.images: no model "chta"; did you mean "chat"?'),
    (("kind: vllm", "kind: vlm"), 'upstreams.local.kind: no kind "vlm"; did you mean "vllm"?'),
    (("kind: vllm", "kind: azzure"), 'upstreams.local.kind: no kind "azzure"; did you mean "azure"?'),
    (("kind: vllm", "kind: zzz"), 'upstreams.local.kind: no kind "zzz"; known: openai, azure, '),
    (("[{upstream: local,", "[{upstream: locl,"), 'targets[0].upstream: no upstream "locl"; did you mean "local"?'),
    (("models: [chat]", "models: [chta]"), 'keys[0].models[0]: no model "chta"; did you mean "chat"?'),
    (("model: chat", "model: chst"), 'experiments.swap.model: no model "chst"; did you mean "chat"?'),
    (("keys: [web]", "keys: [wbe]"), 'experiments.swap.allow.keys[0]: no key "wbe"; did you mean "web"?'),
    (after_models("passthrough: opnai"), 'passthrough: no upstream "opnai"; did you mean "openai"?'),
    (after_models("passthrough: {gemini: opnai}"), 'passthrough.gemini: no upstream "opnai"; did you mean "openai"?'),
    (
        after_models("passthrough: {gemini: openai}"),
        'passthrough.gemini: the upstream "openai" is of kind openai; expected gemini_native',
    ),
    (
        after_models("passthrough: {bedrock: local}"),
        'passthrough.bedrock: the upstream "local" is of kind vllm; expected bedrock_converse or bedrock_anthropic',
    ),
    (
        ("control: {upstream: openai, model: gpt-x}", "control: {upstream: openai, model: gpt-y}"),
        "experiments.swap.control: openai/gpt-y is not a target of models.chat",
    ),
]
MISSING = [
    (("kind: vllm, ", "kind: llamacpp, run: {}, "), "upstreams.local.run.engine: missing"),
    (
        ("kind: vllm, ", "kind: vllm, run: {engine: llamacpp}, "),
        "upstreams.local.run.engine: llamacpp cannot run an upstream of kind vllm",
    ),
    (("kind: vllm, ", "kind: vllm, run: {engine: vllm}, "), "upstreams.local.run: model: missing; vllm needs"),
    (("{kind: vllm, ", "{"), "upstreams.local.kind: missing; it is required"),
    (('kind: vllm, base_url: "http://127.0.0.1:8001/v1/"', "kind: azure"), "upstreams.local.base_url: missing; azure"),
]


@pytest.mark.parametrize(("change", "expected"), [*UNKNOWN_KEYS, *VALUES, *UNKNOWN_NAMES, *MISSING])
def test_one_mistake_is_reported_once_with_its_path(change: tuple[str, str], expected: str) -> None:
    before, after = change
    assert before in GOOD
    found = mistakes(GOOD.replace(before, after, 1))
    assert any(expected in m for m in found), found
    assert len(found) == 1, found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("upstreams: 3\nmodels: x", "models: "),
        ("upstreams: {}\nmodels: {}", "models: "),
        ("models: {chat: {targets: []}}\nupstreams: {a: {kind: fake}}", "models.chat.targets: tuple should have at l"),
    ],
)
def test_sections_of_the_wrong_shape_are_reported(text: str, expected: str) -> None:
    assert any(m.startswith(expected) for m in mistakes(text)), mistakes(text)


def test_a_key_for_evals_must_not_be_sampled() -> None:
    digest = hashlib.sha256(b"sk-evals").hexdigest()
    text = f"""
upstreams: {{local: {{kind: fake}}}}
models: {{chat: {{targets: [{{upstream: local, model: small}}]}}}}
keys: [{{name: web, sha256: "{digest}"}}]
evals: {{base_url: "http://127.0.0.1:8000/v1", api_key: sk-evals}}
"""
    (found,) = mistakes(text)
    assert found.startswith('evals.api_key: the traffic of key "web" is sampled, so judges would judge their own calls')
    assert parse(text.replace(f'"{digest}"', f'"{digest}", sample: never'), environ={}).evals.api_key == "sk-evals"
    assert parse(text.replace("api_key: sk-evals", "api_key: other"), environ={}).evals.api_key == "other"


SWAP: dict[str, Any] = {
    "model": "chat",
    "control": {"upstream": "a", "model": "m"},
    "candidate": {"upstream": "b", "model": "n"},
}


def with_experiments(**experiments: Any) -> str:
    return yaml.safe_dump(
        {
            "keys": [{"name": "web", "sha256": "0" * 64}],
            "upstreams": {"a": {"kind": "fake"}, "b": {"kind": "fake"}, "c": {"kind": "anthropic", "api_key": "k"}},
            "models": {"chat": {"targets": [{"upstream": "a", "model": "m"}], "timeouts": {"total_s": 60}}},
            "scorers": {"refusal": {}, "run_loops": {}, "done": {"use": "judge", "model": "chat", "unit": "run"}},
            "experiments": experiments,
        }
    )


EXPERIMENTS: list[tuple[dict[str, Any], str]] = [
    ({"model": "chatt"}, 'swap.model: no model "chatt"; did you mean "chat"?'),
    ({"control": {"upstream": "a", "model": "other"}}, "swap.control: a/other is not a target of models.chat"),
    ({"primary": "feedback:thumb"}, "swap.primary: people rate only answers that they are served"),
    ({"mode": "both", "primary": "feedback:thumb"}, "swap.primary: people rate only answers that they are served"),
    ({"guardrails": {"feedback:a b": 0.1}, "mode": "split"}, 'swap.guardrails.feedback:a b: "feedback:a b": the name'),
    ({"feedback_window_s": 60}, "swap.feedback_window_s: has no effect, as no feedback is the primary or a guardrail"),
    (
        {"control": {"upstream": "a", "model": "m", "set": {"temperature": 0}}},
        "swap.control: a/m is a target of models.chat with other `set`, `system` or `headers`",
    ),
    (
        {"candidate": {"upstream": "b", "model": "n", "system": "S"}, "allow": {"apis": ["completions"]}},
        "swap.allow.apis: completions have no system message, and arm candidate sets one",
    ),
    ({"candidate": {"upstream": "bb", "model": "n"}}, 'swap.candidate.upstream: no upstream "bb"'),
    ({"candidate": None}, "swap.candidate: give one candidate, or several"),
    ({"candidates": {"x": {"upstream": "b", "model": "n"}}}, "swap.candidate: give one candidate, or several"),
    (
        {"candidate": None, "candidates": {"control": {"upstream": "b", "model": "n"}}},
        'swap.candidates.control: "control" is the name of the control\'s own arm',
    ),
    ({"allow": {"keys": ["wep"]}}, 'swap.allow.keys[0]: no key "wep"; did you mean "web"?'),
    ({"primary": "refusals"}, 'swap.primary: no scorer and no metric "refusals"; did you mean "refusal"?'),
    ({"primary": "refusal", "guardrails": {"refusal": 0.1}}, 'swap.guardrails.refusal: "refusal" is the primary'),
    ({"guardrails": {"eror_rate": 0.1}}, 'swap.guardrails.eror_rate: no scorer and no metric "eror_rate"'),
    ({"strata": ["model"]}, "swap.strata[0]: expected one of caller, api, stream"),
    ({"mode": "split", "shadow": 0.2}, "swap.shadow: has no effect with `mode: split`"),
    ({"split": 0.2}, "swap.split: has no effect with `mode: shadow`"),
    ({"record": 0.5}, "swap.record: has no effect with `mode: shadow`"),
    ({"deadline_s": 10}, "swap.deadline_s: 10 is below the 60 s that a served answer may take"),
    ({"budget": {"concurrency": 1}}, "swap.budget.concurrency: 1 is below the 2 requests of one shadow"),
    ({"repeat_control": 0}, "swap.repeat_control: 0, so the A/A alarm never sees the control twice"),
    ({"compare": "repeat", "repeat_control": 0.5}, "swap.repeat_control: 0.5, but `compare: repeat` needs every"),
    ({"stationary": True, "method": "hybrid"}, "swap.stationary: true contradicts `method: hybrid`"),
    ({"stationary": False, "method": "stationary"}, "swap.stationary: false contradicts `method: stationary`"),
    ({"max_pairs": 500, "method": "anytime"}, "swap.max_pairs: has no effect with `method: anytime`"),
    ({"max_pairs": 500, "mode": "both"}, "swap.max_pairs: has no effect with `mode: both`"),
    ({"max_pairs": 5}, "swap.max_pairs"),
    ({"aa": "proof", "mode": "split"}, "swap.aa: has no effect with `mode: split`"),
    ({"aa": "never"}, "swap.aa: input should be 'alarm' or 'proof', got 'never'"),
    ({"method": "hybird"}, "swap.method: input should be 'hybrid', 'anytime', 'guaranteed' or 'stationary'"),
    ({"start": "2026-12-02", "stop": "2026-12-01"}, "swap.stop: not after its start"),
    ({"start": "soon"}, "swap.start: expected a time such as 2026-12-01T09:00:00Z, got 'soon'"),
    ({"shadw": 0.1}, 'swap.shadw: unknown key; did you mean "shadow"?'),
    ({"mode": "likelihood", "primary": "refusal"}, "swap.primary: `mode: likelihood` is decided by nats_per_token"),
    (
        {"mode": "likelihood", "guardrails": {"refusal": 0.1}},
        "swap.guardrails.refusal: in `mode: likelihood` the candid",
    ),
    ({"mode": "likelihood", "margin": 0}, "swap.margin: 0, which no engine can be shown to meet"),
    ({"mode": "likelihood", "method": "guaranteed"}, "swap.method: guaranteed needs values with bounds"),
    ({"mode": "likelihood", "method": "anytime", "max_pairs": 50}, "swap.max_pairs: has no effect with `method: any"),
    ({"mode": "likelihood", "aa": "proof"}, "swap.aa: has no effect with `mode: likelihood`"),
    ({"mode": "likelihood", "compare": "served"}, "swap.compare: has no effect with `mode: likelihood`"),
    ({"mode": "likelihood", "split": 0.1}, "swap.split: has no effect with `mode: likelihood`"),
    ({"mode": "likelihood", "allow": {"apis": ["completions"]}}, "swap.allow.apis: `mode: likelihood` reads chat"),
    ({"mode": "likelihood", "budget": {"concurrency": 2}}, "swap.budget.concurrency: 2 is below the 3 requests"),
    (
        {"mode": "likelihood", "candidate": None, "candidates": {"repeat_again": {"upstream": "b", "model": "n"}}},
        'swap.candidates.repeat_again: "repeat_again" is the name of the control\'s own arm',
    ),
    (
        {"mode": "likelihood", "candidate": {"upstream": "c", "model": "n"}},
        "swap.candidate.upstream: c is of kind anth",
    ),
    ({"primary": "refusal", "margin": 0}, "swap.margin: 0, which no candidate can be shown to meet"),
    ({"candidate": {"upstream": "a", "model": "m"}}, "swap.candidate: is the control itself (a/m)"),
    (
        {"candidate": None, "candidates": {"same": {"upstream": "a", "model": "m"}}},
        "swap.candidates.same: is the control itself (a/m)",
    ),
    (
        {"primary": "refusal", "max_pairs": 90},
        "swap.max_pairs: 90 pairs cannot show a margin of 0.02, even if both arms were alike in all",
    ),
    ({"primary": "nats_per_token"}, 'swap.primary: no scorer and no metric "nats_per_token"'),
    ({"primary": "run_loops"}, "swap.primary: run_loops is of whole runs, and a shadow answers one call"),
    ({"primary": "done", "mode": "split", "shadow": None}, "swap.primary: done is of whole runs"),
    ({"guardrails": {"calls_per_run": 3}}, "swap.guardrails.calls_per_run: calls_per_run is of whole runs"),
    ({"budget": {"usd_per_day": 1}}, "swap.budget.usd_per_day: no price is known for b/n"),
]


@pytest.mark.parametrize(("changes", "expected"), EXPERIMENTS)
def test_an_experiments_mistake_says_what_to_do(changes: dict[str, Any], expected: str) -> None:
    section = {k: v for k, v in {**SWAP, **changes}.items() if v is not None}
    found = [m.removeprefix("experiments.") for m in mistakes(with_experiments(swap=section))]
    assert any(m.startswith(expected) for m in found), found


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        ("{kind: vllm, base_url: 'http://b/v1'}", False),
        ("{kind: ray_serve, base_url: 'http://b/v1'}", False),
        ("{kind: openai, base_url: 'http://b/v1', api_key: k}", False),
        ("{kind: openai, api_key: k}", True),
        ("{kind: llamacpp, base_url: 'http://b/v1'}", True),
        ("{kind: mistral, api_key: k}", True),
    ],
)
def test_an_engine_without_prompt_likelihoods_is_refused_at_no_cost(kind: str, refused: bool) -> None:
    text = f"""
open: true
upstreams: {{a: {{kind: vllm, base_url: 'http://a/v1'}}, b: {kind}}}
models: {{chat: {{targets: [{{upstream: a, model: m}}]}}}}
experiments:
  swap: {{model: chat, control: {{upstream: a, model: m}}, candidate: {{upstream: b, model: n}}, mode: likelihood}}
"""
    if not refused:
        assert parse(text, environ={}).experiments["swap"].likelihood
    else:
        assert any("has no log-probabilities of a prompt" in mistake for mistake in mistakes(text))


@pytest.mark.parametrize("primary", ["run_loops", "done", "calls_per_run", "refusal"])
def test_a_split_by_run_may_be_decided_by_runs(primary: str) -> None:
    section = {**{k: v for k, v in SWAP.items() if k != "shadow"}, "mode": "split", "unit": "run", "primary": primary}
    assert parse(with_experiments(swap=section), environ={}).experiments["swap"].primary == primary


RAMP = {
    **{k: v for k, v in SWAP.items() if k != "shadow"},
    "primary": "refusal", "unit": "run", "guardrails": {"run_loops": 0.05}, "ramp": {},
}  # fmt: skip


def test_a_ramp_by_run_may_have_a_scorer_of_runs_as_a_guardrail() -> None:
    config = parse(with_experiments(swap=RAMP), environ={})
    plan = plans_of(config)["swap"]
    assert plan.of_runs == ("run_loops",)
    assert plan_from_json(plan.to_json()) == plan
    other = parse(with_experiments(swap={**RAMP, "guardrails": {"error_rate": 0.05}}), environ={})
    assert plans_of(other)["swap"].of_runs == ()
    assert b"of_runs" not in plans_of(other)["swap"].to_json(), "the hash of other plans stays"


@pytest.mark.parametrize(
    "changes", [{"unit": "conversation"}, {"guardrails": {"calls_per_run": 3}}, {"primary": "done"}]
)
def test_other_ramps_have_no_metric_of_runs(changes: dict[str, Any]) -> None:
    found = mistakes(with_experiments(swap={**RAMP, **changes}))
    assert any("is of whole runs, and a shadow answers one call" in mistake for mistake in found), found


def test_guardrails_and_the_cost_may_have_a_margin_of_0() -> None:
    section = {**SWAP, "guardrails": {"error_rate": 0, "cost_per_1k": 0}}
    assert parse(with_experiments(swap=section), environ={}).experiments["swap"].guardrails["error_rate"] == 0


def test_a_call_can_be_in_only_one_experiment() -> None:
    (found,) = mistakes(with_experiments(one=SWAP, two=SWAP))
    assert found.startswith('experiments.two.model: "chat" is in experiments.one already, and a call can be in one')


@pytest.mark.parametrize("second", [{"enabled": False}, {"start": "manual"}, {"allow": {"keys": []}}])
def test_experiments_that_share_no_call_may_share_a_model(second: dict[str, Any]) -> None:
    text = with_experiments(one={**SWAP, "allow": {"keys": ["web"]}}, two={**SWAP, **second})
    assert len(parse(text, environ={}).experiments) == 2


def test_by_default_a_shadow_of_any_size_may_be_sent() -> None:
    """Five arms and the control again are six requests, more than the default concurrency of 4."""
    arms = {f"c{n}": {"upstream": "b", "model": f"n{n}"} for n in range(5)}
    section = {name: value for name, value in SWAP.items() if name != "candidate"} | {"candidates": arms}
    assert parse(with_experiments(swap=section), "f.yaml", {}).experiments["swap"].shadow_concurrency == 6
    written = section | {"budget": {"concurrency": 4}}
    assert any("4 is below the 6 requests of one shadow" in m for m in mistakes(with_experiments(swap=written)))
