"""The one log: every program's lines under its name, in files of bounded size; warnings on the terminal too."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gateway.up import child_logs
from gateway.up.child_logs import one_log


def say(text: str, level: int = logging.INFO, child: str = "serve") -> None:
    logging.getLogger(f"gateway.child.{child}").log(level, "%s", text)


@pytest.mark.parametrize(("verbose", "shown"), [(False, ["careful"]), (True, ["on", "careful", "of our own"])])
def test_all_is_in_the_file_and_warnings_are_on_the_terminal(
    verbose: bool, shown: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "gateway.log"
    with one_log(path, verbose):
        say("on")
        say("careful", logging.WARNING, "stream-server")
        logging.getLogger("gateway.runtime.supervisor").info("of our own")
    lines = path.read_text().splitlines()
    assert [line.split(" ", 2)[2] for line in lines] == ["serve | on", "stream-server | careful", "up | of our own"]
    assert [line.rpartition("| ")[2] for line in capsys.readouterr().err.splitlines()] == shown


def test_the_log_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(child_logs, "MAX_BYTES", 1000)
    with one_log(tmp_path / "gateway.log", verbose=False):
        for i in range(200):
            say(f"line {i}")
    files = sorted(tmp_path.iterdir())
    assert [f.name for f in files] == ["gateway.log", "gateway.log.1", "gateway.log.2", "gateway.log.3"]
    assert all(f.stat().st_size <= 1000 for f in files)
    assert "line 199" in files[0].read_text()


def test_the_handlers_are_gone_afterwards(tmp_path: Path) -> None:
    before = list(logging.getLogger("gateway").handlers)
    with one_log(tmp_path / "gateway.log", verbose=False):
        pass
    assert logging.getLogger("gateway").handlers == before
