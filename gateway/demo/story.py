"""What the demo says: how far the evidence is, the verdict with its saving, and the steps of the ramp."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from gateway.core.errors import CannotRun
from gateway.core.ramp import RampPace
from gateway.demo import planted
from gateway.demo.traffic import Traffic
from gateway.features.experiments.report.build import ExperimentNotFound, read
from gateway.features.ramp.gate import gate_of
from gateway.ramps.commands import read_ramp
from gateway.reports.model import Report
from gateway.reports.number_format import counted, dollars
from gateway.runtime.embedded_socket import stream_url
from gateway.store.engine import StoreUnavailable
from gateway.store.location import default_url
from gateway.store.reader_config import StoreLocation
from gateway.stream import Corridor
from gateway.up.up import LOG
from gateway.verdict.report.presentation import saving_of, sentence_of
from gateway.verdict.sentence import percent

HOURS = "a demo: hours are not covered, since its plan has min_hours: 0; other plans wait for 24 hours of traffic"
STUCK_S = 120.0
"""Seconds without a further call, pair or step, after which the demo gives up."""
_LOOK_S = 1.5
_PROGRESS_S = 5.0
"""Seconds between two lines on what has come in so far."""


@dataclass(slots=True)
class Story:
    """Lines with the seconds since the beginning. stopping: whether the programs are being stopped."""

    say: Callable[[str], None]
    stopping: Callable[[], bool] = lambda: False
    began: float = field(default_factory=time.monotonic)

    def tell(self, text: str) -> None:
        if not self.stopping():
            self.tell_always(text)

    def tell_always(self, text: str) -> None:
        self.say(f"{time.monotonic() - self.began:6.1f} s  {text}")


@dataclass(slots=True)
class Watch:
    """Reads the report again and again, and says how far it is. data: the data directory."""

    data: Path
    traffic: Traffic
    story: Story
    stuck_s: float = STUCK_S

    async def until(self, reached: Callable[[Report], bool]) -> Report:
        """The first report for which it is reached. Raises CannotRun if nothing moves for `stuck_s`."""
        last, moved_at, told_at = (-1, -1), time.monotonic(), time.monotonic()
        while True:
            report = await self._report()
            if report is not None and reached(report):
                return report
            state, now = (self.traffic.answered, 0 if report is None else report.pairs), time.monotonic()
            if state != last:
                last, moved_at = state, now
            elif now - moved_at > self.stuck_s:
                raise CannotRun(self._stuck())
            if now - told_at >= _PROGRESS_S:
                told_at = now
                self.story.tell(await self._standing(report))
            await asyncio.sleep(_LOOK_S)

    def _stuck(self) -> str:
        failed = f" The last failure: {self.traffic.last_failure}." if self.traffic.last_failure else ""
        return (
            f"no call was answered and no pair was scored for {self.stuck_s:g} s, after {self.traffic.answered} calls."
            f"{failed} The log is {self.data / LOG}"
        )

    async def _report(self) -> Report | None:
        """The report; None while there is none."""
        try:
            return await asyncio.to_thread(partial(read, StoreLocation(default_url(self.data)), planted.EXPERIMENT))
        except (ExperimentNotFound, StoreUnavailable):
            return None

    async def _standing(self, report: Report | None) -> str:
        """How far it is: the sentence on the pairs; of a ramp, what its next step waits for."""
        calls = f"{counted(self.traffic.answered, 'call')} of {counted(len(self.traffic.users), 'user')}"
        if report is None:
            return f"{calls}, no pair is scored yet"
        if report.ramp is None or report.ramp.state != "ramp":
            return f"{calls}, {counted(report.pairs, 'pair')}: {sentence_of(report).text}"
        at = f"step {report.ramp.step} of {len(report.ramp.steps)}"
        return (
            f"{calls}: {planted.CANDIDATE} serves {percent(report.ramp.share, 0)} of them, {at}; {await self._waits()}"
        )

    async def _waits(self) -> str:
        """The reason why the ramp takes no step now, or takes one."""
        async with contextlib.aclosing(Corridor(stream_url(None, self.data))) as corridor:
            view = await read_ramp(corridor, planted.EXPERIMENT)
        return gate_of(view, RampPace("auto"), time.time())["reason"]


def tell_verdict(report: Report, story: Story) -> None:
    story.tell(f"verdict after {counted(report.pairs, 'pair')}: {sentence_of(report).text}")
    if (saved := saving_of(report)) is not None:
        kinds = ", ".join(name.rpartition("=")[2] for name in kept_names(report))
        story.tell(
            f"ship{f', except {kinds}' if kinds else ''}: saves {percent(saved.share, 0)} of the cost, "
            f"{dollars(saved.after)} instead of {dollars(saved.before)} for 1 000 calls like these"
        )
    story.tell(HOURS)


def kept_names(report: Report) -> tuple[str, ...]:
    """Names of the segments that stay with the control."""
    kept = report.declared.kept if report.declared is not None else None
    return () if kept is None or report.verdict != "ship_except" else kept.excepted


def searched_enough(report: Report) -> bool:
    """Whether the search for weak spots has seen the pairs that the ramp's later steps wait for, also once those of the
    excepted segments are left out."""
    found = report.declared
    if found is None or found.kept is None or found.weak_spot is None:
        return True
    return found.weak_spot.pairs * found.kept.share > 1.05 * found.weak_spot.needed
