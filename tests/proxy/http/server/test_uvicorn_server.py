"""The server of pages on real sockets: what clients without a request may hold, and for how long."""

from __future__ import annotations

import asyncio
import contextlib
import pickle
import select
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from gateway.proxy.http.server.protocol import HttpProtocol
from gateway.proxy.http.server.tls import CertificateFiles
from gateway.proxy.http.server.uvicorn_server import BoundedApp, GatewayServer, ReusePortSocket, page_settings

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


@contextlib.asynccontextmanager
async def serving(app: BoundedApp, tls: CertificateFiles | None = None, **limits: float) -> AsyncIterator[int]:
    """The port. limits: fields of HttpProtocol with other values than its own."""
    settings = page_settings(app, tls=tls)
    settings.http = type("Limited", (HttpProtocol,), limits)
    server = GatewayServer(settings, announced=False)
    with contextlib.closing(settings.bind_socket()) as sock:
        running = asyncio.get_running_loop().create_task(server._serve([sock]))
        async with asyncio.timeout(60):
            while not server.started:
                await asyncio.sleep(0.005)
        yield sock.getsockname()[1]
        server.should_exit = True
        await running


async def until_closed(reader: asyncio.StreamReader) -> bytes:
    came = b""
    async with asyncio.timeout(60):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                came += data
    return came


async def test_a_page_is_answered() -> None:
    async with serving(BoundedApp(hello)) as port, httpx2.AsyncClient() as client:
        assert (await client.get(f"http://127.0.0.1:{port}/")).text == "hello"


async def test_headers_without_end_are_refused() -> None:
    async with serving(BoundedApp(hello)) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n")
        for _ in range(100):
            writer.write(b"x: " + b"y" * 10_000 + b"\r\n")
        assert b" 431 " in await until_closed(reader)
        writer.close()


async def test_silent_connections_end_and_hold_up_nobody() -> None:
    async with serving(BoundedApp(hello), head_s=0.2) as port, httpx2.AsyncClient() as client:
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(300)]
        assert (await client.get(f"http://127.0.0.1:{port}/")).text == "hello"
        for reader, writer in silent:
            assert b" 408 " in await until_closed(reader)
            writer.close()


@pytest.mark.parametrize(("address", "refused"), [("192.0.2.1", True), ("192.0.2.9", False), ("127.0.0.1", False)])
def test_one_address_has_its_share_of_connections(address: str, refused: bool) -> None:
    """Many people may share the address of a proxy, and of this machine."""
    app = BoundedApp(hello, lambda: (None, 2), lambda peer: peer == "192.0.2.9")
    assert [app.connections.admit(address) for _ in range(2)] == [None, None]
    assert (app.connections.admit(address) is not None) is refused


def test_the_limits_hold_without_a_config() -> None:
    app = BoundedApp(hello)
    admitted = [app.connections.admit("192.0.2.1") is None for _ in range(101)]
    assert admitted == [True] * 100 + [False]


async def test_half_a_tls_handshake_ends(tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subject = ["-subj", "/CN=localhost", "-days", "1", "-nodes"]
    await asyncio.to_thread(
        subprocess.run,
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", *subject, "-keyout", str(key), "-out", str(certificate)],
        check=True, capture_output=True,
    )  # fmt: skip
    async with serving(BoundedApp(hello), CertificateFiles(certificate, key), handshake_s=0.2) as port:
        halves = [await asyncio.open_connection("127.0.0.1", port) for _ in range(20)]
        for reader, writer in halves:
            writer.write(b"\x16\x03\x01")
            assert await until_closed(reader) == b""
            writer.close()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what the test opens."""
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def reserved(stack: ExitStack) -> ReusePortSocket:
    """A socket as uvicorn binds it in the parent process."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return stack.enter_context(ReusePortSocket(fileno=sock.detach()))


def as_in_a_worker(sock: ReusePortSocket, stack: ExitStack) -> socket.socket:
    received: socket.socket = pickle.loads(pickle.dumps(sock))  # noqa: S301 - our own bytes
    return stack.enter_context(received)


def test_every_worker_has_a_socket_of_its_own(reserved: ReusePortSocket, stack: ExitStack) -> None:
    workers = [as_in_a_worker(reserved, stack) for _ in range(3)]
    for sock in workers:
        sock.listen()
    assert {sock.getsockname() for sock in workers} == {reserved.getsockname()}
    assert len({sock.fileno() for sock in (reserved, *workers)}) == 4


def test_the_kernel_distributes_connections_among_workers(reserved: ReusePortSocket, stack: ExitStack) -> None:
    """The kernel distributes by a hash: of 200, each of two gets at least 64, except with probability below 1e-6
    (binomial).
    """
    workers = [as_in_a_worker(reserved, stack) for _ in range(2)]
    for sock in workers:
        sock.listen(256)
    for _ in range(200):
        stack.enter_context(socket.create_connection(reserved.getsockname()))
    counts = [accepted(sock, stack) for sock in workers]
    assert sum(counts) == 200
    assert min(counts) >= 64


def accepted(sock: socket.socket, stack: ExitStack) -> int:
    count = 0
    while select.select([sock], [], [], 0)[0]:
        stack.enter_context(sock.accept()[0])
        count += 1
    return count


def test_a_worker_that_closed_gets_no_further_connection(reserved: ReusePortSocket, stack: ExitStack) -> None:
    first, second = (as_in_a_worker(reserved, stack) for _ in range(2))
    first.listen()
    second.listen()
    second.close()
    for _ in range(20):
        stack.enter_context(socket.create_connection(reserved.getsockname()))
    assert accepted(first, stack) == 20


def test_another_program_cannot_listen_on_the_port(reserved: ReusePortSocket, stack: ExitStack) -> None:
    as_in_a_worker(reserved, stack).listen()
    with pytest.raises(OSError, match="in use"):
        socket.create_server(reserved.getsockname())


def test_an_address_in_use_is_an_error(stack: ExitStack) -> None:
    other = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    taken = stack.enter_context(ReusePortSocket(fileno=other.dup().detach()))
    with pytest.raises(OSError, match="in use"):
        as_in_a_worker(taken, stack)
