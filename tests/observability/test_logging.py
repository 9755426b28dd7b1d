"""A program's log: JSON lines for machines, text for people; from its own terminal or not."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures.program_command import forked_python

from gateway.config.types import LogConfig
from gateway.observability.logging import JsonFormatter, TextFormatter, UvicornFilter, is_json, timestamp, to_file

PROGRAM = """
import logging, sys
from gateway.config.types import LogConfig
from gateway.observability.logging import begin
begin(LogConfig.model_validate_json(sys.argv[1]))
logging.getLogger("gateway").info("said \\"so\\", %s", "né")
logging.getLogger("gateway").debug("detail")
logging.getLogger("httpx2").info("a request")
try:
    1 / 0
except ZeroDivisionError:
    logging.getLogger("gateway").exception("failed")
"""


def logged(log: LogConfig) -> str:
    command = forked_python(PROGRAM, log.model_dump_json())
    return subprocess.run(command, capture_output=True, check=True).stderr.decode()


def test_without_a_terminal_each_line_is_one_json_object() -> None:
    first, second = [json.loads(line) for line in logged(LogConfig()).splitlines()]
    assert (first["level"], first["logger"], first["message"]) == ("INFO", "gateway", 'said "so", né')
    assert second["message"] == "failed"
    assert "ZeroDivisionError" in second["exception"]


def test_words_where_they_are_asked_for() -> None:
    assert 'INFO said "so", né' in logged(LogConfig(format="text")).splitlines()[0]


@pytest.mark.parametrize(("level", "seen"), [("debug", 3), ("info", 2), ("error", 1)])
def test_the_level_is_the_least_that_is_said(level: str, seen: int) -> None:
    assert len(logged(LogConfig.model_validate({"level": level})).splitlines()) == seen


def test_auto_asks_whether_somebody_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    assert not is_json(LogConfig())
    assert is_json(LogConfig(format="json"))


FORGED = "failed: x\n2026-01-01 00:00:00 ERROR all keys leaked\x1b[2J\x9b31m\u202e"


def test_a_text_within_a_line_forges_no_other_line() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (FORGED,), None)
    first, second = TextFormatter().format(record).split("\n")
    assert first.endswith("INFO failed: x")
    assert second == "    2026-01-01 00:00:00 ERROR all keys leaked[2J31m"
    in_json = JsonFormatter().format(record)
    assert json.loads(in_json)["message"] == FORGED
    assert in_json.isascii()


def test_a_lone_surrogate_is_logged() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "a\ud800b", (), None)
    assert json.loads(JsonFormatter().format(record))["message"] == "a?b"


def test_values_that_json_cannot_hold_are_logged_as_text() -> None:
    record = logging.LogRecord("x", logging.INFO, "", 0, "%s", (object,), None)
    assert json.loads(JsonFormatter().format(record))["message"] == "<class 'object'>"
    assert timestamp(0.5) == "1970-01-01T00:00:00.500Z"


@pytest.mark.parametrize(
    ("lines", "kept"),
    [
        (["Uvicorn running on http://127.0.0.1:8000 (Press CTRL+C to quit)"], 0),
        (["Waiting for application startup.", "Application startup complete.", "Shutting down"], 2),
        (["Started server process [7]", "Started server process [7]", "Started server process [8]"], 2),
        (["Shutting down", "Shutting down"], 2),
    ],
)
def test_uvicorns_lines_are_said_once_and_under_its_name(lines: list[str], kept: int) -> None:
    each = UvicornFilter()
    records = [logging.LogRecord("uvicorn.error", logging.INFO, "", 0, line, (), None) for line in lines]
    assert [r.name for r in records if each.filter(r)] == ["uvicorn"] * kept


def test_an_error_of_uvicorn_is_never_left_out() -> None:
    each = UvicornFilter()
    error = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "Waiting for application to die", (), None)
    assert each.filter(error)
    assert each.filter(error)


def test_the_log_goes_to_a_file_while_the_context_is_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "new" / "replay.log"
    log = logging.getLogger("gateway.child.replay-gateway")
    before = logging.getLogger("gateway").level, logging.getLogger("gateway").propagate
    with to_file(path):
        log.info("serving")
    log.warning("afterwards")
    assert "gateway.child.replay-gateway INFO serving" in path.read_text()
    assert "afterwards" not in path.read_text()
    assert "serving" not in caplog.text
    assert "afterwards" in caplog.text
    assert (logging.getLogger("gateway").level, logging.getLogger("gateway").propagate) == before
