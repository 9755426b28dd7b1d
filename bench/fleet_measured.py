"""The measurements of fleet.py, as rounds of sizes, and the file that keeps them. Measures nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import systems
from fleet_model import Size

PARTS = ("gateways", "consumers", "stream server", "store", "upstream", "load generator")
_STREAM = (systems.TOKENS + 1, systems.GAP_S)  # with the end; what comes without a gap is not counted
PILE = "calibration: 100 %, consumer stopped during the load"
SMALL, OPEN = "calibration: 10 %", "calibration: 100 %, 16 streams"
CALIBRATION: Mapping[str, Size] = {
    PILE: Size(1, 2, 1, 1.0),
    SMALL: Size(1, 2, 1, 0.1),
    OPEN: Size(1, 1, 1, 1.0, 16, *_STREAM),
}
"""One gateway and one consumer; two workers, so that cores change between processes as they do in a fleet. The costs
come from these, and none of them is compared."""
SIZES: Mapping[str, Size] = {
    "1 × 1, 1 consumer, 100 %": Size(1, 1, 1, 1.0),
    "1 × 1, 1 consumer, 10 %": Size(1, 1, 1, 0.1),
    "2 × 2, 1 consumer, 100 %": Size(2, 2, 1, 1.0),
    "2 × 2, 2 consumers, 100 %": Size(2, 2, 2, 1.0),
    "2 × 2, 2 consumers, 10 %": Size(2, 2, 2, 0.1),
    "1 × 1, 1 consumer, 100 %, 32 streams": Size(1, 1, 1, 1.0, 32, *_STREAM),
    "2 × 2, 2 consumers, 100 %, 64 streams": Size(2, 2, 2, 1.0, 32, *_STREAM),
}
"""Gateways × workers of each; the share of the requests that is recorded."""


@dataclass(slots=True)
class Window:
    """Resources that were used in a stretch of time. cpu_s: by part. entries: of the stream. batches: appends, and
    acknowledgements."""

    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    backends_s: float = 0.0
    """The part of the store's CPU time that the processes used which serve a connection."""
    appended: int = 0
    scored: int = 0
    appends: int = 0
    acks: int = 0
    switches: int = 0
    """Number of times that a process which serves a connection began to wait, for the consumer or for the disk."""
    wal_bytes: int = 0
    store_bytes: int = 0


@dataclass(slots=True)
class Measured:
    """One size, once. waiting: entries not acknowledged when the load ended."""

    load: Window
    drain: Window
    idle: Window
    served: int
    waiting: int
    entry_bytes: float
    """Bytes of the stream server's memory for an entry."""
    file_bytes: float
    """Bytes of its append-only file for an entry."""
    phases: dict[str, float]
    """Shares of the consumers' CPU time, in [0, 1]."""
    others: tuple[float, float]
    """Shares of the machine that other programs took during the load and during the drain, in [0, 1]."""

    @property
    def yardstick_s(self) -> float:
        """CPU time of the load generator and the upstream for a request, during the load.

        Their work for one is the same in every size, so this says how fast the cores were just then: where other
        machines share them, that changes by half within minutes, and no counter of this machine shows it.
        """
        return (self.load.cpu_s["load generator"] + self.load.cpu_s["upstream"]) / self.served


Rounds = dict[str, list[Measured]]
"""Rounds by size."""


def at_speed(window: Window, factor: float) -> Window:
    """The same with a multiple of the CPU time."""
    cpu_s = {part: factor * value for part, value in window.cpu_s.items()}
    return replace(window, cpu_s=cpu_s, backends_s=factor * window.backends_s)


def difference(now: Window, before: Window) -> Window:
    return _combined(now, before, -1)


def together(windows: Iterable[Window]) -> Window:
    """Several stretches of time as one."""
    first, *rest = windows
    for each in rest:
        first = _combined(first, each, 1)
    return first


def _combined(one: Window, two: Window, sign: int) -> Window:
    cpu_s = {part: one.cpu_s[part] + sign * two.cpu_s[part] for part in one.cpu_s}
    rest = {n: getattr(one, n) + sign * getattr(two, n) for n in Window.__dataclass_fields__ if n != "cpu_s"}
    return Window(cpu_s=cpu_s, **rest)


LOAD, DRAIN = 0, 1


def quiet(rounds: Sequence[Measured], most: float, *, during: int = LOAD) -> list[Measured]:
    """The rounds during whose load or drain other programs took at most this share of the machine; the quietest one
    where there is none."""
    found = [each for each in rounds if each.others[during] <= most]
    return found or [min(rounds, key=lambda each: each.others[during])]


def read(file: Path) -> tuple[Rounds, dict[str, float]]:
    """Reads what an earlier run measured: the rounds, and by name what it found of the machine itself."""
    found: Rounds = {}
    kept = json.loads(file.read_text())
    for name, rounds in kept["measured"].items():
        for each in rounds:
            windows = {w: Window(**each[w]) for w in ("load", "drain", "idle")}
            rest = {key: value for key, value in each.items() if key in Measured.__dataclass_fields__}
            found.setdefault(name, []).append(Measured(**{**rest, **windows, "others": tuple(each["others"])}))
    return found, kept["place"]


def as_json(rounds: Rounds) -> dict[str, list[dict[str, object]]]:
    return {name: [asdict(each) for each in measured] for name, measured in rounds.items()}
