"""Output formats and tools are found in every API's spelling, and nothing is found in nonsense."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.request_format import (
    OutputFormat,
    ToolChoice,
    last_user_text,
    offered_tools,
    output_format,
    tool_choice,
)

S = {"type": "object"}


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, OutputFormat(object=True)),
        ({"response_format": {"type": "json_object", "schema": S}}, OutputFormat(S, object=True)),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": S}}}, OutputFormat(S)),
        ({"response_format": {"type": "json_schema"}}, OutputFormat()),
        ({"text": {"format": {"type": "json_schema", "name": "n", "schema": S}}}, OutputFormat(S)),
        ({"text": {"format": {"type": "json_object"}}}, OutputFormat(object=True)),
        ({"text": {"format": {"type": "text"}}}, None),
        ({"output_format": {"type": "json_schema", "schema": S}}, OutputFormat(S)),
        ({"output_config": {"format": {"type": "json_schema", "schema": S}}}, OutputFormat(S)),
        ({"guided_json": S}, OutputFormat(S)),
        ({"guided_json": '{"type": "object"}'}, OutputFormat(S)),
        ({"guided_json": "{"}, OutputFormat()),
        ({"structured_outputs": {"json": S}}, OutputFormat(S)),
        ({"structured_outputs": {"json_object": True}}, OutputFormat(object=True)),
        ({"structured_outputs": {"regex": "a+"}}, None),
        ({"json_schema": S}, OutputFormat(S)),
    ],
)
def test_json_is_asked_for_in_many_ways(request_, expected):
    assert output_format(request_) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, {}),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": S}}]}, {"f": S}),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, {"f": True}),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, {"f": None}),
        ({"tools": [{"type": "custom", "name": "f", "input_schema": S}]}, {"f": S}),
        ({"tools": [{"type": "function", "name": "f", "parameters": S}, {"type": "web_search"}]}, {"f": S}),
        ({"tools": [{"name": "f", "input_schema": S}]}, {"f": S}),
        ({"functions": [{"name": "f", "parameters": S}]}, {"f": S}),
    ],
)
def test_tools_are_offered_in_many_ways(request_, expected):
    assert offered_tools(request_) == expected


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("auto", ToolChoice()),
        ("none", ToolChoice(forbidden=True)),
        ("required", ToolChoice(required=True)),
        ("any", ToolChoice(required=True)),
        ({"type": "auto"}, ToolChoice()),
        ({"type": "any"}, ToolChoice(required=True)),
        ({"type": "none"}, ToolChoice(forbidden=True)),
        ({"type": "tool", "name": "f"}, ToolChoice(required=True, name="f")),
        ({"type": "function", "name": "f"}, ToolChoice(required=True, name="f")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(required=True, name="f")),
        ({"type": "custom", "custom": {"name": "f"}}, ToolChoice(required=True, name="f")),
        ({"type": "allowed_tools", "mode": "required", "tools": []}, ToolChoice(required=True)),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": []}}, ToolChoice()),
        ({"name": "f"}, ToolChoice(required=True, name="f")),
        (3, ToolChoice()),
    ],
)
def test_calling_is_required_or_forbidden_in_many_ways(asked, expected):
    assert tool_choice({"tool_choice": asked}) == expected
    assert tool_choice({"function_call": asked}) == expected


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        ({}, ""),
        ({"prompt": "once"}, "once"),
        ({"prompt": [1, 2]}, ""),
        ({"input": "hello"}, "hello"),
        ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]}, "a"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image"}]}]}, "a"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]}]}, "a"),
        ({"messages": [{"role": "system", "content": "a"}]}, ""),
    ],
)
def test_the_question_is_the_last_user_message(request_, expected):
    assert last_user_text(request_) == expected


NAMES = ["response_format", "text", "format", "type", "json_schema", "schema", "tools", "function", "name", "messages"]
NAMES += ["structured_outputs", "json", "tool_choice", "role", "content", "output_config", "guided_json", "functions"]
WORDS = ["json_schema", "json_object", "function", "user", "required", "allowed_tools", "{"]
ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(WORDS),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(NAMES), ANY))
def test_no_shape_of_a_request_raises(request_):
    output_format(request_)
    offered_tools(request_)
    tool_choice(request_)
    last_user_text(request_)
