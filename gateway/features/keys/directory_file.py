"""Writes the store's keys to the file that a gateway reads where it starts without the stream server."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from gateway.core.errors import CannotRun
from gateway.runtime.directory_snapshot import DirectorySnapshot
from gateway.store.directory import read_rows
from gateway.stream.directory import DirectoryHead

_TOLD_S = 3_600.0
"""The age up to which a deleted record is written as disabled, as it is published."""


@dataclass(frozen=True, slots=True)
class WrittenDirectory:
    """The file that was written."""

    path: Path
    version: int
    records: int


def write_directory_file(store_url: str, data: Path) -> WrittenDirectory:
    """Replaces the snapshot of a data directory with the keys, teams and organizations of a store.

    Raises CannotRun if the store cannot be read, has no keys yet, or the file cannot be written.
    """
    state, rows = read_rows(store_url, time.time() - _TOLD_S)
    if not state.epoch:
        raise CannotRun("the store has no keys yet; `gateway console` prepares it for them")
    snapshot = DirectorySnapshot(data)
    head = DirectoryHead(state.epoch, state.version, state.version, "")
    try:
        snapshot.save(head, [row.published for row in rows])
    except OSError as error:
        raise CannotRun(f"{snapshot.path} cannot be written: {error.strerror}") from error
    return WrittenDirectory(snapshot.path, state.version, len(rows))
