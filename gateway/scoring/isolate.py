"""Runs a scorer in a child process (`isolate: true`), which is killed at the deadline and has a memory limit.

This is the parent's side of the pipe. Subjects are sent as pickles, since the child trusts its parent; results come
back as JSON, since the parent does not trust the child. The child inherits no environment variables, and the parent's
are closed to it (Linux: runtime/confinement.py). A parent that is root starts the child as the user nobody, where that
user can read Python and the packages, and else as root without capabilities. The network is open to it, and so are the
files of its user; root's, if it stays root.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from gateway.core.json_values import as_object, parse_object
from gateway.core.score import Bounds, Direction, Kind, Score, Skipped
from gateway.scoring.options import InvalidOptions
from gateway.scoring.types import Pair, Subject

MEMORY_MB = 512
LOAD_S = 60.0  # to import and build a scorer and run its golden cases
MAX_RESULT_BYTES = 1 << 20
_NOBODY = 65534
KILL_GRACE_S = 1.0  # for a killed child's output to end
HEAD = struct.Struct("!I")
ARGV = (sys.executable, "-P", "-X", "utf8", "-m", "gateway.scoring.isolate_worker")


log = logging.getLogger(__name__)


@cache
def lesser_user() -> Mapping[str, Any]:
    """Arguments of Popen that start a child as another user; {}: as the same one.

    Logs, once, that a child of root reads root's files."""
    found = user_options(os.geteuid(), (sys.executable, *sys.path))
    if os.geteuid() == 0 and not found:
        log.warning(
            "isolated scorers run as root, without its capabilities: the user nobody cannot read Python or the "
            "packages, so they can read all files and write root's; run the consumer as another user"
        )
    return found


def user_options(uid: int, paths: Sequence[str]) -> Mapping[str, Any]:
    """Arguments of Popen for a child. uid: of this process. paths: files and folders that the child has to read."""
    if uid != 0 or not all(_open_to_all(Path(path)) for path in paths if path and os.path.exists(path)):
        return {}
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": ()}


def _open_to_all(path: Path) -> bool:
    """Tells whether every user can read a path: it, and the folders above it and above its link targets."""
    real = path.resolve()
    above = all(folder.stat().st_mode & 0o001 for folder in (*path.absolute().parents, *real.parents))
    needed = 0o005 if real.is_dir() else 0o004
    return above and real.stat().st_mode & needed == needed


class WorkerCrashed(Exception):
    """The child ended during a call, or returned something that is not a result."""


def isolated(name: str, use: str, options: Mapping[str, Any], memory_mb: int | None) -> Any:
    """A proxy of the scorer, after a child has built it and run its golden cases. Raises InvalidOptions."""
    spec = orjson.dumps(
        {"name": name, "use": use, "options": options, "memory_mb": memory_mb or MEMORY_MB, "path": sys.path},
        default=str,
    )
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            ARGV,
            input=HEAD.pack(len(spec)) + spec,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=LOAD_S,
            env={},
            check=False,
            **lesser_user(),
        )
    except subprocess.TimeoutExpired:
        raise InvalidOptions([f": its golden cases took longer than {LOAD_S:g} s"]) from None
    reply = parse_object(done.stdout[HEAD.size :]) or {}
    if "mistakes" in reply:
        raise InvalidOptions([str(m) for m in reply["mistakes"]])
    if "attributes" not in reply:
        raise InvalidOptions([f": its process {_end(done.returncode)} while it was loaded (memory_mb: {memory_mb})"])
    attributes = reply["attributes"]
    if attributes.pop("runs"):
        raise InvalidOptions([".isolate: a scorer of runs runs in the consumer itself; remove it"])
    proxy = IsolatedPair if attributes.pop("pairs") else Isolated
    return proxy(spec, attributes)


class _Isolated:
    """A proxy of the scorer in the child, with the same attributes."""

    waits = True
    heavy = False
    isolated = True

    def __init__(self, spec: bytes, attributes: Mapping[str, Any]) -> None:
        self.name = str(attributes["name"])
        self.version = str(attributes["version"])
        self.kind: Kind = attributes["kind"]
        self.direction: Direction = attributes["direction"]
        low, high = attributes["bounds"]
        self.bounds: Bounds = (low, high)
        self.fingerprint = str(attributes["fingerprint"])
        self._spec = spec
        self._idle: list[_Child] = []

    async def _call(self, of: Subject | Pair) -> Score | Skipped:
        child = self._idle.pop() if self._idle else await _Child.start(self._spec)
        try:
            reply = await child.request(pickle.dumps(of))
        except BaseException:  # cancelled at the deadline, or crashed: either way it cannot be used again
            await child.kill()
            raise
        if reply.pop("last", False):
            await child.kill()
        else:
            self._idle.append(child)
        return _result(reply)

    def golden(self) -> tuple[()]:
        """Returns no cases: the child has run them."""
        return ()

    async def aclose(self) -> None:
        children, self._idle = self._idle, []
        for child in children:
            await child.kill()


class Isolated(_Isolated):
    async def score(self, subject: Subject) -> Score | Skipped:
        return await self._call(subject)


class IsolatedPair(_Isolated):
    async def compare(self, pair: Pair) -> Score | Skipped:
        return await self._call(pair)


class _Child:
    """A process that has built the scorer and handles one call at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, spec: bytes) -> _Child:
        process = await asyncio.create_subprocess_exec(
            *ARGV,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            start_new_session=True,
            **lesser_user(),
        )
        child = cls(process)
        try:
            reply = await child.request(spec)
            if "attributes" not in reply:
                raise WorkerCrashed(f"its process could not load it again: {reply.get('mistakes')}")
        except BaseException:
            await child.kill()
            raise
        return child

    async def request(self, frame: bytes) -> dict[str, Any]:
        """The reply to one frame. Raises WorkerCrashed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - both are pipes
        assert stdout is not None  # noqa: S101
        try:
            stdin.write(HEAD.pack(len(frame)) + frame)
            await stdin.drain()
            (size,) = HEAD.unpack(await stdout.readexactly(HEAD.size))
            if size > MAX_RESULT_BYTES:
                raise WorkerCrashed(f"its process returned {size} bytes, more than {MAX_RESULT_BYTES}")
            return parse_object(await stdout.readexactly(size)) or {}
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._process.wait()
            raise WorkerCrashed(f"its process {_end(code)}") from None

    async def kill(self) -> None:
        """Kills the process and its children."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin:
            self._process.stdin.close()
        # asyncio regards a process as running until its output has ended, which a grandchild outside the process group
        # may never close.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(KILL_GRACE_S):
                while self._process.stdout and await self._process.stdout.read(1 << 16):
                    pass
                await self._process.wait()


def _result(reply: Mapping[str, Any]) -> Score | Skipped:
    """Raises WorkerCrashed for an exception of the scorer, and for a reply that is not a result."""
    if "need" in reply:
        return Skipped(str(reply["need"]))
    if "error" in reply:
        raise WorkerCrashed(str(reply["error"]))
    value, label, explanation = reply.get("value"), reply.get("label"), reply.get("explanation")
    detail = reply.get("detail")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WorkerCrashed(f"its process returned the value {value!r}, expected a number")
    return Score(
        value,
        label if isinstance(label, str) else None,
        explanation if isinstance(explanation, str) else None,
        as_object(detail),
    )


def _end(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
