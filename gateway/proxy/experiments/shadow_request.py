"""The request of a shadow: the client's, repeated so that its answer is independent of the first one. Pure."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from gateway.core.exchange import new_id
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_splice import remove_member, set_member
from gateway.proxy.routing.target_state import TargetState

_REPLACED = ("seed", "priority")
LAST = b"100"  # vLLM serves lower numbers first
# A cache on the way could repeat the first answer; this tells it not to (RFC 9111, section 5.2.1.4).
FRESH = [(b"cache-control", b"no-cache"), (b"pragma", b"no-cache")]
# State that an upstream keeps, or work that it does besides answering: a second request would do it twice.
_STATE = (
    "store",
    "previous_response_id",
    "conversation",
    "background",
    "plugins",
    "search_parameters",
    "mcp_servers",
    "container",
)
_CLIENT_TOOLS = ("function", "custom")  # the client runs them; a shadow's tool calls are never run


def asked_again(call: Call, target_state: TargetState) -> Call:
    """The same request with an id of its own.

    Without its seed, with which the two answers would not be independent, and without its idempotency key, for which a
    provider would repeat the first answer. At the lowest priority, if the upstream schedules by priority.
    """
    replaced = [name for name in _REPLACED if name in call.fields]
    body = remove_member(call.body, b"seed") if "seed" in replaced else call.body
    if target_state.upstream.config.priority:
        body = set_member(body, b"priority", LAST)
    return replace(
        call,
        id=new_id(),
        received=time.time(),
        started=time.monotonic(),
        body=body,
        fields={n: value for n, value in call.fields.items() if n not in replaced} if replaced else call.fields,
        headers=[h for h in call.headers if h[0] != b"idempotency-key"] + FRESH,
    )


def has_effects(call: Call) -> bool:
    """Whether a second request would change something at the upstream: state that it keeps, or a tool that it runs."""
    fields = call.fields
    if fields.get("web_search_options") is not None:  # {} requests a search too
        return True
    return any(fields.get(name) for name in _STATE) or _runs_tools(fields.get("tools"))


def _runs_tools(tools: Any) -> bool:
    """Whether there is a tool that the client does not run. A list too large to be parsed (`...`) may hold one."""
    if tools is None:
        return False
    if not isinstance(tools, list):
        return True
    return any(not isinstance(t, dict) or t.get("type", "function") not in _CLIENT_TOOLS for t in tools)
