"""One child program: how it starts, how its output reaches the log, how it ends with us. supervisor.py restarts it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

logger = logging.getLogger(__name__)
CHILDREN = "gateway.child"  # loggers below it carry what children say
MAX_LINE_BYTES = 65_536


async def _ready_at_once() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Child:
    """A program to run as a child process."""

    name: str  # also its prefix in the log
    argv: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]] = _ready_at_once  # polled until it returns True
    ready_s: float = 30.0  # how long to poll
    grace_s: float = 10.0  # between SIGTERM and SIGKILL
    environ: Mapping[str, str] | None = None  # the complete environment; None: inherited
    pass_fds: tuple[int, ...] = ()  # file descriptors that it inherits


class Leash:
    """Ends our children when we are gone, however we went: after SIGKILL no handler of ours runs.

    A shell of about 1 MB leads the process group that every child joins, and reads from a pipe whose other end only we
    hold. The kernel closes that end with us, and the shell then ends the whole group, grandchildren included.
    (PR_SET_PDEATHSIG is Linux's alone, must run between fork and exec, and does not reach grandchildren.) A group of
    its own also keeps the terminal's Ctrl-C for us, so that children stop in order.
    """

    _SCRIPT = "trap '' TERM INT HUP; read -r _; kill -TERM 0; sleep 2; kill -KILL 0"

    def __init__(self) -> None:
        self._shell = subprocess.Popen(  # noqa: S603 - a constant
            ["/bin/sh", "-c", self._SCRIPT],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )

    @property
    def group(self) -> int:
        return self._shell.pid

    @property
    def held(self) -> bool:
        return self._shell.poll() is None

    def release(self) -> None:
        """Ends the shell and the rest of its process group."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
            os.killpg(self.group, signal.SIGKILL)
        self._shell.wait()
        if self._shell.stdin:
            self._shell.stdin.close()


class LineSeverity:
    """The level of each line a program writes: errors and warnings by their word, a traceback to its last line."""

    # Valkey warns of memory overcommit at each start, on every desktop.
    _WORD = re.compile(r"\b(?:(CRITICAL|FATAL|Fatal|ERROR|Error|Traceback)|(WARN|WARNING(?! Memory overcommit)))\b")

    def __init__(self) -> None:
        self._traceback = False

    def of(self, line: str) -> int:
        if self._traceback:
            self._traceback = line[:1].isspace() or not line
            return logging.ERROR
        found = self._WORD.search(line[:200])
        if found is None:
            return logging.INFO
        self._traceback = found[1] == "Traceback"
        return logging.ERROR if found[1] else logging.WARNING


class RunningChild:
    """A child that runs. Its output goes to the log line by line; code: its exit code, None while it runs.

    Threads read and wait, not the loop's own subprocesses: uvloop knows no process_group, and the log is written off
    the loop.
    """

    def __init__(self, child: Child, group: int) -> None:
        self.child = child
        self.code: int | None = None
        self.tail: deque[str] = deque(maxlen=12)
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._process = subprocess.Popen(  # noqa: S603 - argv comes from our own code
            child.argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=child.environ,
            pass_fds=child.pass_fds,
            process_group=group,
        )
        self._reader = threading.Thread(target=self._read, name=f"{child.name} output", daemon=True)
        self._reader.start()
        threading.Thread(target=self._wait, name=f"{child.name} end", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        log = logging.getLogger(f"{CHILDREN}.{self.child.name}")
        severity = LineSeverity()
        with self._process.stdout as output:  # type: ignore[union-attr]
            while raw := output.readline(MAX_LINE_BYTES):
                line = raw.decode("utf-8", "replace").rstrip()
                self.tail.append(line)
                log.log(severity.of(line), "%s", line)

    def _wait(self) -> None:
        code = self._process.wait()
        self._reader.join(0.5)  # its last words; a grandchild may hold the pipe open for longer
        with contextlib.suppress(RuntimeError):  # the loop is closed: there is no waiter left
            self._loop.call_soon_threadsafe(self._end, code)

    def _end(self, code: int) -> None:
        self.code = code
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        return self._process.returncode

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL when grace_s has passed. Does nothing to a program that has ended."""
        self._process.terminate()
        try:
            await asyncio.wait_for(self._ended.wait(), self.child.grace_s)
        except TimeoutError:
            logger.warning("%s did not stop within %g s: killed", self.child.name, self.child.grace_s)
            self._process.kill()
            await self._ended.wait()


def runs(pid: int) -> bool:
    """Whether a process with this id exists, of any user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
