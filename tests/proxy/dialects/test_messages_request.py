"""What an Anthropic client asks, in chat's words; what has none is refused by its name."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.proxy.dialects.messages_request import to_chat_request

USER = {"role": "user", "content": "Hi"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL = {"name": "f", "description": "d", "input_schema": SCHEMA, "cache_control": {"type": "ephemeral"}}
FUNCTION = {"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}


def asked(**members: Any) -> dict[str, Any]:
    return to_chat_request({"model": "alias", "messages": [USER], **members}, "max_tokens")


@pytest.mark.parametrize(
    ("members", "translated"),
    [
        ({"max_tokens": 5}, {"max_tokens": 5}),
        ({"temperature": 0.5, "top_p": 0.9, "top_k": 3}, {"temperature": 0.5, "top_p": 0.9, "top_k": 3}),
        ({"stop_sequences": ["x"]}, {"stop": ["x"]}),
        ({"stop_sequences": []}, {}),
        ({"stream": True}, {"stream": True}),
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"metadata": {}, "service_tier": "auto", "container": None}, {}),
        ({"tools": [TOOL]}, {"tools": [FUNCTION]}),
        ({"tools": [TOOL | {"type": "custom"}], "tool_choice": {"type": "auto"}},
         {"tools": [FUNCTION], "tool_choice": "auto"}),
        ({"tools": [TOOL], "tool_choice": {"type": "any", "disable_parallel_tool_use": True}},
         {"tools": [FUNCTION], "tool_choice": "required", "parallel_tool_calls": False}),
        ({"tools": [TOOL], "tool_choice": {"type": "none"}}, {"tools": [FUNCTION], "tool_choice": "none"}),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "f"}},
         {"tools": [FUNCTION], "tool_choice": {"type": "function", "function": {"name": "f"}}}),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, {"reasoning_effort": "low"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 10000}}, {"reasoning_effort": "medium"}),
        ({"thinking": {"type": "enabled", "budget_tokens": 32000}}, {"reasoning_effort": "high"}),
        ({"thinking": {"type": "adaptive"}}, {}),
        ({"thinking": {"type": "disabled"}}, {}),
        ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "high"}}, {"reasoning_effort": "high"}),
        ({"output_config": {"format": {"type": "json_schema", "schema": SCHEMA}}},
         {"response_format": {"type": "json_schema",
                              "json_schema": {"name": "output", "schema": SCHEMA, "strict": True}}}),
    ],
)  # fmt: skip
def test_members(members: dict[str, Any], translated: dict[str, Any]) -> None:
    assert asked(**members) == {"model": "alias", "messages": [USER], **translated}


def test_the_limit_has_the_upstreams_own_name() -> None:
    chat = to_chat_request({"model": "a", "messages": [USER], "max_tokens": 5}, "max_completion_tokens")
    assert chat["max_completion_tokens"] == 5
    assert "max_tokens" not in chat


@pytest.mark.parametrize(
    ("system", "content"),
    [("Be brief.", "Be brief."), ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\n\nb")],
)
def test_the_system_prompt_comes_first(system: Any, content: str) -> None:
    assert asked(system=system)["messages"] == [{"role": "system", "content": content}, USER]


IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}
IMAGE_PART = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}}
WEB_IMAGE = {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}
PDF = {"type": "document", "title": "a.pdf",
       "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}  # fmt: skip
NOTE = {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": "note"}}


@pytest.mark.parametrize(
    ("content", "translated"),
    [
        ("Hi", "Hi"),
        ([{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}], "Hi"),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
         [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ([IMAGE], [IMAGE_PART]),
        ([WEB_IMAGE], [{"type": "image_url", "image_url": {"url": "https://x/a.png"}}]),
        ([PDF, NOTE], [{"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
                       {"type": "text", "text": "note"}]),
    ],
)  # fmt: skip
def test_content_of_a_user_is_translated(content: Any, translated: Any) -> None:
    assert asked(messages=[{"role": "user", "content": content}])["messages"] == [
        {"role": "user", "content": translated}
    ]


def test_a_conversation_with_tools() -> None:
    """Tool results become messages of their own; the images they show go to the user's turn that follows."""
    chat = asked(
        messages=[
            USER,
            {
                "role": "assistant",
                "content": [
                    {"type": "thinking", "thinking": "hm", "signature": "s"},
                    {"type": "text", "text": "Ok"},
                    {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}},
                    {"type": "tool_use", "id": "t2", "name": "g", "input": {}},
                ],
            },
            {
                "role": "user",
                "content": [
                    {"type": "tool_result", "tool_use_id": "t1", "content": "sunny"},
                    {"type": "tool_result", "tool_use_id": "t2", "content": [{"type": "text", "text": "seen"}, IMAGE]},
                    {"type": "text", "text": "Go on"},
                ],
            },
            {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]},
            {"role": "assistant", "content": "Bye"},
        ]
    )
    assert chat["messages"] == [
        USER,
        {
            "role": "assistant",
            "content": "Ok",
            "tool_calls": [
                {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}},
                {"id": "t2", "type": "function", "function": {"name": "g", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "t1", "content": "sunny"},
        {"role": "tool", "tool_call_id": "t2", "content": "seen"},
        {"role": "user", "content": [IMAGE_PART, {"type": "text", "text": "Go on"}]},
        {"role": "tool", "tool_call_id": "t3", "content": ""},
        {"role": "assistant", "content": "Bye"},
    ]


@pytest.mark.parametrize(
    ("members", "param"),
    [
        ({"mcp_servers": [{"name": "x"}]}, "mcp_servers"),
        ({"container": "c1"}, "container"),
        ({"inference_geo": "eu"}, "inference_geo"),
        ({"not_known_yet": 1}, "not_known_yet"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools[0].type"),
        ({"tools": [TOOL], "tool_choice": {"type": "new"}}, "tool_choice"),
        ({"system": [IMAGE]}, "system.content[0]"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [{"type": "search_result"}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {"type": "file", "file_id": "f"}}]}]},
         "messages[0].content[0].source"),
        ({"messages": [{"role": "assistant", "content": [IMAGE]}]}, "messages[0].content[0]"),
    ],
)  # fmt: skip
def test_what_chat_cannot_say_is_refused_by_name(members: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest, match="OpenAI") as refused:
        asked(**members)
    assert refused.value.param == param
