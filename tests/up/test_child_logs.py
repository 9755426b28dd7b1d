from __future__ import annotations

import logging
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.up.child_logs import child_log, shared_log


def say(text: str, level: int = logging.INFO, child: str = "serve") -> None:
    logging.getLogger(f"gateway.child.{child}").log(level, "%s", text)


@pytest.mark.parametrize(("verbose", "shown"), [(False, ["careful"]), (True, ["on", "careful", "of up itself"])])
def test_the_file_has_every_line_and_the_terminal_warnings(
    verbose: bool, shown: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.log"
    with shared_log(path, verbose):
        say("on")
        say("careful", logging.WARNING, "stream-server")
        logging.getLogger("gateway.runtime.supervisor").info("of up itself")
    lines = path.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["serve | on", "stream-server | careful", "up | of up itself"]
    assert [line.rpartition("| ")[2] for line in capsys.readouterr().err.splitlines()] == shown


def test_the_log_is_bounded(tmp_path: Path) -> None:
    with shared_log(tmp_path / "gateway.log", verbose=False, max_bytes=1000):
        for i in range(200):
            say(f"line {i}")
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["gateway.log", "gateway.log.1", "gateway.log.2", "gateway.log.3"]
    assert all(f.stat().st_size <= 1000 for f in files)
    assert "line 199" in files[0].read_text()


def test_the_handlers_are_gone_afterwards(tmp_path: Path) -> None:
    before = list(logging.getLogger("gateway").handlers)
    with shared_log(tmp_path / "gateway.log", verbose=False):
        pass
    assert logging.getLogger("gateway").handlers == before


def test_a_childs_own_log_has_only_its_lines(tmp_path: Path) -> None:
    with child_log("engine-local", tmp_path / "engine-local.log"):
        say("loading", logging.WARNING, "engine-local")
        say("other", logging.WARNING, "serve")
    (line,) = (tmp_path / "engine-local.log").read_text().splitlines()
    assert line.endswith(" loading")


@contextmanager
def full_disk(most_bytes: int) -> Iterator[None]:
    """No file of this process may grow beyond these bytes."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)


def test_a_full_disk_is_one_line_and_the_log_continues_afterwards(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.log"
    with shared_log(path, verbose=False):
        say("before")
        with full_disk(200):
            for i in range(100):
                say(f"line {i} of many")
        assert capsys.readouterr().err == f"{path} cannot be written: File too large; retried with each line\n"
        say("afterwards")
    lines = path.read_text().splitlines()
    assert "before" in lines[0]
    assert "afterwards" in lines[-2]
    assert "the log is written again; lines are missing before this one: about" in lines[-1]
    assert capsys.readouterr().err == ""


def test_a_disk_that_stays_full_ends_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "gateway.log"
    with full_disk(200), shared_log(path, verbose=False):
        for i in range(100):
            say(f"line {i} of many")
    assert capsys.readouterr().err == f"{path} cannot be written: File too large; retried with each line\n"
