"""Measures the CPU time and memory of process trees, and what other programs took meanwhile. Reads /proc; starts
nothing."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Process:
    parent: int
    cpu_s: float


def processes() -> dict[int, Process]:
    """All processes. cpu_s: user and system time of all its threads, and of children that have ended."""
    found: dict[int, Process] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it has just ended
                continue
            found[int(entry.name)] = Process(int(fields[1]), sum(map(int, fields[11:15])) / _TICKS)
    return found


def tree(pid: int) -> dict[int, Process]:
    """A process and all that descend from it."""
    everyone = processes()
    ours: dict[int, Process] = {}
    waiting = [pid]
    while waiting:
        parent = waiting.pop()
        if parent in everyone:
            ours[parent] = everyone[parent]
            waiting += [p for p, process in everyone.items() if process.parent == parent]
    return ours


def rss_mb(pid: int) -> float:
    """Resident memory of a process tree; pages that its processes share are counted in each."""
    pages = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in tree(pid))
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def peak_mb(pid: int) -> float:
    """The most resident memory that each process of a tree has had, summed."""
    lines = [line for p in tree(pid) for line in Path(f"/proc/{p}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) * 1024 / 1e6


@dataclass(frozen=True, slots=True)
class Cost:
    """cpu_s: of the whole tree. busiest_s: of the process that took most."""

    cpu_s: float
    busiest_s: float


class Meter:
    """Measures what a process tree spends from its creation on."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = tree(pid)

    def read(self) -> Cost:
        """Waits until nothing is being done any more: what was recorded is still being written. 2 s at most."""
        deadline = time.monotonic() + 2
        spent = self._spent()
        while time.monotonic() < deadline:
            time.sleep(0.1)
            last, spent = spent, self._spent()
            if sum(spent) - sum(last) <= 1 / _TICKS:
                break
        return Cost(sum(spent), max(spent))

    def _spent(self) -> list[float]:
        nothing = Process(0, 0.0)
        return [now.cpu_s - self._before.get(p, nothing).cpu_s for p, now in tree(self._pid).items()] or [0.0]


class Others:
    """Measures what other programs take of the machine's cores from its creation on. They move the numbers: whether a
    system shares a core with its upstream makes a request cost several times more or less, and for some more than for
    others.
    """

    def __init__(self) -> None:
        self._before = self._now()

    def share(self) -> float:
        """The share, in [0, 1]."""
        seconds, theirs = (now - before for now, before in zip(self._now(), self._before, strict=True))
        return min(1.0, max(0.0, theirs / (seconds * (os.cpu_count() or 1))))

    @staticmethod
    def _now() -> tuple[float, float]:
        user, nice, system, _idle, _iowait, irq, softirq, steal = (
            int(field) / _TICKS for field in Path("/proc/stat").read_text().split(maxsplit=9)[1:9]
        )
        ours = sum(process.cpu_s for process in tree(os.getpid()).values())
        return time.monotonic(), user + nice + system + irq + softirq + steal - ours
