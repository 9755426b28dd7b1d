"""The headers of CORS on answers of the hot path."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.proxy.http.server.cors import DirectAppWithCors


class Noting:
    """A DirectApp, its own request and its own client, which notes the headers that it was given."""

    outbox = None

    def __init__(self, origin: bytes | None) -> None:
        self.fields = {} if origin is None else {b"origin": origin}
        self.more_headers: list[tuple[bytes, bytes]] = []
        self.answered = False

    def find(self, method: bytes, path: bytes) -> None: ...

    def canonical(self, path: bytes) -> bytes:
        return path

    async def answer(self, endpoint: Any, request: Any, client: Any) -> None:
        self.answered = True


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        (["https://a.b"], b"https://a.b", b"https://a.b"),
        (["https://a.b"], b"https://c.d", None),
        (["https://a.b"], None, None),
        (["*"], b"https://c.d", b"*"),
        (["*"], None, None),
    ],
)
async def test_an_origin_that_is_named_may_read_answers(
    origins: list[str], origin: bytes | None, allowed: bytes | None
) -> None:
    app: Any = Noting(origin)
    await DirectAppWithCors(app, origins).answer(app, app, app)
    headers = dict(app.more_headers)
    assert app.answered
    assert headers[b"vary"] == b"Origin"
    assert headers.get(b"access-control-allow-origin") == allowed
    assert (b"access-control-expose-headers" in headers) is (origin is not None)
