"""OpenAI's own Python client over WebSocket, as its users write it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from gateway.fake import FakeUpstream


@pytest.fixture
async def client(gateway: Any) -> Any:
    """OpenAI's client of a gateway in front of one upstream."""
    async with AsyncOpenAI(base_url=gateway.base_url, api_key="test-key") as found:
        yield found


async def ended(connection: Any) -> Any:
    async for event in connection:
        if event.type in ("response.completed", "response.failed", "error"):
            return event
    raise AssertionError("the connection ended")


async def test_a_conversation(client: Any, upstream: FakeUpstream) -> None:
    async with client.responses.connect() as connection:
        await connection.response.create(model="chat", input="a", store=False, stream_id="main")
        first = await ended(connection)
        assert first.response.output_text == "Hello from the fake upstream."
        await connection.response.create(
            model="chat", input="b", store=False, stream_id="main", previous_response_id=first.response.id
        )
        second = await ended(connection)
    assert (second.type, second.stream_id) == ("response.completed", "main")
    assert len(json.loads(upstream.calls[1].body)["input"]) == 3


async def test_a_conversation_with_an_upstream_that_has_websockets(start: Any, configured: Any, double: Any) -> None:
    config = configured(double)
    config["upstreams"]["u0"]["websocket"] = True
    gateway = await start(config)
    client, previous = AsyncOpenAI(base_url=gateway.base_url, api_key="test-key"), None
    async with client, client.responses.connect() as connection:
        for text in ("a", "b", "c"):
            await connection.response.create(model="chat", input=text, store=False, previous_response_id=previous)
            done = await ended(connection)
            previous = done.response.id
    assert done.response.output_text == "answer 3"
    assert [len(message["input"]) for _, message in double.received] == [1, 1, 1]


async def test_an_error_is_the_library_s_error_event(client: Any) -> None:
    async with client.responses.connect() as connection:
        await connection.response.create(model="nope", input="a")
        failed = await ended(connection)
    assert (type(failed).__name__, failed.status, failed.error.code) == ("ResponseWsError", 404, "model_not_found")
    assert failed.error.headers["x-request-id"]


async def test_steering_fails_as_the_library_expects(client: Any) -> None:
    async with client.responses.connect() as connection:
        await connection.response.steer(previous_response_id="resp_1", input="stop")
        failed = await connection.recv()
    assert (type(failed).__name__, failed.error.code) == ("ResponseSteerFailedEvent", "steering_not_supported")


@pytest.mark.filterwarnings("ignore:connect.. must be used as a context manager:DeprecationWarning")  # by the library
async def test_its_client_works_without_asyncio(gateway: Any) -> None:
    def run() -> str:
        with OpenAI(base_url=gateway.base_url, api_key="test-key") as client, client.responses.connect() as connection:
            connection.response.create(model="chat", input="a")
            for event in connection:
                if event.type == "response.completed":
                    return str(event.response.output_text)
        raise AssertionError("the connection ended")

    assert await asyncio.to_thread(run) == "Hello from the fake upstream."


async def test_it_comes_again_after_a_server_has_stopped(start: Any, configured: Any, upstream: FakeUpstream) -> None:
    """The close code is one upon which its helper opens another connection."""
    from openai.types.websocket_reconnection import is_recoverable_close

    gateway = await start(configured(upstream))
    async with AsyncOpenAI(base_url=gateway.base_url, api_key="test-key") as client:
        connection = await client.responses.connect().enter()
        gateway.server.should_exit = True
        async for _ in connection:
            raise AssertionError("nothing was asked")
        code = connection._connection.close_code
    assert code is not None
    assert is_recoverable_close(code)
