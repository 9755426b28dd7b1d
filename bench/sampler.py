"""Runs `gateway …` and says in which phase its CPU time went: a look at the stack every 5 ms of CPU time.

    python bench/sampler.py phases.json evaluate --config gateway.yaml

At SIGUSR1 the file gets the looks by phase since the start, or since SIGUSR2. A thread that waits in a system call is
not at work: where the main thread waits, the look counts for the other one.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import FrameType

EVERY_S = 0.005
_WAITS = ("selectors.py", "asyncio/base_events.py", "threading.py", "asyncio/runners.py")
# The innermost frame of the package decides; the first part of its path that is listed here.
CONSUMER: Mapping[str, Sequence[str]] = {
    "write": ("store/",),
    "read": ("stream/", "core/exchange", "core/completion"),
    "score": ("evals/scor", "consumer/entry_scoring", "core/"),
    "each second": ("consumer/gauges", "features/experiments", "observability/"),
}
_EACH_SECOND = frozenset({"_tick", "closing", "retaining", "_heartbeat"})  # functions of the consumer and the store


def phase_of(frame: FrameType | None, phases: Mapping[str, Sequence[str]], name: str) -> str | None:
    """The phase that the stack belongs to; None if it waits. name: of the thread."""
    if frame is None or frame.f_code.co_filename.endswith(_WAITS):
        return None
    names, at = set(), frame
    while at is not None:
        names.add(at.f_code.co_name)
        at = at.f_back
    if names & _EACH_SECOND:
        return "each second"
    if name.startswith("store"):
        return "write"
    while frame is not None:
        path = frame.f_code.co_filename.rpartition("/gateway/")[2]
        for phase, parts in phases.items():
            if path != frame.f_code.co_filename and path.startswith(tuple(parts)):
                return phase
        frame = frame.f_back
    return "other"


class Sampler:
    """Counts phases by CPU time of this process, while it is started."""

    def __init__(self, phases: Mapping[str, Sequence[str]] = CONSUMER, every_s: float = EVERY_S) -> None:
        self.counts: Counter[str] = Counter()
        self._phases, self._every_s = phases, every_s

    def start(self) -> None:
        signal.signal(signal.SIGPROF, self._look)
        signal.siginterrupt(signal.SIGPROF, False)
        signal.setitimer(signal.ITIMER_PROF, self._every_s, self._every_s)

    def _look(self, _: int, frame: FrameType | None) -> None:
        own = threading.main_thread().ident
        stacks = sys._current_frames()
        found = phase_of(frame, self._phases, "")
        for thread in threading.enumerate() if found is None else ():
            if thread.ident not in (own, None):
                found = found or phase_of(stacks.get(thread.ident), self._phases, thread.name)
        self.counts[found or "other"] += 1


def main() -> None:
    file, words = Path(sys.argv[1]), sys.argv[2:]
    sampler = Sampler()

    def show(*_: object) -> None:
        file.write_text(json.dumps(sampler.counts))

    sampler.start()
    signal.signal(signal.SIGUSR1, show)
    signal.signal(signal.SIGUSR2, lambda *_: sampler.counts.clear())
    from gateway.__main__ import main as gateway

    sys.argv = ["gateway", *words]
    gateway()


if __name__ == "__main__":
    main()
