"""Reads, cancels and deletes responses by their id, at the upstream that made them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from gateway.core.errors import NotFound
from gateway.proxy.endpoints.passthrough import forward
from gateway.proxy.request.call import Caller
from gateway.proxy.routing.response_affinity import ResponseAffinity
from gateway.proxy.routing.response_ids import Replacer
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
    silence_s: float,
    *,
    sealed: bool = True,
) -> None:
    """GET, DELETE and POST …/cancel of one response. upstreams: those of the caller's models.

    The id says which of them made the response for this caller, and only that one is asked. Raises NotFound for every
    other id. sealed: False: an id without a seal is asked of the upstream that is known to have made it, or else of the
    only one.
    """
    if not _ID.fullmatch(response_id):
        raise NotFound(f'response "{response_id[:100]}" does not exist', param="id")
    known = {u.name: u for u in upstreams}
    if not sealed and affinity.ids.open(response_id, caller.name, known) is None:
        home = await affinity.home_of(response_id) or (next(iter(known)) if len(known) == 1 else "")
        if home in known:
            await forward(known[home], scope, receive, send, silence_s, caller)
            return
    opened = affinity.open(response_id, caller, known)
    below = scope["path"].removeprefix(f"/v1/responses/{response_id}")
    path = f"/v1/responses/{opened.id}{below}"
    replacer = Replacer({opened.id: response_id})
    scope = {**scope, "path": path, "raw_path": path.encode()}
    await forward(known[opened.upstream], scope, receive, send, silence_s, caller, replacer)
