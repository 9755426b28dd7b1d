"""The double, the clients that ask it, and how to read what they got."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import Any

import httpx2
import openai
import pytest

from gateway.fake import FakeUpstream


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A running double of an upstream."""
    async with FakeUpstream() as upstream:
        yield upstream


@pytest.fixture
async def http(upstream: FakeUpstream) -> AsyncIterator[httpx2.AsyncClient]:
    """An HTTP client whose base URL is the double's."""
    async with httpx2.AsyncClient(base_url=upstream.base_url) as client:
        yield client


@pytest.fixture
async def sdk(upstream: FakeUpstream) -> AsyncIterator[openai.AsyncOpenAI]:
    """OpenAI's asynchronous client, connected to the double."""
    async with openai.AsyncOpenAI(base_url=upstream.base_url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
def chat() -> Callable[..., dict[str, Any]]:
    """The body of a chat call whose prompt has two words, with these further fields."""

    def body(**fields: Any) -> dict[str, Any]:
        return {"model": "m", "messages": [{"role": "user", "content": "two words"}], **fields}

    return body


@pytest.fixture
def events_of() -> Callable[[str], list[Any]]:
    """The parsed data of each event in a stream; `[DONE]` stays a string."""

    def parsed(text: str) -> list[Any]:
        datas = [block.split("data: ", 1)[1] for block in text.split("\n\n") if "data: " in block]
        return [data if data == "[DONE]" else json.loads(data) for data in datas]

    return parsed


@pytest.fixture
def text_of() -> Callable[[list[Any]], str]:
    """The text of a chat's deltas, joined."""

    def joined(events: list[Any]) -> str:
        choices = [c for e in events if isinstance(e, dict) for c in e.get("choices", ())]
        return "".join(c["delta"].get("content") or "" for c in choices)

    return joined


class Wire:
    """A connection that shows every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def ask(self, body: dict[str, Any], path: str = "/v1/chat/completions") -> None:
        data = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: fake\r\ncontent-type: application/json\r\ncontent-length: {len(data)}\r\n"
        )
        self.writer.write(head.encode() + b"\r\n" + data)

    async def until(self, mark: bytes) -> bytes:
        return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        return await self.reader.read()

    async def leave(self) -> None:
        self.writer.close()
        with suppress(ConnectionError):
            await self.writer.wait_closed()


@pytest.fixture
def wire_to() -> Callable[[FakeUpstream], AbstractAsyncContextManager[Wire]]:
    """Opens a raw connection to an upstream, and closes it after the test."""

    @asynccontextmanager
    async def opened(upstream: FakeUpstream) -> AsyncIterator[Wire]:
        wire = Wire(*await asyncio.open_connection("127.0.0.1", upstream.port))
        try:
            yield wire
        finally:
            await wire.leave()

    return opened
