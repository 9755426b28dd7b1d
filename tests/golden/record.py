"""Records the verdicts of a tree, through its command line, its consumer, its store and its stream server.

python tests/golden/record.py FILE [--tree FOLDER] [--case NAME]   writes the results of all cases, or of some
python tests/golden/record.py --begin FILE --tree FOLDER           writes a running deployment, see running_cases.py
python tests/golden/record.py --compare [--exact] [--case NAME]  compares them with verdicts.json.xz

FOLDER: the tree whose code runs (default: this one). What is left out, since it differs between two runs: paths,
durations, ids that the stream server makes, the version of the package, and styles, scripts and lines of drawings.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parents[1]


def main(words: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("file", nargs="?", type=Path)
    options.add_argument("--tree", type=Path, default=TESTS.parent)
    options.add_argument("--compare", action="store_true")
    options.add_argument("--exact", action="store_true", help="compare the last digits of numbers as well")
    options.add_argument("--times", action="store_true", help="print the CPU time of each case")
    options.add_argument("--case", dest="cases", action="append", default=[], help="repeatable (default: all)")
    options.add_argument("--begin", action="store_true", help="write a running deployment to FILE")
    given = options.parse_args(words)
    if given.compare == (given.file is not None):
        options.error("give a file or --compare")
    _prepare(given.tree.resolve())
    if given.begin:
        begin(given.file)
        return 0
    from golden import recorded_file
    from golden.differences import explained

    found = recorded(given.cases, times=given.times)
    if given.file is not None:
        kept = recorded_file.read(given.file) if given.cases and given.file.exists() else {}
        recorded_file.write(given.file, {**kept, **found})
        return 0
    expected = recorded_file.read(recorded_file.EXPECTED)
    text = explained({name: expected[name] for name in found}, found, exact=given.exact)
    print(text or f"{len(found)} cases are as they were")  # noqa: T201
    return 1 if text else 0


def _prepare(tree: Path) -> None:
    sys.path[:1] = [str(tree), str(TESTS)]
    os.environ.update(TZ="UTC", LOGNAME="ada", COLUMNS="120", NO_COLOR="1")
    os.environ.pop("GATEWAY_DATA", None)
    time.tzset()


def recorded(names: Sequence[str], *, times: bool) -> dict[str, Any]:
    """The results by case."""
    with _stopped() as new_case:
        from golden.all_cases import CASES

        found = {}
        for name in names or CASES:
            began, case = time.process_time(), new_case(name)
            CASES[name](case)
            found[name] = case.results
            if times:
                print(f"{name}: {time.process_time() - began:.1f} s", file=sys.stderr)  # noqa: T201
    return found


def begin(path: Path) -> None:
    """Writes the archive of a running deployment."""
    with _stopped() as new_case:
        from golden import running_cases

        running_cases.begin(new_case("begin"), path)


@contextmanager
def _stopped() -> Iterator[Callable[[str], Any]]:
    """Stops the clock, and makes cases. Must begin before the package is imported."""
    from golden.stopped_time import Clock, StoppedSleeps

    clock, sleeps = Clock(), StoppedSleeps()
    clock.install()
    sleeps.install()
    from golden.cases import Case
    from golden.stream_server import running_stream_server
    from golden.world import quiet

    quiet()
    _start_plans_of_rules_2()
    with tempfile.TemporaryDirectory() as folder, running_stream_server() as stream_url:
        yield lambda name: Case(name, Path(folder) / name.replace(" ", "-"), stream_url, clock, sleeps)


def _start_plans_of_rules_2() -> None:
    """Plans begin as the version before rules 3 began them: the cases hold how such plans are finished."""
    from gateway.config import derive

    derive.RULES = 2


if __name__ == "__main__":
    sys.exit(main())
