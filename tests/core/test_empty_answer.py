"""Empty answers: the answers of each API with content for a reader, and those without."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.completion import assemble, completion_of, from_json, is_empty
from gateway.core.exchange import Exchange, Target


def exchanged(response: Any, *, api: str = "chat", request: Any = None, **changes: Any) -> Exchange:
    usual: dict[str, Any] = {
        "id": "1", "received": 1.0, "caller": "web", "api": api, "alias": "chat", "target": Target("a", "m"),
        "stream": False, "request": orjson.dumps({"model": "m", **(request or {})}),
        "response": orjson.dumps(response), "status": 200, "outcome": "ok", "total_s": 1.0, "unit": "1", "u": 0.5,
        "pi": 1.0, "stratum": "base", "incarnation": "i", "seq": 1,
    }  # fmt: skip
    return Exchange(**{**usual, **changes})


def chat(message: dict[str, Any], reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}]}


def message(*blocks: dict[str, Any], reason: str = "end_turn") -> dict[str, Any]:
    return {"type": "message", "role": "assistant", "content": list(blocks), "stop_reason": reason}


def response(*items: dict[str, Any]) -> dict[str, Any]:
    return {"object": "response", "status": "completed", "output": list(items)}


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}


@pytest.mark.parametrize(
    ("api", "answer", "empty"),
    [
        ("chat", chat({"content": "Paris"}), False),
        ("chat", chat({"content": ""}), True),
        ("chat", chat({"content": " \n"}), True),
        ("chat", chat({"content": None}), True),
        ("chat", chat({"content": "", "reasoning": "I think"}, "length"), True),
        ("chat", chat({"content": None, "refusal": "No."}), False),
        ("chat", chat({"content": None, "tool_calls": [CALL]}, "tool_calls"), False),
        ("chat", chat({"content": None, "audio": {"id": "a", "data": "UklGRg=="}}), False),
        ("chat", chat({"content": "", "audio": {"id": "a", "data": "UklGRg=="}}), False),
        ("chat", chat({"content": "", "images": [{"type": "image_url"}]}), False),
        ("completions", {"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]}, True),
        ("completions", {"choices": [{"index": 0, "text": "a", "finish_reason": "stop"}]}, False),
        ("messages", message(), True),
        ("messages", message({"type": "thinking", "thinking": "Hm"}), True),
        ("messages", message({"type": "text", "text": "Paris"}), False),
        ("messages", message({"type": "tool_use", "id": "1", "name": "f", "input": {}}), False),
        ("messages", message({"type": "web_search_tool_result", "content": []}), False),
        ("messages", message(reason="refusal"), False),
        ("responses", response(), True),
        ("responses", response({"type": "reasoning", "summary": []}), True),
        ("responses", response({"type": "message", "content": [{"type": "output_text", "text": ""}]}), True),
        ("responses", response({"type": "message", "content": [{"type": "refusal", "refusal": "No."}]}), False),
        ("responses", response({"type": "image_generation_call", "result": "…"}), False),
        ("embeddings", {"data": []}, False),
    ],
)
def test_an_answer_without_anything_to_read_is_empty(api: str, answer: dict[str, Any], empty: bool) -> None:
    given = exchanged(answer, api=api)
    assert is_empty(given, completion_of(given)) is empty


@pytest.mark.parametrize(
    ("changes", "empty"),
    [
        ({"request": {"max_tokens": 1}}, False),
        ({"request": {"max_tokens": 0}}, False),
        ({"request": {"max_completion_tokens": 1}}, False),
        ({"request": {"max_tokens": 2}}, True),
        ({"request": {"max_tokens": None}}, True),
        ({"status": 400}, False),
        ({"outcome": "timeout"}, False),
        ({"likelihood": "{}"}, False),
    ],
)
def test_an_answer_that_could_hold_nothing_is_not_empty(changes: dict[str, Any], empty: bool) -> None:
    request = changes.pop("request", None)
    given = exchanged(chat({"content": ""}), request=request, **changes)
    assert is_empty(given, completion_of(given)) is empty


def test_it_is_unknown_of_an_answer_that_was_not_recorded() -> None:
    cut = exchanged(chat({"content": ""}), truncated=True)
    assert is_empty(cut, completion_of(cut)) is None
    bare = exchanged({}, request=None)
    bare.request, bare.response = b"{}", b""
    assert is_empty(bare, completion_of(bare)) is None


def test_audio_in_a_stream_is_content_also_after_redaction() -> None:
    delta = orjson.dumps({"choices": [{"index": 0, "delta": {"content": "", "audio": {"data": "UklGRg=="}}}]})
    answer = assemble("chat", True, b"data: " + delta + b"\n\ndata: [DONE]\n\n")
    assert answer.other
    assert from_json(answer.to_json()).other
