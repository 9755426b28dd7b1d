"""How the suite is run: what `pytest FOLDER` selects, and on which database."""

from __future__ import annotations

import shutil
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


def collected(folder: Path, tests: str, *words: str) -> set[str]:
    """The names of the tests that pytest selects with the project's settings."""
    (folder / "test_them.py").write_text(tests)
    config = [f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={folder}", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *config, *words, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder)
    return {line.partition("::")[2] for line in done.stdout.splitlines() if "::" in line}


@pytest.mark.parametrize(
    ("words", "selected"),
    [([], {"test_plain"}), (["-m", "long"], {"test_long"}), (["-m", "real"], {"test_real"})],
    ids=["default", "long", "real"],
)
def test_long_and_real_run_where_they_are_asked_for(tmp_path: Path, words: list[str], selected: set[str]) -> None:
    assert collected(tmp_path, TESTS, *words) == selected


DATABASES = """
import pytest

@pytest.fixture(params=["sqlite", "postgresql"])
def store_url(request): ...

@pytest.fixture
def postgres(): ...

@pytest.fixture
def postgres_url(postgres): ...
"""
STORE_TESTS = """
import pytest

def test_sqlite_or(store_url): ...

@pytest.mark.dialect
def test_dialect(store_url): ...

def test_postgres(postgres_url): ...
"""
SQLITE = {"test_sqlite_or[sqlite]", "test_dialect[sqlite]"}
OTHERS = {"test_sqlite_or[postgresql]", "test_postgres"}


@pytest.mark.parametrize(
    ("words", "selected"),
    [
        ([], SQLITE | {"test_dialect[postgresql]"}),
        (["--postgres", "all"], SQLITE | OTHERS | {"test_dialect[postgresql]"}),
        (["--postgres", "others"], OTHERS),
    ],
    ids=["default", "all", "others"],
)
def test_postgresql_runs_the_tests_of_dialect(tmp_path: Path, words: list[str], selected: set[str]) -> None:
    (tmp_path / "conftest.py").write_text('pytest_plugins = ["fixtures.dialect", "fixtures.databases"]\n')
    (tmp_path / "fixtures").mkdir()
    shutil.copy(ROOT / "tests" / "fixtures" / "dialect.py", tmp_path / "fixtures")
    (tmp_path / "fixtures" / "databases.py").write_text(DATABASES)
    assert collected(tmp_path, STORE_TESTS, "-o", f"pythonpath={tmp_path}", *words) == selected
