"""Discrete events: jobs, processes that run them one by one, and machines whose cores the processes share by time.

It knows nothing of the gateway; fleet_model.py builds one out of these. Times are seconds of the simulated clock.
"""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count

Then = Callable[[], None]


@dataclass(slots=True)
class Simulation:
    """The clock, and what is to happen. rng: the only source of chance, so that a seed gives one run."""

    rng: random.Random
    now: float = 0.0
    _due: list[tuple[float, int, Then]] = field(default_factory=list)
    _order: count[int] = field(default_factory=count)

    def after(self, delay_s: float, then: Then) -> None:
        heappush(self._due, (self.now + delay_s, next(self._order), then))

    def run(self, until_s: float) -> None:
        """Events of the same moment happen in the order in which they were announced."""
        while self._due and self._due[0][0] <= until_s:
            self.now, _, then = heappop(self._due)
            then()
        self.now = until_s

    def arrivals(self, rate: Callable[[], float], then: Then) -> None:
        """A Poisson process. rate: arrivals a second at that moment; it is asked at each arrival."""

        def next_one() -> None:
            then()
            self.after(self.rng.expovariate(rate()), next_one)

        self.after(self.rng.expovariate(rate()), next_one)


SLICE_S = 0.002


class Machine:
    """Cores that processes share: as Linux does it, whoever has had least time runs next, for a slice of time at most.

    A process that wakes waits until a core is free or somebody's slice is over; it is then not taken to have had less
    than one slice less than those who ran. others: threads of other programs, which never rest.
    """

    def __init__(self, simulation: Simulation, cores: int, others: int = 0, slice_s: float = SLICE_S) -> None:
        self._simulation, self.cores, self._slice_s = simulation, cores, slice_s
        self._idle = cores
        self._ready: list[tuple[float, int, Process]] = []
        self._order = count()
        self._least_s = 0.0
        self.busy_s = 0.0
        """Core seconds that were used, but for those of other programs."""
        self.others_s = 0.0
        for _ in range(others):
            Process(simulation, self, foreign=True).ask(math.inf, lambda: None)

    def wake(self, process: Process) -> None:
        """A process has something to do."""
        process.ran_s = max(process.ran_s, self._least_s - self._slice_s)
        self._queue(process)
        self._dispatch()

    def _queue(self, process: Process) -> None:
        heappush(self._ready, (process.ran_s, next(self._order), process))

    def _dispatch(self) -> None:
        while self._idle and self._ready:
            self._idle -= 1
            ran_s, _, process = heappop(self._ready)
            self._least_s = max(self._least_s, ran_s)
            process.running = True
            self._go(process, self._slice_s)

    def _go(self, process: Process, left_s: float) -> None:
        work_s = min(process.left_s, left_s)
        self._simulation.after(work_s, lambda: self._stopped(process, work_s, left_s - work_s))

    def _stopped(self, process: Process, work_s: float, left_s: float) -> None:
        if process.foreign:
            self.others_s += work_s
        else:
            self.busy_s += work_s
        process.ran_s += work_s
        process.worked(work_s)
        if process.left_s > 0 and left_s > 0:
            self._go(process, left_s)
            return
        process.running = False
        self._idle += 1
        if process.left_s > 0:
            self._queue(process)
        self._dispatch()


class Process:
    """One thread of a machine: its jobs run one after another, in the order in which they came."""

    def __init__(self, simulation: Simulation, machine: Machine, *, foreign: bool = False) -> None:
        self._simulation, self._machine, self.foreign = simulation, machine, foreign
        self._waiting: deque[tuple[float, float, Then]] = deque()
        self._job: tuple[float, float, Then] | None = None
        self.left_s = 0.0
        """Of the present job; 0: there is none."""
        self.running = False
        """It has a core."""
        self.ran_s = 0.0
        """The time it has had, as the machine counts it."""
        self.came = self.done = 0
        self.cpu_s = 0.0
        """CPU seconds of the jobs that have begun."""
        self.waited_s = self.stayed_s = 0.0
        """Sums over the jobs that are done: before they began, and in all."""
        self.inside_s = 0.0
        """The number of jobs here, summed over time."""
        self._looked = 0.0

    @property
    def inside(self) -> int:
        return self.came - self.done

    def ask(self, work_s: float, then: Then) -> None:
        """A job of so many CPU seconds, more than 0."""
        self._look()
        self.came += 1
        self._waiting.append((self._simulation.now, max(work_s, _LEAST_S), then))
        if self._job is None and not self.running:
            self._begin()
            self._machine.wake(self)

    def worked(self, work_s: float) -> None:
        """The machine ran the present job for so long."""
        assert self._job is not None
        self.left_s -= work_s
        if self.left_s > _LEAST_S / 2:
            return
        came, began, then = self._job
        self._look()
        self.done += 1
        self.waited_s += began - came
        self.stayed_s += self._simulation.now - came
        self._job, self.left_s = None, 0.0
        then()
        if self._waiting:
            self._begin()

    def _begin(self) -> None:
        came, work_s, then = self._waiting.popleft()
        self._job, self.left_s = (came, self._simulation.now, then), work_s
        self.cpu_s += work_s

    def _look(self) -> None:
        self.inside_s += self.inside * (self._simulation.now - self._looked)
        self._looked = self._simulation.now


_LEAST_S = 1e-9
