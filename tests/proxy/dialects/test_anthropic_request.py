"""What an OpenAI client asks, in Anthropic's words; what has none is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.proxy.dialects.anthropic_request import MAX_TOKENS, to_anthropic

USER = [{"role": "user", "content": "Hi"}]
TURN = [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}]
PLAIN = {"model": "claude", "max_tokens": MAX_TOKENS, "messages": TURN}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA, "strict": True}}
TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA, "strict": True}
FORM = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, {}),
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"max_completion_tokens": 6, "max_tokens": 5}, {"max_tokens": 6}),
        ({"temperature": 0.70}, {"temperature": 0.70}),
        ({"temperature": 1.7}, {"temperature": 1}),
        ({"top_p": 0.9, "top_k": 5}, {"top_p": 0.9, "top_k": 5}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
        ({"stop": None}, {}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {"stream": True}),
        ({"user": "u1"}, {"metadata": {"user_id": "u1"}}),
        ({"safety_identifier": "s1"}, {"metadata": {"user_id": "s1"}}),
        ({"n": 1, "presence_penalty": 0, "frequency_penalty": 0.0, "logprobs": False, "logit_bias": {}}, {}),
        ({"seed": 7, "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "modalities": ["text"]}, {}),
        ({"continue_final_message": True, "add_generation_prompt": False}, {}),
        ({"tools": [FUNCTION]}, {"tools": [TOOL]}),
        ({"tools": []}, {}),
        ({"tools": [{"type": "function", "function": {"name": "g"}}]},
         {"tools": [{"name": "g", "input_schema": {"type": "object", "properties": {}}}]}),
        ({"tools": [FUNCTION], "tool_choice": "auto"}, {"tools": [TOOL], "tool_choice": {"type": "auto"}}),
        ({"tools": [FUNCTION], "tool_choice": "none"}, {"tools": [TOOL], "tool_choice": {"type": "none"}}),
        ({"tools": [FUNCTION], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": {"type": "any"}}),
        ({"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}},
         {"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}}),
        ({"tools": [FUNCTION], "parallel_tool_calls": False},
         {"tools": [TOOL], "tool_choice": {"type": "auto", "disable_parallel_tool_use": True}}),
        ({"tools": [FUNCTION], "parallel_tool_calls": False, "tool_choice": "required"},
         {"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}}),
        ({"tools": [FUNCTION], "parallel_tool_calls": False, "tool_choice": "none"},
         {"tools": [TOOL], "tool_choice": {"type": "none"}}),
        ({"reasoning_effort": "high"}, {"output_config": {"effort": "high"}, "thinking": {"type": "adaptive"}}),
        ({"reasoning_effort": "minimal"}, {"output_config": {"effort": "low"}}),
        ({"reasoning_effort": "none"}, {"thinking": {"type": "disabled"}}),
        ({"reasoning_effort": "low", "thinking": {"type": "enabled", "budget_tokens": 2000}},
         {"output_config": {"effort": "low"}, "thinking": {"type": "enabled", "budget_tokens": 2000}}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": FORM}, {"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}}),
        ({"response_format": FORM, "reasoning_effort": "max"},
         {"output_config": {"effort": "max", "format": {"type": "json_schema", "schema": SCHEMA}},
          "thinking": {"type": "adaptive"}}),
    ],
)  # fmt: skip
def test_what_anthropic_can_say(asked: dict[str, Any], said: dict[str, Any]) -> None:
    assert to_anthropic({"model": "alias", "messages": USER, **asked}, "claude") == {**PLAIN, **said}


@pytest.mark.parametrize(
    ("asked", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logit_bias": {"50256": -100}}, "logit_bias"),
        ({"presence_penalty": 0.5}, "presence_penalty"),
        ({"frequency_penalty": -1}, "frequency_penalty"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"web_search_options": {"a": 1}}, "web_search_options"),
        ({"min_p": 0.1}, "min_p"),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, "tools[0].type"),
        ({"tools": [FUNCTION], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"reasoning_effort": "huge"}, "reasoning_effort"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
    ],
)
def test_what_anthropic_cannot_say_is_refused_by_name(asked: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest, match="Anthropic") as refused:
        to_anthropic({"model": "alias", "messages": USER, **asked}, "claude")
    assert (refused.value.param, refused.value.code) == (param, "unsupported_parameter")
