"""Chat messages become turns of blocks, and their places are named when they cannot."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.proxy.dialects.anthropic_messages import messages_of


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def call(name: str, arguments: str) -> dict[str, Any]:
    return {"id": f"call_{name}", "type": "function", "function": {"name": name, "arguments": arguments}}


def use(name: str, given: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"call_{name}", "name": name, "input": given}


def result(name: str, content: Any) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": f"call_{name}", "content": content}


def test_instructions_from_anywhere_go_to_the_head() -> None:
    system, turns = messages_of(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hi"},
            {"role": "developer", "content": [{**text("Be kind."), "cache_control": {"type": "ephemeral"}}]},
        ]
    )
    assert system == [text("Be brief."), {**text("Be kind."), "cache_control": {"type": "ephemeral"}}]
    assert turns == [{"role": "user", "content": [text("Hi")]}]


def test_a_conversation_with_tools() -> None:
    _, turns = messages_of(
        [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": "", "tool_calls": [call("a", '{"x":1}'), call("b", "")]},
            {"role": "tool", "tool_call_id": "call_a", "content": "sunny"},
            {"role": "tool", "tool_call_id": "call_b", "content": [text("rain")]},
            {"role": "user", "content": "Thanks"},
            {"role": "assistant", "content": [text("Bye"), {"type": "refusal", "refusal": "no"}], "reasoning": "hm"},
        ]
    )
    assert turns == [
        {"role": "user", "content": [text("Weather?")]},
        {"role": "assistant", "content": [use("a", {"x": 1}), use("b", {})]},
        {"role": "user", "content": [result("a", "sunny"), result("b", [text("rain")])]},
        {"role": "user", "content": [text("Thanks")]},
        {"role": "assistant", "content": [text("Bye"), text("no")]},
    ]


@pytest.mark.parametrize(
    ("part", "block"),
    [
        ({"type": "image_url", "image_url": {"url": "https://x/a.png", "detail": "high"}},
         {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}),
        ({"type": "image_url", "image_url": "https://x/a.png"},
         {"type": "image", "source": {"type": "url", "url": "https://x/a.png"}}),
        ({"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBO"}},
         {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBO"}}),
        ({"type": "image_url", "image_url": {"url": "data:image/JPEG;name=a;base64,/9j/"}},
         {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "/9j/"}}),
        ({"type": "file", "file": {"filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"}},
         {"type": "document", "title": "a.pdf",
          "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBE"}}),
    ],
)  # fmt: skip
def test_parts_that_are_not_text(part: dict[str, Any], block: dict[str, Any]) -> None:
    _, turns = messages_of([{"role": "user", "content": [text("See"), part, text("")]}])
    assert turns[0]["content"] == [text("See"), block]


@pytest.mark.parametrize(
    ("message", "param"),
    [
        ({"role": "function", "content": "x"}, "messages[1].role"),
        ("no message", "messages[1].role"),
        ({"role": "user", "content": 7}, "messages[1].content"),
        ({"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}, "messages[1].content[0].type"),
        ({"role": "user", "content": ["x"]}, "messages[1].content[0].type"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[1].content[0].image_url"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "data:image/bmp;base64,Qk0"}]},
         "messages[1].content[0].image_url"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": "data:image/png,raw"}]},
         "messages[1].content[0].image_url"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_id": "file-1"}}]}, "messages[1].content[0].file"),
        ({"role": "user", "content": [{"type": "file", "file": {"file_data": "data:text/csv;base64,YQ=="}}]},
         "messages[1].content[0].file.file_data"),
        ({"role": "system", "content": [{"type": "image_url", "image_url": "https://x"}]}, "messages[1].content[0]"),
        ({"role": "assistant", "audio": {"id": "a"}}, "messages[1].audio"),
        ({"role": "assistant", "tool_calls": [{"type": "custom", "custom": {}}]}, "messages[1].tool_calls[0]"),
        ({"role": "assistant", "tool_calls": [call("a", "{oops")]}, "messages[1].tool_calls[0].function.arguments"),
        ({"role": "assistant", "tool_calls": [call("a", "[1]")]}, "messages[1].tool_calls[0].function.arguments"),
    ],
)  # fmt: skip
def test_what_cannot_be_said_is_refused_by_its_place(message: Any, param: str) -> None:
    with pytest.raises(BadRequest) as refused:
        messages_of([{"role": "user", "content": "Hi"}, message])
    assert refused.value.param == param
