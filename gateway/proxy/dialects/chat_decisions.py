"""Calls of the chat APIs as decisions: which of them are eligible, and the decision that each asks for. No I/O.

Callers repeat a few schemas, so each is read once, with all that its calls and their answers share. A caller that sends
another schema with each call is ineligible after the first few: no two of its answers could be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from msgspec import DecodeError, Struct
from msgspec.json import Decoder

from gateway.core.chat_decision import APIS, LIMITING, check_options, input_of, schema_of
from gateway.core.decision import DecisionRequest
from gateway.core.decision_schema import DecisionSchema, Ineligible, IneligibleReason
from gateway.core.request_format import FORMAT_MEMBERS
from gateway.proxy.dialects.decision_facade import AnswerTemplate
from gateway.proxy.request.call import Call

if TYPE_CHECKING:
    from gateway.core.decision_reads import Reading

MOST_BYTES = 1 << 20
"""Largest body that is read: a larger one would delay other calls."""
_ABOVE_MOST = slice(MOST_BYTES, MOST_BYTES + 1)
MOST_SCHEMAS = 256
NEW_SCHEMAS = 32.0
"""Schemas that may be new in a row; each call with a known one allows a tenth of another."""
_REGAINED = 0.1
_UNUSUAL = LIMITING | FORMAT_MEMBERS - {"response_format"} | {"system", "instructions"}
"""Members without which a chat's only input are its messages, and its only schema is in `response_format`."""


class KnownSchema:
    """A schema, and what all calls with it share."""

    __slots__ = ("schema", "template", "written")

    def __init__(self, schema: DecisionSchema) -> None:
        self.schema = schema
        self.template = AnswerTemplate(schema)
        self.written: object | None = None
        """The questions as the target's server gets them; None before the first request, and where several requests
        share them."""


class AskedDecision(NamedTuple):
    """The decision that a call asks for."""

    request: DecisionRequest
    known: KnownSchema

    @property
    def schema(self) -> DecisionSchema:
        return self.known.schema


class _PlainMessage(Struct, forbid_unknown_fields=True):
    role: str
    content: str


_read_messages = Decoder(list[_PlainMessage]).decode


class ChatDecisions:
    """Reads the calls to one target."""

    def __init__(self, reading: Reading | None = None) -> None:
        """reading: the way in which the target's decisions are read from chats; None if it has an API of decisions."""
        self._reading = reading
        self._schemas: dict[bytes, KnownSchema | IneligibleReason] = {}
        self._new = NEW_SCHEMAS
        self._last: tuple[str, AskedDecision | IneligibleReason] = ("", "unreadable")

    def why_not(self, call: Call) -> IneligibleReason | None:
        """Reason why a call cannot be asked as a decision; None if it can."""
        decision = self._read(call)
        return decision if isinstance(decision, str) else None

    def decision(self, call: Call) -> AskedDecision:
        """The decision that a call asks for. Raises Ineligible."""
        if call.changes is None and self._last[0] != call.id and (usual := self._usual(call)) is not None:
            return usual
        decision = self._read(call)
        if isinstance(decision, str):
            raise Ineligible(decision)
        return decision

    def _read(self, call: Call) -> AskedDecision | IneligibleReason:
        """Reads a call once on its way from the router to the relay, between which nothing else runs."""
        if call.changes is not None:
            return self._any(call)
        if self._last[0] != call.id:
            self._last = call.id, self._usual(call) or self._any(call)
        return self._last[1]

    def _usual(self, call: Call) -> AskedDecision | None:
        """A chat of one question with a known schema, with at most one message of instructions before it, each only a
        text: most are so. It is read with few calls; None for any other, which `_any` reads to the same result."""
        members = call.members
        if members is None or call.api != "chat" or call.body[_ABOVE_MOST] or "response_format" not in members:
            return None
        key = bytes(members["response_format"])
        if key not in self._schemas or "messages" not in members or not _UNUSUAL.isdisjoint(members):
            return None
        known = self._schemas[key]
        if type(known) is not KnownSchema:
            return None
        try:
            turns = _read_messages(members["messages"])
        except (DecodeError, RecursionError):
            return None
        instructions: str | None = None
        if turns[2:] or not turns or turns[-1].role != "user":
            return None
        if turns[1:]:
            if turns[0].role not in ("system", "developer"):
                return None
            instructions = turns[0].content or None
        if self._new < NEW_SCHEMAS:
            self._new += _REGAINED
        return AskedDecision(DecisionRequest(turns[-1].content, known.schema.questions, instructions), known)

    def _any(self, call: Call) -> AskedDecision | IneligibleReason:
        try:
            return self._decision(call)
        except Ineligible as ineligible:
            return ineligible.reason

    def _decision(self, call: Call) -> AskedDecision:
        if call.api not in APIS:
            raise Ineligible("no_schema")
        if call.upload is not None or len(call.body) > MOST_BYTES:
            raise Ineligible("too_large")
        known = self._counted(call)
        if isinstance(known, str):
            raise Ineligible(known)
        try:
            body: Any = orjson.loads(call.body if call.changes is None else call.body_with({}))
        except (ValueError, RecursionError):
            raise Ineligible("unreadable") from None
        check_options(call.api, body)
        decision = input_of(call.api, body, known.schema)
        if decision.images and self._reading is not None:
            raise Ineligible("input")
        return AskedDecision(decision, known)

    def _counted(self, call: Call) -> KnownSchema | IneligibleReason:
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

    def _learn(self, key: bytes, parts: dict[str, bytes]) -> KnownSchema | IneligibleReason:
        known: KnownSchema | IneligibleReason
        try:
            known = KnownSchema(schema_of({name: orjson.loads(part) for name, part in parts.items()}))
            if self._reading is not None:
                _check_reading(known.schema, self._reading)
        except Ineligible as ineligible:
            known = ineligible.reason
        except (ValueError, RecursionError):
            known = "unreadable"
        if len(self._schemas) >= MOST_SCHEMAS:
            del self._schemas[next(iter(self._schemas))]
        self._schemas[key] = known
        return known


def _check_reading(schema: DecisionSchema, reading: Reading) -> None:
    """Raises Ineligible for a schema that the reading cannot ask."""
    from gateway.core.decision_reads import MOST_READS, UnreadableQuestion, check_readable  # only where it is needed

    if len(schema.questions) > MOST_READS:
        raise Ineligible("questions")
    try:
        for question in schema.questions:
            check_readable(question, reading)
    except UnreadableQuestion:
        raise Ineligible("alike") from None


def _format_of(call: Call) -> tuple[dict[str, bytes], bytes]:
    """The members of a call that hold the schema of its answer, and all of them as one key."""
    members = call.slices()
    parts = {name: bytes(memoryview(members[name])) for name in members if name in FORMAT_MEMBERS}
    if len(parts) == 1 and "response_format" in parts:
        return parts, parts["response_format"]
    return parts, b"\0".join([part for name in sorted(parts) for part in (name.encode(), parts[name])])
