"""Addresses of upstreams' names, and a TCP connection to the first of them that answers.

A name has one lookup at a time, in a thread of its own, so a name server that does not answer for one upstream holds up
no other. While a lookup runs or fails, the last good addresses stay in use.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

FRESH_S = 30.0  # how long addresses are used without another lookup
OLD_S = 300.0  # above this age, a caller waits for the lookup that its call starts ...
PATIENCE_S = 0.5  # ... for this time, and then uses the old addresses
REST_S = 1.0  # between two lookups of a name after one that failed
NO_FILES = (errno.EMFILE, errno.ENFILE)  # this process, or the machine, may open no further socket
ATTEMPT_DELAY_S = 0.25  # RFC 8305, section 5: Connection Attempt Delay

SocketAddress = tuple[Any, ...]
Address = tuple[int, SocketAddress]  # family, and what connect() takes
Lookup = Callable[[str, int], Sequence[Address]]


def system_lookup(hostname: str, port: int) -> list[Address]:
    """Asks the system's resolver, in its order (RFC 6724). Blocks. Raises OSError."""
    found = socket.getaddrinfo(hostname, port, type=socket.SOCK_STREAM)
    return [(family, address) for family, _, _, _, address in found]


@dataclass(slots=True)
class _Name:
    """The known addresses of one name and port."""

    addresses: list[Address] = field(default_factory=list)
    found_at: float = 0.0
    error: OSError | None = None  # of the last lookup
    failed_at: float = 0.0
    running: asyncio.Future[None] | None = None


def _numeric(hostname: str, port: int) -> _Name | None:
    """A name that is an address, and so needs no lookup."""
    with contextlib.suppress(OSError, ValueError):
        found = socket.getaddrinfo(hostname, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        return _Name([(family, address) for family, _, _, _, address in found], found_at=math.inf)
    return None


class Resolver:
    """The addresses of host names. One for all upstreams of a process."""

    def __init__(self, lookup: Lookup = system_lookup, clock: Callable[[], float] = time.monotonic) -> None:
        """lookup: blocks, and is called in a thread. clock: monotonic seconds."""
        self._lookup = lookup
        self._clock = clock
        self._names: dict[tuple[str, int], _Name] = {}

    async def addresses(self, hostname: str, port: int) -> list[Address]:
        """Returns at least one address. Waits only if none is known, or the known ones are old. Raises OSError."""
        name = self._names.get((hostname, port))
        if name is None:
            name = self._names[hostname, port] = _numeric(hostname, port) or _Name()
        age_s = self._clock() - name.found_at if name.addresses else None
        if age_s is not None and age_s < FRESH_S:
            return name.addresses
        if name.error is None or self._clock() - name.failed_at >= REST_S:
            self._start(name, hostname, port)
        if name.running is not None and (age_s is None or age_s > OLD_S):
            await asyncio.wait([name.running], timeout=None if age_s is None else PATIENCE_S)
        if not name.addresses:
            raise name.error or OSError(f"no address for {hostname}")
        return name.addresses

    def _start(self, name: _Name, hostname: str, port: int) -> None:
        """Starts a lookup, unless one is running."""
        if name.running is not None:
            return
        loop = asyncio.get_running_loop()
        name.running = loop.create_future()

        def look() -> None:
            try:
                found: list[Address] | OSError = list(self._lookup(hostname, port))
            except (OSError, ValueError) as error:  # ValueError: a name that cannot be encoded
                found = error if isinstance(error, OSError) else OSError(str(error))
            with contextlib.suppress(RuntimeError):  # the loop has been closed
                loop.call_soon_threadsafe(self._found, name, found)

        # Not the loop's pool: a lookup cannot be cancelled, and four of them would fill uvloop's.
        threading.Thread(target=look, name=f"lookup of {hostname}", daemon=True).start()

    def _found(self, name: _Name, found: list[Address] | OSError) -> None:
        if isinstance(found, OSError):
            name.error, name.failed_at = found, self._clock()
        elif found:
            name.addresses, name.found_at, name.error = interleaved(found), self._clock(), None
        running, name.running = name.running, None
        if running is not None and not running.done():
            running.set_result(None)


def interleaved(addresses: Sequence[Address]) -> list[Address]:
    """Alternates between the families, beginning with the family of the first address (RFC 8305, section 4)."""
    first = [a for a in addresses if a[0] == addresses[0][0]]
    others = [a for a in addresses if a[0] != addresses[0][0]]
    longer = max(len(first), len(others))
    return [a for i in range(longer) for family in (first, others) for a in family[i : i + 1]]


async def open_socket(addresses: Sequence[Address], delay_s: float = ATTEMPT_DELAY_S) -> socket.socket:
    """A TCP connection to the first address that answers; each further one is tried `delay_s` after the previous one,
    or as soon as that failed (RFC 8305, section 5). Raises OSError naming every failure.
    """
    if len(addresses) == 1:
        return await _connected(addresses[0])
    attempts: set[asyncio.Task[socket.socket]] = set()
    waiting = list(addresses)
    failures: list[str] = []
    try:
        while waiting or attempts:
            if waiting:
                attempts.add(asyncio.get_running_loop().create_task(_connected(waiting.pop(0))))
            done, attempts = await asyncio.wait(
                attempts, timeout=delay_s if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            opened = [task.result() for task in done if task.exception() is None]
            for surplus in opened[1:]:
                surplus.close()
            if opened:
                return opened[0]
            failed = [task.exception() for task in done]
            if own := next((e for e in failed if isinstance(e, OSError) and e.errno in NO_FILES), None):
                raise own
            failures += map(str, failed)
    finally:
        await _given_up(attempts)
    raise OSError("; ".join(dict.fromkeys(failures)))


async def _connected(address: Address) -> socket.socket:
    family, target = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await asyncio.get_running_loop().sock_connect(sock, target)
    except BaseException as error:
        sock.close()
        if isinstance(error, OSError):
            reason = os.strerror(error.errno) if error.errno else error
            raise OSError(f"{target[0]}: {reason}") from error
        raise
    return sock


async def _given_up(attempts: set[asyncio.Task[socket.socket]]) -> None:
    for task in attempts:
        task.cancel()
    for outcome in await asyncio.gather(*attempts, return_exceptions=True):
        if isinstance(outcome, socket.socket):
            outcome.close()
