"""How the suite is run: what `pytest FOLDER` selects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
TESTS = """
import pytest

def test_plain(): ...

@pytest.mark.long
def test_long(): ...

@pytest.mark.real
def test_real(): ...
"""


@pytest.mark.parametrize(
    ("words", "selected"),
    [([], {"test_plain"}), (["-m", "long"], {"test_long"}), (["-m", "real"], {"test_real"})],
    ids=["default", "long", "real"],
)
def test_long_and_real_run_where_they_are_asked_for(tmp_path: Path, words: list[str], selected: set[str]) -> None:
    (tmp_path / "test_of_three.py").write_text(TESTS)
    config = [f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={tmp_path}", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *config, *words, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert {line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line} == selected
