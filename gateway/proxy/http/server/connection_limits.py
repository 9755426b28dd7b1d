"""Bounds of a process: client connections in all and from one address, bytes of request bodies, and open files.

Without a file, libuv accepts connections only to close them, with neither an answer nor a report to the program. So the
last files are kept for calls in flight, and a connection that would take one of them gets an answer. No sockets.
"""

from __future__ import annotations

import asyncio
import logging
import os
import resource
import sys
import time
from collections import Counter
from collections.abc import Callable

from gateway.core.errors import GatewayError, Overloaded

MOST = 10_000  # where neither the config nor the limit of open files says less
_SPARE_FILES = 100  # for listeners, logs, the stream server, metrics
_FAREWELLS = 64  # refused connections that may wait at once for their client to read the reason


def default_limit() -> int:
    """Half of the files that this process may open, as each call needs one for the upstream too; 10 000 at most."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return MOST if files == resource.RLIM_INFINITY else max(16, min(MOST, (files - _SPARE_FILES) // 2))


def raise_file_limit() -> None:
    """Lets this process and its children open as many files as its user may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 65_536 if hard == resource.RLIM_INFINITY else min(hard, 65_536)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class BodyMemory:
    """The bytes of request bodies that a process holds, over all calls.

    What a request announces is counted before it has arrived, so a key that announces much and sends nothing would
    leave none to the others: where there are several keys, each may hold half.
    """

    def __init__(self, limit_bytes: Callable[[], float], shared: Callable[[], bool] = lambda: False) -> None:
        """shared: whether there are several keys."""
        self.held = 0
        self._by_holder: Counter[str] = Counter()
        self._limit_bytes = limit_bytes
        self._shared = shared

    def take(self, size: int, holder: str = "") -> None:
        """holder: the name of the key. Raises Overloaded if the process, or the key, holds too much already."""
        limit = self._limit_bytes()
        if self.held + size > limit:
            raise _too_many_bytes("the gateway holds too many request bodies at once", limit)
        if self._by_holder[holder] + size > limit / 2 and self._shared():
            raise _too_many_bytes("this key holds too many request bodies at once: it may hold half of", limit)
        self.held += size
        self._by_holder[holder] += size

    def give_back(self, size: int, holder: str = "") -> None:
        self.held -= size
        self._by_holder[holder] -= size
        if not self._by_holder[holder]:
            del self._by_holder[holder]


def _too_many_bytes(what: str, limit: float) -> Overloaded:
    return Overloaded(
        f"{what}{' ' if what.endswith('of') else ': '}{limit / 1e6:g} MB (limits.inflight_mb)",
        code="too_many_bytes_in_flight",
        retry_after_s=1,
    )


class ConnectionLimits:
    """Counts connections, and refuses those above the limits."""

    def __init__(
        self,
        limits: Callable[[], tuple[int | None, int | None]],
        on_refused: Callable[[GatewayError], None] = lambda error: None,
        files: OpenFiles | None = None,
        shared: Callable[[str], bool] = lambda address: False,
    ) -> None:
        """limits: (in all, from one address) in force; None: the default, which sets no limit for one address.
        files: the process's; None means that they are not watched.
        shared: whether many clients share an address, for which the limit of one does not count."""
        self.open = 0
        self.refused = 0
        """Refused connections that are not closed yet."""
        self._by_address: Counter[str] = Counter()
        self._limits = limits
        self._on_refused = on_refused
        self._files = files
        self._shared = shared
        self._default = default_limit()

    def can_explain(self, descriptor: int = -1) -> bool:
        """Whether another refused connection may stay open until its client has read why."""
        return self.refused < _FAREWELLS and (self._files is None or self._files.may_linger(descriptor))

    def admit(self, address: str, descriptor: int = -1) -> GatewayError | None:
        """Counts a new connection; or returns the reason why it is refused, and counts the refusal. descriptor: its
        socket's."""
        most, most_from_one = self._limits()
        error: GatewayError | None = None
        if self.open >= (self._default if most is None else most):
            error = Overloaded("the gateway has too many open connections", retry_after_s=1)
        elif most_from_one is not None and self._by_address[address] >= most_from_one and not self._shared(address):
            error = Overloaded("too many open connections from this address", retry_after_s=1)
        elif self._files is not None and self._files.refuses(descriptor):
            error = Overloaded("the gateway has too many open files", retry_after_s=1)
        if error is None:
            self.open += 1
            self._by_address[address] += 1
            return None
        error.code = "too_many_connections"
        self.refused += 1
        self._on_refused(error)
        return error

    def closed(self, address: str, *, admitted: bool) -> None:
        if not admitted:
            self.refused -= 1
            return
        self.open -= 1
        self._by_address[address] -= 1
        if not self._by_address[address]:
            del self._by_address[address]


log = logging.getLogger("gateway")

MOST_RESERVED = 64  # for upstreams, the stream server, uploads
REASONS = ("few_files", "no_files")
LOG_EVERY_S = 60.0
LOOK_EVERY_S = 1.0


class OpenFiles:
    """Tells whether a new descriptor is among the last ones, and checks whether any are left."""

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
