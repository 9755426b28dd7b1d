from __future__ import annotations

import logging
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
