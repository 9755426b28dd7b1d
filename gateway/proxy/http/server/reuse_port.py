"""A listening socket per worker process, on one port: the kernel distributes connections by a hash of their addresses.

SO_REUSEPORT distributes on Linux only; `docs/performance.md` has the measurement.
"""

from __future__ import annotations

import socket
from typing import Any


class ReusePortSocket(socket.socket):
    """A bound socket that reserves an address and never listens.

    Sent to a worker process (pickled), it becomes that process's own socket, bound to the same address.
    """

    def __reduce__(self) -> tuple[Any, ...]:
        return bind_reuse_port, (self.family, self.getsockname())


def bind_reuse_port(family: int, address: Any) -> socket.socket:
    """A socket bound to an address that other sockets of this user may share. Raises OSError."""
    sock = socket.socket(family)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock
