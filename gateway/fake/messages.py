"""The answers of Anthropic's Messages API, plain or streamed, and its count of tokens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.fake.answers import Delta, Event, FakeAnswer, FakeRequest, FakeToolCall, StreamDone, named_event, streamed
from gateway.fake.speech import ScriptedAnswer, count_words, last_assistant, speech


def messages(ask: FakeRequest) -> FakeAnswer:
    scripted = speech(ask, last_assistant(ask))
    text = {"type": "text", "text": scripted.text}
    block = _tool_block(scripted.tool) if scripted.tool else text
    usage = {
        "input_tokens": count_words(ask.fields["messages"]) + count_words(ask.fields.get("system")),
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 0,
        "output_tokens": scripted.words,
    }
    whole = {
        "id": f"msg-fake-{ask.serial}",
        "type": "message",
        "role": "assistant",
        "model": ask.model,
        "content": [block],
        "stop_reason": scripted.finish("end_turn", "max_tokens", "tool_use"),
        "stop_sequence": None,
        "usage": usage,
    }
    if ask.stream:
        return streamed(list(_message_events(whole, scripted)), "anthropic")
    return FakeAnswer(orjson.dumps(whole), pauses=scripted.pauses, dialect="anthropic")


def _message_events(whole: dict[str, Any], scripted: ScriptedAnswer) -> Iterator[Event]:
    usage = whole["usage"]
    begun = whole | {"content": [], "stop_reason": None, "usage": usage | {"output_tokens": 1}}
    empty = {"type": "text", "text": ""} if scripted.tool is None else _tool_block(scripted.tool) | {"input": {}}
    yield named_event({"type": "message_start", "message": begun})
    yield named_event({"type": "content_block_start", "index": 0, "content_block": empty})
    yield named_event({"type": "ping"})
    for part in scripted.fragments() if scripted.tool else scripted.parts:
        if isinstance(part, str):
            kind, key = ("input_json_delta", "partial_json") if scripted.tool else ("text_delta", "text")
            yield Delta(named_event({"type": "content_block_delta", "index": 0, "delta": {"type": kind, key: part}}))
        else:
            yield part
    yield named_event({"type": "content_block_stop", "index": 0})
    ending = {"stop_reason": whole["stop_reason"], "stop_sequence": None}
    yield named_event({"type": "message_delta", "delta": ending, "usage": usage})
    yield StreamDone(named_event({"type": "message_stop"}))


def _tool_block(tool: FakeToolCall) -> dict[str, Any]:
    """The content block of a tool call. Arguments that are not a JSON object go under a key of their own."""
    try:
        given = orjson.loads(tool.arguments)
    except orjson.JSONDecodeError:
        given = {"unparsed": tool.arguments}
    return {"type": "tool_use", "id": tool.id, "name": tool.name, "input": given}


def count_tokens(ask: FakeRequest) -> FakeAnswer:
    words = count_words(ask.fields["messages"]) + count_words(ask.fields.get("system"))
    return FakeAnswer(orjson.dumps({"input_tokens": words}), dialect="anthropic")
