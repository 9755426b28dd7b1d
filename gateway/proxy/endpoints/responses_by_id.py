"""Reads, cancels and deletes responses by their id, at the upstream that made them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from gateway.core.errors import NotFound, UpstreamFailed
from gateway.proxy.endpoints.passthrough import forward, open_reply, send_on
from gateway.proxy.request.call import Caller
from gateway.proxy.routing.response_affinity import ResponseAffinity
from gateway.proxy.routing.target_state import UpstreamState
from gateway.proxy.types import Receive, Send

# Never "..": the id becomes part of a path that is sent with the gateway's credential.
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=-]{0,300}")


async def by_id(
    response_id: str,
    caller: Caller,
    affinity: ResponseAffinity,
    upstreams: Iterable[UpstreamState],
    scope: dict[str, Any],
    receive: Receive,
    send: Send,
) -> None:
    """GET, DELETE and POST …/cancel of one response. upstreams: those of the caller's models.

    If the upstream of the id is unknown, each is tried in turn and the first that has the response answers. Raises
    NotFound if none has it, and UpstreamFailed if one could not be reached, since that one may have it.
    """
    if not _ID.fullmatch(response_id):
        raise NotFound(f'response "{response_id[:100]}" does not exist', param="id")
    known = {u.name: u for u in upstreams}
    home = await affinity.home(response_id, caller)
    if home in known:
        await forward(known[home], scope, receive, send)
        return
    failure: UpstreamFailed | None = None
    for upstream in known.values():
        try:
            reply = await open_reply(upstream, scope, b"")
        except UpstreamFailed as error:
            failure = error
            continue
        if reply.status == 404:
            reply.close()
            continue
        await send_on(upstream, reply, send)
        return
    raise failure or NotFound(f'response "{response_id[:100]}" does not exist', param="id")
