"""Chooses the ports that the programs of `gateway up` listen on, and reserves them until these programs do."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Collection
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Self

from gateway.core.errors import CannotRun
from gateway.runtime.file_lock import FileLock

_TRIES = 100


class PortReservations:
    """The ports that this process has chosen. An engine may load for minutes before it listens on its port: until then
    a lock file keeps every other `gateway up` of this user from choosing the same one.

    directory: of the lock files; None: one for each user, in the system's directory for temporary files.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self._directory = directory or Path(tempfile.gettempdir()) / f"assay-gateway-ports-{os.getuid()}"
        self._locks = ExitStack()
        self._taken: set[int] = set()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._locks.close()

    def reserve(self, host: str, preferred: int) -> int:
        """The first free port from the preferred one on; 0 for any. Raises CannotRun if 100 in a row are in use."""
        for port in range(preferred, min(preferred + _TRIES, 65536)) if preferred else (0,) * _TRIES:
            found = free_port(host, port, self._taken)
            if found and self._lock(found):
                self._taken.add(found)
                return found
        last = preferred + _TRIES - 1
        raise CannotRun(f"ports {preferred} to {last} of {host} are all in use; choose another with --port")

    def _lock(self, port: int) -> bool:
        try:
            self._directory.mkdir(mode=0o700, exist_ok=True)
            lock = FileLock(self._directory / str(port))
        except OSError:  # a directory of another user, or a read-only file system: a port is then free if it is unused
            return True
        if not lock.acquire():
            lock.release()
            return False
        self._locks.callback(lock.release)
        return True


def free_port(host: str, port: int, taken: Collection[int] = ()) -> int | None:
    """The port if nothing is bound to it, else None. port: 0 for any. taken: ports that do not count as free."""
    if port in taken:
        return None
    family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with closing(socket.socket(family, kind)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return None
        found = int(probe.getsockname()[1])
    return None if found in taken else found
