"""A file is complete or missing, and only its owner can read it."""

from __future__ import annotations

import resource
import signal
import stat
from pathlib import Path

import pytest

from gateway.core.complete_file import complete_file, write_private
from gateway.core.errors import CannotRun


def test_a_file_is_private_and_complete_or_missing(tmp_path: Path) -> None:
    write_private(tmp_path / "a", "whole")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o600
    with pytest.raises(ZeroDivisionError), complete_file(tmp_path / "b") as file:
        file.write(b"half" * (1 // 0))
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    with pytest.raises(CannotRun, match="cannot be written: No such file"), complete_file(tmp_path / "none" / "c"):
        pass


def test_a_full_disk_is_named_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "calls.jsonl"
    path.write_text("before")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(
            CannotRun, match=r"calls.jsonl cannot be written: File too large; the previous content is unchanged"
        ):
            write_private(path, "x" * 5000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
