"""Runs of the suite: the selection of `pytest FOLDER`, its database and its order."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = """
import pytest

def test_plain(): ...

@pytest.mark.long
def test_long(): ...

@pytest.mark.real
def test_real(): ...
"""


RUNS = """
import json, pytest, sys

for words in json.loads(sys.argv[1]):
    status = pytest.main(words)
    if status:
        sys.exit(status)
    print("a run has ended")
"""


def run(folder: Path, *runs: Sequence[str]) -> list[list[str]]:
    """The lines that pytest prints with the project's settings, for each list of options; all in one process."""
    config = [f"--config-file={ROOT / 'pyproject.toml'}", f"--rootdir={folder}", "-p", "no:cacheprovider"]
    words = json.dumps([[*config, *options, str(folder)] for options in runs])
    command = [sys.executable, "-c", RUNS, words]
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=folder).stdout
    return [output.splitlines() for output in printed.split("a run has ended\n")[:-1]]


def collected(folder: Path, tests: str, *runs: Sequence[str]) -> list[set[str]]:
    """The names of the tests that pytest selects, for each list of options."""
    (folder / "test_them.py").write_text(tests)
    outputs = run(folder, *(["--collect-only", "-q", *options] for options in runs))
    return [{line.partition("::")[2] for line in lines if "::" in line} for lines in outputs]


def with_plugin(folder: Path, name: str) -> str:
    """Puts a plugin of fixtures/ into a folder of tests. Returns the setting by which pytest finds it."""
    (folder / "fixtures").mkdir()
    shutil.copy(ROOT / "tests" / "fixtures" / f"{name}.py", folder / "fixtures")
    (folder / "conftest.py").write_text(f'pytest_plugins = ["fixtures.{name}"]\n')
    return f"pythonpath={folder}"


def test_long_and_real_run_where_they_are_asked_for(tmp_path: Path) -> None:
    selected = collected(tmp_path, TESTS, [], ["-m", "long"], ["-m", "real"])
    assert selected == [{"test_plain"}, {"test_long"}, {"test_real"}]


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


def test_postgresql_runs_the_tests_of_dialect(tmp_path: Path) -> None:
    path = with_plugin(tmp_path, "dialect")
    runs = [["-o", path, *words] for words in ([], ["--postgres", "all"], ["--postgres", "others"])]
    default, everything, others = collected(tmp_path, DATABASES + STORE_TESTS, *runs)
    assert default == SQLITE | {"test_dialect[postgresql]"}
    assert everything == SQLITE | OTHERS | {"test_dialect[postgresql]"}
    assert others == OTHERS


def order(lines: Sequence[str]) -> list[str]:
    return [line.partition(".py::")[0].removeprefix("test_") for line in lines if "::" in line]


@pytest.mark.parametrize("workers", [[], ["-n", "2"]], ids=["one process", "two workers"])
def test_files_are_ordered_by_what_they_took(tmp_path: Path, workers: list[str]) -> None:
    settings = ["-o", with_plugin(tmp_path, "durations"), "--durations-table", str(tmp_path / "durations.json")]
    for name, seconds in (("a", 0.0), ("b", 1.4), ("c", 0.3)):
        (tmp_path / f"test_{name}.py").write_text(f"import time\n\ndef test_it(): time.sleep({seconds})\n")
    (tmp_path / "durations.json").write_text('{"test_gone.py": 9.0}')
    run(tmp_path, [*settings, *workers, "--record-durations"])
    assert list(json.loads((tmp_path / "durations.json").read_text())) == ["test_a.py", "test_b.py", "test_c.py"]
    (tmp_path / "test_new.py").write_text("def test_it(): ...\n")
    [lines] = run(tmp_path, [*settings, "--collect-only", "-q"])
    assert order(lines) == ["b", "new", "c", "a"]
