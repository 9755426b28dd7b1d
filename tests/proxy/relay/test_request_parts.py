"""Several requests of one attempt, whose replies are read as one."""

from __future__ import annotations

import pytest

from gateway.proxy.http.client.transport import UpstreamReply, UpstreamRequest
from gateway.proxy.relay.request_parts import joined
from gateway.proxy.relay.websocket_lane import WholeReply

_MORE = tuple(UpstreamRequest(b"POST", "http://engine", b"/systemone", body=b"%d" % n) for n in (1, 2))


class _Engine:
    """A transport that answers each request with its own body, and one of them with an error."""

    def __init__(self, failing: bytes = b"") -> None:
        self.failing = failing
        self.sent: list[bytes] = []

    async def send(self, request: UpstreamRequest, connect_s: float) -> UpstreamReply:
        body = request.body
        assert isinstance(body, bytes)
        self.sent.append(body)
        return WholeReply(503 if body == self.failing else 200, [], body)

    async def aclose(self) -> None:
        pass


async def test_the_bodies_become_a_list_in_order() -> None:
    engine = _Engine()
    reply = await joined(engine, WholeReply(200, [], b"0"), _MORE, 1.0)
    assert (reply.status, await reply.chunk()) == (200, b"[0,1,2]")


@pytest.mark.parametrize(("first", "failing", "sent"), [(429, b"", []), (200, b"1", [b"1"])])
async def test_the_first_error_ends_them(first: int, failing: bytes, sent: list[bytes]) -> None:
    engine = _Engine(failing)
    reply = await joined(engine, WholeReply(first, [], b"0"), _MORE, 1.0)
    assert reply.status == (503 if failing else 429)
    assert engine.sent == sent
