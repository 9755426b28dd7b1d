"""A lane's way to upstreams. What it does over real connections is in tests/proxy/websocket/test_relayed.py."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from gateway.proxy.relay.websocket_lane import WebSocketLane


def upstream(name: str, websockets: object = None) -> Any:
    return SimpleNamespace(name=name, websockets=websockets, transport=object())


def test_an_upstream_without_websockets_is_reached_as_by_http() -> None:
    plain = upstream("a")
    assert WebSocketLane().transport(plain) is plain.transport


def test_each_upstream_has_one_way_until_its_config_changes() -> None:
    lane, first, other, changed = WebSocketLane(), upstream("a", 1), upstream("b", 1), upstream("a", 1)
    lane.begin(None)
    way = lane.transport(first)
    assert lane.transport(first) is way
    assert lane.transport(other) is not way
    assert lane.transport(changed) is not way
    lane.close()
    assert lane.transport(changed) is not way
