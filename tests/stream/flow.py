"""A flow of exchanges for tests: clients, a gateway and a consumer as programs, on a stream server of their own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from fixtures.program_command import gateway_command
from prometheus_client import CollectorRegistry

from gateway.config.config import Config
from gateway.config.loading import load
from gateway.consumer.consumer import ConsumerTiming
from gateway.consumer.serve import opened
from gateway.core.errors import StreamDown
from gateway.core.exchange import Record, Tally, from_fields
from gateway.fake import FakeUpstream
from gateway.store.loss_accounting import Delivery, delivery
from gateway.store.query import reading
from gateway.store.snapshot import ScoreCell, take_snapshot
from gateway.store.tables import USAGE, USAGE_SUMS
from gateway.stream import Corridor

HURRIED = ConsumerTiming(block_ms=20, tick_s=0.05, claim_s=0.05, claim_idle_ms=0, silent_ms=1_500)

__all__ = ["StreamDown", "from_fields"]  # with everything that is defined here
CLIENTS = 16
NAME = "flow"


@dataclass
class Program:
    """One of ours, as a process that can be killed and started again."""

    words: list[str]
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            *gateway_command(*self.words),
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, env={**os.environ, "TZ": "UTC"},
        )  # fmt: skip

    async def kill(self) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.communicate()  # until its output ends: it may outlive its launcher by a moment

    async def stop(self) -> None:
        """Stops the program in order. Raises when it ends otherwise."""
        assert self.process is not None
        self.process.terminate()
        ended = await self.process.wait()
        assert ended == 0, f"it ended with {ended}"


@dataclass
class Flow:
    """n exchanges through a gateway, the stream and a consumer.

    server: with kill() and start(). answered: when each was, by id; took: when and how long, of each; kills: what, and
    when; gateway_deaths: when, in Unix seconds."""

    server: Any
    gateway: Program
    consumer: Program
    port: int
    config: Config
    directory: Path
    n: int
    pause_s: float = 0.0  # of each client, after each answer
    answered: dict[str, float] = field(default_factory=dict)
    took: list[tuple[float, float]] = field(default_factory=list)
    kills: list[str] = field(default_factory=list)
    gateway_deaths: list[float] = field(default_factory=list)

    async def run(self, moments: dict[int, str]) -> None:
        """moments: what is killed, by the number of exchanges that are answered before. It is started again at once."""
        async with asyncio.TaskGroup() as tasks:
            for _ in range(CLIENTS):
                tasks.create_task(self._client())
            for at, what in sorted(moments.items()):
                await self.until_answered(at)
                await getattr(self, f"_kill_{what}")()
                self.kills.append(f"{what} at {len(self.answered)}")

    async def until_answered(self, n: int) -> None:
        while len(self.answered) < min(n, self.n):
            await asyncio.sleep(0.002)

    async def _kill_gateway(self) -> None:
        await self.gateway.kill()
        self.gateway_deaths.append(time.time())
        await self.gateway.start()

    async def _kill_consumer(self) -> None:
        await self.consumer.kill()
        await self.consumer.start()

    async def _kill_server(self) -> None:
        await asyncio.to_thread(self.server.kill)
        await asyncio.to_thread(self.server.start)

    async def _kill_both(self) -> None:
        """The gateway while its buffer cannot empty itself: what it holds is lost with it."""
        await asyncio.to_thread(self.server.kill)
        await self.until_answered(len(self.answered) + 60)
        await self.gateway.kill()
        self.gateway_deaths.append(time.time())
        await asyncio.to_thread(self.server.start)
        await self.gateway.start()

    async def _client(self) -> None:
        while len(self.answered) < self.n:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    while len(self.answered) < self.n:
                        await self._ask(reader, writer)
                        await asyncio.sleep(self.pause_s)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(0.01)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        text = "yes " * (1 + len(self.answered) % 7)
        body = b'{"model":"chat","messages":[{"role":"user","content":"%s"}]}' % text.encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: flow\r\ncontent-length: %d\r\n\r\n" % len(body)
        began = time.perf_counter()
        writer.write(head + body)
        answer = await reader.readuntil(b"\r\n\r\n")
        headers = dict(line.lower().split(b": ", 1) for line in answer.split(b"\r\n")[1:] if b": " in line)
        await reader.readexactly(int(headers[b"content-length"]))
        if answer.startswith(b"HTTP/1.1 200"):
            self.answered[headers[b"x-request-id"].decode()] = time.time()
            self.took.append((time.time(), time.perf_counter() - began))

    async def stop_gateway(self) -> None:
        """Stops a gateway in order; one that was started a moment ago is ready first, and so hears that it is to
        stop."""
        async with asyncio.timeout(60):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    writer.transport.abort()
                    break
                await asyncio.sleep(0.02)
        await self.gateway.stop()

    @property
    def store(self) -> str:
        return f"sqlite:///{self.directory / 'gateway.db'}"

    def corridor(self, name: str = NAME) -> Corridor:
        stream = self.config.stream.model_copy(update={"name": name})
        return Corridor.of(stream, str(stream.address))

    async def kept(self) -> list[dict[bytes, bytes]]:
        """All that the server took and has kept."""
        corridor = self.corridor()
        found = [entry for shard in corridor.shards for entry in await corridor.client.xrange(shard.key)]
        await corridor.aclose()
        return [fields for _, fields in found]

    async def finish(self, name: str, store: str, closed: Callable[[], bool]) -> None:
        """A consumer in this process, until the ledger is closed. It hurries: it claims at once, and ticks always."""
        config = self.config.model_copy(update={"stream": self.config.stream.model_copy(update={"name": name})})
        async with (
            opened(config, store, str(config.stream.address), CollectorRegistry(), timing=HURRIED) as consumer,
            asyncio.TaskGroup() as tasks,
        ):
            running = tasks.create_task(consumer.run())
            async with asyncio.timeout(60):
                while not closed():
                    assert not running.done()
                    await asyncio.sleep(0.05)
            consumer.stop()


def read(store: str, work: Callable[[Any], Any]) -> Any:
    with reading(store) as connection:
        return work(connection)


def rows(store: str, query: str) -> list[tuple[Any, ...]]:
    return read(store, lambda connection: [tuple(row) for row in connection.exec_driver_sql(query)])


def sums(store: str) -> dict[Any, Any]:
    """All that was added up, but the weights: which exchanges close one together depends on when one looks."""

    def of(cell: ScoreCell) -> tuple[Any, ...]:
        return dict(cell.n), cell.total, cell.squares, cell.inverse_pi, cell.population

    found: dict[Any, Any] = {cell.key: of(cell) for cell in read(store, take_snapshot).cells}
    found["buckets"] = sorted(rows(store, "SELECT scorer, model, bucket, n FROM score_buckets"))
    found["tallies"] = sorted(rows(store, "SELECT incarnation, ledger, stratum, reason, n FROM tallies"))
    found["usage"] = sorted(rows(store, f"SELECT {', '.join((*USAGE, *USAGE_SUMS))} FROM usage"))  # noqa: S608
    found["scores"] = sorted(rows(store, "SELECT score_id, exchange_id, scorer, status, value FROM scores"))
    return found


def is_there(store: str) -> bool:
    return Path(store.removeprefix("sqlite:///")).exists()


def all_settled(store: str) -> bool:
    """Every gateway has stopped or is known to be dead, and of what they sent nothing is under way."""
    found: Delivery = read(store, delivery)
    gateways = rows(store, "SELECT state FROM ledgers")
    return bool(gateways) and all(state for (state,) in gateways) and found.in_flight == 0


def all_stopped(store: str) -> bool:
    """Every gateway has said that it stopped, and of what they sent nothing is under way."""
    return {state for (state,) in rows(store, "SELECT state FROM ledgers")} == {"stopped"} and all_settled(store)


def is_closed(store: str, count: int) -> bool:
    """The same, with this number stored."""
    if not Path(store.removeprefix("sqlite:///")).exists() or rows(store, "SELECT count(*) FROM exchanges") != [
        (count,)
    ]:
        return False
    return all_settled(store)


def quiet(server: Any, stream: dict[str, Any], directory: Path) -> Flow:
    """A flow without programs: for tests that put and read themselves."""
    path = directory / "gateway.yaml"
    path.write_text(yaml.safe_dump(_sections(stream, directory, "http://127.0.0.1:1/v1")))
    return Flow(server, Program([]), Program([]), 0, load(path), directory, 0)


def _sections(stream: dict[str, Any], directory: Path, upstream: str) -> dict[str, Any]:
    return {
        "open": True,
        "upstreams": {"local": {"kind": "openai", "base_url": upstream}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "small"}]}},
        "prices": {"as_of": "2026-11-26", "models": {"small": {"input": 0.15, "output": 0.6, "cached_input": 0.015}}},
        "sampling": {"rate": 1.0},
        "stream": {"name": NAME, "claim_idle_s": 1, **stream},
        "store": {"url": f"sqlite:///{directory / 'gateway.db'}"},
        "scorers": {"length": {}, "refusal": {}},
        "limits": {"drain_s": 5},
    }


@contextlib.asynccontextmanager
async def flowing(
    server: Any, stream: dict[str, Any], ports: list[int], directory: Path, n: int, *, consumed: bool = True
) -> AsyncIterator[Flow]:
    """Everything at work on a stream server that runs. stream: its section of the config; ports: two that are free."""
    async with FakeUpstream() as upstream:
        path = directory / "gateway.yaml"
        path.write_text(yaml.safe_dump(_sections(stream, directory, upstream.base_url)))
        common = ["--config", str(path), "--data", str(directory / "data")]
        gateway = Program(["serve", "--port", str(ports[0]), *common])
        consumer = Program(["evaluate", "--metrics-port", str(ports[1]), *common])
        flow = Flow(server, gateway, consumer, ports[0], load(path), directory, n)
        programs = [gateway, consumer] if consumed else [gateway]
        for program in programs:
            await program.start()
        try:
            yield flow
        finally:
            for program in programs:
                await program.kill()


def newest(records: list[Record]) -> dict[str, Tally]:
    return {r.incarnation: r for r in records if isinstance(r, Tally)}


def unseen(flow: Flow, records: list[Record]) -> int:
    """Number of records that killed gateways can have lost uncounted: those taken after their last tally came to the
    stream."""
    tallied = sorted(r.at for r in records if isinstance(r, Tally))
    last = [(max((at for at in tallied if at <= death), default=0.0), death) for death in flow.gateway_deaths]
    return sum(any(at <= when <= death for at, death in last) for when in flow.answered.values())
