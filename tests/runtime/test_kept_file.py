"""Mapped files that outlive their process, and the lock that says whether it lives."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

from gateway.runtime.kept_file import files_of_killed, new_kept_file

PROGRAM = """
import sys, time
from pathlib import Path
from gateway.runtime.kept_file import new_kept_file
kept, mapped = new_kept_file(Path(sys.argv[1]), "process", 64)
mapped[:5] = b"12345"
print("written", flush=True)
time.sleep(600)
"""


def test_a_killed_process_leaves_what_it_wrote(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"written\n"
        assert [*files_of_killed(tmp_path)] == [], "it lives"
        process.send_signal(signal.SIGKILL)
    [kept] = files_of_killed(tmp_path)
    assert (kept.name, kept.read()) == ("process", b"12345" + bytes(59))
    assert [*files_of_killed(tmp_path)] == [], "one process at a time reads it"
    kept.forget()
    assert [*tmp_path.iterdir()] == []
    assert kept.read() == b""


def test_a_directory_that_is_not_there_has_no_files(tmp_path: Path) -> None:
    assert [*files_of_killed(tmp_path / "none")] == []


def test_a_file_of_this_process_is_not_of_a_killed_one(tmp_path: Path) -> None:
    kept, mapped = new_kept_file(tmp_path / "folder", "process", 8)
    assert (len(mapped), [*files_of_killed(tmp_path / "folder")]) == (8, [])
    kept.forget()
