"""The hot path without sockets: a client's protocol and an upstream's, fed by hand, as often as is asked for.

What is left out is the kernel's part and the loop's polling; what is left in is all of the gateway's own work, and it
does the same in each request: so it can be counted.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import systems
import uvicorn
from prometheus_client import CollectorRegistry
from uvicorn.server import ServerState

from gateway.config.config import Config
from gateway.config.routes import ConfiguredRoute
from gateway.config.upstreams import TargetRef
from gateway.core.learned_route import LearnedRoute
from gateway.observability.proxy_metrics import ProxyMetrics
from gateway.proxy.app import App
from gateway.proxy.build import ProcessParts, build
from gateway.proxy.http.client.connection import UpstreamConnection
from gateway.proxy.http.client.http1 import Http1Transport
from gateway.proxy.http.server.protocol import HttpProtocol
from gateway.proxy.recording.recorder import Recorder
from gateway.proxy.relay.deadlines import Ticker
from gateway.proxy.routing.response_affinity import ResponseAffinity
from gateway.runtime.tasks import Tasks
from gateway.stream import Corridor

ORIGIN = "http://127.0.0.1:9"
Sections = Callable[[dict[str, Any]], dict[str, Any]]
"""Adds to the sections of a config."""
UNREACHABLE = "redis://127.0.0.1:9/0"  # nothing is written there: no recorder runs


class Wire(asyncio.Transport):
    """A socket that keeps what was written, and takes all at once."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def writelines(self, parts: Any) -> None:
        self.written += parts

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = True

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def body(self) -> list[bytes]:
        """The pieces that were written after the head of a large request."""
        written, self.written = self.written, []
        return written[1:]

    def take(self) -> bytes:
        written, self.written = b"".join(self.written), []
        return written


class Hot:
    """One client's connection, one upstream's, and the gateway between them. Needs a running loop."""

    def __init__(
        self,
        rate: float,
        limits: Sections | None = None,
        kind: str = "openai",
        route: LearnedRoute | None = None,
        guards: dict[str, Any] | None = None,
    ) -> None:
        """limits: adds limits to the config. kind: of the upstream. route: that of the model that is asked for; None if
        its targets are weighted. guards: the section of the config; None if there is none."""
        loop = asyncio.get_running_loop()
        self.tasks = Tasks()
        self.client, self.upstream = Wire(), Wire()
        self.metrics = metrics = ProxyMetrics(CollectorRegistry())
        corridor = Corridor(UNREACHABLE, "hot")
        self.recorder = Recorder(corridor, metrics, buffer_bytes=1 << 40)
        ticker = Ticker()
        ticker.running = True  # it believes so, and never ticks: whether it does between two requests is chance
        affinity = ResponseAffinity(corridor.state, self.tasks)
        parts = ProcessParts(
            self.recorder, metrics, self.tasks, affinity, ticker, rng=random.Random(1), clock=lambda: 1.0
        )
        sections = systems.config_of(ORIGIN, UNREACHABLE, "hot", rate)
        sections["upstreams"]["up"]["kind"] = kind
        sections["guards"] = guards or {}
        config = _routed(sections, route) if route else Config.model_validate(limits(sections) if limits else sections)
        gateway = build(config, parts)
        app: Any = App(gateway)
        app.direct = app
        settings = uvicorn.Config(
            app, http=HttpProtocol, interface="asgi3", lifespan="off", log_config=None, proxy_headers=False
        )
        settings.load()
        state = ServerState()
        state.default_headers = [(b"date", b"Thu, 01 Jan 1970 00:00:00 GMT"), (b"server", b"assay-gateway")]
        self.protocol = HttpProtocol(settings, state, {})
        self.protocol.connection_made(self.client)
        transport = gateway.upstreams["up"].transport
        assert isinstance(transport, Http1Transport)
        pool = transport._add_pool(ORIGIN)
        self.connection = UpstreamConnection(pool, loop, 60.0)
        self.connection.connection_made(self.upstream)
        pool._alive = 1
        pool.give_back(self.connection)

    async def run(self, n: int, request: bytes, answer: list[bytes]) -> bytes:
        """n requests, one after another, each answered with these pieces; the last answer as the client got it."""
        last = b""
        for _ in range(n):
            self.client.take()
            self.protocol.data_received(request)
            while not self.upstream.written:
                await asyncio.sleep(0)
            self.upstream.take()
            for piece in answer:
                self.connection.data_received(piece)
                while not self.client.written and not self.upstream.written:
                    await asyncio.sleep(0)
                self.upstream.take()  # another request of the same attempt
                last = self.client.take()
            while self.protocol._request is not None:
                await asyncio.sleep(0)
            self.recorder._waiting.clear()
            self.recorder._room = 1 << 40
        return last

    async def answer(self, request: bytes, pieces: list[bytes]) -> int:
        """One request, answered with these pieces, of which some may give the client nothing; bytes that it got."""
        await self.begin(request)
        size = await self.feed(pieces)
        await self.ended()
        return size + len(self.client.take())

    async def begin(self, request: bytes) -> None:
        """Returns when the upstream has the request."""
        self.client.take()
        self.protocol.data_received(request)
        while not self.upstream.written:
            await asyncio.sleep(0)
        self.upstream.take()

    async def feed(self, pieces: list[bytes]) -> int:
        """The number of bytes that the client got for them so far."""
        size = 0
        for piece in pieces:
            self.connection.data_received(piece)
            await asyncio.sleep(0)
            size += len(self.client.take())
        return size

    async def ended(self) -> None:
        while self.protocol._request is not None:
            await asyncio.sleep(0)
        self.recorder._waiting.clear()
        self.recorder._room = 1 << 40

    async def close(self) -> None:
        self.protocol.connection_lost(None)


