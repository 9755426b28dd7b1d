"""A lock between processes that the kernel releases when its holder ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path


class FileLock:
    """A file that one process holds at a time, together with the children that inherit its descriptor.

    The kernel releases the lock when the last of them ends, however it ends.
    """

    def __init__(self, path: Path) -> None:
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def acquire(self) -> bool:
        """Whether this process holds the lock now; does not wait."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        with contextlib.suppress(OSError):  # the lock holds also on a full disk, which takes no process id
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, b"%d" % os.getpid(), 0)
        return True

    def holder(self) -> str:
        """The id of the process that acquired the lock last; "unknown" if the disk was full."""
        return os.pread(self.fd, 20, 0).decode() or "unknown"

    def release(self) -> None:
        os.close(self.fd)
