"""A name that the file does not have is reported once, with its path and with what was meant."""

from __future__ import annotations

import pytest

from tests.config.checks.mistaken_config import after_models, the_mistake_of

UNKNOWN_NAMES = [
    (after_models("defaults: {images: chta}"), 'defaults.images: no model "chta"; did you mean "chat"?'),
    (("kind: vllm", "kind: vlm"), 'upstreams.local.kind: no kind "vlm"; did you mean "vllm"?'),
    (("kind: vllm", "kind: azzure"), 'upstreams.local.kind: no kind "azzure"; did you mean "azure"?'),
    (("kind: vllm", "kind: zzz"), 'upstreams.local.kind: no kind "zzz"; known: openai, azure, '),
    (("[{upstream: local,", "[{upstream: locl,"), 'targets[0].upstream: no upstream "locl"; did you mean "local"?'),
    (("models: [chat]", "models: [chta]"), 'keys[0].models[0]: no model "chta"; did you mean "chat"?'),
    (
        ("    fallback: [", "    score_objectives: {valid_jsn: 0.9}\n    fallback: ["),
        'models.chat.score_objectives: no scorer "valid_jsn"; known: ',
    ),
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


@pytest.mark.parametrize(("change", "expected"), [*UNKNOWN_NAMES, *MISSING])
def test_an_unknown_name_is_reported_once_with_its_path(change: tuple[str, str], expected: str) -> None:
    assert expected in the_mistake_of(change)
