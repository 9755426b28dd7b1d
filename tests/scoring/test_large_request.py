"""A large request reads as the whole one, and what nobody asks for is not decoded."""

from __future__ import annotations

import json
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.json_values import parse_object
from gateway.core.request_format import output_format, stated_reference, tool_choice
from gateway.scorers.valid_json import ValidJson
from gateway.scoring.large_request import LARGE_BYTES, reader_for, request_of

RULE = ValidJson("valid_json")
PADDING = "x" * LARGE_BYTES
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=6), st.booleans())
def test_a_large_request_has_the_members_of_the_whole(members: dict[str, Any], ascii_only: bool) -> None:
    body = json.dumps({**members, "messages": PADDING}, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    whole = parse_object(body)
    if whole is None:  # half a surrogate pair
        return
    read = request_of(body)
    assert not isinstance(read, dict)
    assert dict(read) == whole
    assert (list(read), len(read), "messages" in read, "other" in read) == (
        list(whole),
        len(whole),
        True,
        "other" in whole,
    )
    assert read.get("other", 7) == whole.get("other", 7)
    assert pickle.loads(pickle.dumps(read)) == whole  # noqa: S301 - our own bytes
    assert output_format(read) == output_format(whole)
    assert tool_choice(read) == tool_choice(whole)
    assert stated_reference(read) == stated_reference(whole)


@pytest.mark.parametrize(
    "body",
    [b"", b"[1]", b'{"a": 1', b'{"a": nul}', PADDING.encode(), b"[" * 200_000, b'{"a": ' + b"[" * 200_000,
     b'{"a": "' + PADDING.encode(), f'["{PADDING}"]'.encode()],
    ids=lambda body: f"{body[:8]!r} {len(body)}",
)  # fmt: skip
def test_anything_but_an_object_has_no_members(body: bytes) -> None:
    assert dict(request_of(body)) == {}


def test_only_members_that_are_read_are_decoded() -> None:
    broken = b'{"model": "m", "messages": "' + PADDING.encode() + b'\xff", "tools": [1]}'
    read = request_of(broken)
    assert (read["model"], read["tools"]) == ("m", [1])
    assert read["messages"] is None, "it is not UTF-8, which shows only when it is read"
    assert read["tools"] is read["tools"], "decoded once"


def test_the_last_of_equal_names_counts() -> None:
    body = b'{"a": 1, "b": "' + PADDING.encode() + b'", "a": 2}'
    assert request_of(body)["a"] == 2


def test_a_plug_in_gets_a_dict() -> None:
    """The plug-in's code may use what only a dict has."""
    body = b'{"model": "m", "messages": "' + PADDING.encode() + b'"}'
    ours, plug_in = reader_for([RULE]), reader_for([RULE, object()])
    assert not isinstance(ours(body), dict)
    assert isinstance(plug_in(body), dict)
    assert dict(ours(body)) == plug_in(body)
    assert plug_in(b"[1]") == {}
