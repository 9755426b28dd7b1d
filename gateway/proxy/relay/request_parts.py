"""An attempt of several requests: a decision with more questions than its upstream takes in one."""

from __future__ import annotations

from gateway.proxy.http.client.transport import Transport, UpstreamReply, UpstreamRequest
from gateway.proxy.relay import replies
from gateway.proxy.relay.failures import AttemptFailed, Failure
from gateway.proxy.relay.websocket_lane import WholeReply

_MAX_PART_BYTES = 16 << 20


async def joined(
    transport: Transport, first: UpstreamReply, more: tuple[UpstreamRequest, ...], connect_s: float
) -> UpstreamReply:
    """The replies to all requests of an attempt as one, whose body is the list of theirs; or the first error.

    One request follows the other, so that an engine which caches prefixes reads the input once."""
    bodies, reply = [], first
    for request in (*more, None):
        if reply.status >= 300:
            return reply
        bodies.append(await _body(reply))
        if request is not None:
            reply = await transport.send(request, connect_s)
    return WholeReply(200, reply.headers, b"[" + b",".join(bodies) + b"]")


async def _body(reply: UpstreamReply) -> bytes:
    try:
        body = reply.complete_body()
        if body is None:
            body = await replies.read(reply, _MAX_PART_BYTES)
    finally:
        reply.close()
    if body is None:
        raise AttemptFailed(Failure("error", f"answered with more than {_MAX_PART_BYTES >> 20} MB"))
    return body
