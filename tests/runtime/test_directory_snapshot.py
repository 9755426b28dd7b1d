"""The snapshot of the keys: what was saved is loaded, by its owner only, and a damaged file stops nothing."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.core.keys import KeyRecord, TeamRecord
from gateway.runtime.directory_snapshot import DirectorySnapshot
from gateway.runtime.file_lock import FileLock
from gateway.stream.directory import DirectoryHead

HEAD = DirectoryHead("e1", 7, 3, "mark")
RECORDS = [TeamRecord("search", {"usd_per_day": 5}), KeyRecord("key_1", "web", (("a" * 64, None),), {}, team="search")]


def test_a_saved_snapshot_is_loaded_with_its_age(tmp_path: Path) -> None:
    snapshot = DirectorySnapshot(tmp_path / "data", clock=lambda: 2000.0)
    snapshot.save(HEAD, RECORDS)
    os.utime(snapshot.path, (1000.0, 1000.0))
    loaded = snapshot.load()
    assert loaded is not None
    assert (loaded.changes.head, loaded.changes.complete, loaded.age_s) == (HEAD, True, 1000.0)
    assert list(loaded.changes.records.values()) == RECORDS


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    snapshot = DirectorySnapshot(tmp_path)
    before = os.umask(0)
    try:
        snapshot.save(HEAD, RECORDS)
    finally:
        os.umask(before)
    assert stat.S_IMODE(snapshot.path.stat().st_mode) == 0o600
    assert {p.name for p in tmp_path.iterdir()} == {"directory.jsonl", "directory.lock"}


@pytest.mark.parametrize("text", [b"", b"{", b"[]\n", b'{"epoch":"e"}\n', b'{"epoch":"e","version":"x"}\n', b"\xff\n"])
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, text: bytes) -> None:
    snapshot = DirectorySnapshot(tmp_path)
    assert snapshot.load() is None
    snapshot.path.write_bytes(text)
    assert snapshot.load() is None
    snapshot.save(HEAD, RECORDS)
    assert snapshot.load() is not None


def test_a_damaged_line_is_left_out_and_named(tmp_path: Path) -> None:
    snapshot = DirectorySnapshot(tmp_path)
    snapshot.save(HEAD, RECORDS)
    snapshot.path.write_bytes(snapshot.path.read_bytes() + b'{"kind":"key"}\n')
    loaded = snapshot.load()
    assert loaded is not None
    assert len(loaded.changes.records) == 2
    assert list(loaded.changes.malformed) == ["line 4"]


def test_a_version_is_written_by_one_worker_only(tmp_path: Path) -> None:
    snapshot = DirectorySnapshot(tmp_path)
    snapshot.save(HEAD, RECORDS)
    inode = snapshot.path.stat().st_ino
    snapshot.save(HEAD, [])
    assert snapshot.path.stat().st_ino == inode
    snapshot.save(replace(HEAD, version=8), [])
    assert snapshot.path.stat().st_ino != inode


def test_while_another_worker_writes_nothing_is_written(tmp_path: Path) -> None:
    snapshot = DirectorySnapshot(tmp_path)
    lock = FileLock(tmp_path / "directory.lock")
    assert lock.acquire()
    snapshot.save(HEAD, RECORDS)
    assert not snapshot.path.exists()
    lock.release()
    snapshot.save(HEAD, RECORDS)
    assert snapshot.holds(HEAD)


def test_only_the_version_in_the_file_is_confirmed(tmp_path: Path) -> None:
    snapshot = DirectorySnapshot(tmp_path)
    snapshot.save(HEAD, RECORDS)
    os.utime(snapshot.path, (1000.0, 1000.0))
    snapshot.confirm(replace(HEAD, version=8))
    assert snapshot.path.stat().st_mtime == 1000.0
    snapshot.confirm(HEAD)
    assert snapshot.path.stat().st_mtime > 1000.0


def test_a_directory_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file")
    with pytest.raises(OSError):  # noqa: PT011 - which one depends on the system
        DirectorySnapshot(tmp_path / "data").save(HEAD, RECORDS)
