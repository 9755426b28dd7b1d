"""One child process: its start, its output in this process's log, and its end with this process. supervisor.py restarts
it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

logger = logging.getLogger(__name__)
CHILDREN = "gateway.child"  # the parent of the loggers of children's output
MAX_LINE_BYTES = 65_536


def gateway_argv(*arguments: str) -> tuple[str, ...]:
    """The command line of a verb of this installation. -P: the working directory shadows no installed module."""
    return (sys.executable, "-P", "-m", "gateway", *arguments)


async def _ready_at_once() -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Child:
    """A program to run as a child process."""

    name: str  # also in the name of its logger
    argv: tuple[str, ...]
    ready: Callable[[], Awaitable[bool]] = _ready_at_once  # polled until it returns True
    ready_s: float = 30.0  # how long to poll
    hung_s: float | None = None  # time without being ready after which it is killed; None: never
    grace_s: float = 10.0  # between SIGTERM and SIGKILL
    environ: Mapping[str, str] | None = None  # the complete environment; None if inherited
    pass_fds: tuple[int, ...] = ()  # file descriptors that it inherits
    replaced_when_killed: bool = (
        False  # also before it is ready: somebody, or the kernel, ended it, and no mistake of its
    )
    own_output: bool = False  # it writes where this process does, and not into this process's log


class Leash:
    """Ends our children when this process ends, even by SIGKILL, after which no handler can run.

    A shell of about 1 MB leads the process group that every child joins, and reads from a pipe whose other end only
    this process holds. The kernel closes that end when this process ends, and the shell then ends the whole group,
    grandchildren included. (PR_SET_PDEATHSIG exists only on Linux, must run between fork and exec, and does not reach
    grandchildren.) With a process group of their own, children do not receive the terminal's Ctrl-C, so they can be
    stopped in order.
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
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS returns EPERM for a group of zombies
            os.killpg(self.group, signal.SIGKILL)
        self._shell.wait()
        if self._shell.stdin:
            self._shell.stdin.close()


class LineSeverity:
    """The log level of each line that a program writes: by its first level word; a traceback is an error to its end."""

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
    """A running child. Its output goes to the log line by line.

    Threads read and wait instead of asyncio's subprocesses: uvloop does not support process_group, and the log is
    written outside the loop.
    """

    def __init__(self, child: Child, group: int) -> None:
        self.child = child
        self.code: int | None = None  # the exit code; None while it runs
        self.tail: deque[str] = deque(maxlen=12)  # the last lines of its output
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._process = subprocess.Popen(  # noqa: S603 - argv comes from our own code
            child.argv,
            stdin=subprocess.DEVNULL,
            stdout=None if child.own_output else subprocess.PIPE,
            stderr=None if child.own_output else subprocess.STDOUT,
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
        if self._process.stdout is None:
            return
        with self._process.stdout as output:
            while raw := output.readline(MAX_LINE_BYTES):
                line = raw.decode("utf-8", "replace").rstrip()
                self.tail.append(line)
                log.log(severity.of(line), "%s", line)

    def _wait(self) -> None:
        code = self._process.wait()
        self._reader.join(0.5)  # reads the last lines; a grandchild may hold the pipe open for longer
        with contextlib.suppress(RuntimeError):  # the loop is closed, so nothing waits
            self._loop.call_soon_threadsafe(self._end, code)

    def _end(self, code: int) -> None:
        self.code = code
        self._ended.set()

    async def wait(self) -> int:
        await self._ended.wait()
        return self._process.returncode

    def kill(self) -> None:
        self._process.kill()

    def terminate(self) -> None:
        """Sends SIGTERM. Does nothing if the program has ended."""
        self._process.terminate()

    async def stop(self) -> None:
        """Sends SIGTERM, and SIGKILL after grace_s. Does nothing if the program has ended."""
        self.terminate()
        try:
            await asyncio.wait_for(self._ended.wait(), self.child.grace_s)
        except TimeoutError:
            logger.warning("%s did not stop within %g s and was killed", self.child.name, self.child.grace_s)
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
