"""A gateway as it runs: uvicorn on a real socket, a real stream server, and a fake upstream."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
import yaml
from fixtures.metric_samples import sample_sum_of_page
from fixtures.secret_of_draws import SECRET
from fixtures.tallies import merged

from gateway.config.environment import WorkerEnvironment
from gateway.config.routes import route_path
from gateway.core.completion import completion_of
from gateway.core.errors import StreamDown
from gateway.core.exchange import Exchange, Tally, from_fields, new_id
from gateway.core.learned_route import LearnedRoute
from gateway.fake import FakeUpstream
from gateway.proxy.http.server.protocol import HttpProtocol
from gateway.proxy.serve import Process, server_settings
from gateway.stream import Corridor

KEY = "test-key"
MAY = ["sample", "target", "passthrough"]


@dataclass
class Running:
    """A gateway that answers, and what a test wants to see of it."""

    process: Process
    base_url: str
    client: httpx2.AsyncClient
    corridor: Corridor
    config_path: Path
    records: list[Any] = field(default_factory=list)
    server: uvicorn.Server | None = None

    @property
    def gateway(self) -> Any:
        assert self.process.app is not None
        return self.process.app.gateway

    async def chat(self, text: str = "hi", **fields: Any) -> httpx2.Response:
        body = {"model": "chat", "messages": [{"role": "user", "content": text}], **fields}
        return await self.client.post("/chat/completions", json=body)

    def stream(self, text: str = "hi", **fields: Any) -> Any:
        body = {"model": "chat", "stream": True, "messages": [{"role": "user", "content": text}], **fields}
        return self.client.stream("POST", "/chat/completions", json=body)

    async def read_more(self) -> None:
        """Reads further records from the stream."""
        entries = await self.corridor.read("test", 500, 500)
        self.records += [from_fields(e.fields) for e in entries]
        await self.corridor.ack([e.id for e in entries])

    async def recorded(self, n: int = 1) -> list[Exchange]:
        """The first n exchanges, once they are in the stream."""
        async with asyncio.timeout(55):
            while len(self.exchanges) < n:
                await self.read_more()
        return self.exchanges

    async def tally(self, holds: Callable[[Tally], bool]) -> Tally:
        """The first state of the tallies for which `holds`; each has the cells that changed since the previous one."""
        async with asyncio.timeout(55):
            while True:
                whole: Tally | None = None
                for record in self.records:
                    if isinstance(record, Tally):
                        whole = record if whole is None else merged(whole, record)
                        if holds(whole):
                            return whole
                await self.read_more()

    @property
    def exchanges(self) -> list[Exchange]:
        return [r for r in self.records if isinstance(r, Exchange)]

    async def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric's samples with these labels."""
        text = (await self.client.get(self.base_url.removesuffix("/v1") + "/metrics")).text
        return sample_sum_of_page(text, name, **labels) or 0.0

    async def until(self, holds: Callable[[], Any]) -> None:
        """Waits for a state of this process, looking again at each turn of the loop."""
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.005)

    def write(self, config: dict[str, Any]) -> None:
        self.config_path.write_text(yaml.safe_dump(config))


def text_of(exchange: Exchange) -> str:
    return completion_of(exchange).text


Start = Callable[..., Any]


@pytest.fixture
def configured(stream_url: str, stream_name: str) -> Callable[..., dict[str, Any]]:
    """A config with one key, everything sampled, and one alias `chat` on the given upstreams, the first as target and
    the others as fallbacks. Further sections replace these; `chat` is merged into the alias."""

    def make(*upstreams: FakeUpstream, chat: dict[str, Any] | None = None, **sections: Any) -> dict[str, Any]:
        names = [f"u{i}" for i in range(len(upstreams))]
        targets = [{"upstream": n, "model": f"model-{n}"} for n in names]
        quick = {"connect_s": 2, "first_token_s": 2, "answer_s": 2, "idle_s": 2, "total_s": 20}
        model = {"targets": targets[:1], "fallback": targets[1:], "timeouts": quick, "retries": {"backoff_s": 0.01}}
        return {
            "keys": [{"name": "tester", "sha256": sha256(KEY.encode()).hexdigest(), "allow": MAY}],
            "upstreams": {n: {"kind": "openai", "base_url": u.base_url} for n, u in zip(names, upstreams, strict=True)},
            "models": {"chat": {**model, **(chat or {})}},
            "sampling": {"rate": 1.0},
            "stream": {"url": stream_url, "name": stream_name},
            **sections,
        }

    return make


