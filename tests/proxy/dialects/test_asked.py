"""A request that must be translated is read from its bytes, whole, and what cannot be is the client's mistake."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from gateway.core.errors import BadRequest
from gateway.proxy.dialects.asked import translated
from gateway.proxy.request.call import Call, Caller


def a_call(body: bytes, fields: dict[str, Any] | None = None) -> Call:
    return Call(
        id="1", received=0.0, started=0.0, caller=Caller("web"), api="chat", method=b"POST", path=b"/chat/completions",
        alias="chat", stream=False, body=body, fields=fields or {},
    )  # fmt: skip


def test_the_body_is_translated_and_not_what_was_kept_of_it() -> None:
    """Of a large body only the small members are kept as fields."""
    body = orjson.dumps({"model": "chat", "messages": [{"role": "user", "content": "x"}]})
    fields, out = translated(a_call(body, {"model": "chat", "messages": ...}), lambda f: f | {"more": True})
    assert fields["messages"] == [{"role": "user", "content": "x"}]
    assert orjson.loads(out) == fields
    assert fields["more"] is True


@pytest.mark.parametrize("body", [b"", b"{", b'{"a":1', b"[1]", b"5", b'"x"'])
def test_what_is_no_json_object_is_the_clients_mistake(body: bytes) -> None:
    with pytest.raises(BadRequest):
        translated(a_call(body), lambda f: f)


def test_what_nests_too_deeply_to_be_said_again_is_the_clients_mistake() -> None:
    def deepen(fields: dict[str, Any]) -> dict[str, Any]:
        for _ in range(5000):
            fields = {"a": fields}
        return fields

    with pytest.raises(BadRequest, match="nested too deeply"):
        translated(a_call(b"{}"), deepen)
