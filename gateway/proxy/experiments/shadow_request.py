"""What a shadow asks: the client's request, again, for an arm that must not know of the first answer. Pure."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from gateway.core.exchange import new_id
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_splice import remove_member, set_member
from gateway.proxy.routing.target_state import TargetState

_LAST = b"100"  # vLLM serves lower numbers first
# A cache on the way gives the first answer again; this is how HTTP asks it not to (RFC 9111, section 5.2.1.4).
_FRESH = [(b"cache-control", b"no-cache"), (b"pragma", b"no-cache")]
# State that an upstream keeps, or work that it does beside answering: asking twice would do it twice.
_STATE = ("store", "previous_response_id", "conversation", "background", "plugins", "search_parameters")
_CLIENTS_OWN = ("function", "custom")  # tools that the client runs; a shadow's calls of them are never run


def asked_again(call: Call, target_state: TargetState) -> Call:
    """The same request under an id of its own: without its seed, with which two answers would not be independent, and
    without its idempotency key, for which a vendor would give the first answer again. Where the upstream schedules by
    priority, behind everybody else's."""
    seeded = "seed" in call.fields
    body = remove_member(call.body, b"seed") if seeded else call.body
    if target_state.upstream.config.priority:
        body = set_member(body, b"priority", _LAST)
    return replace(
        call,
        id=new_id(),
        received=time.time(),
        started=time.monotonic(),
        body=body,
        fields={name: value for name, value in call.fields.items() if name != "seed"} if seeded else call.fields,
        headers=[h for h in call.headers if h[0] != b"idempotency-key"] + _FRESH,
    )


def has_effects(call: Call) -> bool:
    """Asking twice would change something at the upstream: state it keeps, or a tool it runs itself."""
    fields = call.fields
    if fields.get("web_search_options") is not None:  # {} asks for a search too
        return True
    return any(fields.get(name) for name in _STATE) or _runs_tools(fields.get("tools"))


def _runs_tools(tools: Any) -> bool:
    """A tool that is not the client's own. What was too large to look into (`...`) may hold one."""
    if tools is None:
        return False
    if not isinstance(tools, list):
        return True
    return any(not isinstance(t, dict) or t.get("type", "function") not in _CLIENTS_OWN for t in tools)
