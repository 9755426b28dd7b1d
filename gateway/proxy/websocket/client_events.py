"""The events that a client sends, read as far as the gateway acts on them, and the request that each becomes. Pure.

Source: OpenAI's guide to the WebSocket mode of the Responses API, November 2026, and the types of its Python library.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson
from msgspec import Raw

from gateway.core.errors import BadRequest
from gateway.proxy.relay.websocket_lane import Continuation
from gateway.proxy.request.json_members import Change, Members, NotAnObject, decoded_member, edited, read_members
from gateway.proxy.websocket.history import ConversationTurn

MOST_LANES = 32
"""Distinct values of `stream_id` on one connection."""
_LANE = re.compile(r"[A-Za-z0-9_.-]{1,256}")
_NO_REQUEST = ("type", "stream_id", "generate", "background")
"""Members of `response.create` that no HTTP request has."""


@dataclass(frozen=True, slots=True)
class CreateEvent:
    """`response.create`: asks for one response."""

    body: bytes
    """The whole message."""
    members: Members
    lane: str | None
    """Value of `stream_id`; None if there is none."""
    previous: str | None
    """The response that it continues; None if it begins a conversation."""
    generates: bool
    """Whether it generates; False if it only prepares a conversation."""
    stores: bool
    """Whether the upstream is to keep the response."""

    @property
    def model(self) -> Any:
        """Value of `model`, of any type; None if there is none."""
        found = self.members.get("model")
        return None if found is None else decoded_member(found, "model")


@dataclass(frozen=True, slots=True)
class SteerEvent:
    """`response.steer`: adds to the input of a response that is being made."""

    previous: Any
    input: Any


@dataclass(frozen=True, slots=True)
class ProcessedEvent:
    """`response.processed`: Codex's note that it has read a response. It needs no answer."""


ClientEvent = CreateEvent | SteerEvent | ProcessedEvent


def read_client_event(data: bytes) -> ClientEvent:
    """Raises BadRequest for a message that is none of a client's events, with the lane's name as a detail."""
    try:
        members = read_members(data)
    except NotAnObject as error:
        raise BadRequest(f"a message must be a JSON object, not {error.found}", code="invalid_json") from None
    except ValueError as error:
        raise BadRequest(f"the message is not valid JSON: {error}", code="invalid_json") from None
    kind = _decoded(members, "type")
    if kind == "response.create":
        return _create(data, members)
    if kind == "response.steer":
        return SteerEvent(_decoded(members, "previous_response_id"), _decoded(members, "input"))
    if kind == "response.processed":
        return ProcessedEvent()
    shown = "is missing" if kind is None else f"is {orjson.dumps(kind).decode()[:100]}"
    raise BadRequest(
        f"the event's `type` {shown}; this connection takes `response.create`", param="type", code="unknown_event_type"
    )


def _create(data: bytes, members: Members) -> CreateEvent:
    lane = _lane(members)
    previous = _decoded(members, "previous_response_id")
    if previous is not None and not isinstance(previous, str):
        raise BadRequest("previous_response_id must be a string", param="previous_response_id")
    if _flag(members, "background"):
        raise BadRequest(
            "a response over WebSocket cannot run in the background; leave `background` out, or send the request by "
            "HTTP",
            param="background",
        )
    prewarms = _decoded(members, "prompt_cache_options")
    generates = _flag(members, "generate") is not False
    if isinstance(prewarms, dict) and prewarms.get("prewarm") is True:
        generates = False
    return CreateEvent(data, members, lane, previous or None, generates, _flag(members, "store") is not False)


def lane_of(data: bytes) -> str | None:
    """The lane that a refused message names; None: none that is valid."""
    try:
        return _lane(read_members(data))
    except (ValueError, BadRequest):
        return None


def _lane(members: Members) -> str | None:
    lane = _decoded(members, "stream_id")
    if lane is not None and not (isinstance(lane, str) and _LANE.fullmatch(lane)):
        raise BadRequest(
            "stream_id must be a text of 1 to 256 letters, digits, underscores, hyphens and periods",
            param="stream_id",
            code="invalid_stream_id",
        )
    return lane


def _decoded(members: Members, name: str) -> Any:
    found = members.get(name)
    return None if found is None else decoded_member(found, name)


def _flag(members: Members, name: str) -> bool | None:
    value = _decoded(members, name)
    if value is not None and not isinstance(value, bool):
        raise BadRequest(f"{name} must be true or false", param=name)
    return value


@dataclass(frozen=True, slots=True)
class ResponsesRequest:
    """The body of the HTTP request that a `response.create` becomes."""

    body: bytes
    items: tuple[bytes, ...] | None
    """The conversation up to its end, as a turn holds it; None if it cannot be continued from here."""
    base: bytes | None
    """Base of the turn, as in ConversationTurn."""
    continuation: Continuation | None
    """The turn that it continues, if that is kept here."""


def to_request(event: CreateEvent, parent: ConversationTurn | None) -> ResponsesRequest:
    """The request with the whole conversation. parent: the turn that it continues, if it is kept here."""
    members = event.members
    changes: dict[str, Change] = dict.fromkeys(_NO_REQUEST)
    changes["stream"] = b"true"
    new = input_items(members.get("input"))
    base = bytes(members["previous_response_id"]) if event.previous is not None else None
    before: tuple[bytes, ...] = ()
    continuation: Continuation | None = None
    if parent is not None and new is not None:
        before, base = parent.items, parent.base
        continuation = Continuation(parent.id, new)
        changes["previous_response_id"] = base
        changes["input"] = (b"[", b",".join(filter(None, (*before, new))), b"]")
    in_conversation = _decoded(members, "conversation") is not None
    items = None if new is None or in_conversation else (*before, new)
    return ResponsesRequest(edited(event.body, members, changes), items, base, continuation)


def input_items(given: Raw | None) -> bytes | None:
    """The items of `input`, separated by commas; b"" if there are none; None if it is neither a text nor an array."""
    text = b"" if given is None else bytes(given).strip()
    if text[:1] == b"[":
        return text[1:-1].strip()
    if text[:1] == b'"':
        return b'{"type":"message","role":"user","content":' + text + b"}"
    return b"" if text in (b"", b"null") else None
