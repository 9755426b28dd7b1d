"""Readers of JSON of any shape: the expected kind, or an empty value."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.json_values import as_list, as_object, as_text, content_text, decoded, parse_object, value_at

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["text", "type", "x"]), inner),
    max_leaves=8,
)


@given(JSON)
def test_a_value_of_another_kind_reads_as_empty(value: Any) -> None:
    assert as_object(value) == (value if isinstance(value, dict) else {})
    assert as_list(value) == (value if isinstance(value, list) else [])
    assert as_text(value) == (value if isinstance(value, str) else "")
    assert isinstance(content_text(value), str)
    assert parse_object(orjson.dumps(value)) == (value if isinstance(value, dict) else None)


@pytest.mark.parametrize("data", [b"", b"{", b'{"a": 1} {}', b"\xff", b"NaN", "{", memoryview(b"[")])
def test_invalid_json_has_no_object(data: Any) -> None:
    assert parse_object(data) is None


def test_an_object_is_read_from_text_and_from_any_buffer() -> None:
    assert parse_object('{"a": 1}') == parse_object(b'{"a": 1}') == parse_object(memoryview(b'{"a": 1}')) == {"a": 1}


def test_the_texts_of_parts_are_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "image_url"}, "b", {"text": 5}, {"type": "text", "text": "c"}]
    assert content_text(parts) == "ac"
    assert content_text(parts, "\n") == "a\nc"
    assert content_text("plain") == "plain"
    assert content_text(None) == content_text({"text": "a"}) == ""


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a", {"b": [{"c": 1}, 2]}),
        ("a.b.0.c", 1),
        ("a.b.1", 2),
        ("a.b.2", None),
        ("a.b.x", None),
        ("x.y", 3),
        ("t.u", None),
    ],
)
def test_a_path_leads_to_a_value_within_others(path: str, found: Any) -> None:
    """A name may hold dots; what is not there is None."""
    assert value_at({"a": {"b": [{"c": 1}, 2]}, "x.y": 3, "x": {"y": 4}, "t": '{"u": 5}'}, path) == found


def test_a_path_leads_through_texts_that_are_read() -> None:
    assert value_at({"t": '{"u": [5]}'}, "t.u.0", decoded) == 5
    assert [decoded(value) for value in ("[1]", '"a"', "[1", "5", 5, None)] == [[1], "a", "[1", "5", 5, None]
