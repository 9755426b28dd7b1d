"""One message more at the end of a request's messages."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.relay.assistant import with_assistant

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
messages = st.lists(st.fixed_dictionaries({"role": st.just("user"), "content": texts}), max_size=3)


@given(messages=messages, said=texts, indent=st.sampled_from([None, 2]), before=st.booleans())
def test_the_message_is_last_and_all_else_is_untouched(
    messages: list[Any], said: str, indent: int | None, before: bool
) -> None:
    other: dict[str, Any] = {"temperature": 0.7, "metadata": {"messages": ["not these"]}}
    fields = {**other, "messages": messages} if before else {"messages": messages, **other}
    body = json.dumps(fields, indent=indent).encode()
    out = with_assistant(body, said)
    added = {"role": "assistant", "content": said}
    assert json.loads(out) == {**fields, "messages": [*messages, added]}
    prefix = len(out) - len(body)
    assert any(out[:at] + out[at + prefix :] == body for at in range(len(body) + 1)), "one insertion, nothing else"


def test_numbers_and_escapes_keep_their_spelling() -> None:
    body = b'{"seed":12345678901234567890123,"messages":[ {"role":"user","content":"\\u00e9"} ] ,"t":0.70}'
    out = with_assistant(body, 'é"')
    assert out.startswith(b'{"seed":12345678901234567890123,"messages":[ {"role":"user","content":"\\u00e9"}')
    assert out.endswith(b'] ,"t":0.70}')
    assert json.loads(out)["messages"][-1]["content"] == 'é"'


@pytest.mark.parametrize("body", [b"{}", b'{"messages": "hi"}', b'{"messages": null}', b"[]", b"", b'{"messages": ['])
def test_a_body_without_a_list_of_messages_is_refused(body: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        with_assistant(body, "x")
