"""A config for tests that make mistakes in it."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from gateway.config.loading import parse
from gateway.core.errors import ConfigError

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


def the_mistake_of(change: tuple[str, str]) -> str:
    """The one mistake of GOOD in which a text was replaced by another."""
    before, after = change
    assert before in GOOD
    (found,) = mistakes(GOOD.replace(before, after, 1))
    return found


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
