"""Workers of one listening socket have as many connections as each other, and wait for none that is not there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.proxy.http.server.sharing import (
    SLACK,
    SLOTS,
    ConnectionShares,
    SharedSocketServer,
    SharingLoop,
    UnsharedSocket,
)


class Echo(asyncio.Protocol):
    """Says its worker's name, and stays."""

    def __init__(self, worker: Worker) -> None:
        self.connections = worker.connections
        self._name = worker.name
        self.told = False  # that its worker stops

    def connection_made(self, transport: Any) -> None:
        self.connections.add(self)
        transport.write(self._name)

    def connection_lost(self, error: Exception | None) -> None:
        self.connections.discard(self)

    def shutdown(self) -> None:
        self.told = True


class Worker:
    def __init__(self, name: bytes, listening: socket.socket, path: Path) -> None:
        self.name = name
        self.connections: set[Echo] = set()
        own = listening.dup()
        self.server = SharedSocketServer(asyncio.get_running_loop(), own, lambda: Echo(self), ConnectionShares(path))

    async def close(self) -> None:
        self.server.close()
        await self.server.wait_closed()
        self.server.sockets[0].close()


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    return tmp_path / "connections"


@pytest.fixture
async def start(shared: Path) -> AsyncIterator[Callable[[bytes], Worker]]:
    async with contextlib.AsyncExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=512))

        def go(name: bytes) -> Worker:
            worker = Worker(name, listening, shared)
            stack.push_async_callback(worker.close)
            return worker

        go.port = listening.getsockname()[1]  # type: ignore[attr-defined]
        yield go


