"""A server that stops answers what the kernel has accepted for it, and takes nothing new."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import uvicorn
from uvloop import new_event_loop

from gateway.proxy.http.server.drain import refuse_new
from gateway.proxy.http.server.protocol import HttpProtocol
from gateway.proxy.http.server.uvicorn_server import GatewayServer

QUEUED = 100
ASK = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    """Closes what the test opens."""
    with ExitStack() as stack:
        yield stack


async def answer_hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
    await send({"type": "http.response.body", "body": b"hello"})


async def stop_with_a_full_queue(stack: ExitStack) -> list[bytes]:
    """Connects and asks while the loop is held, so that all of it is in the kernel; then stops the server."""
    config = uvicorn.Config(answer_hello, http=HttpProtocol, lifespan="off", log_config=None, port=0)
    server = GatewayServer(config)
    sock = stack.enter_context(contextlib.closing(config.bind_socket()))
    serving = asyncio.get_running_loop().create_task(server._serve([sock]))
    while not server.started:
        await asyncio.sleep(0.002)
    clients = [stack.enter_context(socket.create_connection(sock.getsockname())) for _ in range(QUEUED)]
    for client in clients:
        client.sendall(ASK)
    server.should_exit = True  # seen at the next tick, but the test does not wait for it: the queue must be full
    await server.shutdown([sock])
    serving.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await serving
    return [_all_of(client) for client in clients]


def _all_of(client: socket.socket) -> bytes:
    client.settimeout(10)
    came = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := client.recv(65536):
            came += piece
    return came


@pytest.mark.parametrize("loop", [new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_a_stopping_server_answers_its_accept_queue(stack: ExitStack, loop: Any) -> None:
    with asyncio.Runner(loop_factory=loop) as runner:
        answers = runner.run(stop_with_a_full_queue(stack))
    assert sum(b"hello" in answer for answer in answers) == QUEUED


def test_a_listener_that_drains_takes_no_further_connection(stack: ExitStack) -> None:
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    stack.enter_context(socket.create_connection(listener.getsockname()))
    if not refuse_new(listener.fileno()):
        pytest.skip("the kernel cannot filter a listening socket")
    late = stack.enter_context(socket.socket())
    late.setblocking(False)
    assert late.connect_ex(listener.getsockname()) == errno.EINPROGRESS
    assert not select.select([], [late], [], 0.2)[1], "its SYN is not answered"
    assert select.select([listener], [], [], 0)[0], "what was queued before is still there"
    stack.enter_context(listener.accept()[0])
    assert not select.select([listener], [], [], 0)[0]


async def test_descriptors_that_are_not_sockets_are_left_alone() -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.close()
        assert not refuse_new(2**20)
