"""Discrete events: jobs, processes that run them one by one, and machines whose cores the processes share.

It knows nothing of the gateway; fleet_model.py builds one out of these. Times are seconds of the simulated clock.
"""

from __future__ import annotations

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


class Machine:
    """Cores that the jobs of its processes share equally; no job has more than one (processor sharing).

    others: threads of other programs, which never rest and take an equal share each.

    A virtual clock runs as fast as each job is served, so that jobs end in the order of the virtual time at which they
    will have had their work.
    """

    def __init__(self, simulation: Simulation, cores: float, others: float = 0.0) -> None:
        self._simulation, self.cores, self._others = simulation, cores, others
        self._virtual = self._looked = 0.0
        self._running: list[tuple[float, int, Then]] = []
        self._order = count()
        self._version = 0
        self.busy_s = 0.0
        """Core seconds that were used."""

    def run(self, work_s: float, then: Then) -> None:
        """work_s: CPU seconds of one core."""
        self._advance()
        heappush(self._running, (self._virtual + work_s, next(self._order), then))
        self._announce()

    def _speed(self) -> float:
        n = len(self._running)
        return min(1.0, self.cores / (n + self._others)) if n else 0.0

    def _advance(self) -> None:
        passed = self._simulation.now - self._looked
        self._looked = self._simulation.now
        if self._running:
            self._virtual += passed * self._speed()
            self.busy_s += passed * self._speed() * len(self._running)

    def _announce(self) -> None:
        self._version += 1
        if self._running:
            version, left = self._version, max(0.0, self._running[0][0] - self._virtual)
            self._simulation.after(left / self._speed(), lambda: self._ended(version))

    def _ended(self, version: int) -> None:
        if version != self._version:  # another job has come or gone since
            return
        self._advance()
        at, _, then = heappop(self._running)
        self._virtual = max(self._virtual, at)
        self._announce()
        then()


class Process:
    """One thread of a machine: its jobs run one after another, in the order in which they came."""

    def __init__(self, simulation: Simulation, machine: Machine) -> None:
        self._simulation, self._machine = simulation, machine
        self._waiting: deque[tuple[float, float, Then]] = deque()
        self._busy = False
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
        self._look()
        self.came += 1
        self._waiting.append((self._simulation.now, work_s, then))
        if not self._busy:
            self._begin()

    def _look(self) -> None:
        self.inside_s += self.inside * (self._simulation.now - self._looked)
        self._looked = self._simulation.now

    def _begin(self) -> None:
        self._busy = True
        came, work_s, then = self._waiting.popleft()
        began = self._simulation.now
        self.cpu_s += work_s

        def ended() -> None:
            self._look()
            self.done += 1
            self.waited_s += began - came
            self.stayed_s += self._simulation.now - came
            if self._waiting:
                self._begin()
            else:
                self._busy = False
            then()

        self._machine.run(work_s, ended)
