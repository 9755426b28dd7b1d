"""The directory in a file of the data directory, for a gateway that starts while the stream server does not answer.

One JSON line with the head, then one for each record. The file's time of modification is when the stream server last
confirmed it. It holds digests of keys and is readable by its owner only.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from gateway.core.keys import AnyRecord, record_from_json, record_to_json
from gateway.runtime.file_lock import FileLock
from gateway.stream.directory import DirectoryChanges, DirectoryHead, name_of

FILE = "directory.jsonl"


@dataclass(frozen=True, slots=True)
class LoadedSnapshot:
    """The contents of a snapshot's file."""

    changes: DirectoryChanges
    age_s: float
    """Seconds since the stream server confirmed it."""


class DirectorySnapshot:
    """The file of one data directory, which all workers on it share. Methods block: call them on a thread."""

    def __init__(self, data: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = data / FILE
        self._clock = clock

    def load(self) -> LoadedSnapshot | None:
        """Reads the file; None if there is none, or it cannot be read. A record that cannot be read is left out and
        named."""
        try:
            confirmed = self.path.stat().st_mtime
            first, *lines = self.path.read_bytes().splitlines()
            changes = DirectoryChanges(_head(first), complete=True)
        except (OSError, ValueError):
            return None
        for number, line in enumerate(lines, 2):
            try:
                record = record_from_json(line)
                changes.records[name_of(record)] = record
            except ValueError as error:
                changes.malformed[f"line {number}"] = str(error)[:200]
        return LoadedSnapshot(changes, max(0.0, self._clock() - confirmed))

    def save(self, head: DirectoryHead, records: Iterable[AnyRecord]) -> None:
        """Replaces the file, unless another worker does so now or has written this version. Raises OSError."""
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(self.path.with_suffix(".lock"))
        if not lock.acquire():
            return
        try:
            if self.holds(head):
                return
            own = self.path.with_suffix(f".{os.getpid()}")
            own.unlink(missing_ok=True)
            with os.fdopen(os.open(own, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(orjson.dumps(asdict(head)) + b"\n")
                file.writelines(record_to_json(record) + b"\n" for record in records)
            own.replace(self.path)
        finally:
            lock.release()

    def confirm(self, head: DirectoryHead) -> None:
        """Notes that this version is still the newest."""
        if self.holds(head):
            with contextlib.suppress(OSError):
                os.utime(self.path)

    def holds(self, head: DirectoryHead) -> bool:
        try:
            with self.path.open("rb") as file:
                found = _head(file.readline())
        except (OSError, ValueError):
            return False
        return (found.epoch, found.version) == (head.epoch, head.version)


def _head(line: bytes) -> DirectoryHead:
    """Raises ValueError."""
    value = orjson.loads(line)
    try:
        head = DirectoryHead(str(value["epoch"]), int(value["version"]), int(value["floor"]), str(value["full"]))
    except (KeyError, TypeError) as error:
        raise ValueError("not a head") from error
    return head
