"""A scorer in a process of its own (`isolate: true`): killed at its deadline, held to its memory, started again.

This is our side of the pipe. Subjects go over as pickles, which the child trusts; opinions come back as JSON, because
the child is not trusted. It gets none of our environment, and so none of our secrets.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import struct
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import orjson

from gateway.core.score import Bounds, Direction, Kind, Score, Skipped
from gateway.evals.scoring.options import InvalidOptions
from gateway.evals.scoring.pairs import GoldenPair, Pair
from gateway.evals.scoring.types import Golden, Subject

MEMORY_MB = 512
LOAD_S = 60.0  # to import, build and prove a scorer
MOST_BYTES = 1 << 20  # of one opinion
LAST_WORDS_S = 1.0
HEAD = struct.Struct("!I")
ARGV = (sys.executable, "-P", "-X", "utf8", "-m", "gateway.evals.scoring.isolate_worker")


class WorkerCrashed(Exception):
    """The child ended in the midst of an opinion, or said something that is none."""


def isolated(name: str, use: str, options: Mapping[str, Any], memory_mb: int | None) -> Any:
    """Builds the scorer in a child, runs its golden cases there, and stands for it. Raises Mistaken."""
    spec = orjson.dumps(
        {"name": name, "use": use, "options": options, "memory_mb": memory_mb or MEMORY_MB, "path": sys.path},
        default=str,
    )
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            ARGV, input=HEAD.pack(len(spec)) + spec, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            timeout=LOAD_S, env={}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise InvalidOptions([f": its golden cases took longer than {LOAD_S:g} s"]) from None
    said = _object(done.stdout[HEAD.size :])
    if "mistakes" in said:
        raise InvalidOptions([str(m) for m in said["mistakes"]])
    if "attributes" not in said:
        raise InvalidOptions([f": its process {_end(done.returncode)} while it was loaded (memory_mb: {memory_mb})"])
    attributes = said["attributes"]
    stands = IsolatedPair if attributes.pop("pairs") else Isolated
    return stands(spec, attributes)


class _Isolated:
    """What stands for the scorer here. Its attributes are the child's."""

    waits = True
    heavy = False

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

    async def _opinion(self, of: Subject | Pair) -> Score | Skipped:
        child = self._idle.pop() if self._idle else await _Child.start(self._spec)
        try:
            said = await child.ask(pickle.dumps(of))
        except BaseException:  # cancelled at the deadline, or crashed: either way it is of no more use
            await child.kill()
            raise
        if said.pop("last", False):
            await child.kill()
        else:
            self._idle.append(child)
        return _opinion(said)

    async def aclose(self) -> None:
        children, self._idle = self._idle, []
        for child in children:
            await child.kill()


class Isolated(_Isolated):
    async def score(self, subject: Subject) -> Score | Skipped:
        return await self._opinion(subject)

    def golden(self) -> tuple[Golden, ...]:
        """They were run in the child."""
        return ()


class IsolatedPair(_Isolated):
    async def compare(self, pair: Pair) -> Score | Skipped:
        return await self._opinion(pair)

    def golden(self) -> tuple[GoldenPair, ...]:
        """They were run in the child."""
        return ()


class _Child:
    """One process that has built the scorer, and gives one opinion at a time."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @classmethod
    async def start(cls, spec: bytes) -> _Child:
        process = await asyncio.create_subprocess_exec(
            *ARGV, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env={},
            start_new_session=True,
        )  # fmt: skip
        child = cls(process)
        try:
            said = await child.ask(spec)
            if "attributes" not in said:
                raise WorkerCrashed(f"its process could not load it again: {said.get('mistakes')}")
        except BaseException:
            await child.kill()
            raise
        return child

    async def ask(self, frame: bytes) -> dict[str, Any]:
        """Raises Crashed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None  # noqa: S101 - both are pipes
        assert stdout is not None  # noqa: S101
        try:
            stdin.write(HEAD.pack(len(frame)) + frame)
            await stdin.drain()
            (size,) = HEAD.unpack(await stdout.readexactly(HEAD.size))
            if size > MOST_BYTES:
                raise WorkerCrashed(f"its process says {size} bytes, more than {MOST_BYTES}")
            return _object(await stdout.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            code = await self._process.wait()
            raise WorkerCrashed(f"its process {_end(code)}") from None

    async def kill(self) -> None:
        """With whatever it started."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        if self._process.stdin:
            self._process.stdin.close()
        # asyncio takes a process for running until its output is read to the end, and a grandchild that left the group
        # may keep that open for ever.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_S):
                while self._process.stdout and await self._process.stdout.read(1 << 16):
                    pass
                await self._process.wait()


def _object(data: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _opinion(said: Mapping[str, Any]) -> Score | Skipped:
    """Raises Crashed for what the scorer raised, and for what is no opinion."""
    if "need" in said:
        return Skipped(str(said["need"]))
    if "error" in said:
        raise WorkerCrashed(str(said["error"]))
    value, label, explanation = said.get("value"), said.get("label"), said.get("explanation")
    detail = said.get("detail")
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise WorkerCrashed(f"its process says {value!r} for a value")
    return Score(
        value,
        label if isinstance(label, str) else None,
        explanation if isinstance(explanation, str) else None,
        detail if isinstance(detail, dict) else {},
    )


def _end(code: int) -> str:
    return f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
