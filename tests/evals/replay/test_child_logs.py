"""What the replay's programs say goes to a file, and comes back to the terminal afterwards."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from gateway.evals.replay.child_logs import to_file


def test_the_log_is_a_file_while_it_is_open(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
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
