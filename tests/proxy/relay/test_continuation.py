"""Continuing a stream that was cut: for every split of the bytes, the client gets the complete text once."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.relay.continuation import (
    Mismatch,
    Splicer,
    continuable,
    first_id,
    prefilled,
)
from gateway.proxy.request.call import Call, Caller

TEXT = "Par­is is the 🗼 capital."
WORDS = ["Par­is ", "is the ", "🗼", " capital."]
USAGE = {"prompt_tokens": 3, "completion_tokens": 9}


def chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    return {"id": "second", "model": "m2", "choices": [{"index": 0, "delta": delta, "finish_reason": finish}], **more}


def a_stream(words: list[str], *, usage: bool = True, done: bool = True, end: str = "\n\n") -> bytes:
    chunks: list[Any] = [chunk({"role": "assistant", "content": ""}), *(chunk({"content": w}) for w in words)]
    chunks += [chunk({}, "stop")]
    chunks += [{"id": "second", "choices": [], "usage": USAGE}] if usage else []
    events = [f": comment{end}", *(f"data: {json.dumps(c)}{end}" for c in chunks)]
    return "".join([*events, f"data: [DONE]{end}" if done else ""]).encode()


def played(splicer: Splicer, body: bytes, cuts: list[int] | None = None) -> list[Any]:
    """The events the client gets, parsed; "[DONE]" as a string."""
    edges = [0, *sorted(cuts or []), len(body)]
    out = b"".join(splicer.feed(body[a:b]) for a, b in pairwise(edges)) + splicer.end()
    datas = [block.removeprefix(b"data: ") for block in out.split(b"\n\n")[:-1]]
    return [json.loads(d) if d != b"[DONE]" else "[DONE]" for d in datas]


def text_of(events: list[Any]) -> str:
    return "".join(c["delta"].get("content", "") for e in events if e != "[DONE]" for c in e["choices"])


ENDS = st.sampled_from(["\n\n", "\r\n\r\n", "\r\r"])


@given(at=st.integers(0, len(TEXT)), cuts=st.lists(st.integers(0, 1200), max_size=8), end=ENDS, align=st.booleans())
def test_any_split_of_the_bytes_gives_the_missing_text_once(at: int, cuts: list[int], end: str, align: bool) -> None:
    sent, rest = TEXT[:at], TEXT[at:]
    body = a_stream(WORDS if align else [rest[:5], rest[5:]], end=end)
    splicer = Splicer("first", sent, align=align, asked_usage=True)
    events = played(splicer, body, [c for c in cuts if c < len(body)])
    assert sent + text_of(events) == TEXT
    assert splicer.text == TEXT
    assert (splicer.finished, splicer.complete, splicer.error) == (True, end != "\r\r", None)
    assert {e["id"] for e in events[:-1]} == {"first"}, "the first stream's id is kept"
    assert [c["finish_reason"] for e in events[:-1] for c in e["choices"]][-1] == "stop"
    assert (events[-2]["usage"], events[-1]) == (USAGE, "[DONE]")


def test_single_bytes_give_the_same_text() -> None:
    body = a_stream(WORDS)
    events = played(Splicer("first", TEXT[:7], align=True, asked_usage=False), body, list(range(len(body))))
    assert TEXT[:7] + text_of(events) == TEXT


@given(
    st.text("ab", min_size=1, max_size=12),
    st.text("ab", max_size=12),
    st.lists(st.integers(1, 4), min_size=12, max_size=12),
)
def test_only_an_answer_that_repeats_the_sent_text_is_joined(sent: str, other: str, sizes: list[int]) -> None:
    words, left = [], other
    for size in sizes:
        words.append(left[:size])
        left = left[size:]
    splicer = Splicer("first", sent, align=True, asked_usage=False)
    body = a_stream([*words, left])
    if other.startswith(sent):
        assert sent + text_of(played(splicer, body)) == other
        return
    out: list[bytes] = []
    with pytest.raises(Mismatch, match=r"differs|shorter"):
        out.extend(splicer.feed(body[at : at + 1]) for at in range(len(body)))
    assert b"".join(out) == b"", "nothing of a differing answer reaches the client"


def test_an_answer_shorter_than_the_sent_text_is_a_mismatch() -> None:
    with pytest.raises(Mismatch, match="shorter"):
        Splicer("first", "one two", align=True, asked_usage=False).feed(a_stream(["one"]))


def test_only_a_client_that_asked_gets_the_usage_chunk() -> None:
    for asked in (True, False):
        splicer = Splicer("first", "Par", align=True, asked_usage=asked)
        events = played(splicer, a_stream(WORDS))
        assert splicer.usage is not None
        assert (splicer.usage.input_tokens, splicer.usage.output_tokens) == (3, 9)
        assert any("usage" in e for e in events[:-1]) is asked


def test_a_missing_done_is_supplied_but_not_a_missing_finish() -> None:
    assert played(Splicer("first", "", align=True, asked_usage=False), a_stream(WORDS, done=False))[-1] == "[DONE]"
    cut = a_stream(WORDS).split(b'"finish_reason": "stop"')[0].rpartition(b"data: ")[0]
    with pytest.raises(Mismatch, match="did not finish"):
        played(Splicer("first", "", align=True, asked_usage=False), cut)


def test_an_error_in_the_second_stream_is_not_passed_on() -> None:
    splicer = Splicer("first", "", align=True, asked_usage=False)
    assert splicer.feed(b'data: {"error": {"message": "broke"}}\n\n') == b""
    assert splicer.error == "broke"
    words = Splicer("first", "", align=True, asked_usage=False)
    words.feed(b'data: {"error": "in words"}\n\n')
    assert words.error == "in words"
    null = Splicer("first", "", align=True, asked_usage=False)
    null.feed(b'data: {"error": null, "choices": []}\n\n')
    assert null.error is None


ODD = [
    b'{"choices": [{"index": 0, "delta": {"content": "hal',
    b'{"choices": {}}',
    b'{"choices": [5]}',
    b'{"choices": [{"delta": [1]}]}',
    b'{"choices": [{"delta": {"content": ["x"]}}]}',
    b'{"choices": [null]}',
    b"{}",
    b"[1]",
    b"text",
    b"\xff",
]


@pytest.mark.parametrize("odd", ODD, ids=[str(at) for at in range(len(ODD))])
def test_an_unreadable_event_is_skipped(odd: bytes) -> None:
    head, tail = a_stream(WORDS[:2], done=False).split(b'data: {"id": "second", "model": "m2", "choices": [{"index"', 1)
    body = head + b"data: " + odd + b"\n\n" + b'data: {"id": "second", "model": "m2", "choices": [{"index"' + tail
    events = played(Splicer("first", "", align=True, asked_usage=False), body)
    assert text_of([e for e in events if e == "[DONE]" or e.get("choices")]) == "".join(WORDS[:2])


def test_an_event_above_the_size_limit_is_a_mismatch() -> None:
    splicer = Splicer("first", "", align=True, asked_usage=False)
    event = b"data: " + b"x" * (32 << 20)
    with pytest.raises(Mismatch, match=r"larger than \d+ bytes"):
        splicer.feed(event)


HEADS = [
    (b'data: {"id":"chatcmpl-1","choices":[]}\n\n', "chatcmpl-1"),
    (b': comment\n\ndata: {"model": "m", "id" : "a b"}\n\ndata: {"id":"later"}\n\n', "a b"),
    (b"data: {}\n\n", ""),
    (b'data: {"id": null}\n\n', ""),
    (b"", ""),
]


@pytest.mark.parametrize(("head", "found"), HEADS, ids=[h[1] or str(h[0]) for h in HEADS])
def test_the_first_streams_id_is_kept(head: bytes, found: str) -> None:
    assert first_id(head) == found
    given = b"".join(Splicer(found, "", align=True, asked_usage=False).feed(a_stream(["x"])).split(b"\n\n")[:1])
    assert (b'"id":"%b"' % (found.encode() or b"second")) in given


def continued(body: bytes, text: str) -> bytes:
    """The body that asks for the rest of an answer."""
    call = Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", True, body)
    return prefilled(call, text).body_with({})


def test_a_prefill_asks_to_continue_the_sent_text() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"hi"}],"add_generation_prompt":true,"seed":1.50}'
    out = continued(body, "Par")
    read = json.loads(out)
    assert read["messages"][-1] == {"role": "assistant", "content": "Par"}
    assert (read["add_generation_prompt"], read["continue_final_message"]) == (False, True)
    assert b'"seed":1.50' in out


def a_call(api: Any = "chat", **fields: Any) -> Call:
    return Call("id", 0.0, 0.0, Caller("web"), api, b"POST", b"/chat/completions", "chat", True, b"{}", fields)


CONTINUABLE: list[tuple[dict[str, Any], bool]] = [
    ({}, True),
    ({"n": 1}, True),
    ({"n": 2}, False),
    ({"tools": []}, True),
    ({"tools": [{}]}, False),
    ({"tools": ...}, False),
    ({"functions": [{}]}, False),
    ({"logprobs": True}, False),
    ({"audio": {"voice": "a"}}, False),
    ({"response_format": {"type": "text"}}, True),
    ({"response_format": {"type": "json_object"}}, False),
    ({"response_format": {"type": "json_schema"}}, False),
    ({"response_format": "odd"}, False),
    ({"api": "completions"}, False),
    ({"api": "messages"}, False),
]


@pytest.mark.parametrize(("fields", "expected"), CONTINUABLE, ids=[str(c[0]) for c in CONTINUABLE])
def test_only_a_plain_text_stream_can_be_continued(fields: dict[str, Any], expected: bool) -> None:
    assert continuable(a_call(**fields)) is expected


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
MESSAGES = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": TEXTS}), max_size=3)


@given(messages=MESSAGES, text=TEXTS, indent=st.sampled_from([None, 2]), before=st.booleans())
def test_a_message_is_appended_and_all_else_is_untouched(
    messages: list[Any], text: str, indent: int | None, before: bool
) -> None:
    other: dict[str, Any] = {"temperature": 0.7, "metadata": {"messages": ["not these"]}}
    fields = {**other, "messages": messages} if before else {"messages": messages, **other}
    body = json.dumps(fields, indent=indent).encode()
    out = continued(body, text)
    added = {"role": "assistant", "content": text}
    asked = {"add_generation_prompt": False, "continue_final_message": True}
    assert json.loads(out) == {**fields, "messages": [*messages, added], **asked}
    out = out.replace(b',"add_generation_prompt":false,"continue_final_message":true', b"")
    more = len(out) - len(body)
    assert any(out[:at] + out[at + more :] == body for at in range(len(body) + 1)), "one insertion, nothing else"


def test_appending_keeps_the_spelling_of_numbers_and_escapes() -> None:
    body = b'{"seed":12345678901234567890123,"messages":[ {"role":"user","content":"\\u00e9"} ] ,"t":0.70}'
    out = continued(body, 'é"')
    assert out.startswith(b'{"seed":12345678901234567890123,"messages":[ {"role":"user","content":"\\u00e9"}')
    assert b'}] ,"t":0.70,"add' in out
    assert json.loads(out)["messages"][-1]["content"] == 'é"'


@pytest.mark.parametrize("body", [b"{}", b'{"messages": "hi"}', b'{"messages": null}', b"[]", b"", b'{"messages": ['])
def test_appending_needs_a_list_of_messages(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        continued(body, "x")
