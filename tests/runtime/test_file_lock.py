from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

from gateway.runtime.file_lock import FileLock


def test_one_holds_it_and_the_other_knows_who(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    assert not second.acquire()
    assert second.holder() == str(os.getpid())
    first.release()
    assert second.acquire()
    second.release()


def test_it_is_held_until_the_last_child_that_inherits_it_ends(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    assert first.acquire()
    child = subprocess.Popen(
        [sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(first.fd,), stdout=subprocess.DEVNULL
    )
    first.release()
    assert not second.acquire()
    child.communicate(b"\n")
    assert second.acquire()
    second.release()


def test_a_full_disk_takes_no_process_id_and_the_lock_holds(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, limits[1]))
    try:
        assert first.acquire()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not second.acquire()
    assert second.holder() == "unknown"
    first.release()
    second.release()
