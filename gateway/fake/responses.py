"""The answers of OpenAI's Responses API, plain or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson

from gateway.fake.answers import CREATED, Delta, Event, FakeAnswer, FakeRequest, StreamDone, named_event, streamed
from gateway.fake.speech import ScriptedAnswer, count_words, speech


def responses(ask: FakeRequest) -> FakeAnswer:
    scripted = speech(ask)
    whole = _response_object(ask, scripted)
    if not ask.stream:
        return FakeAnswer(orjson.dumps(whole), pauses=scripted.pauses, dialect="responses")
    serial = iter(range(1_000_000))
    events: list[Event] = []
    for event in _response_events(whole, scripted):
        if isinstance(event, dict):
            data = named_event(event | {"sequence_number": next(serial)})
            kind = (
                Delta if event["type"].endswith(".delta") else StreamDone if event["type"] in _RESPONSE_ENDS else bytes
            )
            events.append(kind(data))
        else:
            events.append(event)
    return streamed(events, "responses")


_RESPONSE_ENDS = {"response.completed", "response.incomplete"}


def _response_object(ask: FakeRequest, scripted: ScriptedAnswer) -> dict[str, Any]:
    prompt = count_words(ask.fields["input"]) + count_words(ask.fields.get("instructions"))
    status = "completed" if scripted.complete else "incomplete"
    content = [{"type": "output_text", "text": scripted.text, "annotations": [], "logprobs": []}]
    item: dict[str, Any] = {"type": "message", "id": f"msg-fake-{ask.serial}", "role": "assistant", "content": content}
    if scripted.tool:
        call = {"call_id": scripted.tool.id, "name": scripted.tool.name, "arguments": scripted.tool.arguments}
        item = {"type": "function_call", "id": f"fc-fake-{ask.serial}"} | call
    return {
        "id": f"resp-fake-{ask.serial}",
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "error": None,
        "incomplete_details": None if scripted.complete else {"reason": "max_output_tokens"},
        "model": ask.model,
        "output": [item | {"status": status}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": ask.fields.get("tools") or [],
        "usage": {
            "input_tokens": prompt,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": scripted.words,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": prompt + scripted.words,
        },
    }


def _response_events(whole: dict[str, Any], scripted: ScriptedAnswer) -> Iterator[dict[str, Any] | Event]:
    item = whole["output"][0]
    place = {"item_id": item["id"], "output_index": 0}
    begun = whole | {"status": "in_progress", "output": [], "usage": None, "incomplete_details": None}
    yield {"type": "response.created", "response": begun}
    yield {"type": "response.in_progress", "response": begun}
    empty: dict[str, Any] = {"arguments": ""} if scripted.tool else {"content": []}
    added = item | {"status": "in_progress"} | empty
    yield {"type": "response.output_item.added", "output_index": 0, "item": added}
    if scripted.tool:
        for fragment in scripted.fragments():
            yield {"type": "response.function_call_arguments.delta", **place, "delta": fragment}
        arguments = {"name": scripted.tool.name, "arguments": scripted.tool.arguments}
        yield {"type": "response.function_call_arguments.done", **place, **arguments}
    else:
        yield from _response_text_events(item, place | {"content_index": 0}, scripted)
    yield {"type": "response.output_item.done", "output_index": 0, "item": item}
    yield {"type": "response.completed" if scripted.complete else "response.incomplete", "response": whole}


def _response_text_events(
    item: dict[str, Any], place: dict[str, Any], scripted: ScriptedAnswer
) -> Iterator[dict[str, Any] | Event]:
    content = item["content"][0]
    yield {"type": "response.content_part.added", **place, "part": content | {"text": ""}}
    for part in scripted.parts:
        delta = {"type": "response.output_text.delta", **place, "delta": part, "logprobs": []}
        yield delta if isinstance(part, str) else part
    yield {"type": "response.output_text.done", **place, "text": scripted.text, "logprobs": []}
    yield {"type": "response.content_part.done", **place, "part": content}
