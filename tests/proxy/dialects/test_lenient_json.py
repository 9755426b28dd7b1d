"""JSON that strict parsers refuse and clients take is read, and written again."""

from __future__ import annotations

import math
from typing import Any

import orjson
import pytest

from gateway.core.errors import BadRequest
from gateway.proxy.dialects.lenient_json import dumps, loads, translated
from gateway.proxy.request.call import Call, Caller


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a":"\\ud83e"}', {"a": "\ud83e"}),
        (b'{"a":"\xff"}', {"a": "\ufffd"}),
        (b'\xef\xbb\xbf{"a":1}', {"a": 1}),
        (b'{"a":-Infinity}', {"a": -math.inf}),
    ],
)
def test_json_that_clients_accept_is_parsed(data: bytes, value: Any) -> None:
    assert loads(data) == value


@pytest.mark.parametrize("data", [b"", b"{", b"{'a':1}", b"[" * 100_000, b"<html>"])
def test_bytes_that_are_not_json_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        loads(data)


def test_half_a_surrogate_pair_is_written_as_it_was() -> None:
    assert dumps({"a": "\ud83e"}) == b'{"a": "\\ud83e"}'
    assert dumps({"a": "é"}) == '{"a":"é"}'.encode()


def a_call(body: bytes, fields: dict[str, Any] | None = None) -> Call:
    return Call(
        id="1", received=0.0, started=0.0, caller=Caller("web"), api="chat", method=b"POST", path=b"/chat/completions",
        alias="chat", stream=False, body=body, fields=fields or {},
    )  # fmt: skip


def test_the_body_is_translated_not_the_parsed_fields() -> None:
    """Only the small members of a large body are kept as fields."""
    body = orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}]})
    fields, out = translated(a_call(body, {"model": "chat", "messages": ...}), lambda f: f | {"more": True})
    assert fields["messages"] == [{"role": "user", "content": "x"}]
    assert orjson.loads(out) == fields
    assert fields["more"] is True


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":1', b"[1]", b"5", b'"x"'])
def test_a_body_that_is_not_an_object_is_a_bad_request(body: bytes) -> None:
    with pytest.raises(BadRequest):
        translated(a_call(body), lambda f: f)


def test_a_body_nested_too_deeply_is_a_bad_request() -> None:
    def deepen(fields: dict[str, Any]) -> dict[str, Any]:
        for _ in range(100_000):
            fields = {"a": fields}
        return fields

    with pytest.raises(BadRequest, match="nested too deeply"):
        translated(a_call(b"{}"), deepen)


def test_a_request_of_another_shape_is_the_clients_mistake() -> None:
    def name(fields: dict[str, Any]) -> dict[str, Any]:
        return {"name": fields["a"].get("b")["c"] + "d"}

    for body in (b'{"a":1}', b'{"a":{"b":[]}}', b'{"a":{"b":{}}}', b'{"a":{"b":{"c":1}}}'):
        with pytest.raises(BadRequest, match="of another type than its API takes"):
            translated(a_call(body), name)
