"""Workers listen on one port, each with a socket of its own."""

from __future__ import annotations

import pickle
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from gateway.proxy.http.server.reuse_port import ReusePortSocket


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture
def reserved(stack: ExitStack) -> ReusePortSocket:
    """As uvicorn binds it in the parent process."""
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
    """By a hash: of 200, each of two gets at least 64, except with probability below 1e-6 (binomial)."""
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
