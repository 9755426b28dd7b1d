"""The head of a response, as the gateway adds it to the upstream's headers."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.proxy.limits.limiter import CallReservation
from gateway.proxy.relay.response_head import start_response
from gateway.proxy.relay.state import NOT_HELD, CallContext, RelayState
from gateway.proxy.request.call import NO_OPTIONS, Call, Caller
from gateway.proxy.types import DetachedClient, Headers

UPSTREAMS: Headers = [(b"x-ratelimit-limit-requests", b"9"), (b"openai-organization", b"us"), (b"x-other", b"1")]


class HeadClient(DetachedClient):
    """A client that keeps the head of its response."""

    headers: Headers
    lines: bytes

    def start(self, status: int, headers: Headers, length: int | None = None, extra_lines: bytes = b"") -> None:
        super().start(status, headers, length, extra_lines)
        self.headers, self.lines = headers, extra_lines


@pytest.fixture
def head_of(gateway: Any) -> Any:
    """Starts the response of a call that began 0.5 s ago and waited 0.4 s for its upstream."""

    def start(caller: Caller, limits: bytes = b"", api: Any = "chat") -> HeadClient:
        body = b'{"model":"chat","messages":[]}'
        call = Call("id-1", 0.0, 100.0, caller, api, b"POST", b"/chat/completions", "chat", False, body)
        client, context = HeadClient(), CallContext(NOT_HELD)
        if limits:
            context.reservation = CallReservation((), (0, 0, 0, 0), None, limits, 0)
        route = gateway.gateway.router.decide(call, NO_OPTIONS)
        deadlines: Any = None
        state = RelayState(call, route, client, context, deadlines, held=True, upstream_s=0.4)
        start_response(state, route.candidates[0].target_state, 200, UPSTREAMS, 100.5)
        assert context.notes.overhead_s == pytest.approx(0.1)
        return client

    return start


async def test_ids_target_and_overhead_are_added(head_of: Any) -> None:
    client = head_of(Caller("tester"))
    assert client.headers == UPSTREAMS
    assert client.lines.split(b"\r\n") == [
        b"x-request-id: id-1",
        b"x-gateway-upstream: u0",
        b"x-gateway-model: model-u0",
        b"x-gateway-attempts: 1",
        b"x-gateway-overhead-ms: 100.00",
        b"openai-processing-ms: 500",
    ]


async def test_anthropics_clients_get_the_id_under_their_name(head_of: Any) -> None:
    assert head_of(Caller("tester"), api="messages").lines.endswith(b"\r\nrequest-id: id-1")


async def test_a_callers_own_limits_replace_the_upstreams(head_of: Any) -> None:
    client = head_of(Caller("tester"), limits=b"x-ratelimit-limit-requests: 5")
    assert client.lines.endswith(b"\r\nx-ratelimit-limit-requests: 5")
    assert [name for name, _ in client.headers] == [b"openai-organization", b"x-other"]


async def test_a_caller_that_sees_no_upstreams_gets_no_names(head_of: Any) -> None:
    client = head_of(Caller("tester", sees_upstreams=False))
    assert b"x-gateway-" not in client.lines.replace(b"x-gateway-attempts", b"").replace(b"x-gateway-overhead", b"")
    assert b"openai-organization" not in dict(client.headers)
