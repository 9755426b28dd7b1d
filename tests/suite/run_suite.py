"""Runs all tests in several processes, each with a fixed list of files: each file is collected once.

python tests/suite/run_suite.py [OPTION OF PYTEST ...]

There are eight lists for each process, so that no process grows large and none is left to run alone for long. Each
list runs in a fork of one process that has imported what they share.
Files of one folder stay together, since they share servers that take seconds to start. tests/durations.json has what
each file takes; --record-durations renews it. A signal that stops the run stops its lists and what they have started.
"""

from __future__ import annotations

import atexit
import gc
import importlib.util
import os
import re
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, NoReturn

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))
from fixtures.durations import TESTS, UNKNOWN_S, read

OPTIONS = ("-p", "no:cacheprovider", "-W", "ignore::pytest.PytestAssertRewriteWarning")  # fixtures.durations is here
PRELOADED = (
    "tests/console/test_app.py",
    "tests/console/test_openapi.py",
    "tests/consumer/test_consumer.py",
    "tests/features/experiments/test_cli.py",
    "tests/proxy/test_reload.py",
)
"""Files whose imports are those of many others. One has tests of properties: for these, hypothesis reads the constants
of all modules."""
MODULES = ("anthropic", "openai")
"""Modules that many lists import, and no file of PRELOADED."""
ALONE = (
    "tests/features/calls/exports/test_export.py",
    "tests/proxy/guards/test_large_texts.py",
    "tests/scorers/test_embedding.py",
    "tests/scorers/test_meteor.py",
    "tests/scorers/test_minilm.py",
    "tests/scorers/test_properties.py",
)
"""Files that need much memory: a list each."""
NO_TESTS = 5  # pytest's exit status
SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
STOPPING_S = 20.0
"""How long a list may take to stop its servers after a signal has stopped the run."""
SUMMARY = re.compile(r"^(FAILED|ERROR|SKIPPED|XPASS|XFAIL) ")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed|deselected|warnings?)\b")


@dataclass(frozen=True)
class Result:
    """Output of one process. counts: by word of pytest's last line."""

    status: int
    output: str
    seconds: float

    @property
    def counts(self) -> Counter[str]:
        last = self.output.rstrip().rpartition("\n")[2]
        return Counter({word.removesuffix("s") if "error" in word else word: int(n) for n, word in COUNT.findall(last)})

    @property
    def summary(self) -> list[str]:
        return [line for line in self.output.splitlines() if SUMMARY.match(line)]

    @property
    def ok(self) -> bool:
        return self.status in (0, NO_TESTS)


def processes() -> int:
    """Three for each core, six at most: two thirds of a test's time is waiting for servers, programs and disks."""
    return min(6, 3 * (os.cpu_count() or 1))


def lists(seconds: Mapping[str, float], n: int) -> list[list[str]]:
    """n lists of about equal length in seconds, the longest first. A folder is split only where it exceeds one list."""
    share = sum(seconds.values()) / n
    folders: dict[str, dict[str, float]] = {}
    for name, spent in seconds.items():
        folders.setdefault(name.rpartition("/")[0], {})[name] = spent
    groups = [part for files in folders.values() for part in _parts(files, share)]
    found: list[list[str]] = [[] for _ in range(n)]
    length = [0.0] * n
    for group in sorted(groups, key=lambda names: -sum(seconds[name] for name in names)):
        shortest = length.index(min(length))
        found[shortest] += group
        length[shortest] += sum(seconds[name] for name in group)
    return [found[i] for i in sorted(range(n), key=lambda i: -length[i]) if found[i]]


def _parts(files: Mapping[str, float], share: float) -> list[list[str]]:
    """The files in groups of half a list at most, as far as one file is not longer."""
    found: list[list[str]] = []
    length = 0.0
    for name in sorted(files, key=lambda name: -files[name]):
        if not found or length + files[name] > share / 2:
            found.append([])
            length = 0.0
        found[-1].append(name)
        length += files[name]
    return found


def test_files(root: Path, table: Path) -> dict[str, float]:
    """Seconds by file; UNKNOWN_S for new ones."""
    known = read(table)
    paths = (path for folder in ("bench", "tests") for path in sorted((root / folder).rglob("test_*.py")))
    names = (path.relative_to(root).as_posix() for path in paths)
    return {name: known.get(name, UNKNOWN_S) for name in names}


def preload(root: Path) -> None:
    """Imports what many tests import, once for all lists, which run in forks of this process."""
    status = _quietly([*OPTIONS, "--collect-only", "-qq", *(str(root / name) for name in PRELOADED)])
    for name in MODULES:
        if importlib.util.find_spec(name):
            importlib.import_module(name)
    if status:
        raise RuntimeError(f"pytest cannot collect {', '.join(PRELOADED)}: exit status {status}")


def _quietly(words: Sequence[str]) -> int:
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        return int(pytest.main(list(words)))


