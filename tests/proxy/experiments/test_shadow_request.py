"""What a shadow asks: the same bytes but for what would tie it to the first answer; and what is never asked twice."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import orjson
import pytest

from gateway.proxy.experiments.shadow_request import asked_again, has_effects
from gateway.proxy.request.call import Call, Caller

BODY = b'{"model":"chat", "seed" : 7,"temperature":0.70,"big":12345678901234567890,"messages":[{"role":"user"}]}'


def a_call(body: bytes = BODY, **changes: Any) -> Call:
    call = Call("id", 1.0, 1.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", False, body)
    return replace(call, fields=orjson.loads(body), **changes)


def a_place(priority: bool = False) -> Any:
    return SimpleNamespace(upstream=SimpleNamespace(config=SimpleNamespace(priority=priority)))


def test_only_the_seed_is_taken_out_of_the_bytes() -> None:
    again = asked_again(a_call(), a_place())
    assert b"seed" not in again.body
    assert again.body.replace(b" ", b"") == BODY.replace(b" ", b"").replace(b'"seed":7,', b"")
    assert "seed" not in again.fields
    assert again.id != "id"
    assert (again.received > 1.0, again.started != 1.0) == (True, True)


def test_no_cache_can_repeat_the_first_answer() -> None:
    call = a_call(headers=[(b"idempotency-key", b"once"), (b"accept", b"*/*")])
    assert asked_again(call, a_place()).headers == [
        (b"accept", b"*/*"), (b"cache-control", b"no-cache"), (b"pragma", b"no-cache"),
    ]  # fmt: skip


def test_a_shadow_has_the_lowest_priority() -> None:
    assert orjson.loads(asked_again(a_call(), a_place(priority=True)).body)["priority"] == 100
    high = a_call(b'{"model":"chat","priority":0}')
    assert orjson.loads(asked_again(high, a_place(priority=True)).body)["priority"] == 100
    assert orjson.loads(asked_again(high, a_place()).body)["priority"] == 0


@pytest.mark.parametrize(
    ("fields", "effects"),
    [
        ({}, False),
        ({"store": False}, False),
        ({"store": True}, True),
        ({"previous_response_id": "r1"}, True),
        ({"conversation": "c1"}, True),
        ({"background": True}, True),
        ({"plugins": [{"id": "web"}]}, True),
        ({"web_search_options": {}}, True),
        ({"tools": []}, False),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, False),
        ({"tools": [{"type": "custom", "custom": {"name": "f"}}]}, False),
        ({"tools": [{"type": "web_search"}]}, True),
        ({"tools": [{"type": "function"}, {"type": "mcp"}]}, True),
        ({"tools": ...}, True),
    ],
    ids=str,
)
def test_a_request_with_side_effects_has_no_shadow(fields: dict[str, Any], effects: bool) -> None:
    assert has_effects(replace(a_call(), fields=fields)) is effects
