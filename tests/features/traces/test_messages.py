"""Messages of other tools as those of Chat Completions."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.features.traces.messages import answer_of, error_response, messages_of, system_of, tools_of

pytestmark = pytest.mark.quick
USER = [{"role": "user", "content": "Hi"}]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("Hi", USER), ('[{"role": "user", "content": "Hi"}]', USER), ({"messages": USER}, USER), (USER[0], USER),
        (["Hi"], USER), ({"prompt": "Hi"}, USER),
        ([{"role": "user", "content": [{"type": "text", "text": "Hi"}]}], USER),
        ({"system": "Be kind.", "messages": USER}, [{"role": "system", "content": "Be kind."}, *USER]),
        ({"input": "Hi", "instructions": "Be kind."}, [{"role": "system", "content": "Be kind."}, *USER]),
        (None, []), ("", []), ({"x": 1}, [{"role": "user", "content": '{"x":1}'}]),
        (3, [{"role": "user", "content": "3"}]),
    ],
)  # fmt: skip
def test_a_request_has_messages(given: Any, expected: list[dict[str, Any]]) -> None:
    assert messages_of(given) == expected


def test_anthropics_results_of_tools_are_messages() -> None:
    content = [{"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "rain"}]}]
    assert messages_of([{"role": "user", "content": content}]) == [
        {"role": "tool", "tool_call_id": "1", "content": "rain"}
    ]


@pytest.mark.parametrize(
    ("given", "text", "reason"),
    [
        ("Hi", "Hi", None), ({"role": "assistant", "content": "Hi"}, "Hi", None),
        ({"choices": [{"message": {"content": "Hi"}, "finish_reason": "stop"}]}, "Hi", "stop"),
        ({"choices": [{"text": "Hi", "finish_reason": "length"}]}, "Hi", "length"),
        ({"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}, "Hi", "stop"),
        ([{"type": "text", "text": "Hi"}], "Hi", None), ([{"role": "assistant", "content": "Hi"}], "Hi", None),
        ({"summary": "Hi"}, '{"summary":"Hi"}', None), (3, "3", None),
    ],
)  # fmt: skip
def test_an_answer_has_a_message_and_its_end(given: Any, text: str, reason: str | None) -> None:
    found = answer_of(given)
    assert found is not None
    assert (found[0]["role"], found[0]["content"], found[1]) == ("assistant", text, reason)


@pytest.mark.parametrize("given", [None, "", {}, []])
def test_nothing_is_not_an_answer(given: Any) -> None:
    assert answer_of(given) is None


def test_tools_of_every_api_have_one_form() -> None:
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    expected = [{"type": "function", "function": function}]
    anthropic = {"name": "f", "description": "d", "input_schema": {"type": "object"}}
    for given in (expected, [{"type": "function", **function}], [anthropic], [str(anthropic).replace("'", '"')]):
        assert tools_of(given) == expected
    assert tools_of("no tools") == []
    assert system_of([{"type": "text", "content": "a"}, "b"]) == [{"role": "system", "content": "a\nb"}]
    assert error_response("")["error"]["message"] == "the call failed"
