"""Upstreams found on local ports and by keys; and that no server that is merely found gets a key."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from gateway.core.providers import PROVIDERS
from gateway.up.discovery import DiscoveredUpstream, look, usual_ports


@dataclass
class Server:
    """Answers canned JSON by path; keeps what it was sent."""

    answers: dict[str, Any]
    status: int = 200
    headers: str = ""
    port: int = 0
    requests: list[bytes] = field(default_factory=list)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            request = await reader.readuntil(b"\r\n\r\n")
            self.requests.append(request)
            path = request.split()[1].decode()
            answer = self.answers.get(path)
            body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            status = self.status if path in self.answers else 404
            head = f"HTTP/1.1 {status} X\r\n{self.headers}connection: close\r\ncontent-length: {len(body)}\r\n\r\n"
            writer.write(head.encode() + body)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        async with listening(self._answer) as self.port:
            yield self


@contextlib.asynccontextmanager
async def listening(
    answer: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A port on which each connection is answered and closed; all are closed when this ends."""
    tasks: list[asyncio.Task[None] | None] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.current_task())
        await answer(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]
        await asyncio.gather(*filter(None, tasks))


def models(owner: str | None, *names: str) -> dict[str, Any]:
    return {"/v1/models": {"object": "list", "data": [{"id": n, "owned_by": owner} for n in names]}}


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        (models("vllm", "m"), "vllm"),
        (models("sglang", "m"), "sglang"),
        (models("llamacpp", "m"), "llamacpp"),
        (models("organization_owner", "m"), "lmstudio"),
        (models("library", "m"), "ollama"),
        (models("a-user", "m") | {"/api/version": {"version": "0.20.1"}}, "ollama"),
        (models("me", "m"), "llama_cpp_python"),
        (models("somebody", "m"), "openai"),
        (models(None, "m"), "openai"),
    ],
)
async def test_a_server_is_known_by_what_it_answers(answers: dict[str, Any], kind: str) -> None:
    async with Server(answers).running() as server:
        assert await look([server.port], []) == [DiscoveredUpstream(PROVIDERS[kind], server.port, ("m",))]


async def test_all_ports_are_asked_and_the_dead_ones_are_left_out() -> None:
    async with Server(models("vllm", "a", "b")).running() as one, Server(models("llamacpp", "c")).running() as two:
        async with Server({}).running() as gone:
            pass
        found = await look([one.port, gone.port, two.port], [])
    assert [(f.provider.kind, f.models) for f in found] == [("vllm", ("a", "b")), ("llamacpp", ("c",))]


@pytest.mark.parametrize(
    "server",
    [
        Server(models("assay-gateway", "chat")),
        Server(models(None), headers="server: assay-gateway\r\n"),
        Server({"/v1/models": {"error": {}}}, status=401, headers="server: assay-gateway\r\n"),
    ],
    ids=["by owner", "by header", "asking for a key"],
)
async def test_a_gateway_is_not_an_upstream(server: Server) -> None:
    async with server.running():
        assert await look([server.port], []) == []


@pytest.mark.parametrize(
    "answers",
    [
        {},
        {"/v1/models": b"<html>"},
        {"/v1/models": [1]},
        {"/v1/models": {"data": "x"}},
        {"/v1/models": b"[" * 100_000},
    ],
)
async def test_a_server_that_lists_no_models_is_not_an_upstream(answers: dict[str, Any]) -> None:
    async with Server(answers).running() as server:
        assert await look([server.port], []) == []


async def test_a_server_that_requires_a_key_is_reported() -> None:
    async with Server({"/v1/models": {}}, status=401).running() as server:
        assert await look([server.port], []) == [
            DiscoveredUpstream(PROVIDERS["openai"], server.port, trouble="it requires a key")
        ]


async def test_a_silent_or_endless_port_is_given_up_soon() -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: x\r\n\r\n[")
            while not writer.is_closing():
                writer.write(b"[")
                await writer.drain()
                await asyncio.sleep(0.01)

    async with listening(drip) as port:
        async with asyncio.timeout(60):
            assert await look([port], [], port_timeout_s=0.05) == []


async def test_no_key_is_sent_to_a_discovered_port(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    async with Server(models("x", "m")).running() as server, Server({}).running() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://user:sk-secret@127.0.0.1:{proxy.port}")
        await look([server.port], [])
    assert server.requests
    sent = b"".join(server.requests).lower()
    assert b"secret" not in sent
    assert b"authorization" not in sent
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("kind", "expected"), [("mistral", b"authorization: Bearer sk-1"), ("anthropic", b"x-api-key: sk-1")]
)
async def test_a_provider_is_asked_with_its_own_key(
    kind: str, expected: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Server(models("them", "m-1")).running() as server:
        provider = replace(PROVIDERS[kind], base_url=f"http://127.0.0.1:{server.port}/v1")
        monkeypatch.setenv(str(provider.key_env), "sk-1")
        found = await look([], [provider])
    assert found == [DiscoveredUpstream(provider, models=("m-1",))]
    assert expected.lower() in server.requests[0].lower()
    assert found[0].where == f"${provider.key_env}"


async def test_a_provider_that_refuses_is_found_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-secret")
    async with Server({"/v1/models": {}}, status=401).running() as server:
        refusing = replace(PROVIDERS["mistral"], base_url=f"http://127.0.0.1:{server.port}/v1")
        assert await look([], [refusing]) == [DiscoveredUpstream(refusing, trouble="HTTP 401")]
    (gone,) = await look([], [refusing])
    assert gone.trouble is not None
    assert "ConnectError" in gone.trouble
    assert "sk-secret" not in gone.trouble


async def test_a_provider_that_is_silent_is_still_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "sk")

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with listening(silent) as port:
        provider = replace(PROVIDERS["mistral"], base_url=f"http://127.0.0.1:{port}/v1")
        (found,) = await look([], [provider], provider_timeout_s=0.05)
    assert found.trouble is not None


def test_the_usual_ports_are_those_of_the_vendors() -> None:
    assert usual_ports() == [1234, 8000, 8001, 8080, 11434, 30000]
