"""The events that clients get where HTTP has a status and a body, or another shape of an error."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.core.errors import RateLimited
from gateway.proxy.websocket.server_events import (
    error_event,
    error_in_stream,
    error_of_answer,
    events_of_answer,
    in_lane,
    portable,
)


@pytest.mark.parametrize("event", [b"{}", b'{"a":1}', b' { "a":1}', b"{ }"])
def test_a_lane_is_named_in_any_object(event: bytes) -> None:
    assert json.loads(in_lane(event, "a.b-c")) == {"stream_id": "a.b-c", **json.loads(event)}
    assert in_lane(event, None) is event


def test_an_own_error_has_what_http_has() -> None:
    error = RateLimited("slow down", retry_after_s=7, retry=True)
    event = json.loads(error_event(error))
    assert (event["type"], event["status"], event["error"]["code"]) == ("error", 429, "rate_limit_exceeded")
    assert event["headers"] == event["error"]["headers"] == {"retry-after": "7", "x-should-retry": "true"}


@pytest.mark.parametrize(
    "body", [b"", b"\xff", b"[1]", b'{"detail": "no"}', b'{"error": "no"}', b'{"error": {"code": 3}}']
)
def test_any_body_becomes_an_error(body: bytes) -> None:
    event = json.loads(error_of_answer(500, body))
    assert event["status"] == 500
    assert event["error"]["message"]
    assert event["error"]["type"] == "api_error"


FLAT = b'{"type":"error","code":"c","message":"m","param":null,"sequence_number":4}'
MISSING = {"code": None, "param": None, "type": "server_error"}


@pytest.mark.parametrize(
    ("given", "status", "number", "error"),
    [
        (FLAT, 502, 4, MISSING | {"code": "c", "message": "m"}),
        (b'{"error":{"message":"m","type":"t"}}', 502, 0, MISSING | {"message": "m", "type": "t"}),
        (b'{"type":"error","status":400,"error":{"message":"m"}}', 400, 0, MISSING | {"message": "m"}),
    ],
)
def test_errors_in_streams_get_the_protocol_s_shape(given: bytes, status: int, number: int, error: Any) -> None:
    found = {"type": "error", "status": status, "sequence_number": number, "error": error}
    assert json.loads(error_in_stream(given, 502)) == found


@pytest.mark.parametrize("body", [b"[]", b"no", b""])
def test_anything_but_a_response_has_no_events(body: bytes) -> None:
    assert events_of_answer(body) == []


def test_reasoning_that_says_something_is_kept() -> None:
    items = b'{"type":"reasoning","id":"rs_1","summary":[],"encrypted_content":"x"},{"type":"message","id":"msg_1"}'
    assert portable(items) is items


def test_items_that_cannot_be_read_are_left() -> None:
    items = b'{"type":"reasoning","id":"rs_1"},{"text":"\\ud800"}'
    assert portable(items) is items
