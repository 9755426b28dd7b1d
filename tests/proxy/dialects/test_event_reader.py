"""RawReader passes every byte; error_message reads errors of any format."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.proxy.dialects.event_reader import RawReader, error_message


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1))
def test_raw_bytes_pass_and_end_when_the_upstream_does(chunks: list[bytes]) -> None:
    reader = RawReader()
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
