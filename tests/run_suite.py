"""Runs all tests in several processes, each with a fixed list of files: each file is collected once.

python tests/run_suite.py [OPTION OF PYTEST ...]

There are three lists for each process, so that no process grows large and none is left to run alone for long.
Files of one folder stay together, since they share servers that take seconds to start. tests/durations.json has what
each file takes; --record-durations renews it.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fixtures.durations import TESTS, UNKNOWN_S, read

NO_TESTS = 5  # pytest's exit status
SUMMARY = re.compile(r"^(FAILED|ERROR|SKIPPED|XPASS|XFAIL) ")
COUNT = re.compile(r"(\d+) (passed|failed|skipped|errors?|xfailed|xpassed|deselected|warnings?)\b")


@dataclass(frozen=True)
class Result:
    """What one process said. counts: by word of pytest's last line."""

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
    """Two for each core, four at most: half of a test's time is waiting for servers, programs and disks."""
    return min(4, 2 * (os.cpu_count() or 1))


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
    names = (path.relative_to(root).as_posix() for path in sorted((root / "tests").rglob("test_*.py")))
    return {name: known.get(name, UNKNOWN_S) for name in names}


def run(root: Path, files: Sequence[str], options: Sequence[str]) -> Result:
    began = time.monotonic()
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *options, *files]
    done = subprocess.run(command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return Result(done.returncode, done.stdout, time.monotonic() - began)


def run_all(root: Path, ordered: Sequence[Sequence[str]], options: Sequence[str], at_once: int) -> list[Result]:
    """Shows the output of a list that fails, one line of any other: what it took, and when it ended."""
    began = time.monotonic()

    def run_one(number: int, files: Sequence[str]) -> Result:
        result = run(root, files, options)
        if not result.ok:
            say(result.output)
        counts = ", ".join(f"{n} {word}" for word, n in result.counts.items())
        took = f"{result.seconds:.0f} s, at {time.monotonic() - began:.0f} s"
        say(f"list {number} of {len(ordered)}: {len(files)} files, {counts} in {took}")
        return result

    with ThreadPoolExecutor(at_once) as pool:
        return list(pool.map(run_one, range(1, len(ordered) + 1), ordered))


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def main(root: Path, options: Sequence[str]) -> int:
    """Returns the exit status of the first list that failed, or 5, as pytest does, where no test was selected."""
    began, at_once = time.monotonic(), processes()
    ordered = lists(test_files(root, root / "tests" / "durations.json"), 3 * at_once)
    results = run_all(root, ordered, options, at_once)
    counts: Counter[str] = sum((result.counts for result in results), Counter())
    for line in sorted({line for result in results for line in result.summary}):
        say(line)
    say(f"{time.monotonic() - began:.0f} s")
    say(f"{counts['passed']} passed, {counts['failed'] + counts['error']} failed, {counts['skipped']} skipped")
    return next((result.status for result in results if not result.ok), 0 if counts["passed"] else NO_TESTS)


if __name__ == "__main__":
    sys.exit(main(TESTS.parent, sys.argv[1:]))
