"""OpenAI's streams reach the client byte for byte, however the network splits them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fixtures.piece_sizes import STEPS, piece_sizes
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.config.upstreams import Upstream
from gateway.core.exchange import Usage
from gateway.proxy.dialects.openai import OpenAI
from gateway.proxy.dialects.types import Cut, Reader
from gateway.proxy.request.call import Call

MakeCall = Callable[..., Call]
Read = Callable[[Reader, bytes, int], bytes]

WORD = b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"x"},"logprobs":null,"finish_reason":null}]}\n\n'
STOP = b'data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"id":"1","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}\n\n'
DONE = b"data: [DONE]\n\n"


def make_reader(call: Call, keep_text: bool = False) -> Reader:
    return OpenAI(Upstream(kind="openai")).reader(call, keep_text)


@STEPS
def test_pieces_of_any_size_give_the_same_bytes_and_usage(
    recorded: Any, make_call: MakeCall, read: Read, step: int
) -> None:
    call = make_call(recorded.api, stream=True, **recorded.fields)
    for size in piece_sizes(len(recorded.stream), step):
        reader = make_reader(call)
        assert read(reader, recorded.stream, size) == recorded.client, size
        assert (reader.usage, reader.error) == (recorded.usage, recorded.error), size
        assert reader.complete
        assert reader.finished or reader.error is not None


def test_every_split_at_a_line_end_gives_the_same_bytes(recorded: Any, make_call: MakeCall) -> None:
    call = make_call(recorded.api, stream=True, **recorded.fields)
    stream = recorded.stream
    for cut in (at for at in range(len(stream) + 1) if {10, 13} & {*stream[at - 1 : at + 1]}):
        reader = make_reader(call)
        assert reader.feed(stream[:cut]) + reader.feed(stream[cut:]) + reader.end() == recorded.client, cut
        assert reader.usage == recorded.usage


def test_the_text_is_kept_where_nothing_else_was_said(recorded: Any, make_call: MakeCall, read: Read) -> None:
    for size in (1, 7, 10_000):
        reader = make_reader(make_call(recorded.api, stream=True, **recorded.fields), keep_text=True)
        assert read(reader, recorded.stream, size) == recorded.client
        if recorded.text is not None:
            assert (reader.text, reader.continuable) == (recorded.text, True)


SAYS_MORE = {
    "tool call", "text, then a tool call", "function call of old", "logprobs", "refusal", "reasoning",
    "reasoning_content", "audio", "images", "two choices", "two choices without DONE", "a malformed event",
    "halves of a surrogate pair",
}  # fmt: skip


def test_answers_beyond_text_cannot_be_continued(recorded: Any, make_call: MakeCall, read: Read) -> None:
    reader = make_reader(make_call(recorded.api, stream=True, **recorded.fields), keep_text=True)
    read(reader, recorded.stream, 10_000)
    if recorded.name in SAYS_MORE or recorded.api != "chat":
        assert not reader.continuable


def test_the_text_can_be_asked_for_at_any_time(make_call: MakeCall) -> None:
    reader = make_reader(make_call(stream=True), keep_text=True)
    for count in range(1, 5):
        reader.feed(WORD)
        assert (reader.text, reader.continuable) == ("x" * count, True)


def test_the_text_is_whole_where_the_form_of_events_changes(make_call: MakeCall) -> None:
    other = WORD.replace(b'"content"', b'"role":"assistant","content"')
    for words in ([WORD] * 3, [WORD, WORD, other, other, WORD, other], [other, WORD, WORD, b": ping\n\n", WORD]):
        reader = make_reader(make_call(stream=True), keep_text=True)
        expected = ""
        for at, word in enumerate(words):
            reader.feed(word.replace(b"x", b"%d " % at))
            expected += f"{at} " if word[:1] != b":" else ""
        assert (reader.text, reader.continuable) == (expected, True)


def test_without_keep_text_nothing_is_kept(make_call: MakeCall) -> None:
    reader = make_reader(make_call(stream=True))
    reader.feed(WORD)
    assert (reader.text, reader.continuable) == ("", False)


EVENTS = st.sampled_from(
    [WORD, WORD.replace(b"x", "é🦜".encode()), b": ping\n\n", b"\n", b"data: {oops\n\n", b'event: x\ndata: {"a":1}\n\n',
     b"data: 1\ndata: 2\n\n", WORD.replace(b"\n", b"\r\n"), WORD.replace(b"\n", b"\r"), b"\r\n"]
)  # fmt: skip


@settings(deadline=None)
@given(st.lists(EVENTS, max_size=8), st.lists(st.integers(1, 60), min_size=1, max_size=30), st.booleans())
def test_any_events_in_any_pieces_pass_but_for_the_usage_chunk(
    make_call: MakeCall, events: list[bytes], sizes: list[int], asked: bool
) -> None:
    middle = b"".join(events)
    stream = middle + STOP + USAGE + DONE
    fields = {"stream_options": {"include_usage": True}} if asked else {}
    reader = make_reader(make_call(stream=True, **fields))
    out, at, turn = [], 0, 0
    while at < len(stream):
        size = sizes[turn % len(sizes)]
        out.append(reader.feed(stream[at : at + size]))
        at, turn = at + size, turn + 1
    assert b"".join(out) + reader.end() == middle + STOP + (USAGE if asked else b"") + DONE
    assert reader.usage == Usage(3, 2)


@given(st.binary(max_size=200), st.integers(1, 50))
def test_no_bytes_break_a_reader(make_call: MakeCall, data: bytes, size: int) -> None:
    for api in ("chat", "completions", "responses"):
        reader = make_reader(make_call(api, stream=True), keep_text=True)
        for at in range(0, len(data), size):
            reader.feed(data[at : at + size])
        assert isinstance(reader.text, str)


@pytest.mark.parametrize("api", ["chat", "completions", "responses"])
@pytest.mark.parametrize("stream", [b"", WORD, WORD + WORD[:30], WORD + b": bye\n\n", WORD.rstrip()])
def test_a_stream_that_ends_without_a_finish_is_cut(make_call: MakeCall, api: str, stream: bytes) -> None:
    reader = make_reader(make_call(api, stream=True))
    assert stream.startswith(reader.feed(stream))
    with pytest.raises(Cut):
        reader.end()


def test_half_an_event_is_never_given(make_call: MakeCall) -> None:
    """Half an event would swallow the error event that follows it."""
    reader = make_reader(make_call(stream=True))
    assert reader.feed(WORD + WORD[:50]) == WORD


def test_the_last_word_before_a_cut_counts_only_if_it_was_given(make_call: MakeCall) -> None:
    reader = make_reader(make_call(stream=True), keep_text=True)
    reader.feed(WORD + WORD.rstrip())
    with pytest.raises(Cut):
        reader.end()
    assert reader.text == "x"


def test_two_choices_are_finished_when_both_are(make_call: MakeCall) -> None:
    reader = make_reader(make_call(stream=True, n=2))
    reader.feed(WORD + WORD.replace(b'"index":0', b'"index":1') + STOP)
    assert not reader.finished
    reader.feed(STOP.replace(b'"index":0', b'"index":1'))
    assert reader.finished


def test_a_second_choice_that_comes_late_is_waited_for(make_call: MakeCall) -> None:
    reader = make_reader(make_call(stream=True, n=2))
    reader.feed(WORD + STOP + WORD.replace(b'"index":0', b'"index":1'))
    with pytest.raises(Cut):
        reader.end()


def test_the_end_is_sent_once(make_call: MakeCall) -> None:
    reader = make_reader(make_call(stream=True))
    reader.feed(WORD + STOP)
    assert (reader.end(), reader.end()) == (DONE, b"")
    assert reader.complete


def test_a_role_does_not_grant_content(make_call: MakeCall) -> None:
    reader = make_reader(make_call(stream=True))
    reader.feed(b'data: {"choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}\n\n')
    assert not reader.first_content
    reader.feed(WORD)
    assert reader.first_content


@pytest.mark.parametrize(
    "delta",
    ['"content":"a"', '"reasoning":"a"', '"reasoning_content":"a"', '"refusal":"a"', '"tool_calls":[{"index":0}]',
     '"function_call":{"name":"f"}', '"audio":{"id":"a"}', '"not_known_yet":1'],
)  # fmt: skip
def test_every_kind_of_content_is_content(make_call: MakeCall, delta: str) -> None:
    reader = make_reader(make_call(stream=True))
    reader.feed(f'data: {{"choices":[{{"index":0,"delta":{{{delta}}}}}]}}\n\n'.encode())
    assert reader.first_content


@pytest.mark.parametrize(
    ("event", "content"),
    [
        (b'data: {"type":"response.created","response":{}}\n\n', False),
        (b'data: {"type":"response.output_text.delta","delta":"","item_id":"i","obfuscation":"x"}\n\n', False),
        (b'data: {"type":"response.in_progress","response":{"id":"r","output":[]}}\n\n', False),
        (b'data: {"type":"response.output_item.added","item":{"id":"m","type":"message","content":[]}}\n\n', False),
        (b'data: {"type":"response.content_part.added","part":{"type":"output_text","text":""}}\n\n', False),
        (b'data: {"type":"response.image_generation_call.generating","item_id":"i","output_index":1}\n\n', False),
        (b'data: {"type":"keepalive","sequence_number":3}\n\n', False),
        (b'data: {"type":"response.image_generation_call.partial_image","partial_image_b64":"iV"}\n\n', True),
        (b'data: {"type":"response.output_item.done","item":{"type":"image_generation_call","result":"i"}}\n\n', True),
        (b'data: {"type":"response.not_known_yet","frames":["a"]}\n\n', True),
        (b'data: {"type":"response.output_text.delta","delta":"a"}\n\n', True),
        (b'data: {"type":"response.reasoning_summary_text.delta","delta":"a"}\n\n', True),
        (b'data: {"type":"response.function_call_arguments.delta","delta":"{"}\n\n', True),
    ],
)
def test_content_of_responses(make_call: MakeCall, event: bytes, content: bool) -> None:
    reader = make_reader(make_call("responses", stream=True))
    reader.feed(event)
    assert reader.first_content is content


def test_an_event_beyond_all_bounds_is_a_cut(make_call: MakeCall) -> None:
    reader = make_reader(make_call(stream=True))
    with pytest.raises(Cut, match="larger than"):
        reader.feed(b"data: " + b"x" * (17 << 20))


def test_a_word_costs_few_steps(make_call: MakeCall, steps: Any) -> None:
    reader = make_reader(make_call(stream=True))
    reader.feed(WORD)
    with steps() as counted:
        for _ in range(100):
            reader.feed(WORD)
    assert counted.n <= 100 * 20


def event(text: bytes, rest: bytes = b'"logprobs":null,"finish_reason":null') -> bytes:
    return b'data: {"id":"1","choices":[{"index":0,"delta":{"content":"%b"},%b}]}\n\n' % (text, rest)


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (event(b"more"), 1),
        (event(b""), 1),
        (event(b"an error, or [DONE]"), 1),  # the text of an event that is otherwise as the others
        (event(rb"\"quoted\""), 1),
        (event(b"more") + event(b"than one"), 2),
        (event(b"more")[:-1], 0),  # not complete
        (event(b"the end", b'"logprobs":null,"finish_reason":"stop"'), 0),
        (event(b"more") + event(b"and the end", b'"finish_reason":"stop"') + event(b"after it"), 0),
        (event(b"more") + b'data: {"error":{"message":"x"}}\n\n' + event(b"after it"), 0),
        (event(b"more") + DONE + event(b"after it"), 0),
        (USAGE, 0),
        (DONE, 0),
    ],
)
def test_events_that_differ_only_in_their_text_pass(data: bytes, number: int, make_call: MakeCall) -> None:
    reader = make_reader(make_call("chat", stream=True), keep_text=True)
    reader.feed(event(b"first "))
    assert reader.passes(event(b"second "))
    assert reader.passes(event(b"third "))
    assert reader.passes(data) == number
    if number:
        assert reader.text.startswith("first second third ")


def test_events_that_arrive_together_are_counted_one_by_one(make_call: MakeCall) -> None:
    """The count is also right if each piece has the form of the previous one, so that it is not searched."""
    reader = make_reader(make_call("chat", stream=True), keep_text=True)
    reader.feed(event(b"first "))
    pairs = [event(b"a%d " % n) + event(b"b ") for n in range(20)]
    assert [reader.passes(pair) for pair in pairs] == [2] * 20
    assert [reader.passes(pair.replace(b"\n", b"\r\n")) for pair in pairs] == [2] * 20
    assert [reader.passes(event(b"c")) for _ in range(20)] == [1] * 20


def test_a_stream_may_change_its_form(make_call: MakeCall) -> None:
    reader = make_reader(make_call("chat", stream=True), keep_text=True)
    reader.feed(event(b"a"))
    forms = [event(b"b"), event(b"c"), event(b"d", b'"finish_reason":null'), event(b"e", b'"finish_reason":null')]
    assert all(map(reader.passes, [*forms, event(b"f")]))
    assert reader.text == "abcdef"
