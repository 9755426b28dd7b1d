"""The division of the suite among processes, and the report of a divided run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from fixtures import temporary_files
from fixtures.durations import TESTS
from hypothesis import given
from hypothesis import strategies as st
from suite.run_suite import NO_TESTS, lists, stop_lists

NAMES = st.builds("tests/{}/test_{}.py".format, st.sampled_from("abc"), st.integers(0, 99))
SECONDS = st.dictionaries(NAMES, st.floats(0, 100), min_size=1)


@given(seconds=SECONDS, n=st.integers(1, 8))
def test_every_file_is_in_one_list(seconds: dict[str, float], n: int) -> None:
    divided = lists(seconds, n)
    assert len(divided) <= n
    assert sorted(name for names in divided for name in names) == sorted(seconds)


@given(seconds=SECONDS, n=st.integers(1, 8))
def test_the_longest_comes_first_and_is_not_much_longer(seconds: dict[str, float], n: int) -> None:
    lengths = [sum(seconds[name] for name in names) for names in lists(seconds, n)]
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[0] <= sum(seconds.values()) / n + max(sum(seconds.values()) / n / 2, *seconds.values()) + 1e-6


def test_a_small_folder_stays_together() -> None:
    small = {f"tests/small/test_{n}.py": 1.0 for n in range(9)}
    large = {f"tests/large/test_{n}.py": 10.0 for n in range(9)}
    assert any(small.keys() <= set(names) for names in lists(small | large, 4))


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A folder with pytest's settings and three files of tests, one of which fails."""
    (tmp_path / "pyproject.toml").write_text('[tool.pytest.ini_options]\naddopts = "-ra"\n')
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "durations.json").write_text('{"tests/test_gone.py": 9}')
    (tmp_path / "tests" / "test_good.py").write_text("def test_one(): ...\ndef test_two(): ...\n")
    (tmp_path / "tests" / "test_bad.py").write_text("def test_bad():\n    assert 1 == 2, 'why'\n")
    (tmp_path / "tests" / "test_left.py").write_text("import pytest\n@pytest.mark.skip('so')\ndef test_left(): ...\n")
    return tmp_path


RUN = """
import sys
from pathlib import Path
from suite.run_suite import exit_at_signals, main

exit_at_signals()
sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
"""


def run(repository: Path, *options: str) -> tuple[int, list[str]]:
    """Runs the tests of a repository. Returns the exit status and the printed lines."""
    command = [sys.executable, "-c", RUN, str(repository), *options]
    done = subprocess.run(command, cwd=TESTS, stdout=subprocess.PIPE, text=True, check=False)
    return done.returncode, done.stdout.splitlines()


def test_a_failure_is_shown_and_counted(repository: Path) -> None:
    status, lines = run(repository)
    assert status == 1
    assert lines[-1] == "2 passed, 1 failed, 1 skipped"
    assert any(line.startswith("E       AssertionError: why") for line in lines)
    assert any(line.startswith("FAILED tests/test_bad.py::test_bad") for line in lines[-5:])
    assert any(line.startswith("SKIPPED [1] tests/test_left.py") for line in lines[-5:])


def test_lists_in_which_nothing_is_selected_do_not_fail(repository: Path) -> None:
    status, lines = run(repository, "-k", "good")
    assert (status, lines[-1]) == (0, "2 passed, 0 failed, 0 skipped")
    assert run(repository, "-k", "nothing")[0] == NO_TESTS


def test_a_file_that_cannot_be_imported_fails_the_run(repository: Path) -> None:
    (repository / "tests" / "test_bad.py").write_text("import no_such_module\n")
    status, lines = run(repository)
    assert status not in (0, NO_TESTS)
    assert lines[-1] == "2 passed, 1 failed, 1 skipped"


WAITING = """
import os, pytest, signal, subprocess, sys

@pytest.fixture
def program():
    opened = os.open("begun", os.O_WRONLY)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[opened]) as started:
        yield opened
        os.write(opened, b"torn down")

def test_waits(program):
    os.write(program, b"waits")
    while True:
        signal.pause()
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_leaves_no_process(repository: Path, number: signal.Signals) -> None:
    """The test and the program of its fixture hold the pipe open: its end is read once both have ended."""
    (repository / "tests" / "test_good.py").write_text(WAITING)
    os.mkfifo(repository / "begun")
    command = [sys.executable, "-c", RUN, str(repository), "-k", "waits"]
    with subprocess.Popen(command, cwd=TESTS, stdout=subprocess.PIPE, text=True) as runner:
        with (repository / "begun").open("rb", buffering=0) as pipe:
            assert pipe.read(100) == b"waits"
            runner.send_signal(number)
            assert pipe.read(100) == b"torn down"
            assert pipe.read(100) == b""
        assert f"stopped by {number.name}" in runner.communicate()[0]
    assert runner.returncode == 128 + number


def test_a_deaf_list_is_killed_with_its_programs() -> None:
    deaf = "import os, signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); os.fork(); "
    deaf += "os.write(1, b'.'); time.sleep(100)"
    command = [sys.executable, "-c", deaf]
    with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as leader:
        assert leader.stdout is not None
        assert leader.stdout.read(2) == b".."
        stop_lists([leader.pid], stopping_s=0.1)
        assert leader.stdout.read() == b""
    assert leader.returncode == -signal.SIGKILL


def test_temporary_files_of_a_run_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files are removed with the run, and so are those of a killed run, which no process has any more."""
    (tmp_path / "gw-tests-99999999" / "left").mkdir(parents=True)
    (tmp_path / f"gw-tests-{os.getppid()}").mkdir()
    monkeypatch.setattr(temporary_files, "NEEDED_BYTES", 0)
    before = tempfile.gettempdir()
    with temporary_files.in_memory(tmp_path):
        made = Path(tempfile.mkdtemp())
        started = subprocess.check_output([sys.executable, "-c", "import tempfile; print(tempfile.gettempdir())"])
        assert made.parent.parent == tmp_path
        assert Path(started.decode().strip()) == made.parent
    assert [path.name for path in tmp_path.iterdir()] == [f"gw-tests-{os.getppid()}"]
    assert tempfile.gettempdir() == before


def test_temporary_files_stay_on_disk_where_memory_is_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporary_files, "NEEDED_BYTES", 1 << 60)
    before = tempfile.gettempdir()
    with temporary_files.in_memory(tmp_path):
        assert tempfile.gettempdir() == before
