"""JSON that strict parsers refuse and clients take is read, and written again."""

from __future__ import annotations

import math
from typing import Any

import pytest

from gateway.proxy.dialects.lenient import dumps, loads


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":"\\ud83e"}', {"a": "\ud83e"}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'{"a":-Infinity}', {"a": -math.inf}),
    ],
)
def test_what_clients_take_is_read(data: bytes, value: Any) -> None:
    assert loads(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b"{'a':1}", b"[" * 100_000, b"<html>"])
def test_what_is_no_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(data)


def test_half_a_surrogate_pair_is_written_as_it_was() -> None:
    assert dumps({"a": "\ud83e"}) == b'{"a": "\\ud83e"}'
    assert dumps({"a": "é"}) == '{"a":"é"}'.encode()