@pytest.fixture
async def start(tmp_path: Path, stream_url: str, stream_name: str) -> AsyncIterator[Start]:
    """Starts gateways from configs, and stops them after the test."""
    async with contextlib.AsyncExitStack() as stack:

        async def go(
            config: dict[str, Any],
            key: str | None = KEY,
            flush_s: float = 5.0,
            limits_shift_s: float = 0.0,
            limits_wait_s: float = 10.0,
            stack: contextlib.AsyncExitStack = stack,
            routes: Sequence[LearnedRoute] = (),
            passed_s: Callable[[], float] = lambda: 0.0,
            **limits: float,
        ) -> Running:
            """limits_wait_s: calls wait for a slow stream server, unless the test is about those that do not.
            stack: of a gateway that stops before the others. routes: whose files are next to the config. passed_s:
            seconds by which the clock of its breakers is ahead."""
            path = tmp_path / f"gateway-{new_id()}.yaml"
            path.write_text(yaml.safe_dump(config))
            for route in routes:
                route_path(path, route.name).write_bytes(route.to_json())
            return await stack.enter_async_context(
                running(path, config, key, flush_s, limits, limits_shift_s, limits_wait_s, passed_s)
            )

        yield go


@contextlib.asynccontextmanager
async def running(
    path: Path,
    config: dict[str, Any],
    key: str | None,
    flush_s: float,
    limits: dict[str, float],
    limits_shift_s: float = 0.0,
    limits_wait_s: float = 10.0,
    passed_s: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[Running]:
    """limits: fields of HttpProtocol with other values than its own."""
    served = WorkerEnvironment(path, path.parent / "data", loopback=True)
    # Before anything is open: what a test with a mistake in its config reports is the mistake.
    process = Process(
        served,
        flush_s=flush_s,
        heartbeat_s=0.2,
        limits_shift_s=limits_shift_s,
        limits_wait_s=limits_wait_s,
        passed_s=passed_s,
    )
    settings = server_settings(process, process.config, "127.0.0.1", 0, 1)
    settings.loop = "asyncio"
    settings.http = type("Limited", (HttpProtocol,), limits)
    async with contextlib.aclosing(Corridor(config["stream"]["url"], config["stream"]["name"])) as corridor:
        with contextlib.suppress(StreamDown):  # a test may begin with no stream server
            await corridor.state.set_draw_secret(SECRET)  # a consumer puts it there; here there is none
        async with _serving(uvicorn.Server(settings)) as (server, base_url):
            with contextlib.suppress(Exception):  # a test may begin with no stream server
                await corridor.join()
            headers = {"authorization": f"Bearer {key}"} if key else {}
            async with httpx2.AsyncClient(base_url=base_url, headers=headers, timeout=30) as client:
                yield Running(process, base_url, client, corridor, path, server=server)


@contextlib.asynccontextmanager
async def _serving(server: uvicorn.Server) -> AsyncIterator[tuple[uvicorn.Server, str]]:
    """Yields the server and its base URL once it answers, and stops it."""
    with contextlib.closing(server.config.bind_socket()) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # as uvloop does; this loop leaves it to us
        serving = asyncio.get_running_loop().create_task(server._serve([sock]))
        while not server.started:
            await asyncio.sleep(0.005)
            assert not serving.done(), "the gateway did not start"
        yield server, f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        server.should_exit = True
        await serving


@pytest.fixture
async def upstream() -> AsyncIterator[FakeUpstream]:
    """A running double of an upstream."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def second() -> AsyncIterator[FakeUpstream]:
    """Another double, for fallbacks and second targets."""
    async with FakeUpstream() as fake:
        yield fake


@pytest.fixture
async def gateway(start: Start, configured: Callable[..., dict[str, Any]], upstream: FakeUpstream) -> Running:
    """One gateway in front of one upstream."""
    return await start(configured(upstream))


@pytest.fixture
def events() -> Callable[[bytes], list[Any]]:
    """Parses the data of each event of a stream; "[DONE]" stays a string."""

    def read(body: bytes) -> list[Any]:
        out: list[Any] = []
        for block in body.decode().split("\n\n"):
            for line in block.splitlines():
                if line.startswith("data: "):
                    out.append(line[6:] if line[6:] == "[DONE]" else json.loads(line[6:]))
        return out

    return read


FAULTS = pytest.StashKey[dict[str, dict[str, str]]]()


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str, str, str], None]:
    """Records how a fault ended, for the table that the run prints."""
    table = request.config.stash.setdefault(FAULTS, {})

    def keep(fault: str, mode: str, result: str) -> None:
        table.setdefault(fault, {})[mode] = result

    return keep


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    table = terminalreporter.config.stash.get(FAULTS, {})
    if not table:
        return
    modes = ["plain", "streamed", "plain, alone", "streamed, alone"]
    heads = ["plain, fallback", "streamed, fallback", "plain, alone", "streamed, alone"]
    terminalreporter.write_line("")
    terminalreporter.write_line("| upstream fault | " + " | ".join(heads) + " |")
    terminalreporter.write_line("|---|" + "---|" * len(heads))
    for fault, row in table.items():
        terminalreporter.write_line(f"| {fault} | " + " | ".join(row.get(m, "–") for m in modes) + " |")
