"""The files that a process may still open: connections are refused before there are none, and it is logged and counted.

Without a file, libuv accepts connections only to close them, with neither an answer nor a report to the program. So the
last files are kept for calls in flight, and a connection that would take one of them gets an answer.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import time
from collections.abc import Callable

log = logging.getLogger("gateway")

MOST_RESERVED = 64  # for upstreams, the stream server, uploads
REASONS = ("few_files", "no_files")
LOG_EVERY_S = 60.0
LOOK_EVERY_S = 1.0


class OpenFiles:
    """Says which new descriptors are among the last, and looks whether there are any left."""

    def __init__(
        self,
        on_failure: Callable[[str], None] = lambda reason: None,
        limit: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """on_failure: counts it; reason: one of REASONS. limit: files that the process may open; None: as
        the system says. clock: in seconds."""
        if limit is None:
            soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
            limit = sys.maxsize if soft == resource.RLIM_INFINITY else soft
        self.limit = limit
        self._reserved = min(MOST_RESERVED, limit // 4)
        self._on_failure = on_failure
        self._clock = clock
        self._logged = float("-inf")
        self._failures = 0  # since then

    def refuses(self, descriptor: int) -> bool:
        """Whether a connection with this descriptor is refused, which is then logged and counted. A new descriptor is
        the lowest free number, so its number says how many are in use."""
        if descriptor < self.limit - self._reserved:
            return False
        self._failed("few_files", f"fewer than {self._reserved} files are left of the {self.limit} that it may open")
        return True

    def may_linger(self, descriptor: int) -> bool:
        """Whether enough files are left for a refused connection to stay until its client has read why."""
        return descriptor < self.limit - self._reserved // 2

    async def watch(self) -> None:
        """Looks once a second whether a file can be opened, until it is cancelled."""
        while True:
            self.look()
            await asyncio.sleep(LOOK_EVERY_S)

    def look(self) -> None:
        try:
            os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
        except OSError as error:  # EMFILE, or ENFILE: of the whole system
            self._failed("no_files", error.strerror or str(error))

    def _failed(self, reason: str, why: str) -> None:
        self._on_failure(reason)
        self._failures += 1
        now = self._clock()
        if now - self._logged < LOG_EVERY_S:
            return
        log.error(
            "new connections are refused (%d since the last report): %s; raise the limit of open files (LimitNOFILE=, "
            "ulimit -n), or lower limits.connections",
            self._failures,
            why,
        )
        self._logged, self._failures = now, 0
