"""Reports, ramps, guards' promotions and what consumers store stay as they were recorded. See README.md."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from golden import recorded_file
from golden.differences import differences, explained

RECORD = Path(__file__).with_name("record.py")


@pytest.mark.timeout(600)
def test_verdicts_are_as_recorded(tmp_path: Path) -> None:
    """The clock of a recording is set before the package is imported, so it has a process of its own."""
    found = tmp_path / "found.json.xz"
    done = subprocess.run([sys.executable, str(RECORD), str(found)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    text = explained(recorded_file.read(recorded_file.EXPECTED), recorded_file.read(found))
    assert not text, f"\n{text}"


def test_differences_name_their_place() -> None:
    before = {"shadow": {"report": {"low": 0.1, "lines": ["a", "b"]}, "gone": 1}}
    after = {"shadow": {"report": {"low": 0.1 + 1e-12, "lines": ["a", "c", "d"]}, "new": True}}
    assert list(differences(before, after)) == [
        "/shadow/report/lines[1]: 'b' → 'c'", "/shadow/report/lines[2]: [] → ['d']",
        "/shadow/gone: gone: 1", "/shadow/new: new: True",
    ]  # fmt: skip
    assert len(list(differences(before, after, exact=True))) == 5
    assert list(differences({"ok": 1}, {"ok": True})) == ["/ok: 1 → True"]
