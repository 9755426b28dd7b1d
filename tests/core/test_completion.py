"""An answer reads the same plain or streamed, in each API's spelling, also when it is cut."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.completion import Completion, ToolCall, assemble, completion_of, from_json, usage_of
from gateway.core.exchange import Exchange, Target, Usage


def sse(*parts: dict[str, Any], done: bool = True, named: bool = False) -> bytes:
    """named: with the event line that Anthropic and Responses streams have."""
    lines = [(b"event: " + p["type"].encode() + b"\n" if named else b"") + b"data: " + orjson.dumps(p) for p in parts]
    return b"".join(line + b"\n\n" for line in lines) + (b"data: [DONE]\n\n" if done else b"")


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, index: int = 0, **more: Any
) -> dict[str, Any]:
    choice = {"index": index, "delta": delta or {}, "finish_reason": finish}
    return {"id": "c1", "object": "chat.completion.chunk", "model": "m", "choices": [choice], **more}


USAGE = {"prompt_tokens": 3, "completion_tokens": 5}
CALL = {"index": 0, "id": "t1", "type": "function", "function": {"name": "look", "arguments": ""}}
MESSAGE = {"type": "message", "id": "a1", "model": "m", "role": "assistant"}
SAID = Completion("Hello there", finish_reason="stop", usage=Usage(3, 5), model="m", upstream_id="c1")
CALLED = Completion(
    tool_calls=(ToolCall("t1", "look", '{"at": 1}'),),
    finish_reason="tool_calls",
    usage=None,
    model="m",
    upstream_id="c1",
)

CASES: dict[str, tuple[str, bool, bytes, Completion]] = {
    "chat plain": (
        "chat", False,
        orjson.dumps({"id": "c1", "model": "m", "usage": USAGE, "choices": [
            {"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}]}),
        SAID,
    ),
    "chat stream": (
        "chat", True,
        sse(chunk({"role": "assistant", "content": ""}), chunk({"content": "Hello"}), chunk({"content": " there"}),
            chunk(finish="stop"), {"id": "c1", "model": "m", "choices": [], "usage": USAGE}),
        SAID,
    ),
    "chat stream, usage in the finish chunk, no [DONE]": (
        "chat", True,
        sse(chunk({"content": "Hello there"}), chunk(finish="stop", usage=USAGE), done=False),
        SAID,
    ),
    "chat stream, first delta without content": (
        "chat", True,
        sse(chunk({"role": "assistant", "content": None}), chunk({"content": "Hello there"}), chunk(finish="stop"),
            {"id": "c1", "model": "m", "choices": [], "usage": USAGE}),
        SAID,
    ),
    "chat tool calls plain": (
        "chat", False,
        orjson.dumps({"id": "c1", "model": "m", "choices": [{"index": 0, "finish_reason": "tool_calls", "message": {
            "content": None, "tool_calls": [{"id": "t1", "type": "function",
                                             "function": {"name": "look", "arguments": '{"at": 1}'}}]}}]}),
        CALLED,
    ),
    "chat tool calls stream": (
        "chat", True,
        sse(chunk({"tool_calls": [CALL]}), chunk({"tool_calls": [{"index": 0, "function": {"arguments": '{"at":'}}]}),
            chunk({"tool_calls": [{"index": 0, "function": {"arguments": " 1}"}}]}), chunk(finish="tool_calls")),
        CALLED,
    ),
    "chat reasoning, refusal and logprobs": (
        "chat", True,
        sse(chunk({"reasoning_content": "hm"}), chunk({"reasoning": "m"}), chunk({"refusal": "no"}),
            {"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": "x"}, "logprobs": {
                "content": [{"token": "x", "logprob": -1.0}, {"token": "y", "logprob": -3.0}]}}]}),
        Completion("x", "hmm", "no", model="m", upstream_id="c1", mean_logprob=-2.0),
    ),
    "chat, two choices": (
        "chat", True,
        sse(chunk({"content": "one"}), chunk({"content": "two"}, index=1), chunk(finish="stop")),
        Completion("one", finish_reason="stop", model="m", upstream_id="c1", choices=2),
    ),
    "chat, an error in the stream": (
        "chat", True,
        sse(chunk({"content": "so"}), {"error": {"message": "upstream broke", "type": "x"}}, done=False),
        Completion("so", model="m", upstream_id="c1", error="upstream broke"),
    ),
    "an error as the answer": ("chat", False, b'{"error": {"message": "no model"}}', Completion(error="no model")),
    "an error as text": ("chat", False, b'{"error": "plain"}', Completion(error="plain")),
    "completions plain": (
        "completions", False,
        orjson.dumps({"id": "c1", "model": "m", "usage": USAGE, "choices": [
            {"index": 0, "text": "Hello there", "finish_reason": "stop",
             "logprobs": {"token_logprobs": [None, -1.0, -2.0]}}]}),
        replace(SAID, mean_logprob=-1.5),
    ),
    "completions stream": (
        "completions", True,
        sse(*({"id": "c1", "model": "m", "choices": [{"index": 0, "text": t, "finish_reason": f}]}
              for t, f in (("Hello", None), (" there", None), ("", "stop"))), {"choices": [], "usage": USAGE}),
        SAID,
    ),
    "messages plain": (
        "messages", False,
        orjson.dumps({**MESSAGE, "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": "Hello"},
                     {"type": "tool_use", "id": "t1", "name": "look", "input": {"at": 1}}],
                     "stop_reason": "tool_use", "usage": {"input_tokens": 3, "output_tokens": 5}}),
        Completion("Hello", "hm", tool_calls=(ToolCall("t1", "look", '{"at":1}'),), finish_reason="tool_use",
                   usage=Usage(3, 5), model="m", upstream_id="a1"),
    ),
    "messages stream": (
        "messages", True,
        sse({"type": "message_start", "message": {**MESSAGE, "content": [], "stop_reason": None,
             "usage": {"input_tokens": 3, "output_tokens": 1}}},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "ping"},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hel"}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "lo"}},
            {"type": "content_block_start", "index": 1,
             "content_block": {"type": "tool_use", "id": "t1", "name": "look", "input": {}}},
            {"type": "content_block_delta", "index": 1, "delta": {"partial_json": '{"at":'}},
            {"type": "content_block_delta", "index": 1, "delta": {"partial_json": "1}"}},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 5}},
            {"type": "message_stop"}, done=False, named=True),
        Completion("Hello", tool_calls=(ToolCall("t1", "look", '{"at":1}'),), finish_reason="tool_use",
                   usage=Usage(3, 5), model="m", upstream_id="a1"),
    ),
    "responses plain": (
        "responses", False,
        orjson.dumps({"object": "response", "id": "r1", "model": "m", "status": "completed", "output": [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "Hello"}]},
            {"type": "function_call", "call_id": "t1", "name": "look", "arguments": "{}"}],
            "usage": {"input_tokens": 3, "output_tokens": 5}}),
        Completion("Hello", "hm", tool_calls=(ToolCall("t1", "look", "{}"),), finish_reason="completed",
                   usage=Usage(3, 5), model="m", upstream_id="r1"),
    ),
    "responses stream": (
        "responses", True,
        sse({"type": "response.created", "response": {"object": "response", "id": "r1"}},
            {"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"},
            {"type": "response.output_text.delta", "output_index": 0, "delta": "lo"},
            {"type": "response.completed", "response": {"id": "r1", "model": "m", "status": "incomplete",
             "incomplete_details": {"reason": "max_output_tokens"},
             "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hello"}]}],
             "usage": {"input_tokens": 3, "output_tokens": 5}}}, done=False, named=True),
        Completion("Hello", finish_reason="max_output_tokens", usage=Usage(3, 5), model="m", upstream_id="r1"),
    ),
    "responses stream, cut": (
        "responses", True,
        sse({"type": "response.output_text.delta", "output_index": 0, "delta": "Hel"},
            {"type": "response.output_item.added", "output_index": 1,
             "item": {"type": "function_call", "call_id": "t1", "name": "look"}},
            {"type": "response.function_call_arguments.delta", "output_index": 1, "delta": "{"},
            done=False, named=True),
        Completion("Hel", tool_calls=(ToolCall("t1", "look", "{"),)),
    ),
    "embeddings": (
        "embeddings", False,
        b'{"object": "list", "model": "m", "data": [], "usage": {"prompt_tokens": 3}}',
        Completion(usage=Usage(3, 0), model="m"),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_an_answer_is_read(name):
    api, stream, response, expected = CASES[name]
    assert assemble(api, stream, response) == expected


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case[1]])
def test_a_stream_cut_anywhere_gives_what_is_whole_in_it(name):
    """The text only grows with what came, and is in the end the whole one."""
    api, stream, response, expected = CASES[name]
    texts = [assemble(api, stream, response[:at]).text for at in range(len(response) + 1)]
    assert texts[-1] == expected.text
    assert all(expected.text.startswith(text) for text in texts)
    assert all(len(a) <= len(b) for a, b in pairwise(texts))


@given(st.sampled_from(["chat", "completions", "responses", "messages", "other"]), st.booleans(), st.data())
def test_assembling_never_raises(api, stream, data):
    json = st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
        max_leaves=12,
    )
    parts = data.draw(st.lists(st.dictionaries(st.sampled_from(KEYS), json, max_size=6), max_size=4))
    raw = sse(*parts) if stream else orjson.dumps(parts[0] if parts else {})
    assert isinstance(assemble(api, stream, raw), Completion)


KEYS = [
    "choices", "index", "message", "delta", "content", "text", "finish_reason", "usage", "prompt_tokens", "type", "id",
    "completion_tokens", "model", "error", "tool_calls", "function", "arguments", "logprobs", "logprob", "output",
    "item", "content_block", "output_index", "response", "status", "object", "incomplete_details",
    "prompt_tokens_details",
]  # fmt: skip


@given(st.binary(max_size=200), st.booleans())
def test_bytes_that_are_not_an_answer_report_nothing(raw, stream):
    assert isinstance(assemble("chat", stream, raw), Completion)


@pytest.mark.parametrize("name", CASES)
def test_the_assembled_form_crosses_the_stream(name):
    completion = CASES[name][3]
    assert from_json(completion.to_json()) == completion
    exchange = Exchange(
        "i", 0.0, "c", "chat", "a", Target("u", "m"), True, b"", completion.to_json(), 200, "ok", 0.0, "u", 0.0, 1.0,
        "s", "g", 1, form="assembled",
    )  # fmt: skip
    assert completion_of(exchange) == completion


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, None),
        ({}, None),
        ({"total_tokens": 3}, None),
        ({"prompt_tokens": 0, "completion_tokens": 0}, Usage(0, 0)),
        ({"prompt_tokens": 3, "completion_tokens": None}, Usage(3, 0)),
        (
            {"prompt_tokens": 9, "completion_tokens": 5, "prompt_tokens_details": {"cached_tokens": 4},
             "completion_tokens_details": {"reasoning_tokens": 2}},
            Usage(9, 5, 4, 2),
        ),
        (
            {"input_tokens": 3, "output_tokens": 5, "cache_read_input_tokens": 10, "cache_creation_input_tokens": 1},
            Usage(14, 5, 10),
        ),
    ],
)  # fmt: skip
def test_usage_is_read_in_every_spelling(raw, expected):
    assert usage_of(raw) == expected


@pytest.mark.parametrize("count", [-1, 1 << 53, 1 << 80])
def test_a_count_that_nobody_can_have_counted_is_none(count: int) -> None:
    """A sum of such would not fit a record, and one record must not stop the recorder."""
    found = usage_of({"prompt_tokens": count, "completion_tokens": 2})
    assert found is not None
    assert (found.input_tokens, found.output_tokens) == (0, 2)


@given(
    st.fixed_dictionaries(
        {"content": st.one_of(st.text(), st.none(), st.just([{"type": "text", "text": "a"}]))},
        optional={
            "role": st.just("assistant"),
            "refusal": st.sampled_from([None, "", "no"]),
            "reasoning": st.text(),
            "annotations": st.just([]),
            "tool_calls": st.sampled_from([None, [], [{"id": "1", "function": {"name": "f", "arguments": "{}"}}]]),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "index": st.sampled_from([0, 1, None]),
            "finish_reason": st.sampled_from(["stop", "", None]),
            "logprobs": st.sampled_from([None, {}, {"content": [{"logprob": -1.0}]}]),
        },
    ),
    st.fixed_dictionaries(
        {},
        optional={
            "id": st.text(max_size=3),
            "model": st.sampled_from(["m", "", None]),
            "usage": st.sampled_from([None, {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}]),
            "error": st.sampled_from([None, "broken", {"message": "broken"}]),
        },
    ),
)
def test_a_plain_answer_is_read_as_any_other(message, choice, head) -> None:
    """A member that no API has sends an answer through the general reader."""

    def read(message: dict[str, object]) -> Completion:
        return assemble("chat", False, orjson.dumps({**head, "choices": [{**choice, "message": message}]}))

    assert read(message) == read({**message, "of_no_api": 1})
