"""How the suite is run: what `pytest FOLDER` selects, on which database, in which order."""

from __future__ import annotations

import json
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


def run(folder: Path, *words: str) -> list[str]:
    """The lines that pytest prints with the project's settings."""
    config = [f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={folder}", "-p", "no:cacheprovider"]
    command = [sys.executable, "-m", "pytest", *config, *words, str(folder)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.splitlines()


def collected(folder: Path, tests: str, *words: str) -> set[str]:
    """The names of the tests that pytest selects."""
    (folder / "test_them.py").write_text(tests)
    lines = run(folder, "--collect-only", "-q", *words)
    return {line.partition("::")[2] for line in lines if "::" in line}


def with_plugin(folder: Path, name: str) -> str:
    """Puts a plugin of fixtures/ into a folder of tests. Returns the setting by which pytest finds it."""
    (folder / "fixtures").mkdir()
    shutil.copy(ROOT / "tests" / "fixtures" / f"{name}.py", folder / "fixtures")
    (folder / "conftest.py").write_text(f'pytest_plugins = ["fixtures.{name}"]\n')
    return f"pythonpath={folder}"


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
    path = with_plugin(tmp_path, "dialect")
    assert collected(tmp_path, DATABASES + STORE_TESTS, "-o", path, *words) == selected


def order(folder: Path, *words: str) -> list[str]:
    lines = run(folder, "--collect-only", "-q", *words)
    return [line.partition(".py::")[0].removeprefix("test_") for line in lines if "::" in line]


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "two workers"])
def test_files_are_ordered_by_what_they_took(tmp_path: Path, workers: list[str]) -> None:
    settings = ["-o", with_plugin(tmp_path, "durations"), "--durations-table", str(tmp_path / "durations.json")]
    for name, seconds in (("a", 0.0), ("b", 1.4), ("c", 0.3)):
        (tmp_path / f"test_{name}.py").write_text(f"import time\n\ndef test_it(): time.sleep({seconds})\n")
    (tmp_path / "durations.json").write_text('{"test_gone.py": 9.0}')
    run(tmp_path, *settings, *workers, "--record-durations")
    assert list(json.loads((tmp_path / "durations.json").read_text())) == ["test_a.py", "test_b.py", "test_c.py"]
    (tmp_path / "test_new.py").write_text("def test_it(): ...\n")
    assert order(tmp_path, *settings) == ["b", "new", "c", "a"]
