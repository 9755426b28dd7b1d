"""The requests that messages become."""

from __future__ import annotations

import json
from typing import Any

import pytest

from gateway.proxy.websocket.client_events import CreateEvent, read_client_event, to_request
from gateway.proxy.websocket.history import ConversationTurn


def created(**members: Any) -> CreateEvent:
    event = read_client_event(json.dumps({"type": "response.create", **members}).encode())
    assert isinstance(event, CreateEvent)
    return event


@pytest.mark.parametrize(
    ("given", "items"),
    [
        ("hi", [{"type": "message", "role": "user", "content": "hi"}]),
        ([], []),
        (None, []),
        ([{"role": "user", "content": "a"}, 2], [{"role": "user", "content": "a"}, 2]),
    ],
)
def test_the_items_of_each_form_of_input(given: Any, items: list[Any]) -> None:
    asked = to_request(created(model="m", input=given, previous_response_id="r"), ConversationTurn("r", (b'{"a":1}',)))
    assert asked.items is not None
    assert json.loads(b"[" + asked.items[-1] + b"]") == items
    assert json.loads(asked.body) == {"model": "m", "stream": True, "input": [{"a": 1}, *items]}


def test_a_conversation_without_items_yet_is_continued() -> None:
    asked = to_request(created(previous_response_id="r", input="hi"), ConversationTurn("r", ()))
    assert len(json.loads(asked.body)["input"]) == 1


def test_bytes_that_nothing_changes_stay() -> None:
    body = b'{"type":"response.create", "input" : "\xc3\xa9\\u00e9" ,"n":1.0e2,"stream":false}'
    event = read_client_event(body)
    assert isinstance(event, CreateEvent)
    assert to_request(event, None).body == b'{"input" : "\xc3\xa9\\u00e9" ,"n":1.0e2,"stream":true}'


def test_an_input_of_another_type_is_left_to_the_upstream() -> None:
    asked = to_request(created(input={"a": 1}, previous_response_id="r"), ConversationTurn("r", (b"1",)))
    assert json.loads(asked.body)["input"] == {"a": 1}
    assert asked.items is None


def test_in_a_conversation_of_the_upstream_nothing_is_kept() -> None:
    assert to_request(created(input="hi", conversation="conv_1"), None).items is None


@pytest.mark.parametrize(
    ("members", "generates"),
    [
        ({}, True),
        ({"generate": None}, True),
        ({"generate": False}, False),
        ({"generate": True, "prompt_cache_options": {"prewarm": True}}, False),
    ],
)
def test_a_response_that_only_prepares_generates_nothing(members: dict[str, Any], generates: bool) -> None:
    assert created(**members).generates is generates
