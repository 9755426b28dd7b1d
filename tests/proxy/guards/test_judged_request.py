"""Requests as guards judge them: all of their texts, with work that grows as their bytes do."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from proxy.guards.evasions import CARD

import gateway
from gateway.config.guards import PERSONAL
from gateway.core.errors import BadRequest
from gateway.proxy.guards.judged_request import read_request, with_texts
from gateway.proxy.guards.rules import FormRule
from gateway.proxy.guards.search import RuleHits, search
from gateway.proxy.guards.texts import Slot
from gateway.proxy.request.call import Call, Caller

OURS = str(Path(gateway.__file__).parent)


def redacted(body: bytes) -> tuple[bytes, RuleHits]:
    """The body as it is sent, with what a rule on personal data has found in it."""
    fields, slots = read_request(body, "g")
    hits = RuleHits(FormRule(PERSONAL), True)
    call = Call("1", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/x", "chat", False, body)
    changed = search(slots, [hits])
    return (with_texts(call, fields, slots).body if changed else body), hits


def test_only_members_with_a_match_are_written_anew() -> None:
    body = b'{"seed" : 1e3, "messages":[{"content":"%b"}], "metadata": { "a" : 1.50 } }' % CARD.encode()
    sent, hits = redacted(body)
    assert sent == b'{"seed" : 1e3, "messages":[{"content":"[card]"}], "metadata": { "a" : 1.50 } }'
    assert hits.matches == 1


def test_names_of_members_are_replaced_at_any_level() -> None:
    body = json.dumps({"messages": [{CARD: {CARD: 1}, "role": "user"}], CARD: 2, "stream": False}).encode()
    sent, _ = redacted(body)
    message = {"role": "user", "[card]": {"[card]": 1}}
    assert orjson.loads(sent) == {"messages": [message], "[card]": 2, "stream": False}
    odd = json.dumps({"messages": [], f"a\0{CARD}": 1}).encode()
    assert CARD.encode() not in redacted(odd)[0]


def test_a_match_over_parts_is_replaced_once() -> None:
    parts = [{"type": "text", "text": text} for text in ("It is 4111 ", "1111 ", "1111", " 1111 and ", "no more")]
    sent, hits = redacted(json.dumps({"messages": [{"content": parts}]}).encode())
    texts = [part["text"] for part in orjson.loads(sent)["messages"][0]["content"]]
    assert texts == ["It is [card]", "", "", " and ", "no more"]
    assert hits.matches == 1


@given(st.lists(st.sampled_from([CARD, "a", " ", "4111 1111 ", "1111 1111", "; ", "+49 170 1234567"]), max_size=12))
def test_no_cut_of_a_text_in_parts_leaves_a_card(texts: list[str]) -> None:
    """A card that the rule finds in the text as one piece is found in its parts. Digits or letters directly behind it
    make it none, in one piece as in parts."""
    parts = [{"type": "text", "text": text} for text in texts]
    sent, _ = redacted(json.dumps({"messages": [{"content": parts}]}).encode())
    whole = "".join(part["text"] for part in orjson.loads(sent)["messages"][0]["content"])
    sent, _ = redacted(json.dumps({"messages": [{"content": whole}]}).encode())
    assert (CARD in whole) == (CARD in orjson.loads(sent)["messages"][0]["content"])


def test_the_error_names_the_repeated_member() -> None:
    with pytest.raises(BadRequest, match='more than one member "text"') as error:
        read_request(b'{"messages":[{"content":[{"text":"a","text":"b"}]}]}', "g")
    assert error.value.param == "text"


@pytest.mark.parametrize("shape", ["{%b}", "[%b]"])
def test_24_levels_are_judged_and_25_are_refused(shape: str) -> None:
    def nested(levels: int) -> bytes:
        value: Any = CARD
        for _ in range(levels):
            value = {"a": value} if shape[0] == "{" else [value]
        return json.dumps({"messages": value}).encode()

    assert CARD.encode() not in redacted(nested(24))[0]
    for levels in (25, 500, 20_000):
        body = nested(levels) if levels < 900 else b'{"messages":' + b"[" * levels + b"]" * levels + b"}"
        with pytest.raises(BadRequest, match="more than 24 objects and lists"):
            read_request(body, "g")


def test_the_length_of_a_tools_input_is_its_characters() -> None:
    assert Slot({"input": {"a": "x" * 1_000}}, "input").size > 1_000


SHAPES: dict[str, Callable[[int], Any]] = {
    "text": lambda n: [{"content": "some words " * (n // 11)}],
    "small objects": lambda n: [{"content": "a b"} for _ in range(n // 20)],
    "names": lambda n: {f"name_{i}": 1 for i in range(n // 14)},
    "parts": lambda n: [{"content": [{"text": "abc +49 170 1234567 "} for _ in range(n // 32)]}],
    "matches over parts": lambda n: [
        {"content": [{"text": text} for text in ["4111 1111 ", "1111 1111; "] * (n // 48)]},
    ],
    "UUIDs and numbers": lambda n: [
        {"content": " ".join(f"+49 170 1234567 {UUID(int=i << 64, version=4)}" for i in range(n // 54))}
    ],
    "JSON in a text": lambda n: [{"content": json.dumps([{"a": "b c", "d": 1} for _ in range(n // 22)])}],
    "invisible characters": lambda n: [{"content": "4\u200b" * (n // 7)}],
    "escapes": lambda n: [{"content": "\\u0041 " * (n // 8)}],
    "levels": lambda n: [{"tool": {"input": json.loads("[" * 15 + "1" + "]" * 15)}} for _ in range(n // 50)],
}  # fmt: skip


@pytest.mark.parametrize("shape", SHAPES)
def test_work_grows_as_the_bytes_do(shape: str) -> None:
    """Counts the calls of functions, Python's and C's, for each byte of requests of 40 and of 400 KB."""
    small, large = (_calls_by_byte(json.dumps({"messages": SHAPES[shape](n)}).encode()) for n in (40_000, 400_000))
    assert large <= small * 1.3, f"{small:.4f} calls a byte, then {large:.4f}"


def _calls_by_byte(body: bytes) -> float:
    counter = _Calls()
    sys.setprofile(counter)
    try:
        redacted(body)
    finally:
        sys.setprofile(None)
    return (counter.n + 50) / len(body)


class _Calls:
    n = 0

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(OURS):
            self.n += 1
