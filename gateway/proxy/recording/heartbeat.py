"""The heartbeat of a gateway process in the stream server, with its counts, for `gateway status`. Off the hot path."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from gateway import __version__
from gateway.core.errors import StreamDown
from gateway.proxy.recording.recorder import Recorder
from gateway.stream.shared_state import SharedState

EVERY_S = 2.0
_EXPIRED_S = 600.0  # age at which the heartbeat of a killed process is removed
_CLEAN_EVERY_S = 60.0
_SILENT_S = 30.0  # consumers' heartbeats come every few seconds
_RECENT_S = 60.0
_COUNTED = ("seen", "sampled", "enqueued", "dropped")


class Heartbeat:
    def __init__(
        self,
        shared: SharedState,
        recorder: Recorder,
        clock: Callable[[], float] = time.time,
        report: Callable[[], dict[str, Any]] = dict,
        every_s: float = EVERY_S,
        leave_s: float = 0.5,
        pace: Callable[[], float] = time.monotonic,
    ) -> None:
        """clock: Unix seconds. leave_s: how long leave() may wait for the server. pace: monotonic seconds, of rates.
        report: further facts of this process, which each beat carries; its `ended` and `failed` are cumulative counts
        of calls."""
        self._every_s = every_s
        self._leave_s = leave_s
        self._shared = shared
        self._recorder = recorder
        self._clock = clock
        self._pace = pace
        self._report = report
        self._started = clock()
        self._before = pace(), self._counts()
        self._left = False
        self._cleaned: float | None = None
        self.consumers_gone = ""
        """The consumers that were killed, if none runs any more; "" if one runs, or all were stopped."""
        self._ended: deque[tuple[float, int, int]] = deque()  # (monotonic seconds, calls, failed calls), cumulative

    async def run(self) -> None:
        """Runs until leave(). While the stream server is unreachable beats are missed; the recorder logs that."""
        while not self._left:
            with contextlib.suppress(StreamDown):
                await self.beat()
                await self._look_at_consumers()
                await self._remove_expired()
            await asyncio.sleep(self._every_s)

    async def leave(self) -> None:
        """Ends the heartbeat and removes it. A server that does not answer delays the stop by at most `leave_s`."""
        self._left = True
        with contextlib.suppress(StreamDown, TimeoutError):
            async with asyncio.timeout(self._leave_s):
                await self._shared.forget_gateway(self._recorder.incarnation)

    async def beat(self) -> None:
        """Sends the counts, their rates per second since the previous beat, and the records that wait."""
        now, counts, pace = self._clock(), self._counts(), self._pace()
        since, before = self._before
        elapsed = pace - since
        rates = {name: (n - before[name]) / elapsed if elapsed > 0 else 0.0 for name, n in counts.items()}
        self._before = pace, counts
        report = self._report()
        state = {
            **report,
            "calls": self._recent(pace, report),
            "at": now,
            "started": self._started,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "version": __version__,
            "counts": counts,
            "rates": rates,
            "waiting": self._recorder.waiting,
        }
        await self._shared.set_gateway_heartbeat(self._recorder.incarnation, state)

    def _counts(self) -> dict[str, int]:
        ledger = self._recorder.ledger
        return {name: getattr(ledger, name).total() for name in _COUNTED}

    def _recent(self, now: float, report: dict[str, Any]) -> dict[str, float]:
        """The calls of about the last minute: the number that ended, the number of failures, and the seconds."""
        kept, ended, failed = self._ended, int(report.get("ended", 0)), int(report.get("failed", 0))
        kept.append((now, ended, failed))
        while len(kept) > 1 and now - kept[1][0] >= _RECENT_S:
            kept.popleft()
        since, ended_before, failed_before = kept[0]
        return {"ended": ended - ended_before, "failed": failed - failed_before, "seconds": now - since}

    async def _look_at_consumers(self) -> None:
        """Notes whether all consumers were killed: then nobody sends notices, and this process says it."""
        beats, now = await self._shared.consumers(), self._clock()
        silent = sorted(name for name, at in beats.items() if now - at > _SILENT_S)
        gone = ", ".join(silent[:3]) if len(silent) == len(beats) else ""
        self.consumers_gone = f"without a heartbeat: {gone}" if gone else ""

    async def _remove_expired(self) -> None:
        """Removes the heartbeats of killed processes. Every process does it, since any of them may be killed."""
        now = self._pace()
        if self._cleaned is not None and now - self._cleaned < _CLEAN_EVERY_S:
            return
        self._cleaned = now
        for incarnation, state in (await self._shared.gateways()).items():
            if self._clock() - float(state.get("at", 0.0)) > _EXPIRED_S:
                await self._shared.forget_gateway(incarnation)
