"""Types of a parsed request."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from typing import Any

import pytest

from gateway.proxy.request.call import Call, Caller


def a_call(fields: dict[str, Any]) -> Call:
    return Call("id", 0.0, 0.0, Caller("web"), "chat", b"POST", b"/chat/completions", "chat", True, b"{}", fields)


ASKED = [
    ({"stream_options": {"include_usage": True}}, True),
    ({"stream_options": {"include_usage": True, "other": 1}}, True),
    ({"stream_options": {"include_usage": False}}, False),
    ({"stream_options": {"include_usage": "yes"}}, False),
    ({"stream_options": {"include_usage": 1}}, False),
    ({"stream_options": {}}, False),
    ({"stream_options": None}, False),
    ({"stream_options": ...}, False),
    ({"stream_options": [True]}, False),
    ({}, False),
]


@pytest.mark.parametrize(("fields", "asked"), ASKED, ids=[str(a[0]) for a in ASKED])
def test_usage_was_asked_for_only_where_the_client_says_true(fields: dict[str, Any], asked: bool) -> None:
    assert a_call(fields).asked_usage is asked


def test_a_callers_rights_are_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        Caller("web").allow = frozenset({"target"})  # type: ignore[misc]
