"""The process of guards: scorers that judge while a client waits run there, never in the gateway's own event loop.

This is the gateway's side of the pipe; `python -m gateway.features.guards.process` is the other. One process serves all
guards of a worker. It starts when a config with such guards is put in force, and again whenever it ends. A subject is
one frame of JSON, and so is each reply, in any order. The first frame is a pickle of the scorers to build: the child
trusts its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import pickle
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from gateway.config.environment import guard_environment
from gateway.core.backoff import Backoff
from gateway.core.guards import GuardFailure
from gateway.core.json_values import parse_object
from gateway.proxy.guards.guard import GuardFailed
from gateway.runtime.frames import HEAD, MOST_BYTES, frame, json_frame
from gateway.runtime.tasks import Tasks

log = logging.getLogger("gateway")

_OPTIONS = ("-P", "-X", "utf8", "-m", "gateway.features.guards.process")
_MOST_WAITING_BYTES = 32 << 20  # in the pipe, before a subject is refused
_HUNG_S = 20.0  # without any reply, while a subject has none
_SLOWER_START = 6  # times as long for a process that imports its scorers
_LOOK_S = 1.0
_ALIVE = json_frame({"alive": True})  # answered at once, however long a scorer takes
_GRACE_S = 2.0
_RESTART = Backoff(first_s=0.2, most_s=10.0)
_STEADY_S = 30.0  # a process that ran for so long has not failed at its start


class GuardProcess:
    """Starts the process, and asks it. A GuardScorers."""

    def __init__(
        self,
        spec: Mapping[str, Any],
        tasks: Tasks,
        clock: Callable[[], float] = time.monotonic,
        hung_s: float = _HUNG_S,
        argv: tuple[str, ...] | None = None,
    ) -> None:
        """spec: what gateway/features/guards/process.py builds. hung_s: seconds without a reply after which a process
        that owes one is killed. argv: the process's command line; None: that of this installation."""
        self.spec = pickle.dumps(dict(spec))
        self._tasks = tasks
        self._clock = clock
        self._hung_s = hung_s
        self._argv = argv or (sys.executable, *_OPTIONS)
        self._process: asyncio.subprocess.Process | None = None
        self._waiting: dict[int, asyncio.Future[float]] = {}
        self._number = 0
        self._owed: set[int] = set()  # subjects without a reply, also those that nobody waits for any more
        self._owed_since: float | None = None  # time of the first of them, or of the last reply after it
        self._closed = False
        self.trouble = "it is starting"
        """Reason why it does not answer; "" if it does."""
        self._running: asyncio.Task[None] | None = tasks.start(self._run(), "guards")

    def serves(self, spec: Mapping[str, Any]) -> bool:
        """Whether it has built just this."""
        return not self._closed and self.spec == pickle.dumps(dict(spec))

    async def ask(self, guard: str, subject: Mapping[str, Any]) -> float:
        process = self._process
        if process is None or process.stdin is None:
            raise GuardFailed("crashed", f"the process of guards does not run: {self.trouble}")
        sent = json_frame({"id": (number := self._next()), "guard": guard, **subject})
        if process.stdin.transport.get_write_buffer_size() > _MOST_WAITING_BYTES:
            raise GuardFailed("busy", "the process of guards does not read")
        self._owed.add(number)
        if self._owed_since is None:
            self._owed_since = self._clock()
        found = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            process.stdin.write(sent)
            score: float = await found
            return score
        finally:
            self._waiting.pop(number, None)

    def _next(self) -> int:
        self._number += 1
        return self._number

    async def _run(self) -> None:
        failures = 0
        try:
            while not self._closed:
                began = self._clock()
                try:
                    await self._serve()
                except OSError as error:
                    self.trouble = f"it cannot be started: {error}"
                failures = 1 if self._clock() - began > _STEADY_S else failures + 1
                if not self._closed:
                    log.warning("the process of guards ended (%s); another one starts", self.trouble)
                    await asyncio.sleep(_RESTART.wait_s(failures))
        finally:
            await self._end()

    async def _serve(self) -> None:
        """Runs one process until it ends."""
        process = await asyncio.create_subprocess_exec(
            *self._argv,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env=guard_environment(),
            limit=1 << 20,
        )
        self._process = process
        self._owed, self._owed_since = set(), None
        if process.stdin is not None:
            process.stdin.write(frame(self.spec))
        watching = self._tasks.start(self._watch(process), "hanging guards")
        try:
            self.trouble = "it is starting"
            if process.stdout is not None:
                await self._read(process.stdout)
        finally:
            watching.cancel()
            self._process = None
            await _ended(process)
            self.trouble = self.trouble or f"exit code {process.returncode}"
            self._fail_waiting(GuardFailed("crashed", "the process of guards ended"))

    async def _read(self, replies: asyncio.StreamReader) -> None:
        while True:
            try:
                size = HEAD.unpack(await replies.readexactly(HEAD.size))[0]
                if size > MOST_BYTES:
                    return
                reply = parse_object(await replies.readexactly(size)) or {}
            except (asyncio.IncompleteReadError, ConnectionError):
                return
            self._owed.discard(reply.get("id", 0))
            self._owed_since = self._clock() if self._owed else None
            if reply.get("ready"):
                self.trouble = ""
            elif "mistakes" in reply:
                self.trouble = "; ".join(map(str, reply["mistakes"]))[:500]
            elif "id" in reply:
                self._answer(reply)

    def _answer(self, reply: Mapping[str, Any]) -> None:
        waiting = self._waiting.get(reply.get("id", 0))
        if waiting is None or waiting.done():
            return  # its deadline has passed
        value = reply.get("score")
        if isinstance(value, int | float):
            waiting.set_result(float(value))
        else:
            reason: GuardFailure = "invalid" if reply.get("invalid") else "timeout" if reply.get("late") else "error"
            waiting.set_exception(GuardFailed(reason, str(reply.get("error", "it gave no score"))[:300]))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        """Kills a process that answers nothing. Callers need not wait for it: they leave at their deadline, and an open
        breaker lets few ask."""
        while True:
            await asyncio.sleep(_LOOK_S)
            if self._owed_since is None:
                continue
            most_s = self._hung_s * (_SLOWER_START if self.trouble else 1)
            if self._clock() - self._owed_since > most_s:
                self.trouble = f"it gave no reply for {most_s:g} s and was killed"
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                return
            if process.stdin is not None:
                process.stdin.write(_ALIVE)

    def _fail_waiting(self, failed: GuardFailed) -> None:
        waiting, self._waiting = self._waiting, {}
        for each in waiting.values():
            if not each.done():
                each.set_exception(failed)

    async def _end(self) -> None:
        process = self._process
        if process is not None:
            await _ended(process)

    async def aclose(self) -> None:
        """Ends the process."""
        self._closed = True
        running, self._running = self._running, None
        if running is not None:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)


async def _ended(process: asyncio.subprocess.Process) -> None:
    """Ends a process: its input ends, and it is killed if it does not end by itself."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        async with asyncio.timeout(_GRACE_S):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()
