"""The turns of a request, whatever API it is for."""

from __future__ import annotations

import orjson
import pytest

from gateway.core.conversation import turns


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"messages": [{"role": "system", "content": "be"}, {"role": "user", "content": "hi"}]},
         [("system", "be"), ("user", "hi")]),
        ({"system": "be", "messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
         [("system", "be"), ("user", "hi")]),
        ({"instructions": "be", "input": "hi"}, [("system", "be"), ("user", "hi")]),
        ({"prompt": "once"}, [("user", "once")]),
        ({"prompt": ["a", "b"]}, [("user", "a\nb")]),
        ({"messages": [{"role": "tool", "tool_call_id": "t", "content": "42"}]},
         [("tool", '42\n{"tool_call_id":"t"}')]),
        ({"messages": [{"role": "assistant", "content": None, "tool_calls": [1]}]},
         [("assistant", '{"tool_calls":[1]}')]),
        ({"input": [{"type": "function_call_output", "output": "x"}]}, [("function_call_output", '{"output":"x"}')]),
        ({"model": "x"}, [("request", '{\n  "model": "x"\n}')]),
    ],
)  # fmt: skip
def test_a_request_of_any_api_is_read_as_turns(body, expected):
    assert turns(orjson.dumps(body)) == expected


def test_a_request_that_is_not_json_is_one_turn():
    assert turns(b"\xff{") == [("request", "\ufffd{")]
