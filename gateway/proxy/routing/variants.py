"""Changes that a target makes in each request: parameters, the system message, headers.

They are computed when the config is read. A target without a variant costs nothing: its TargetState has none.
A system message is spliced in place of those at a request's beginning, or before its first turn; instructions that a
client gives later in a conversation stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Raw

from gateway.config.config import Config
from gateway.config.derive import target_of, target_refs
from gateway.config.upstreams import TargetRef
from gateway.core.errors import BadRequest
from gateway.core.exchange import Target
from gateway.core.json_values import as_object, as_text
from gateway.core.output_tokens import OUTPUT_LIMITS
from gateway.proxy.dialects.types import ClientDialect
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_members import Change, leading_items
from gateway.proxy.types import Headers

if TYPE_CHECKING:
    from gateway.core.decision_reads import Reading, ReadSettings
    from gateway.proxy.dialects.chat_decisions import ChatDecisions
    from gateway.proxy.routing.certified_questions import CertifiedQuestions

_APIS = ("chat", "completions", "responses", "messages")
_INSTRUCTED = ("chat", "responses", "messages", "count_tokens")
# The limit of an answer has another name in each API, and two in the chat API, which refuses both at once.
_LIMITS: Mapping[str, tuple[str, ...]] = {
    "chat": ("max_tokens", "max_completion_tokens"),
    "completions": ("max_tokens",),
    "responses": ("max_output_tokens",),
    "messages": ("max_tokens",),
}
PROMPT_FIELDS = frozenset({
    "model", "messages", "tools", "tool_choice", "functions", "parallel_tool_calls", "documents", "chat_template",
    "chat_template_kwargs", "add_special_tokens", "reasoning_effort", "response_format", "mm_processor_kwargs",
    "cache_salt", "truncate_prompt_tokens", "user",
})  # fmt: skip
"""The fields of a chat request that may change its prompt. All others control the sampling of an answer."""
# What a parameter becomes where a dialect translates the request, by the name in the request that is sent.
_TRANSLATED: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(OUTPUT_LIMITS, OUTPUT_LIMITS),
    "stop": ("stop_sequences",),
    "stop_sequences": ("stop",),
    "reasoning_effort": ("thinking", "output_config"),
    "thinking": ("reasoning_effort",),
    "output_config": ("reasoning_effort", "response_format"),
    "response_format": ("output_config",),
    "tools": ("tool_choice",),
    "parallel_tool_calls": ("tool_choice",),
    "tool_choice": ("parallel_tool_calls",),
    "user": ("metadata",),
    "safety_identifier": ("metadata",),
    "metadata": ("user",),
}


@dataclass(frozen=True, slots=True)
class VariedParts:
    """The parts of requests in which the arms of an experiment may differ, because their variants change them."""

    names: frozenset[str] = frozenset()
    """Top-level members."""
    instructions: bool = False
    """The system messages at the beginning."""


NOTHING_VARIED = VariedParts()


class TargetVariant:
    def __init__(self, ref: TargetRef) -> None:
        self._members = {api: _members(api, ref.set) for api in _APIS} if ref.set else {}
        of_prompt = {name: value for name, value in ref.set.items() if name in PROMPT_FIELDS}
        self._of_prompt = _members("chat", of_prompt) if of_prompt else None
        self._fields = {
            api: {name: None if value is None else orjson.loads(value) for name, value in members.items()}
            for api, members in self._members.items()
        }
        self._system = None if ref.system is None else orjson.dumps(ref.system)
        self._headers: Headers = [(n.lower().encode("ascii"), v.encode("ascii")) for n, v in ref.headers.items()]
        self._named = frozenset(name for name, _ in self._headers)
        self.changes_calls = bool(ref.set) or ref.system is not None
        """Whether it changes the bodies of calls."""
        self.decisions = _decisions(ref.reading) if ref.as_ == "decision" else None
        """Reads the calls that become decisions; None if calls stay what they are."""
        self.reads = None if ref.reading is None else _reads(ref.reading)
        """The way in which decisions are read from chats; None if the upstream has an API of decisions."""
        self.unproved = ref.facade == "unproved"
        """Whether decisions answer clients before an experiment has shipped them."""
        self.certified: CertifiedQuestions | None = None
        """The certificates that its decisions obey; None if all of them are accepted."""
        self.shipped: frozenset[str] = frozenset()
        """The aliases for which an experiment has shipped its decisions."""
        self.parts = _parts(ref)

    @property
    def obeyed(self) -> tuple[str, ...]:
        """The certificates that its decisions obey; () if all of them are accepted."""
        return () if self.certified is None else self.certified.names

    def may_answer(self, alias: str) -> bool:
        """Whether its decisions may answer the clients of an alias."""
        return self.unproved or alias in self.shipped

    def request(self, dialect: ClientDialect, call: Call, model: str) -> UpstreamRequest:
        """The request to send upstream. Raises what Dialect.request raises."""
        return self.with_headers(dialect.request(self.applied(call), model))

    def with_headers(self, request: UpstreamRequest) -> UpstreamRequest:
        if not self._headers:
            return request
        return replace(request, headers=[h for h in request.headers if h[0] not in self._named] + self._headers)

    def applied(self, call: Call) -> Call:
        """The call in the form for this target. Raises BadRequest for a body that is not a JSON object."""
        members = self._of_prompt if call.prefill else self._members.get(call.api)
        system = self._system if call.api in _INSTRUCTED else None
        if (not members and system is None) or call.upload is not None:
            return call
        try:
            changed = call.changed(members or {})
            if system is not None:
                changed = changed.changed(instructions(changed, system))
        except ValueError as error:
            raise BadRequest(f"the request body is not a JSON object: {error}") from None
        return replace(changed, fields=self._applied_fields(call))

    def _applied_fields(self, call: Call) -> dict[str, Any]:
        """The parsed parameters, with this target's. The turns stay as the client sent them."""
        changed = self._fields.get(call.api, {})
        kept = {name: value for name, value in call.fields.items() if name not in changed}
        return kept | {name: value for name, value in changed.items() if value is not None}


