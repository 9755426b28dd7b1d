"""A system message replaces the ones at the beginning, or comes before the first turn; every other byte stays."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.proxy.request.instructions import with_instructions, without_instructions

NEW = b'"Be \\"brief\\"."'
TURN = st.fixed_dictionaries({
    "role": st.sampled_from(["system", "developer", "user", "assistant"]), "content": st.text(max_size=8),
})  # fmt: skip


@pytest.mark.parametrize(
    ("turns", "expected"),
    [
        (b'[ {"role":"user", "content":"hi"} ]', b'[{"role":"system","content":N},{"role":"user", "content":"hi"} ]'),
        (
            b'[{"content": "old [", "role": "system"} , {"role":"system","content":"b"},\n{"role":"user"}]',
            b'[{"role":"system","content":N},{"role":"user"}]',
        ),
        (
            b'[{"role":"developer","content":"old"},{"role":"user"},{"role":"system","content":"later"}]',
            b'[{"role":"developer","content":N},{"role":"user"},{"role":"system","content":"later"}]',
        ),
        (b'[{"role":"system","content":"only"}]', b'[{"role":"system","content":N}]'),
        (b"[]", b'[{"role":"system","content":N}]'),
        (b'"no list"', b'"no list"'),
    ],
)
def test_the_leading_system_messages_of_a_chat_are_replaced(turns: bytes, expected: bytes) -> None:
    body = b'{ "a" : 1.0, "messages":%b, "z":"\\u0041" }'
    assert with_instructions(body % turns, "chat", NEW) == body % expected.replace(b"N", NEW)


def test_messages_and_responses_have_a_place_of_their_own() -> None:
    assert (
        with_instructions(b'{"system": [{"type": "text"}], "x":1.0}', "messages", NEW)
        == b'{"system": %b, "x":1.0}' % NEW
    )
    assert with_instructions(b'{"x":1.0}', "count_tokens", NEW) == b'{"x":1.0,"system":%b}' % NEW
    asked = b'{"input": [{"role":"developer","content":"old"}, {"role":"user"}],"instructions":"old"}'
    assert with_instructions(asked, "responses", NEW) == b'{"input": [{"role":"user"}],"instructions":%b}' % NEW
    assert with_instructions(b'{"input":"hi"}', "responses", NEW) == b'{"input":"hi","instructions":%b}' % NEW


@pytest.mark.parametrize("api", ["completions", "embeddings"])
def test_an_api_without_a_system_message_stays_as_it_is(api: str) -> None:
    assert with_instructions(b'{"prompt": "x"}', api, NEW) == b'{"prompt": "x"}'


@settings(max_examples=40)
@given(st.lists(TURN, max_size=5), st.sampled_from([None, 1]))
def test_with_and_without_agree_for_any_turns(turns: list[dict[str, Any]], indent: int | None) -> None:
    body = json.dumps({"messages": turns, "x": 1}, indent=indent).encode()
    read = json.loads(with_instructions(body, "chat", NEW))["messages"]
    rest = turns[next((i for i, t in enumerate(turns) if t["role"] in ("user", "assistant")), len(turns)) :]
    assert read[0]["content"] == 'Be "brief".'
    assert read[1:] == rest
    assert json.loads(without_instructions(json.dumps(turns, indent=indent).encode())) == rest
