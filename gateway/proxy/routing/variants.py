"""Changes that a target makes in each request: parameters, the system message, headers.

They are computed when the config is read. A target without a variant costs nothing: its TargetState has none.
A system message is spliced in place of those at a request's beginning, or before its first turn; instructions that a
client gives later in a conversation stay where they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from gateway.config.config import Config
from gateway.config.derive import target_of, target_refs
from gateway.config.upstreams import TargetRef
from gateway.core.errors import BadRequest
from gateway.core.exchange import Target
from gateway.core.json_values import as_text
from gateway.core.output_tokens import OUTPUT_LIMITS
from gateway.proxy.dialects.types import Dialect
from gateway.proxy.http.client.transport import UpstreamRequest
from gateway.proxy.request.call import Call
from gateway.proxy.request.json_splice import items, scan, set_member, set_members
from gateway.proxy.types import Headers

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
"""The fields of a chat request that may change its prompt. All others steer how an answer is drawn from it."""
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

    names: frozenset[bytes] = frozenset()
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
            api: {name.decode(): None if value is None else orjson.loads(value) for name, value in members.items()}
            for api, members in self._members.items()
        }
        self._system = None if ref.system is None else orjson.dumps(ref.system)
        self._headers: Headers = [(n.lower().encode("ascii"), v.encode("ascii")) for n, v in ref.headers.items()]
        self._named = frozenset(name for name, _ in self._headers)
        self.parts = _parts(ref)

    def request(self, dialect: Dialect, call: Call, model: str) -> UpstreamRequest:
        """The request to send upstream. Raises what Dialect.request raises."""
        request = dialect.request(self.applied(call), model)
        if not self._headers:
            return request
        return replace(request, headers=[h for h in request.headers if h[0] not in self._named] + self._headers)

    def applied(self, call: Call) -> Call:
        """The call as this target is asked it. Raises BadRequest for a body that is not a JSON object."""
        members = self._of_prompt if call.prefill else self._members.get(call.api)
        system = self._system if call.api in _INSTRUCTED else None
        if (not members and system is None) or call.upload is not None:
            return call
        try:
            body = set_members(call.body, members) if members else call.body
            if system is not None:
                body = with_instructions(body, call.api, system)
        except ValueError as error:
            raise BadRequest(f"the request body is not a JSON object: {error}") from None
        return replace(call, body=body, fields=self._applied_fields(call))

    def _applied_fields(self, call: Call) -> dict[str, Any]:
        """The parsed parameters, with this target's. The turns stay as the client sent them."""
        changed = self._fields.get(call.api, {})
        kept = {name: value for name, value in call.fields.items() if name not in changed}
        return kept | {name: value for name, value in changed.items() if value is not None}


def _members(api: str, parameters: Mapping[str, Any]) -> dict[bytes, bytes | None]:
    """JSON by name, with the names that this API has for them. None: the member is removed."""
    found: dict[bytes, bytes | None] = {}
    for name, value in parameters.items():
        json = None if value is None else orjson.dumps(value)
        if name not in OUTPUT_LIMITS:
            found[name.encode()] = json
            continue
        own = _LIMITS[api]
        found |= {other.encode(): None for other in own}
        found[(name if name in own else own[0]).encode()] = json
    stop = found.get(b"stop")
    if api == "messages" and b"stop" in found:
        del found[b"stop"]
        found[b"stop_sequences"] = b"[" + stop + b"]" if stop is not None and stop[:1] == b'"' else stop
    return found


def _parts(ref: TargetRef) -> VariedParts:
    names = {other for name in ref.set for other in (name, *_TRANSLATED.get(name, ()))}
    return VariedParts(frozenset(name.encode() for name in names), ref.system is not None)


def variants_of(config: Config) -> dict[Target, TargetVariant]:
    """The variants of the config, by target. Targets without one are left out."""
    return {target_of(ref): TargetVariant(ref) for ref in target_refs(config) if ref.varied}


def varied_parts(variants: Iterable[TargetVariant | None]) -> VariedParts:
    """The parts that the variants of several targets change, together."""
    parts = [variant.parts for variant in variants if variant is not None]
    if not parts:
        return NOTHING_VARIED
    return VariedParts(frozenset().union(*(p.names for p in parts)), any(p.instructions for p in parts))


_ROLES = ("system", "developer")


def with_instructions(body: bytes, api: str, text: bytes) -> bytes:
    """text: JSON of the system message. An API without one, and a body without a list of turns, stay as they are.

    Raises ValueError if the body is not one JSON object, as far as its top level shows.
    """
    if api in ("messages", "count_tokens"):
        return set_member(body, b"system", text)
    if api == "responses":
        return _of_responses(body, text)
    return _of_chat(body, text) if api == "chat" else body


def without_instructions(turns: bytes) -> bytes:
    """A JSON array of turns, from the first one that is not a system message. Anything else stays as it is."""
    start = _after_system(turns)[0]
    return turns if start is None else b"[" + turns[start:]


def _of_chat(body: bytes, text: bytes) -> bytes:
    place = scan(body).get(b"messages")
    if place is None or body[place[0] : place[0] + 1] != b"[":
        return body
    turns = body[place[0] : place[1]]
    start, role = _after_system(turns)
    new = b'{"role":"%b","content":%b}' % (role, text)
    rest = b"]" if start is None or turns[start:].strip() == b"]" else b"," + turns[start:]
    return set_member(body, b"messages", b"[" + new + rest)


def _of_responses(body: bytes, text: bytes) -> bytes:
    """`instructions` come before all turns. System messages at the beginning of `input` are left out."""
    place = scan(body).get(b"input")
    values: dict[bytes, bytes | None] = {b"instructions": text}
    if place is not None and body[place[0] : place[0] + 1] == b"[":
        turns = body[place[0] : place[1]]
        rest = without_instructions(turns)
        if rest != turns and rest.strip() != b"[]":
            values[b"input"] = rest
    return set_members(body, values)


def _after_system(turns: bytes) -> tuple[int | None, bytes]:
    """(offset of the first turn that is not a system message, the role of the first that is).

    Offset: that of the closing bracket if there is none; None if `turns` is not an array.
    """
    role = b"system"
    first = True
    try:
        end = turns.index(b"[") + 1
        for start, end in items(turns):
            found = _role(turns[start:end])
            if found not in _ROLES:
                return start, role
            if first:
                role, first = found.encode(), False
    except ValueError:
        return None, role
    return turns.rindex(b"]"), role


def _role(turn: bytes) -> str:
    """ "" for what is not a turn."""
    try:
        start, end = scan(turn)[b"role"]
        role = orjson.loads(turn[start:end])
    except (ValueError, KeyError):
        return ""
    return as_text(role)