@dataclass(frozen=True)
class Running:
    """A list that a fork of this process runs."""

    number: int
    files: Sequence[str]
    output: IO[str]
    began: float

    def result(self, status: int) -> Result:
        self.output.seek(0)
        with self.output:
            return Result(os.waitstatus_to_exitcode(status), self.output.read(), time.monotonic() - self.began)


def exit_at_signals() -> None:
    """Makes SIGNALS exit this process in order, as `sys.exit` does."""

    def stop(number: int, _frame: object) -> NoReturn:
        say(f"stopped by {signal.Signals(number).name}")
        sys.exit(128 + number)

    for number in SIGNALS:
        signal.signal(number, stop)


@contextmanager
def _signals_later() -> Iterator[None]:
    """Signals that arrive in the block are handled after it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _signals_of_a_list() -> None:
    """Restores Python's own handlers: SIGINT ends pytest, which stops the servers of its fixtures."""
    for number in SIGNALS:
        signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


def stop_lists(pids: Iterable[int], stopping_s: float = STOPPING_S) -> None:
    """Interrupts lists, each the leader of a process group, and kills what is left of the groups."""
    groups = list(pids)
    for pid in groups:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + stopping_s
    try:
        while time.monotonic() < deadline and not all(map(_has_ended, groups)):
            time.sleep(0.05)
    finally:  # a second signal kills them at once
        for pid in groups:
            with suppress(ProcessLookupError):
                os.killpg(pid, signal.SIGKILL)


def _has_ended(pid: int) -> bool:
    """Leaves an ended process as a zombie: until the group is killed, no other process gets its id."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except ChildProcessError:  # it was waited for already
        return True


def _fork(root: Path, options: Sequence[str], files: Sequence[str], output: IO[str]) -> int:
    """Starts pytest in a fork of this process, the leader of a process group, and returns its id. The caller blocks
    SIGNALS. output: gets what it prints."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        os.setpgid(0, 0)
        _signals_of_a_list()
        os.chdir(root)
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        gc.disable()  # until the tests are collected, as in a process of its own
        status = int(pytest.main([*OPTIONS, "-q", *options, *files]))
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(status)  # without freeing the memory that it shares with its parent


def run_all(root: Path, ordered: Sequence[Sequence[str]], options: Sequence[str], at_once: int) -> list[Result]:
    """Shows the output of a list that fails, one line of any other: what it took, and when it ended."""
    running: dict[int, Running] = {}
    try:
        results = _run_lists(partial(_fork, root, options), ordered, at_once, running)
    finally:
        stop_lists(running)
    return [results[number] for number in sorted(results)]


def _run_lists(
    start: Callable[[Sequence[str], IO[str]], int],
    ordered: Sequence[Sequence[str]],
    at_once: int,
    running: dict[int, Running],
) -> dict[int, Result]:
    """start: begins a list of files, and returns the id of its process. running: has the lists that have not ended, by
    process, also after an exception."""
    began = time.monotonic()
    results: dict[int, Result] = {}
    for number, files in enumerate(ordered, start=1):
        output = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 - Running closes it
        with _signals_later():
            running[start(files, output)] = Running(number, files, output, time.monotonic())
        while len(running) >= at_once or (running and number == len(ordered)):
            pid, status = os.wait()
            ended = running.pop(pid)
            result = results[ended.number] = ended.result(status)
            if not result.ok:
                say(result.output)
            counts = ", ".join(f"{n} {word}" for word, n in result.counts.items())
            took = f"{result.seconds:.0f} s, at {time.monotonic() - began:.0f} s"
            say(f"list {ended.number} of {len(ordered)}: {len(ended.files)} files, {counts} in {took}")
    return results


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def cpu_s() -> float:
    """Seconds of CPU of this process and of those that have ended: unlike those of a clock, alike on a busy machine."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main(root: Path, options: Sequence[str]) -> int:
    """Returns the exit status of the first list that failed, or 5, as pytest does, where no test was selected."""
    began, at_once = time.monotonic(), processes()
    files = test_files(root, root / "tests" / "durations.json")
    alone = [[name] for name in ALONE if name in files]
    ordered = alone + lists({name: s for name, s in files.items() if name not in ALONE}, 8 * at_once)
    results = run_all(root, ordered, options, at_once)
    counts: Counter[str] = sum((result.counts for result in results), Counter())
    for line in sorted({line for result in results for line in result.summary}):
        say(line)
    say(f"{time.monotonic() - began:.0f} s")
    say(f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed, {counts['skipped']} skipped")
    return next((result.status for result in results if not result.ok), 0 if counts["passed"] else NO_TESTS)


if __name__ == "__main__":
    exit_at_signals()
    preload(TESTS.parent)
    from fixtures.program_command import ADDRESS
    from fixtures.stores import migrated_file, shared_postgres  # pytest has imported it, and rewritten its asserts
    from fixtures.temporary_files import in_memory
    from fixtures.verbs import running_verb_server

    migrated_file()
    with in_memory(), running_verb_server() as os.environ[ADDRESS], shared_postgres():
        status = main(TESTS.parent, sys.argv[1:])
    say(f"{cpu_s():.0f} s of CPU")
    sys.exit(status)