def _decisions(reading: Reading | None) -> ChatDecisions:
    from gateway.proxy.dialects.chat_decisions import ChatDecisions  # only where a target needs it

    return ChatDecisions(reading)


def _reads(reading: Reading) -> ReadSettings:
    from gateway.core.decision_reads import ReadSettings  # only where a target's decisions are emulated

    return ReadSettings(reading)


def _certified(ref: TargetRef, config: Config) -> CertifiedQuestions | None:
    if not ref.certificates:
        return None
    from gateway.proxy.routing.certified_questions import CertifiedQuestions  # only where a target needs it

    return CertifiedQuestions(ref.certificates, config, reading=ref.reading or "native")


def _members(api: str, parameters: Mapping[str, Any]) -> dict[str, bytes | None]:
    """JSON by name, with the names that this API has for them. None means that the member is removed."""
    found: dict[str, bytes | None] = {}
    for name, value in parameters.items():
        json = None if value is None else orjson.dumps(value)
        if name not in OUTPUT_LIMITS:
            found[name] = json
            continue
        own = _LIMITS[api]
        found |= dict.fromkeys(own)
        found[name if name in own else own[0]] = json
    stop = found.get("stop")
    if api == "messages" and "stop" in found:
        del found["stop"]
        found["stop_sequences"] = b"[" + stop + b"]" if stop is not None and stop[:1] == b'"' else stop
    return found


def _parts(ref: TargetRef) -> VariedParts:
    names = {other for name in ref.set for other in (name, *_TRANSLATED.get(name, ()))}
    return VariedParts(frozenset(names), ref.system is not None)


def variants_of(config: Config) -> dict[Target, TargetVariant]:
    """The variants of the config, by target. Targets without one are left out."""
    variants = dict[Target, TargetVariant]()
    for ref in target_refs(config):
        if ref.varied:
            before = variants.get(target_of(ref))
            variant = variants[target_of(ref)] = TargetVariant(ref)
            variant.unproved = variant.unproved or (before is not None and before.unproved)
            variant.certified = _certified(ref, config)
    return variants


def varied_parts(variants: Iterable[TargetVariant | None]) -> VariedParts:
    """The parts that the variants of several targets change, together."""
    parts = [variant.parts for variant in variants if variant is not None]
    if not parts:
        return NOTHING_VARIED
    return VariedParts(frozenset().union(*(p.names for p in parts)), any(p.instructions for p in parts))


_ROLES = ("system", "developer")


def instructions(call: Call, text: bytes) -> Mapping[str, Change]:
    """The changes that give a call this system message; {} for an API without one, and without a list of turns.

    text: its JSON. Raises ValueError if the body is not a JSON object.
    """
    if call.api in ("messages", "count_tokens"):
        return {"system": text}
    if call.api == "responses":
        return _of_responses(call, text)
    return _of_chat(call, text) if call.api == "chat" else {}


def without_instructions(turns: Raw | bytes) -> Sequence[bytes | memoryview]:
    """A JSON array of turns, from the first one that is not a system message, in pieces. Anything else stays."""
    start = _after_system(turns)[0]
    return (turns,) if start is None else (b"[", memoryview(turns)[start:])


def _of_chat(call: Call, text: bytes) -> Mapping[str, Change]:
    turns = call.current("messages")
    if turns is None:
        return {}
    start, role = _after_system(turns)
    if start is None:
        return {}
    rest = memoryview(turns)[start:]
    comma = b"" if start >= len(turns) - 1 else b","
    return {"messages": (b'[{"role":"%b","content":%b}' % (role, text), comma, rest)}


def _of_responses(call: Call, text: bytes) -> Mapping[str, Change]:
    """`instructions` come before all turns. System messages at the beginning of `input` are left out."""
    changes: dict[str, Change] = {"instructions": text}
    turns = call.current("input")
    if turns is not None:
        start = _after_system(turns)[0]
        if start is not None and start < len(turns) - 1:
            changes["input"] = (b"[", memoryview(turns)[start:])
    return changes


def _after_system(turns: Raw | bytes) -> tuple[int | None, bytes]:
    """(offset of the first turn that is not a system message, the role of the first that is).

    Offset: that of the closing bracket if there is none; None if `turns` is not an array.
    """
    role = b"system"
    try:
        for at, (start, _, turn) in enumerate(leading_items(turns)):
            found = as_text(as_object(turn).get("role"))
            if found not in _ROLES:
                return start, role
            if not at:
                role = found.encode()
    except ValueError:
        return None, role
    return len(turns) - 1, role
