"""`make demo`: a verdict while one watches, with planted models, no key and nothing downloaded."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "deploy" / "demo" / "demo.py"

pytestmark = [pytest.mark.long, pytest.mark.timeout(900)]


def test_the_demo_reaches_its_verdict_and_takes_over(tmp_path: Path) -> None:
    command = [sys.executable, str(DEMO), "--folder", str(tmp_path / "demo"), "--ends", "promoted"]
    told = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=840, check=True).stdout
    assert re.search(r"the gateway listens; open http://\S+/console/login\?link=", told)
    assert "first answer: " in told
    assert re.search(r"right in \d+\s% instead of \d+\s%.* Ship\.", told)
    assert "large serves 10\u202f% at step 1 of 3" in told
    assert re.search(r"Promoted: large, right in \d+\s% instead of \d+\s%; better by \S+ to \S+\.\s*$", told)
