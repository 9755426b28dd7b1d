"""The material for a judge: every API's spelling gives the same text."""

from __future__ import annotations

import pytest

from gateway.core.completion import Completion, ToolCall
from gateway.scorers.judging.material import answer, context, conversation

PARTS = [{"type": "text", "text": "Hi"}, {"type": "image_url", "image_url": {"url": "x"}}]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (
            {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]},
            "[system]\nS\n\n[user]\nU",
        ),
        ({"messages": [{"role": "user", "content": PARTS}]}, "[user]\nHi\n[image_url]"),
        ({"system": "S", "messages": [{"role": "user", "content": "U"}]}, "[system]\nS\n\n[user]\nU"),
        ({"instructions": "S", "input": "U"}, "[system]\nS\n\n[user]\nU"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": "U"}]}]}, "[user]\nU"),
        ({"prompt": "U"}, "[user]\nU"),
        ({"messages": [{"role": "tool", "content": "42"}]}, "[tool]\n42"),
        ({"messages": "broken"}, "[user]\nbroken"),
        ({"messages": [7, {"content": 7}]}, "[user]\n7"),
        ({}, ""),
    ],
)  # fmt: skip
def test_a_conversation_is_read_in_every_api(request_, expected):
    assert conversation(request_) == expected


def test_an_answer_excludes_its_reasoning():
    completion = Completion("Text.", reasoning="hidden", refusal="No.", tool_calls=(ToolCall("1", "f", '{"a": 1}'),))
    assert answer(completion) == 'Text.\nNo.\n[calls f with {"a": 1}]'


def test_the_context_is_the_system_and_tool_messages():
    result = {"type": "tool_result", "content": [{"type": "text", "text": "T2"}]}
    request = {
        "messages": [
            {"role": "system", "content": "S"}, {"role": "user", "content": [result, {"type": "text", "text": "U"}]},
            {"role": "tool", "content": "T"}, {"role": "assistant", "content": "A"},
        ]
    }  # fmt: skip
    assert context(request, None) == "S\n\nT2\n\nT"


@pytest.mark.parametrize(
    ("where", "expected"),
    [("metadata.context", "C"), ("messages.0.content", "U"), ("messages.-1.content", "U"), ("messages.9", ""),
     ("metadata.nothing", ""), ("metadata.list", "a\nb"), ("metadata.object", '{\n  "a": 1\n}')],
)  # fmt: skip
def test_a_context_is_found_by_its_path(where, expected):
    metadata = {"context": "C", "list": ["a", "b"], "object": {"a": 1}}
    assert context({"metadata": metadata, "messages": [{"role": "user", "content": "U"}]}, where) == expected
