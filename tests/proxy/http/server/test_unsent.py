"""Whether a client takes what it is sent."""

from __future__ import annotations

import asyncio
import socket
from typing import Any, cast

from gateway.proxy.http.server.unsent import unacknowledged_bytes


class Over:
    """A transport over a socket, or over none."""

    def __init__(self, sock: socket.socket | None) -> None:
        self._sock = sock

    def get_extra_info(self, name: str) -> Any:
        return self._sock


def waiting(sock: socket.socket | None) -> int:
    return unacknowledged_bytes(cast(asyncio.Transport, Over(sock)))


def test_bytes_that_the_peer_does_not_read_are_counted() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        server, _ = listener.accept()
        with client, server:
            server.setblocking(False)
            sent = 0
            while True:
                try:
                    sent += server.send(b"a" * 65_536)
                except BlockingIOError:
                    break
            assert 0 < waiting(server) <= sent


def test_without_a_socket_nothing_is_known() -> None:
    assert waiting(None) == 0
