"""Bytes that a client has not taken: how the server detects one that does not read, or that has disappeared."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import sys
import termios


def unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """Bytes in the kernel that the peer has not acknowledged: it reads, if their number falls."""
    sock = transport.get_extra_info("socket")
    if sock is None:
        return 0
    with contextlib.suppress(OSError):
        return int.from_bytes(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4)), sys.byteorder)
    return 0
