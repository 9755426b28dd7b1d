"""The events that a client gets: those of a response as they are, and errors in the protocol's own shape. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import orjson

from gateway.core.errors import GatewayError
from gateway.core.exchange import new_id
from gateway.core.json_values import as_object, parse_object
from gateway.proxy.dialects.responses_events import ENDS, read_response
from gateway.proxy.types import Headers

_PREVIOUS = "previous_response_id"
_LEFT_OUT = frozenset(
    {b"content-type", b"content-length", b"cache-control", b"x-accel-buffering", b"content-disposition", b"vary"}
)


def portable(items: bytes) -> bytes:
    """Output items in a form that a later request can repeat, to an upstream that has kept none.

    A reasoning item with nothing but its id refers to an item that OpenAI keeps. Where it does not keep it, it refuses
    the id, and the ids of the following items. Without these it accepts the rest.
    """
    if b'"reasoning"' not in items:
        return items
    try:
        given = orjson.loads(b"[" + items + b"]")
    except ValueError:  # such as half a surrogate pair, which msgspec takes
        return items
    kept = [item for item in given if not _only_an_id(item)]
    if len(kept) == len(given):
        return items
    return b",".join(orjson.dumps({n: v for n, v in item.items() if n != "id"}) for item in kept)


def _only_an_id(item: Any) -> bool:
    given = as_object(item)
    contents = ("encrypted_content", "content", "summary")
    return given.get("type") == "reasoning" and not any(given.get(name) for name in contents)


def in_lane(event: bytes, lane: str | None) -> bytes:
    """An event with the `stream_id` of its lane."""
    if lane is None:
        return event
    head, rest = b'{"stream_id":"' + lane.encode() + b'"', event.lstrip()[1:]
    return head + (b"" if rest.lstrip()[:1] == b"}" else b",") + rest


def events_of_answer(body: bytes) -> list[bytes]:
    """The events of a response that came as one JSON object, from a server that does not stream."""
    response = read_response(body)
    if response is None:
        return []
    kind = f"response.{response.status}" if f"response.{response.status}" in ENDS else "response.completed"
    return [
        b'{"type":"response.created","sequence_number":0,"response":' + body + b"}",
        b'{"type":"' + kind.encode() + b'","sequence_number":1,"response":' + body + b"}",
    ]


def prepared(model: Any) -> tuple[str, list[bytes]]:
    """The id and the events of a response without output, for a client that only prepares a conversation."""
    response_id = f"resp_{new_id().replace('-', '')}"
    response = {
        "id": response_id,
        "object": "response",
        "created_at": int(time.time()),
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "metadata": {},
        "model": model,
        "output": [],
        "parallel_tool_calls": True,
        "temperature": None,
        "tool_choice": "auto",
        "tools": [],
        "top_p": None,
        "usage": None,
    }
    usage = {
        "input_tokens": 0,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 0,
    }
    done = response | {"status": "completed", "usage": usage}
    return response_id, [
        orjson.dumps({"type": "response.created", "sequence_number": 0, "response": response}),
        orjson.dumps({"type": "response.completed", "sequence_number": 1, "response": done}),
    ]


def steering_refused(previous: Any, given: Any) -> bytes:
    text = "responses cannot be steered here; send the input with the next `response.create`"
    return orjson.dumps(
        {
            "type": "response.steer.failed",
            "sequence_number": 0,
            "error": {"type": "invalid_request_error", "code": "steering_not_supported", "message": text},
            "steer": {_PREVIOUS: previous, "input": given},
        }
    )


def error_event(error: GatewayError) -> bytes:
    """The gateway's own error."""
    return error_of_answer(error.status, error.body(), error.headers())


def error_of_answer(status: int, body: bytes, headers: Iterable[tuple[bytes, bytes]] = ()) -> bytes:
    """The error of an HTTP answer, in whatever shape its body is."""
    found = _error_in(body)
    if found.get("param") == _PREVIOUS and status in (400, 404):
        status, found["code"] = 400, "previous_response_not_found"  # upon which clients send the whole conversation
    kept = {n.decode("latin-1"): v.decode("latin-1") for n, v in headers if n not in _LEFT_OUT}
    if kept:
        found["headers"] = kept
    event = {"type": "error", "status": status, "error": found}
    return orjson.dumps(event | {"headers": kept} if kept else event)


def _error_in(body: bytes) -> dict[str, Any]:
    parsed = parse_object(body) or {}
    inner = parsed.get("error")
    found = dict(inner) if isinstance(inner, dict) else {}
    if not isinstance(found.get("message"), str):
        found["message"] = body.decode("utf-8", "replace")[:1000] or "the upstream gave no reason"
    if not isinstance(found.get("type"), str):
        found["type"] = "api_error"
    return {"code": None, "param": None} | found


def error_in_stream(event: bytes, status: int) -> bytes:
    """An error event within a stream, which OpenAI's streams have flat, as WebSockets have it."""
    given = parse_object(event) or {}
    inner = given.get("error")
    error = {"code": None, "param": None, "type": "server_error"}
    error |= inner if isinstance(inner, dict) else {n: given.get(n) for n in ("code", "message", "param")}
    return orjson.dumps(
        {
            "type": "error",
            "status": given.get("status") or status,
            "error": error,
            "sequence_number": given.get("sequence_number") or 0,
        }
    )


def header_lines(lines: bytes) -> Headers:
    """Header lines as on the wire, as a list."""
    pairs = (line.partition(b": ") for line in lines.split(b"\r\n") if line)
    return [(name, value) for name, _, value in pairs]
