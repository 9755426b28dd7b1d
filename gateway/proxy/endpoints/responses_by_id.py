"""Reads, cancels and deletes responses by their id, at the upstream that made them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from gateway.core.errors import NotFound
from gateway.proxy.app import ROUTES, Gateway, unknown_path, wrong_method
from gateway.proxy.endpoints.passthrough import CONTEXT, counted, forward, refuse_upgrade_and_preflight, without_secrets
from gateway.proxy.request.auth import caller_of
from gateway.proxy.request.call import Caller
from gateway.proxy.routing.response_ids import Replacer
from gateway.proxy.routing.target_state import UpstreamState
from gateway.proxy.types import Receive, Send

# Never "..": the id becomes part of a path that is sent with the gateway's credential.
METHODS_BY_PATH = {"": ("GET", "HEAD", "DELETE"), "/cancel": ("POST",), "/input_items": ("GET", "HEAD")}
"""Methods of the paths of one response, by what follows the id."""
_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=-]{0,300}")


async def response_by_id(gateway: Gateway, scope: dict[str, Any], receive: Receive, send: Send) -> None:
    """GET, DELETE and POST …/cancel of one response.

    The id names the upstream of the caller's models that made the response for this caller; only that one is asked.
    Raises NotFound for every other id.
    """
    if scope["path"].encode() in ROUTES:  # /v1/responses/compact, which has the form of an id
        raise unknown_path(scope["path"], scope["method"])
    response_id = scope["path_params"]["id"]
    below = scope["path"].removeprefix(f"/v1/responses/{response_id}")
    allowed = METHODS_BY_PATH.get(below, ())
    if scope["method"] not in allowed and _ID.fullmatch(response_id):
        refuse_upgrade_and_preflight(scope)
        raise wrong_method(scope["path"], scope["method"], ", ".join(allowed))
    caller = caller_of(gateway.keys, scope)
    scope[CONTEXT].key = caller.name
    if gateway.guards is not None and scope["method"] != "DELETE":
        gateway.guards.check_read(caller)
    async with counted(gateway, caller, "", None):
        if not _ID.fullmatch(response_id):
            raise NotFound(f'response "{response_id[:100]}" does not exist', param="id")
        known = {u.name: u for u in gateway.router.upstreams(caller)}
        replacer, silence_s = None, gateway.config.limits.passthrough_s
        home = "" if gateway.config.responses.seal else await _home_without_seal(gateway, response_id, caller, known)
        if not home:
            opened = gateway.affinity.open(response_id, caller, known)
            path = f"/v1/responses/{opened.id}{below}"
            scope = {**scope, "path": path, "raw_path": path.encode()}
            home, replacer = opened.upstream, Replacer({opened.id: response_id})
        if known[home].config.translates_responses:
            raise NotFound(
                f'response "{response_id[:100]}" is not stored: the upstream of its model stores none; send the whole '
                "conversation in `input`",
                param="id",
                retry=False,
            )
        scope = without_secrets(gateway, scope)
        await forward(known[home], scope, receive, send, silence_s, caller, replacer)


async def _home_without_seal(
    gateway: Gateway, response_id: str, caller: Caller, known: Mapping[str, UpstreamState]
) -> str:
    """The upstream that is known to have made the response of an id without a seal, or else the only one; "": none."""
    if gateway.affinity.ids.open(response_id, caller.name, known) is not None:
        return ""
    home = await gateway.affinity.home_of(response_id) or (next(iter(known)) if len(known) == 1 else "")
    return home if home in known else ""
