"""Finds the run that a call belongs to: the calls of one task. Pure.

The first of these that the call has: `x-gateway-run`, `metadata.run_id`, the session headers of coding agents, the
conversation, and the sources in `runs.from`. A call without any is a run of its own, which has no id here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from gateway.core.errors import BadRequest
from gateway.core.exchange import cluster_digest, run_key
from gateway.core.json_values import as_object
from gateway.core.run_ceilings import RunBudget
from gateway.proxy.request.call import Caller, RunId
from gateway.proxy.request.header_rules import sane_id

_LONGEST = 128
_SESSIONS = (b"x-claude-code-session-id", b"session-id", b"session_id", b"x-session-id")
"""Headers of Claude Code; of Codex, of its present versions and of earlier ones; and of opencode."""
_PARENT, _BUDGET = b"x-gateway-run-parent", b"x-gateway-run-budget"
_PARENT_SESSION = b"x-parent-session-id"
"""Header of opencode's sub-agents. Those of Claude Code and Codex send the session of their parent as their own."""
RUN_HEADERS = frozenset({b"x-gateway-run", _PARENT, _BUDGET, *_SESSIONS, _PARENT_SESSION})
_PLAIN_SESSION = re.compile(r"_session_([0-9A-Za-z-]{8,64})\Z")
_TRACE = re.compile(rb"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}\Z")
_LONGEST_USER = 1024

Named = tuple[str, str]
"""(the client's id, the header or member that has it)."""


def run_of(
    caller: Caller,
    headers: Mapping[bytes, bytes],
    fields: Mapping[str, Any],
    conversation: str | None,
    listed: Sequence[str],
) -> RunId | None:
    """The run of a call. listed: the further sources of `runs.from`. Raises BadRequest for an invalid x-gateway-run,
    x-gateway-run-parent or x-gateway-run-budget.

    Where not all content of the caller is recorded, the client's id becomes a digest.
    """
    named = next(_named(headers, fields, conversation, listed), None)
    if named is None:
        if not listed:
            _refuse_without_a_run(headers)
        return None
    id, source = named
    if caller.content != "full":
        id = cluster_digest(id)
    run = RunId(id, source, run_key(caller.name, id))
    return run if _CEILINGS.isdisjoint(headers) else _with_ceiling(run, caller, headers)


def _refuse_without_a_run(headers: Mapping[bytes, bytes]) -> None:
    """Raises BadRequest for a ceiling of a run that the call does not name."""
    header = next((name for name in (_PARENT, _BUDGET) if name in headers), None)
    if header is not None:
        raise BadRequest(f"{header.decode()}: the call names no run; send x-gateway-run as well")


def _with_ceiling(run: RunId, caller: Caller, headers: Mapping[bytes, bytes]) -> RunId:
    """The run, with the one whose ceiling counts and with the ceiling that the call asks for. Raises BadRequest."""
    counted, parent = "", None
    if _PARENT in headers:
        parent = sane_id(headers[_PARENT])
        if parent is None:
            raise BadRequest("x-gateway-run-parent: expected 1 to 128 visible ASCII characters, the id of a run")
    elif run.source == "x-session-id":
        parent = sane_id(headers.get(_PARENT_SESSION))
    if parent is not None:
        counted = run_key(caller.name, parent if caller.content == "full" else cluster_digest(parent))
    budget = run_budget(headers[_BUDGET]) if _BUDGET in headers else None
    return run._replace(counted=counted, budget=budget)


def run_budget(text: bytes) -> RunBudget:
    """The ceiling in x-gateway-run-budget, such as `usd=0.50, calls=200`. Raises BadRequest."""
    amounts: dict[str, float] = {}
    for part in text.decode("latin-1").split(","):
        name, _, value = (piece.strip() for piece in part.partition("="))
        amount = _amount(value)
        if name not in RunBudget._fields or name in amounts or amount is None or (name in _WHOLE and amount % 1):
            raise BadRequest(
                f"x-gateway-run-budget: {part.strip()[:80]!r} is not understood; expected amounts above 0 of "
                f"{', '.join(RunBudget._fields)}, such as `usd=0.50, calls=200`"
            )
        amounts[name] = amount
    return RunBudget(**amounts)


_CEILINGS = frozenset({_PARENT, _BUDGET, _PARENT_SESSION})
_WHOLE = frozenset({"tokens", "calls"})
_NUMBER = re.compile(r"[0-9]{1,15}(\.[0-9]{1,9})?\Z")


def _amount(text: str) -> float | None:
    """A plain decimal number above 0; None if it is none."""
    amount = float(text) if _NUMBER.match(text) else 0.0
    return amount if amount > 0 else None


def _named(
    headers: Mapping[bytes, bytes], fields: Mapping[str, Any], conversation: str | None, listed: Sequence[str]
) -> Iterator[Named]:
    """Yields the names of a run in the request, in the order in which they count."""
    given = headers.get(b"x-gateway-run")
    if given is not None:
        id = sane_id(given)
        if id is None:
            raise BadRequest("x-gateway-run: expected 1 to 128 visible ASCII characters, such as a UUID for each task")
        yield id, "x-gateway-run"
    metadata = as_object(fields.get("metadata"))
    yield from _text("metadata.run_id", metadata.get("run_id"))
    for name in _SESSIONS:
        id = sane_id(headers.get(name))
        if id is not None:
            yield id, name.decode()
    yield from _session(metadata.get("user_id"))
    if conversation is not None:
        yield from _text("conversation", conversation)
    for source in listed:
        if source == "traceparent":
            trace = _TRACE.match(headers.get(b"traceparent", b""))
            yield from _text(source, None if trace is None else trace[1].decode())
        elif source == "prompt_cache_key":  # proxy/routing/response_chains.py finds the run of previous_response_id
            yield from _text(source, fields.get(source))


def _session(user: Any) -> Iterator[Named]:
    """The session within the `metadata.user_id` of Claude Code: the end of a plain text, or a member of JSON."""
    if not isinstance(user, str) or len(user) > _LONGEST_USER:
        return
    plain = _PLAIN_SESSION.search(user)
    if plain is not None:
        yield plain[1], "metadata.user_id"
    elif user.startswith("{"):
        try:
            yield from _text("metadata.user_id", as_object(orjson.loads(user)).get("session_id"))
        except orjson.JSONDecodeError:
            return


def _text(source: str, value: Any) -> Iterator[Named]:
    """A text as an id: itself, or its digest if it is too long or not printable."""
    if isinstance(value, str) and value:
        yield value if len(value) <= _LONGEST and value.isprintable() else cluster_digest(value), source
