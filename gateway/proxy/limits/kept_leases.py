"""What a process has used of the ceilings of runs, in a mapped file that outlives the process.

A killed process reports nothing, and without this all that it held would count as spent, so that runs would end early.
The next process on the same data directory reads the file: what was used or was in flight is spent, and the rest is
free again. A crash of the machine leaves no such file, and what was held then stays spent.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from pathlib import Path
from typing import Final

from gateway.core.errors import StreamDown
from gateway.proxy.limits.lease import Lease
from gateway.runtime.kept_file import KeptFile, files_of_killed, new_kept_file
from gateway.stream.leases import AT_ONCE, LeaseServer, LeftLease

log = logging.getLogger(__name__)

MOST_KEPT = 8192
"""Leases of a process that are kept at once; of further ones, what a killed process held counts as spent."""
_FOLDER = "leases"
_SLOT = struct.Struct("=qqqq96s")  # used, resumes, amount, time (ms), name
_NUMBERS: Final = _SLOT.size // 8  # of a slot, in 8 bytes
_NAME = 32  # offset in a slot
_NAME_BYTES = 96
_AGAIN_S = 3.0
"""Seconds until a report is repeated: a stream server that is killed loses the last one or two."""
_RETRY_S = 1.0


class KeptLeases:
    """The file of one process, made when the first run with a ceiling calls."""

    def __init__(self, data: Path | None = None, process: str = "", most: int = MOST_KEPT) -> None:
        """data: the data directory; without it nothing is kept. process: its unique name. most: leases at once."""
        self._folder = None if data is None else data / _FOLDER
        self._process, self._most = process, most
        self._file: KeptFile | None = None
        self._bytes = memoryview(b"")
        self.numbers: memoryview[int] = memoryview(b"").cast("q")
        """Numbers of all slots; the limiter changes the one that `Lease.slot` names."""
        self._unused: list[int] = []

    def keep(self, lease: Lease, now: float) -> None:
        """Keeps a lease from now on, if there is a slot for it."""
        name = lease.name.encode()
        if self._folder is not None and self._file is None:
            self._open(self._folder)
        if not self._unused or len(name) > _NAME_BYTES:
            return
        slot = self._unused.pop()
        lease.slot = slot
        self.note(lease, now)
        at = slot * 8 + _NAME
        self._bytes[at : at + len(name)] = name

    def note(self, lease: Lease, now: float) -> None:
        """Notes what a lease has used, after an answer of the stream server. now: on its clock."""
        if (at := lease.slot) is not None:  # used before resumes: a process killed in between has used too much
            self.numbers[at] = lease.spent + lease.held
            self.numbers[at + 1] = lease.resumes
            self.numbers[at + 2] = lease.amount - lease.added
            self.numbers[at + 3] = round(now * 1000)

    def release(self, lease: Lease) -> None:
        """Keeps a lease no more: the stream server knows all that it has used."""
        if (at := lease.slot) is not None:
            lease.slot = None
            name = at * 8 + _NAME
            self._bytes[name : name + _NAME_BYTES] = bytes(_NAME_BYTES)
            self._unused.append(at)

    def close(self) -> None:
        """Ends with the process, which has given everything back."""
        if self._file is not None:
            self._file.forget()

    def _open(self, folder: Path) -> None:
        try:
            self._file, mapped = new_kept_file(folder, self._process, self._most * _SLOT.size)
        except OSError as error:
            log.info("what runs use is not kept for the case that this process is killed: %s", error)
            self._folder = None
            return
        self._bytes = memoryview(mapped)
        self.numbers = self._bytes.cast("q")
        self._unused = [*range((self._most - 1) * _NUMBERS, -1, -_NUMBERS)]


async def settle_killed(data: Path, server: LeaseServer, again_s: float = _AGAIN_S) -> None:
    """Gives back what killed processes held of runs, as far as they had not used it."""
    left = [(kept, _leases_in(kept.read())) for kept in files_of_killed(data / _FOLDER)]
    for again in (False, True):
        for kept, leases in left:
            await _settle(server, kept.name, leases)
            if leases and not again:
                log.warning("gateway process %s was killed; what it held of %d runs is free", kept.name, len(leases))
        if left and not again:
            await asyncio.sleep(again_s)
    for kept, _ in left:
        kept.forget()


async def _settle(server: LeaseServer, process: str, leases: list[LeftLease]) -> None:
    for at in range(0, len(leases), AT_ONCE):
        while True:
            try:
                await server.settle_dead(process, leases[at : at + AT_ONCE])
                break
            except StreamDown:
                await asyncio.sleep(_RETRY_S)


def _leases_in(data: bytes) -> list[LeftLease]:
    whole = len(data) // _SLOT.size * _SLOT.size
    slots = ((name.rstrip(b"\0"), numbers) for *numbers, name in _SLOT.iter_unpack(data[:whole]))
    return [LeftLease(name.decode(errors="replace"), *numbers) for name, numbers in slots if name]
