"""RawReader passes every byte; errors of any format have a message; events of a known form are translated alike."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.dialects.anthropic_reader import ToChatReader
from gateway.proxy.dialects.client_tools import client_tools
from gateway.proxy.dialects.event_reader import RawReader, TranslatingReader, error_message
from gateway.proxy.dialects.messages import ToMessagesReader
from gateway.proxy.dialects.plain_answer import AnswerTail
from gateway.proxy.dialects.responses_reader import ResponseHead, ToResponsesReader
from gateway.proxy.request.call import Call


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1))
def test_raw_bytes_pass_and_end_when_the_upstream_does(chunks: list[bytes]) -> None:
    reader = RawReader(AnswerTail())
    assert not reader.first_content
    assert [reader.feed(chunk) for chunk in chunks] == chunks
    assert (reader.first_content, reader.finished, reader.complete) == (True, False, False)
    assert reader.end() == b""
    assert reader.finished
    assert reader.complete


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"message": "no", "code": 1}, "no"),
        ("no", "no"),
        ({"detail": "x"}, "{'detail': 'x'}"),
        ({"message": ""}, "{'message': ''}"),
    ],
)
def test_an_error_of_any_format_has_a_message(error: Any, words: str) -> None:
    assert error_message(error) == words


def event_of(data: Any, ascii_only: bool) -> bytes:
    return b"data: " + json.dumps(data, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass") + b"\n\n"


def head_of(call: Call) -> ResponseHead:
    return ResponseHead(call.id, 1, "m", {}, client_tools({}))


def anthropic_event(kind: str, text: str, ascii_only: bool) -> bytes:
    """An event of Anthropic's API. kind: text, thinking, input, or another event."""
    deltas = {"text": ("text_delta", "text"), "thinking": ("thinking_delta", "thinking"),
              "input": ("input_json_delta", "partial_json")}  # fmt: skip
    if kind not in deltas:
        return b'event: ping\ndata: {"type":"ping"}\n\n'
    name, member = deltas[kind]
    data = {"type": "content_block_delta", "index": 0, "delta": {"type": name, member: text}}
    return b"event: content_block_delta\n" + event_of(data, ascii_only)


def chat_event(kind: str, text: str, ascii_only: bool) -> bytes:
    delta: dict[str, Any] = {"text": {"content": text}, "thinking": {"reasoning_content": text}}.get(kind, {})
    if kind == "input":
        delta = {"tool_calls": [{"index": 0, "id": "call_1", "function": {"name": "f", "arguments": text}}]}
    chunk = {"id": "1", "model": text[:1], "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
    return event_of(chunk, ascii_only)


READERS: dict[str, tuple[Any, Callable[[Call], TranslatingReader]]] = {
    "a chat of Anthropic's events": (anthropic_event, lambda call: ToChatReader(call, keep_text=True)),
    "a message of chat events": (chat_event, lambda call: ToMessagesReader()),
    "responses of chat events": (chat_event, lambda call: ToResponsesReader(head_of(call))),
    "responses of Anthropic's events": (
        anthropic_event, lambda call: ToResponsesReader(head_of(call), ToChatReader(call, keep_text=False))
    ),
}  # fmt: skip
ENDS = {
    anthropic_event: b'data: {"type":"message_delta","delta":{"stop_reason":"end_turn"}}\n\n'
    b'data: {"type":"message_stop"}\n\n',
    chat_event: b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\ndata: [DONE]\n\n',
}
STARTS = {
    anthropic_event: b'data: {"type":"message_start","message":{"id":"m","usage":{"input_tokens":1}}}\n\n'
    b'data: {"type":"content_block_start","index":0,"content_block":{"type":"tool_use","id":"c","name":"f"}}\n\n',
    chat_event: b"",
}
TEXTS = st.one_of(
    st.sampled_from(["a", "b ", "m", "ü", "日本", '"', "\\", "\n", "", "text", "\ud800"]), st.text(max_size=5)
)
BROKEN = st.sampled_from([b"\x00", b"\xff", b"\n", b"\r\n", b'"', b"\\", b"\\u12", b"\xed\xa0\x80"])


@pytest.mark.parametrize("made_of", READERS)
@given(
    pieces=st.lists(st.tuples(st.sampled_from(["text", "thinking", "input", "ping"]), TEXTS), min_size=1, max_size=12),
    ascii_only=st.booleans(), broken=st.none() | BROKEN, joined=st.booleans(),
)  # fmt: skip
def test_events_of_a_known_form_are_translated_as_others(
    make_call: Callable[..., Call], made_of: str, pieces: list[tuple[str, str]], ascii_only: bool, broken: bytes | None,
    joined: bool,
) -> None:  # fmt: skip
    """Readers agree whatever the text and the order, with bytes that no JSON text may hold, and with two events at
    once.
    """
    event, make = READERS[made_of]
    stream = [event(kind, text, ascii_only) for kind, text in pieces for _ in range(2)]
    if broken is not None:
        stream += [event("text", "x", False), event("text", "y", False).replace(b'"y"', b'"y' + broken + b'"')]
    if joined:
        stream = [*stream, stream[-1] + stream[-1], stream[-1]]

    def reader() -> TranslatingReader:
        made = make(make_call(stream=True, **({"input": "hi"} if "responses" in made_of else {})))
        made.feed(STARTS[event])
        return made

    fed, quick = reader(), reader()
    expected = [fed.feed(data) for data in stream]
    assert [quick.translated(data) or quick.feed(data) for data in stream] == expected
    assert quick.feed(ENDS[event]) == fed.feed(ENDS[event])
    assert (quick.text, quick.continuable, quick.usage) == (fed.text, fed.continuable, fed.usage)
    assert (quick.finished, quick.complete, quick.error) == (fed.finished, fed.complete, fed.error)


@pytest.mark.parametrize("made_of", READERS)
@pytest.mark.parametrize("kind", ["text", "thinking"])
def test_most_events_are_translated_by_their_form(make_call: Callable[..., Call], made_of: str, kind: str) -> None:
    event, make = READERS[made_of]
    made = make(make_call(stream=True))
    made.feed(STARTS[event])
    words = [f"w{at} ü" for at in range(50)]
    stream = [event(kind, word, False).replace(b'"model": "w"', b'"model": "m"') for word in words]
    fed = 0
    for data in stream:
        if not made.translated(data):
            made.feed(data)
            fed += 1
    assert fed <= 2


def test_half_an_event_is_never_followed_by_one_of_the_form(make_call: Callable[..., Call]) -> None:
    reader = ToChatReader(make_call(stream=True), keep_text=False)
    word = anthropic_event("text", "abc", True)
    assert reader.feed(word)
    assert reader.translated(word)
    reader.feed(word[:20])
    assert not reader.translated(word)