def _routed(sections: dict[str, Any], route: LearnedRoute) -> Config:
    sections["models"][systems.MODEL]["targets"] = [{"route": route.name, "digest": route.digest}]
    control, moved = (TargetRef.model_validate(each.section) for each in (route.control, route.moved))
    return Config.model_validate(sections).with_routes({route.name: ConfiguredRoute(route, control, moved)})


async def driven(
    rate: float,
    drive: Callable[[Hot], Awaitable[Any]],
    limits: Sections | None = None,
    kind: str = "openai",
    route: LearnedRoute | None = None,
    guards: dict[str, Any] | None = None,
) -> Any:
    hot = Hot(rate, limits, kind, route, guards)
    async with hot.tasks:
        result = await drive(hot)
        await hot.close()
    return result


def plain() -> tuple[bytes, list[bytes]]:
    return systems.request(80), [_answer()]


def long_answer(chars: int) -> tuple[bytes, list[bytes]]:
    """A plain answer with a text of the given length."""
    body = json.loads(systems.answer())
    body["choices"][0]["message"]["content"] = ("A word of the answer, and another. " * (chars // 35 + 1))[:chars]
    answer = json.dumps(body).encode()
    head = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return systems.request(80), [head % len(answer) + answer]


def conversation(size: int) -> tuple[bytes, list[bytes]]:
    """A request of about the given number of bytes, in turns of a kilobyte."""
    turns = [{"role": "user", "content": "y" * 960}] * max(0, size // 1000 - 1)
    turns = [*turns, {"role": "user", "content": "What should I cook tonight?"}]
    body = json.dumps({"model": systems.MODEL, "messages": turns, "temperature": 0.7}).encode()
    head, _, _ = systems.request(80).partition(b"Content-Length")
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, [_answer()]


def decision() -> tuple[bytes, list[bytes]]:
    """A decision of two questions in OpenAI's format, of the size of `plain`."""
    asked = [{"type": "predicate", "instructions": "It is."}] * 2
    body = json.dumps({"model": systems.MODEL, "input": "x" * 700, "questions": asked}).encode()
    head, _, _ = systems.request(80).replace(b"/chat/completions", b"/decisions").partition(b"Content-Length")
    usage = {"input_tokens": 9, "output_tokens": 0, "total_tokens": 9}
    answers = [{"type": "predicate", "name": "n" * 400, "probability": 0.5}] * 2
    answer = json.dumps({"model": "m", "answers": answers, "usage": usage}).encode()
    start = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, [start % len(answer) + answer]


def reads(questions: int) -> tuple[bytes, list[bytes]]:
    """A decision that is read from chats, of the size of `plain` in all, and an answer of twenty alternatives to each
    read."""
    asked = [{"type": "choice", "instructions": "Which?", "choices": [{"value": "good"}, {"value": "bad"}]}] * questions
    body = json.dumps({"model": systems.MODEL, "input": "x" * 600, "questions": asked}).encode()
    head, _, _ = systems.request(80).replace(b"/chat/completions", b"/decisions").partition(b"Content-Length")
    words = ["good", "bad", *(f"w{n}" for n in range(18))]
    top = [{"token": word, "logprob": -1.0 - n, "bytes": [119]} for n, word in enumerate(words)]
    content = [{"token": "good", "logprob": -1.0, "top_logprobs": top}]
    choice = {"index": 0, "message": {"role": "assistant", "content": "good"}, "logprobs": {"content": content}}
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    answer = json.dumps({"id": "c", "model": "m", "choices": [choice], "usage": usage}).encode()
    start = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, [start % len(answer) + answer] * questions


def facade() -> tuple[bytes, list[bytes]]:
    """A chat whose schema asks for two decisions, and the answer of a decision model."""
    team = {"type": "string", "enum": ["billing", "shipping", "other"], "description": "Which team?"}
    schema = {"type": "object", "properties": {"team": team, "refund": {"type": "boolean"}}}
    form = {"type": "json_schema", "json_schema": {"name": "ticket", "schema": schema}}
    messages = [{"role": "system", "content": "Sort tickets."}, {"role": "user", "content": "y" * 400}]
    body = json.dumps({"model": systems.MODEL, "messages": messages, "response_format": form}).encode()
    head, _, _ = systems.request(80).partition(b"Content-Length")
    shares = [{"value": value, "probability": p} for value, p in zip(team["enum"], (0.9, 0.06, 0.04), strict=True)]
    chosen = {"type": "choice", "name": "team", "choice": "billing", "confidence": 0.9, "probabilities": shares}
    answers = [chosen, {"type": "predicate", "name": "refund", "probability": 0.93}]
    usage = {"input_tokens": 90, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 0, "total_tokens": 90}
    answer = json.dumps({"model": "m", "answers": answers, "usage": usage}).encode()
    start = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body, [start % len(answer) + answer]


def with_decisions(config: dict[str, Any]) -> dict[str, Any]:
    """The config whose models are asked for decisions first."""
    for model in config["models"].values():
        [first, *_] = model["targets"]
        control = {"upstream": first["upstream"], "model": first["model"]}
        model |= {"targets": [{**control, "as": "decision", "facade": "unproved"}], "fallback": [control]}
    return config


def _answer() -> bytes:
    answer = systems.answer().encode()
    head = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(answer) + answer


def stream(tokens: int = 100) -> tuple[bytes, list[bytes]]:
    """A stream whose events come one by one, each a chunk of its own."""

    def event(delta: str, finish: str = "null") -> bytes:
        choice = f'{{"index":0,"delta":{delta},"finish_reason":{finish}}}'
        data = f'{{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"m","choices":[{choice}]}}'
        return chunk(f"data: {data}\n\n".encode())

    def chunk(data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data)

    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
    events = [event(f'{{"content":"t{i} "}}') for i in range(tokens)]
    last = event("{}", '"stop"') + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n"
    return systems.request(80, stream=True), [head + events[0], *events[1:], last]
