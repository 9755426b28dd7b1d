"""Answers of a chat as answers of the Responses API: every split, every event, every count."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
import pytest
from fixtures.piece_sizes import STEPS, piece_sizes
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from gateway.core.completion import assemble
from gateway.core.exchange import Usage
from gateway.core.sse import events
from gateway.proxy.dialects.anthropic_reader import ToChatReader
from gateway.proxy.dialects.client_tools import client_tools
from gateway.proxy.dialects.responses_reader import ResponseHead, ToResponsesReader, to_response
from gateway.proxy.dialects.types import Cut, Reader
from gateway.proxy.request.call import Call

Read = Callable[[Reader, bytes, int], bytes]
MakeCall = Callable[..., Call]
TOOLS = [
    {"type": "function", "name": "a", "parameters": {}},
    {"type": "function", "name": "b", "parameters": {}},
    {"type": "custom", "name": "apply_patch"},
    {"type": "local_shell"},
    {"type": "tool_search", "execution": "client"},
    {"type": "namespace", "name": "space", "description": "", "tools": [{"type": "function", "name": "f"}]},
]
REQUEST = {"model": "alias", "instructions": "Be kind.", "tools": TOOLS, "temperature": 0.5, "stream": True}
HEAD = ResponseHead("0199-id", 1764000000, "alias", REQUEST, client_tools(REQUEST))


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + orjson.dumps({"model": "m", "choices": [choice]}) + b"\n\n"


def call(index: int, name: str | None, *pieces: str) -> bytes:
    out = []
    for at, piece in enumerate(pieces):
        head = {"id": f"call_{name}", "type": "function"} if name and not at else {}
        function = {"arguments": piece} | ({"name": name} if name and not at else {})
        out.append(chunk({"tool_calls": [{"index": index, **head, "function": function}]}))
    return b"".join(out)


DONE = b"data: [DONE]\n\n"
USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":5,"prompt_tokens_details":{"cached_tokens":4},'
    b'"completion_tokens_details":{"reasoning_tokens":2}}}\n\n'
)
PATCH = '{"input": "*** Begin\\n\\ud83e\\udd9c\\u00e9"}'
PATCH_PIECES = (PATCH[:4], PATCH[4:25], PATCH[25:34], PATCH[34:])
EVERY_KIND = (
    chunk({"role": "assistant", "content": ""}) + chunk({"reasoning": "Let "}) + chunk({"reasoning_content": "me."})
    + chunk({"content": "wörld "}) + chunk({"content": "🦜"}) + call(0, "a", "", '{"x"', ":1}")
    + call(1, "apply_patch", *PATCH_PIECES) + call(2, "local_shell", '{"command":["ls"]}') + call(3, "space__f", "{}")
    + call(4, "tool_search", '{"q":1}') + call(5, "unknown", "{}") + chunk({}, "tool_calls") + USAGE + DONE
)  # fmt: skip


def event_dicts(stream: bytes) -> list[dict[str, Any]]:
    out = []
    for event in events(stream):
        out.append(orjson.loads(event.data))
        assert event.name.decode() == out[-1]["type"]
    return out


def built(heard: list[dict[str, Any]]) -> dict[str, Any]:
    """The response that a client builds from the events, which must agree with each other in every way."""
    assert [event["sequence_number"] for event in heard] == list(range(len(heard)))
    assert [event["type"] for event in heard[:2]] == ["response.created", "response.in_progress"]
    items: dict[int, dict[str, Any]] = {}
    texts: dict[int, str] = {}
    open_items: set[int] = set()
    for event in heard[2:-1]:
        kind, index = event["type"], event["output_index"]
        if kind == "response.output_item.added":
            assert index == len(items), "items begin in the order of their places"
            items[index], texts[index] = event["item"], ""
            open_items.add(index)
            continue
        assert index in open_items
        if kind == "response.output_item.done":
            open_items.remove(index)
            assert event["item"]["id"] == items[index]["id"]
            items[index] = event["item"]
            continue
        assert event["item_id"] == items[index]["id"]
        if kind.endswith(".delta"):
            texts[index] += event["delta"]
        elif kind.endswith(".done") and "part" not in event:
            members = ("text", "refusal", "arguments", "input")
            assert next(event[name] for name in members if name in event) == texts[index]
    assert not open_items
    response: dict[str, Any] = heard[-1]["response"]
    assert response["output"] == [items[at] for at in range(len(items))]
    return response


@STEPS
def test_pieces_of_any_size_give_the_same_events(read: Read, step: int) -> None:
    whole = read(ToResponsesReader(HEAD), EVERY_KIND, len(EVERY_KIND))
    for size in piece_sizes(len(EVERY_KIND), step):
        reader = ToResponsesReader(HEAD)
        assert read(reader, EVERY_KIND, size) == whole, size
        assert reader.usage == Usage(9, 5, 4, 2)


def test_every_kind_of_item_is_built(read: Read) -> None:
    response = built(event_dicts(read(ToResponsesReader(HEAD), EVERY_KIND, 100)))
    shell = {"type": "exec", "command": ["ls"], "env": {}}
    expected: list[dict[str, Any]] = [
        {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Let me."}]},
        {"type": "message", "role": "assistant"},
        {"type": "function_call", "name": "a", "arguments": '{"x":1}', "call_id": "call_a"},
        {"type": "custom_tool_call", "name": "apply_patch", "input": "*** Begin\n🦜é"},
        {"type": "local_shell_call", "action": shell, "call_id": "call_local_shell"},
        {"type": "function_call", "name": "f", "namespace": "space", "arguments": "{}"},
        {"type": "tool_search_call", "execution": "client", "arguments": {"q": 1}},
        {"type": "function_call", "name": "unknown", "arguments": "{}"},
    ]
    for item, wanted in zip(response["output"], expected, strict=True):
        assert {name: item.get(name) for name in wanted} == wanted
    assert response["output"][1]["content"][0]["text"] == "wörld 🦜"
    assert (response["status"], response["model"], response["store"]) == ("completed", "m", False)
    assert (response["instructions"], response["temperature"]) == ("Be kind.", 0.5)
    assert response["usage"] == {
        "input_tokens": 9, "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0}, "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 14,
    }  # fmt: skip


@pytest.fixture(scope="module")
def strictly() -> Callable[[Any], Any]:
    """Validates an event by the types of openai-python, which itself reads leniently."""
    from openai.types.responses import ResponseStreamEvent

    adapter: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
    return adapter.validate_python


def test_openais_types_read_every_event(read: Read, chat_sse: Any, strictly: Callable[[Any], Any]) -> None:
    from openai._models import construct_type
    from openai.types.responses import ResponseStreamEvent

    for event in event_dicts(read(ToResponsesReader(HEAD), chat_sse.stream, 1000)):
        found: Any = construct_type(type_=ResponseStreamEvent, value=event)
        assert (found.type, found.sequence_number) == (event["type"], event["sequence_number"])
        if event["type"] != "response.failed":  # its types list OpenAI's own codes only
            assert strictly(event).type == event["type"]


def test_openais_types_read_every_kind_of_item(read: Read, strictly: Callable[[Any], Any]) -> None:
    seen = {strictly(event).type for event in event_dicts(read(ToResponsesReader(HEAD), EVERY_KIND, 1000))}
    assert {"response.custom_tool_call_input.done", "response.reasoning_summary_part.done"} < seen


def test_every_stream_of_a_chat_builds_its_response(read: Read, chat_sse: Any) -> None:
    reader = ToResponsesReader(HEAD)
    heard = event_dicts(read(reader, chat_sse.stream, 33))
    assert (reader.usage, reader.error) == (chat_sse.usage, chat_sse.error)
    if chat_sse.error is not None:
        last = heard[-1]
        assert (last["type"], last["response"]["status"]) == ("response.failed", "failed")
        assert last["response"]["error"] == {"code": "oom", "message": chat_sse.error}
        return
    response = built(heard)
    reasons = {"max_tokens": "max_output_tokens", "refusal": "content_filter"}
    filtered = chat_sse.name in ("length", "filtered")
    assert response["status"] == ("incomplete" if filtered else "completed")
    assert response["incomplete_details"] == ({"reason": reasons[chat_sse.stop[0]]} if filtered else None)
    said = [
        c.get("text") or c.get("refusal") for i in response["output"] if i["type"] == "message" for c in i["content"]
    ]
    assert "".join(said) == "".join(block["text"] for block in chat_sse.blocks if block["type"] == "text")
    called = [
        (i["name"], orjson.loads(i["arguments"] or "{}")) for i in response["output"] if i["type"] == "function_call"
    ]
    assert called == [(b["name"], b["input"]) for b in chat_sse.blocks if b["type"] == "tool_use"]


def test_every_stream_of_anthropics_builds_its_response(read: Read, sse: Any, make_call: MakeCall) -> None:
    asked = make_call("chat", stream=True)
    whole = b""
    for size in (len(sse.stream), 1, 7, 64):
        reader = ToResponsesReader(HEAD, ToChatReader(asked, keep_text=False))
        out = read(reader, sse.stream, size)
        assert not whole or out == whole
        whole = out
        assert (reader.usage, reader.error) == (sse.usage, sse.error)
    heard = event_dicts(whole)
    assert heard[-1]["type"] == {
        None: "response.failed", "length": "response.incomplete", "content_filter": "response.incomplete",
    }.get(sse.finish, "response.completed")  # fmt: skip
    if sse.finish is not None:
        said = [c["text"] for i in built(heard)["output"] if i["type"] == "message" for c in i["content"]]
        assert "".join(said) == "".join(delta.get("content") or "" for delta in sse.deltas)


def test_a_last_event_without_its_blank_line_counts(read: Read, make_call: MakeCall) -> None:
    event = b'data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"Hi"}}\n\n'
    usage = b'"usage":{"input_tokens":3,"output_tokens":1}'
    last = b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"},' + usage + b"}"
    for ending in (b"", b"\n"):
        reader = ToResponsesReader(HEAD, ToChatReader(make_call("chat", stream=True), keep_text=False))
        response = built(event_dicts(read(reader, event + last + ending, 20)))
        assert (response["status"], response["usage"]["output_tokens"], reader.usage) == ("completed", 1, Usage(3, 1))


def test_a_stream_without_a_finish_is_a_cut(read: Read) -> None:
    cut = EVERY_KIND[: EVERY_KIND.index(b'"finish_reason":"tool_calls"')]
    with pytest.raises(Cut):
        read(ToResponsesReader(HEAD), cut, 100)


DELTAS = st.one_of(
    st.builds(lambda text: {"content": text}, st.text(max_size=5)),
    st.builds(lambda text: {"reasoning": text}, st.text(max_size=5)),
    st.builds(lambda text: {"refusal": text}, st.text(max_size=5)),
    st.builds(
        lambda index, name, piece: {"tool_calls": [{"index": index, "function": {"name": name, "arguments": piece}}]},
        st.integers(0, 3), st.sampled_from(["a", "apply_patch", "local_shell", "x", None]), st.text(max_size=5),
    ),
    st.dictionaries(st.sampled_from(["content", "tool_calls", "reasoning"]), st.sampled_from([None, -9, 0, 9, [7]])),
)  # fmt: skip


@given(st.lists(DELTAS, max_size=12), st.sampled_from(["stop", "length", "tool_calls"]))
def test_any_deltas_build_a_response_that_agrees_with_its_events(deltas: list[dict[str, Any]], finish: str) -> None:
    stream = b"".join(map(chunk, deltas)) + chunk({}, finish) + DONE
    reader = ToResponsesReader(HEAD)
    response = built(event_dicts(reader.feed(stream)))
    texts = [delta["content"] for delta in deltas if isinstance(delta.get("content"), str)]
    said = [part.get("text", "") for item in response["output"] for part in item.get("content", ())]
    assert "".join(said) == "".join(texts)


def test_a_plain_answer_is_what_the_stream_builds(read: Read) -> None:
    from openai.types.responses import Response

    calls = [
        {"id": "call_a", "type": "function", "function": {"name": "a", "arguments": '{"x":1}'}},
        {"id": "call_apply_patch", "type": "function", "function": {"name": "apply_patch", "arguments": PATCH}},
    ]
    message = {"role": "assistant", "content": "wörld 🦜", "reasoning": "Let me.", "tool_calls": calls}
    chat = {"id": "c", "model": "m", "choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    response = to_response(chat, HEAD, Usage(9, 5, 4, 2))
    stream = (
        chunk({"reasoning": "Let me."}) + chunk({"content": "wörld 🦜"}) + call(0, "a", '{"x":1}')
        + call(1, "apply_patch", PATCH) + chunk({}, "tool_calls") + USAGE + DONE
    )  # fmt: skip
    assert response == built(event_dicts(read(ToResponsesReader(HEAD), stream, 50)))
    assert Response.model_validate(response).output_text == "wörld 🦜"
    found = assemble("responses", False, orjson.dumps(response))
    assert (found.text, found.reasoning, found.finish_reason) == ("wörld 🦜", "Let me.", "completed")
    assert [made.name for made in found.tool_calls] == ["a", "apply_patch"]


@pytest.mark.parametrize("chat", [{}, {"choices": []}, {"choices": [7]}, {"choices": {"a": 1}}])
def test_a_body_without_a_completion_is_refused(chat: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="no choices"):
        to_response(chat, HEAD, None)


def test_a_record_of_the_stream_reads_as_one_of_the_object(read: Read) -> None:
    stream = read(ToResponsesReader(HEAD), EVERY_KIND, 100)
    streamed = assemble("responses", True, stream)
    whole = assemble("responses", False, orjson.dumps(event_dicts(stream)[-1]["response"]))
    assert streamed == whole
