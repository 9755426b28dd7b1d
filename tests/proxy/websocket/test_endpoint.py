"""The right to open a WebSocket, and its paths."""

from __future__ import annotations

import json
from typing import Any

import pytest
from websockets.exceptions import InvalidStatus

from gateway.fake import FakeUpstream
from gateway.proxy.websocket.endpoint import WebSocketResponses


@pytest.mark.parametrize("key", [None, "wrong"])
async def test_without_a_key_there_is_no_upgrade(gateway: Any, opened: Any, key: str | None) -> None:
    with pytest.raises(InvalidStatus) as refused:
        await opened(gateway, key)
    answer = refused.value.response
    assert answer.status_code == 401
    assert json.loads(answer.body or b"")["error"]["code"] == "invalid_api_key"
    assert answer.headers["x-request-id"]
    assert await gateway.metric("gateway_refused_total", status="401", code="invalid_api_key") == 1


async def test_a_handshake_without_its_key_is_refused(gateway: Any) -> None:
    headers = {"connection": "upgrade", "upgrade": "websocket"}
    answer = await gateway.client.get("/responses", headers=headers)
    assert answer.status_code == 400
    assert "Sec-WebSocket-Key" in answer.json()["error"]["message"]


async def test_an_upgrade_that_a_proxy_has_dropped_is_named(gateway: Any) -> None:
    answer = await gateway.client.get("/responses")
    assert answer.status_code == 405
    assert "has dropped its `Upgrade` header" in answer.json()["error"]["message"]


async def test_without_keys_a_foreign_page_may_not_open_one(
    start: Any, configured: Any, upstream: FakeUpstream, opened: Any
) -> None:
    config = configured(upstream, open=True, cors=["https://ours.example"])
    gateway = await start({**config, "keys": []}, key=None)
    with pytest.raises(InvalidStatus) as refused:
        await opened(gateway, None, origin="https://evil.example")
    assert refused.value.response.status_code == 403
    for origin in ("https://ours.example", gateway.base_url.removesuffix("/v1"), None):
        ws = await opened(gateway, None, origin=origin)
        assert (await ws.answer())["type"] == "response.completed"


@pytest.mark.parametrize("path", ["/responses/", "//responses"])
async def test_other_spellings_of_the_path_are_served(gateway: Any, opened: Any, path: str) -> None:
    class Elsewhere:
        base_url = gateway.base_url + path.removesuffix("responses/").removesuffix("responses").rstrip("/")

    assert (await (await opened(Elsewhere)).answer())["type"] == "response.completed"


async def test_open_connections_are_a_metric(gateway: Any, ws: Any, opened: Any) -> None:
    other = await opened(gateway)
    assert await gateway.metric("gateway_websocket_connections") == 2
    await other.connection.close()
    await gateway.until(lambda: gateway.process.websockets.sessions.number == 1)
    assert await gateway.metric("gateway_websocket_connections") == 1
    ws.connection.transport.abort()
    await gateway.until(lambda: gateway.process.connections.open == 1)  # that of the client by HTTP


async def test_each_process_has_its_own(gateway: Any) -> None:
    sockets = gateway.process.websockets
    assert isinstance(sockets, WebSocketResponses)
    assert [sockets.serves(path) for path in (b"/v1/responses", b"/openai/v1/responses", b"/v1/realtime")] == [
        True, True, False
    ]  # fmt: skip
    assert sockets.most_bytes == 32_000_000
