"""Says beside the stream that this process lives, and what it carries: for `gateway status`. Off every call's path."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections.abc import Callable
from typing import Any, Protocol

from gateway import __version__
from gateway.core.errors import StreamDown
from gateway.proxy.recording.recorder import Recorder

EVERY_S = 2.0
_LEAVE_S = 0.5
_FORGOTTEN_S = 86_400.0  # what a killed process said last
_COUNTED = ("seen", "sampled", "enqueued", "dropped")


class HeartbeatStore(Protocol):
    """The stream server, as far as it is told who lives."""

    async def gateway_lives(self, incarnation: str, says: dict[str, Any]) -> None: ...
    async def gateway_leaves(self, incarnation: str) -> None: ...
    async def gateways(self) -> dict[str, dict[str, Any]]: ...


class Heartbeat:
    """One process's word. clock: Unix time in seconds."""

    def __init__(self, shared: HeartbeatStore, recorder: Recorder, clock: Callable[[], float] = time.time) -> None:
        self._shared = shared
        self._recorder = recorder
        self._clock = clock
        self._started = clock()
        self._before = self._started, self._counts()
        self._left = False

    async def run(self) -> None:
        """For ever. A stream server that is away is told later; the recorder says that it is."""
        with contextlib.suppress(StreamDown):
            await self._forget_the_old()
        while not self._left:
            with contextlib.suppress(StreamDown):
                await self.tell()
            await asyncio.sleep(EVERY_S)

    async def leave(self) -> None:
        """Nothing is told any more. A server that does not answer holds up the stop for no longer than _LEAVE_S."""
        self._left = True
        with contextlib.suppress(StreamDown, TimeoutError):
            async with asyncio.timeout(_LEAVE_S):
                await self._shared.gateway_leaves(self._recorder.incarnation)

    async def tell(self) -> None:
        """rates: a second, since this was told before. waiting: records in the buffer."""
        now, counts = self._clock(), self._counts()
        since, before = self._before
        elapsed = now - since
        rates = {name: (n - before[name]) / elapsed if elapsed > 0 else 0.0 for name, n in counts.items()}
        self._before = now, counts
        says = {
            "at": now, "started": self._started, "host": socket.gethostname(), "pid": os.getpid(),
            "version": __version__, "counts": counts, "rates": rates, "waiting": self._recorder.waiting,
        }  # fmt: skip
        await self._shared.gateway_lives(self._recorder.incarnation, says)

    def _counts(self) -> dict[str, int]:
        ledger = self._recorder.ledger
        return {name: getattr(ledger, name).total() for name in _COUNTED}

    async def _forget_the_old(self) -> None:
        for incarnation, says in (await self._shared.gateways()).items():
            if self._clock() - float(says.get("at", 0.0)) > _FORGOTTEN_S:
                await self._shared.gateway_leaves(incarnation)
