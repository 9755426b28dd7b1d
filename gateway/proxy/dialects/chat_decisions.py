"""Calls of the chat APIs as decisions: which of them are eligible, and the decision that each asks for. No I/O.

Callers repeat a few schemas, so each is read once. A caller that sends another schema with each call is ineligible
after the first few: no two of its answers could be compared.
"""

from __future__ import annotations

from typing import Any

import orjson

from gateway.core.chat_decision import APIS, ChatDecision, check_options, input_of, schema_of
from gateway.core.decision_schema import DecisionSchema, Ineligible, IneligibleReason
from gateway.core.request_format import FORMAT_MEMBERS
from gateway.proxy.request.call import Call

MOST_BYTES = 1 << 20
"""Largest body that is read: a larger one would delay other calls."""
MOST_SCHEMAS = 256
NEW_SCHEMAS = 32.0
"""Schemas that may be new in a row; each call with a known one allows a tenth of another."""
_REGAINED = 0.1


class ChatDecisions:
    """Reads the calls to one target."""

    def __init__(self) -> None:
        self._schemas: dict[bytes, DecisionSchema | IneligibleReason] = {}
        self._new = NEW_SCHEMAS
        self._last: tuple[str, ChatDecision | IneligibleReason] = ("", "unreadable")

    def why_not(self, call: Call) -> IneligibleReason | None:
        """Reason why a call cannot be asked as a decision; None if it can."""
        decision = self._read(call)
        return decision if isinstance(decision, str) else None

    def decision(self, call: Call) -> ChatDecision:
        """The decision that a call asks for. Raises Ineligible."""
        decision = self._read(call)
        if isinstance(decision, str):
            raise Ineligible(decision)
        return decision

    def _readable(self, schema: DecisionSchema | IneligibleReason) -> DecisionSchema:
        if isinstance(schema, str):
            raise Ineligible(schema)
        return schema

    def _read(self, call: Call) -> ChatDecision | IneligibleReason:
        """Reads a call once on its way from the router to the relay, between which nothing else runs."""
        if self._last[0] == call.id and call.changes is None:
            return self._last[1]
        try:
            decision: ChatDecision | IneligibleReason = self._decision(call)
        except Ineligible as ineligible:
            decision = ineligible.reason
        if call.changes is None:
            self._last = call.id, decision
        return decision

    def _decision(self, call: Call) -> ChatDecision:
        if call.api not in APIS:
            raise Ineligible("no_schema")
        if call.upload is not None or len(call.body) > MOST_BYTES:
            raise Ineligible("too_large")
        schema = self._readable(self._counted(call))
        try:
            body: Any = orjson.loads(call.body if call.changes is None else call.body_with({}))
        except (ValueError, RecursionError):
            raise Ineligible("unreadable") from None
        check_options(call.api, body)
        return ChatDecision(input_of(call.api, body, schema), schema)

    def _counted(self, call: Call) -> DecisionSchema | IneligibleReason:
        """The schema of a call, of which a new one uses up what known ones allow."""
        parts, key = _format_of(call)
        if not parts:
            return "no_schema"
        known = self._schemas.get(key)
        if known is not None:
            self._new = min(NEW_SCHEMAS, self._new + _REGAINED)
            return known
        if self._new < 1.0:
            return "schema_changes"
        self._new -= 1.0
        return self._learn(key, parts)

    def _learn(self, key: bytes, parts: dict[str, bytes]) -> DecisionSchema | IneligibleReason:
        schema: DecisionSchema | IneligibleReason
        try:
            schema = schema_of({name: orjson.loads(part) for name, part in parts.items()})
        except Ineligible as ineligible:
            schema = ineligible.reason
        except (ValueError, RecursionError):
            schema = "unreadable"
        if len(self._schemas) >= MOST_SCHEMAS:
            del self._schemas[next(iter(self._schemas))]
        self._schemas[key] = schema
        return schema


def _format_of(call: Call) -> tuple[dict[str, bytes], bytes]:
    """The members of a call that hold the schema of its answer, and all of them as one key."""
    members = call.slices()
    parts = {name: bytes(memoryview(members[name])) for name in members if name in FORMAT_MEMBERS}
    if len(parts) == 1:
        return parts, parts["response_format"] if "response_format" in parts else repr(parts).encode()
    return parts, b"\0".join([part for name in sorted(parts) for part in (name.encode(), parts[name])])
