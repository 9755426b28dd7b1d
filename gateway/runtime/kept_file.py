"""Mapped files in the data directory: the kernel keeps what a process wrote there after the process was killed, and the
next process on the same directory reads it.

A lock next to each file says whether its process lives.
"""

from __future__ import annotations

import contextlib
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from gateway.runtime.file_lock import FileLock

_LOCK = ".lock"


class KeptFile:
    """The file of this process, or one that a killed process has left."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self.path = path
        self._lock = lock

    @property
    def name(self) -> str:
        return self.path.name

    def read(self) -> bytes:
        """The bytes that it holds; none if it cannot be read."""
        with contextlib.suppress(OSError):
            return self.path.read_bytes()
        return b""

    def forget(self) -> None:
        """Removes the file."""
        for path in (self.path, _lock_of(self.path)):
            with contextlib.suppress(OSError):
                os.unlink(path)
        self._lock.release()


def new_kept_file(folder: Path, name: str, size: int) -> tuple[KeptFile, mmap.mmap]:
    """A file of zeros for this process. Its blocks are allocated, so that a full disk does not end the process later.

    Raises OSError where the directory cannot be written.
    """
    path = folder / name
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = FileLock(_lock_of(path))
    lock.acquire()
    try:
        path.write_bytes(bytes(size))
        with path.open("r+b") as file:
            return KeptFile(path, lock), mmap.mmap(file.fileno(), size)
    except OSError:
        KeptFile(path, lock).forget()
        raise


def files_of_killed(folder: Path) -> Iterator[KeptFile]:
    """The files of processes that have ended without removing them. Each is for the caller alone until it is released
    or forgotten."""
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix != _LOCK)
    except OSError:
        return
    for path in paths:
        with contextlib.suppress(OSError):
            lock = FileLock(_lock_of(path))
            if lock.acquire():
                yield KeptFile(path, lock)
            else:
                lock.release()


def _lock_of(path: Path) -> Path:
    return path.with_suffix(_LOCK)
