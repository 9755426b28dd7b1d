"""Which models are kin."""

from __future__ import annotations

import pytest

from gateway.scoring.model_families import family, shared_family


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gpt-4.1-mini", "OpenAI"),
        ("openai/gpt-oss-120b", "OpenAI"),
        ("o3", "OpenAI"),
        ("claude-haiku-4-5", "Claude"),
        ("meta-llama/Llama-3.3-70B-Instruct", "Llama"),
        ("Qwen/Qwen3-8B", "Qwen"),
        ("mistralai/Mixtral-8x7B", "Mistral"),
        ("models/gemini-2.5-pro", "Google"),
        ("google/gemma-3-270m", "Google"),
        ("deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "Qwen"),
        ("SmolLM2-135M-Instruct", "SmolLM"),
        ("ft:gpt-4.1-mini:acme", "OpenAI"),
        ("yi-34b", "Yi"),
        ("omniscient", None),
        ("fake-model", None),
    ],
)
def test_the_family_is_told_by_the_name(model, expected):
    assert family(model) == expected


def test_kin_are_of_one_known_family():
    assert shared_family("gpt-5.5", "openai/o3") == "OpenAI"
    assert shared_family("gpt-5.5", "claude-opus-5") is None
    assert shared_family("nobody-1", "nobody-1") is None, "unknown families are not equal"
