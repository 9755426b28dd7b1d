"""The fleet's benchmark works: it starts everything, measures, predicts, reports, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import servers

LACKS = [name for name in ("wrk", "nginx") if not shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")]
pytestmark = [
    pytest.mark.long,
    pytest.mark.timeout(1200),
    pytest.mark.skipif(sys.platform != "linux", reason="the benchmark reads /proc"),
    pytest.mark.skipif(bool(LACKS), reason=f"the benchmark needs {' and '.join(LACKS)}: not installed"),
    pytest.mark.skipif(servers.postgres_programs() is None, reason="PostgreSQL is not installed"),
]


def test_a_short_run_measures_every_size_and_writes_its_page(tmp_path: Path) -> None:
    page, found = tmp_path / "page.md", tmp_path / "fleet.json"
    page.write_text("before\n<!-- `make bench-fleet` writes from here -->\nold\n<!-- to here -->\nafter\n")
    with tempfile.TemporaryDirectory(prefix="f") as temporary:
        Path(temporary).chmod(0o755)  # root's PostgreSQL runs as another user, who must come in
        command = [sys.executable, str(Path(__file__).with_name("fleet.py")), "--seconds", "3", "--rounds", "1"]
        command += ["--json", str(found), "--markdown", str(page)]
        subprocess.run(command, check=True, env=os.environ | {"TMPDIR": temporary})
        assert list(Path(temporary).iterdir()) == []
    report = json.loads(found.read_text())
    assert all(each["served"] > 0 for rounds in report["measured"].values() for each in rounds)
    assert {row["what"] for row in report["compared"]} >= {"requests answered a second", "scored a second"}
    assert all(min(row["simulated"]) > 0 for row in report["compared"])
    assert report["costs"]["request_s"] > 0
    assert report["bytes"]["store"] > 1000
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("<!-- to here -->\nafter\n")
    assert "| 1 000 | 200 000 |" in text
    assert "\nold\n" not in text
    more = [*command[:2], "--again", str(found), "--rounds", "0", "--json", str(tmp_path / "again.json")]
    subprocess.run(more, check=True)
    assert json.loads((tmp_path / "again.json").read_text())["compared"] == report["compared"], "a seed gives one run"