async def connect(port: int, stack: contextlib.AsyncExitStack) -> bytes:
    """The name of the worker that took it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stack.callback(writer.close)
    async with asyncio.timeout(10):
        return await reader.readexactly(1)


def gone_pid() -> int:
    program = subprocess.Popen([sys.executable, "-c", ""])
    program.wait()
    return program.pid


def claim_for(pid: int, shared: Path, connections: int) -> None:
    """A slot in the file, as another process would have it."""
    other = ConnectionShares(shared)
    assert other._own is not None
    other.ahead(connections)
    other._cells[other._own] = pid


@pytest.mark.parametrize("n", [64, 400])
async def test_those_that_come_at_once_are_shared_out(start: Any, n: int) -> None:
    workers = [start(name) for name in (b"a", b"b", b"c")]
    async with contextlib.AsyncExitStack() as stack:
        took = await asyncio.gather(*(connect(start.port, stack) for _ in range(n)))
        counts = [took.count(worker.name) for worker in workers]
        assert sum(counts) == n
        assert max(counts) - min(counts) <= SLACK + 2 + n // 3 // 16


@pytest.mark.parametrize("laden", [0, 1])
async def test_who_has_fewer_takes_what_comes_until_it_has_as_many(start: Any, laden: int) -> None:
    """Either of them: whom the kernel wakes first is not what decides."""
    workers = [start(b"a"), start(b"b")]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await connect(start.port, stack)  # each has told
        full, other = workers[laden], workers[1 - laden]
        full.connections.update(Echo(full) for _ in range(20))
        full.server._shares.ahead(len(full.connections))
        full.server._protocol, other.server._protocol = Echo(full), Echo(other)
        assert {await connect(start.port, stack) for _ in range(12)} == {other.name}


async def test_a_busy_worker_is_not_waited_for_long(start: Any, shared: Path) -> None:
    claim_for(os.getpid(), shared, 0)  # it lives, and takes none
    start(b"a")
    async with contextlib.AsyncExitStack() as stack:
        assert [await connect(start.port, stack) for _ in range(10)] == [b"a"] * 10


async def test_a_dead_worker_is_waited_for_once(start: Any, shared: Path) -> None:
    claim_for(gone_pid(), shared, 0)
    worker = start(b"a")
    shares = worker.server._shares
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(SLACK + 3):
            await connect(start.port, stack)
        assert not shares.ahead(1000), "it is forgotten"


def test_a_new_worker_has_the_slot_of_a_dead_one(shared: Path) -> None:
    first = ConnectionShares(shared)
    claim_for(gone_pid(), shared, 7)
    third = ConnectionShares(shared)
    assert third._own == 2
    assert not first.ahead(SLACK)
    assert first.ahead(SLACK + 1), "the dead one's seven are not the new one's"


def test_beyond_the_slots_nobody_leaves_anything_to_others(shared: Path) -> None:
    all_of_them = [ConnectionShares(shared) for _ in range(SLOTS)]
    late = ConnectionShares(shared)
    assert not late.ahead(1000)
    all_of_them[0].leave()
    assert ConnectionShares(shared).ahead(1000)


async def test_one_that_stops_is_not_waited_for_and_loses_none_that_it_took(start: Any) -> None:
    a, b = start(b"a"), start(b"b")
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(10):
            await connect(start.port, stack)
        b.server.close()
        assert not a.server._shares.ahead(1000)
        assert [await connect(start.port, stack) for _ in range(10)] == [b"a"] * 10
        assert len(a.connections) + len(b.connections) == 20


async def test_a_connection_that_is_being_opened_while_its_worker_stops_is_told(start: Any) -> None:
    """uvicorn tells those that are there by then; whoever keeps one open without a word would hold up the end."""
    worker = start(b"a")
    async with contextlib.AsyncExitStack() as stack:
        connecting = asyncio.get_running_loop().create_task(connect(start.port, stack))
        async with asyncio.timeout(5):
            while not len(worker.server._opening):
                await asyncio.sleep(0)
        worker.server.close()
        assert await connecting == b"a"
        assert [each.told for each in worker.connections] == [True]


def test_a_socket_that_no_other_worker_has_is_listened_on_as_any(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(shared.parent))

    async def listening() -> type:
        with UnsharedSocket(fileno=socket.create_server(("127.0.0.1", 0)).detach()) as sock:
            server = await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=sock)
            server.close()
            return type(server)

    with asyncio.Runner(loop_factory=SharingLoop) as runner:
        assert runner.run(listening()) is not SharedSocketServer
    assert not shared.exists()


async def test_where_no_more_files_may_be_opened_it_tries_again_later(
    start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("gateway.proxy.http.server.sharing._FULL_S", 0.01)
    worker = start(b"a")
    real, refused = worker.server._sock, 0

    class Full:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def accept(self) -> Any:
            nonlocal refused
            refused += 1
            if refused <= 2:
                raise OSError(24, "Too many open files")
            return real.accept()

    worker.server._sock = Full()
    async with contextlib.AsyncExitStack() as stack:
        assert await connect(start.port, stack) == b"a"
    assert refused == 3
    assert "Too many open files" in caplog.text


def test_a_loop_without_other_workers_listens_as_any(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)

    async def listening() -> type:
        with socket.create_server(("127.0.0.1", 0)) as sock:
            server = await asyncio.get_running_loop().create_server(asyncio.Protocol, sock=sock)
            server.close()
            return type(server)

    with asyncio.Runner(loop_factory=SharingLoop) as runner:
        assert runner.run(listening()) is not SharedSocketServer


def test_answers_do_not_wait_for_acknowledgements(shared: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TCP_NODELAY, which an accepted socket of uvloop's own servers has too."""
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(shared.parent))

    async def option() -> int:
        made: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        class Told(asyncio.Protocol):
            def connection_made(self, transport: Any) -> None:
                made.set_result(transport)

        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            server = await asyncio.get_running_loop().create_server(Told, sock=sock, backlog=10)
            assert isinstance(server, SharedSocketServer)
            _, writer = await asyncio.open_connection(*sock.getsockname())
            transport = await made
            found = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()
            transport.close()
            server.close()
            await server.wait_closed()
            return int(found)

    with asyncio.Runner(loop_factory=SharingLoop) as runner:
        assert runner.run(option()) == 1
