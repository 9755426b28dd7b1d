"""The handshake: its answer, and what its request leaves for the responses."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from gateway.core.errors import BadRequest
from gateway.proxy.websocket.handshake import UpgradeRequest, answer_lines

HEADERS = [
    (b"host", b"x"),
    (b"upgrade", b"websocket"),
    (b"connection", b"keep-alive, Upgrade"),
    (b"sec-websocket-version", b"13"),
    (b"sec-websocket-key", b"dGhlIHNhbXBsZSBub25jZQ=="),
]


def request(headers: list[tuple[bytes, bytes]]) -> Any:
    return SimpleNamespace(
        path=b"/v1/responses", query=b"a=1", headers=headers, fields=dict(headers), peer="10.0.0.1", method=b"GET"
    )


def test_the_sample_of_the_rfc() -> None:
    """RFC 6455, section 1.3."""
    assert answer_lines(request(HEADERS)).endswith(b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        (b"sec-websocket-key", b"short", "Sec-WebSocket-Key"),
        (b"sec-websocket-version", b"8", "Sec-WebSocket-Version"),
        (b"connection", b"close", "Connection"),
    ],
)
def test_a_handshake_that_is_none_says_why(name: bytes, value: bytes, words: str) -> None:
    with pytest.raises(BadRequest, match=words):
        answer_lines(request([(n, value if n == name else v) for n, v in HEADERS]))


def test_the_callers_part_of_a_handshake_is_kept() -> None:
    own = [(b"authorization", b"Bearer k"), (b"x-gateway-user", b"u"), (b"openai-beta", b"assistants=v2")]
    beta, coded = (b"openai-beta", b"responses_websockets=2026-02-06"), (b"content-encoding", b"gzip")
    kept = UpgradeRequest.of(request([*HEADERS, *own, beta, coded, (b"idempotency-key", b"1")]))
    assert (kept.headers, kept.query, kept.peer) == (own, b"a=1", "10.0.0.1")
    assert kept.fields == dict(own)
