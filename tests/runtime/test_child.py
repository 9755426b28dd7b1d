"""A child ends with us, however we end; its lines have a level."""

from __future__ import annotations

import logging
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.runtime.child import LineSeverity

PARENT = """
    import asyncio, sys
    from gateway.runtime.child import Child
    from gateway.runtime.supervisor import Supervisor

    async def main():
        async with Supervisor() as supervisor:
            parent = "sleep 100 & echo $! >> %(pids)s; echo $$ >> %(pids)s; exec sleep 100"
            deaf = "trap '' TERM; echo $$ >> %(pids)s; sleep 100 & wait"
            await supervisor.start(Child("one", ("/bin/sh", "-c", parent)))
            await supervisor.start(Child("two", ("/bin/sh", "-c", deaf)))
            await asyncio.Event().wait()

    asyncio.run(main())
"""


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """A zombie is not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):  # the latter where it ends between opening and reading
        return False


def test_children_and_grandchildren_end_with_a_killed_parent(tmp_path: Path) -> None:
    """Children that ignore SIGTERM end too."""
    pids = tmp_path / "pids"
    parent = subprocess.Popen([sys.executable, "-c", textwrap.dedent(PARENT % {"pids": pids})])
    wait_for(lambda: pids.exists() and len(pids.read_text().split()) == 3)
    children = [int(pid) for pid in pids.read_text().split()]
    assert all(map(alive, children))

    parent.kill()
    parent.wait()

    wait_for(lambda: not any(map(alive, children)))


@pytest.mark.parametrize(
    ("line", "level"),
    [
        ("listening", logging.INFO),
        ("2026-11-25 10:00:00 ERROR no", logging.ERROR),
        ("CRITICAL no", logging.ERROR),
        ("2026-11-25 10:00:00 WARNING slow", logging.WARNING),
        ("0.00.001.725 W srv: slow", logging.INFO),
        ("errors: 0", logging.INFO),
        ("12:M 25 Nov 2026 01:50:49.630 # Fatal error loading the append-only file", logging.ERROR),
        ("12:M 25 Nov 2026 01:50:49.630 # WARNING Memory overcommit must be enabled!", logging.INFO),
        ("12:M 25 Nov 2026 01:50:49.630 * Ready to accept connections", logging.INFO),
    ],
)
def test_a_line_has_the_level_its_words_say(line: str, level: int) -> None:
    assert LineSeverity().of(line) == level


def test_a_traceback_is_an_error_to_its_last_line() -> None:
    severity = LineSeverity()
    lines = [
        "starting",
        "Traceback (most recent call last):",
        '  File "x.py", line 1',
        "    boom()",
        "ValueError: no",
        "on",
    ]
    errors = [line for line in lines if severity.of(line) == logging.ERROR]
    assert errors == lines[1:5]
