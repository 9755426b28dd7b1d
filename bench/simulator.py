"""Discrete events: jobs, processes that run them one by one, and machines whose cores the processes share by time.

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


SLICE_S = 0.004


class Session:
    """Processes that the scheduler treats as one: sessions get equal shares first (Linux: `autogroup`, setsid(2))."""

    def __init__(self) -> None:
        self.ran_s = self.credit_s = 0.0
        """The time that its processes have had, and what it lacked when it went to sleep, as of a process."""
        self.mean_s = 0.0
        """`ran_s` of its processes that have something to do, on average; while there are none, the last one."""
        self.ready: set[Process] = set()
        """Processes of the machine that run, or wait for a core."""

    def look(self) -> None:
        if self.ready:
            self.mean_s = sum(each.ran_s for each in self.ready) / len(self.ready)


class Machine:
    """Cores that processes share as Linux does it: the session that has had the least time runs next, and of its
    processes the one that has; for a slice at most while others wait.

    A process that wakes takes the core of one that has had more time at once, otherwise it waits for a core or for the
    end of a slice. It does not get the time back in which it slept: what it lacked of the others' mean when it went to
    sleep, a slice at most, is what it lacks when it wakes (EEVDF keeps this lag).
    """

    def __init__(self, simulation: Simulation, cores: int, slice_s: float = SLICE_S) -> None:
        self._simulation, self.cores, self._slice_s = simulation, cores, slice_s
        self.session = Session()
        """The session of all processes that have none of their own."""
        self._ready: list[Process] = []
        self._woken: list[Process] = []
        self._running: list[Process] = []
        self._mean_s = 0.0  # `ran_s` of the sessions that have something to do
        self._sessions: set[Session] = set()
        self._held = False  # a job ends, and what it starts is placed afterwards
        self.busy_s = 0.0
        """Core seconds that were used."""

    def wake(self, process: Process) -> None:
        """A process has something to do."""
        session = process.session
        for each in self._running:
            self._count(each)
        self._look()
        process.ran_s = max(process.ran_s, session.mean_s - process.credit_s)
        if not session.ready:
            session.ran_s = max(session.ran_s, self._mean_s - session.credit_s)
        session.ready.add(process)
        self._sessions.add(session)
        self._ready.append(process)
        self._woken.append(process)
        if not self._held:
            self._place()

    def _look(self) -> None:
        for session in self._sessions:
            session.look()
        if self._sessions:
            self._mean_s = sum(each.ran_s for each in self._sessions) / len(self._sessions)

    def _sleep(self, process: Process) -> None:
        """Suspends a process that has nothing to do, with the work that it still lacks."""
        session = process.session
        self._look()
        process.credit_s = min(self._slice_s, max(0.0, session.mean_s - process.ran_s))
        session.ready.discard(process)
        if not session.ready:
            session.credit_s = min(self._slice_s, max(0.0, self._mean_s - session.ran_s))
            self._sessions.discard(session)

    def _place(self) -> None:
        """Fills idle cores; then each process that has just woken may take a core."""
        while self._ready and len(self._running) < self.cores:
            self._run(min(self._ready, key=_had))
        for process in self._woken:
            if not process.running:
                self._take_core(process)
        self._woken.clear()

    def _take_core(self, process: Process) -> None:
        for each in self._running:
            self._count(each)
        last = max(self._running, key=_had)
        if _had(process) <= _had(last):
            self._leave(last)
            self._ready.append(last)
            self._run(process)

    def _run(self, process: Process) -> None:
        self._ready.remove(process)
        process.running, process.slice_s, process.since = True, self._slice_s, self._simulation.now
        self._running.append(process)
        self._go_on(process)

    def _go_on(self, process: Process) -> None:
        process.stay += 1
        stay = process.stay
        self._simulation.after(min(process.left_s, process.slice_s), lambda: self._stopped(process, stay))

    def _leave(self, process: Process) -> None:
        self._running.remove(process)
        process.running = False
        process.stay += 1

    def _count(self, process: Process) -> None:
        """Counts what a process has run until now."""
        ran_s = self._simulation.now - process.since
        process.since = self._simulation.now
        process.ran_s += ran_s
        process.session.ran_s += ran_s
        process.used_s += ran_s
        process.left_s -= ran_s
        process.slice_s -= ran_s
        self.busy_s += ran_s

    def _stopped(self, process: Process, stay: int) -> None:
        if process.stay != stay:
            return  # another has taken its core meanwhile
        self._count(process)
        self._held = True
        process.worked()
        self._held = False
        if not process.at_work:
            self._leave(process)
            self._sleep(process)
        elif process.slice_s > _LEAST_S / 2:
            self._go_on(process)
        else:
            self._leave(process)
            self._ready.append(process)
        self._place()


def _had(process: Process) -> tuple[float, float]:
    return process.session.ran_s, process.ran_s


class Process:
    """One thread of a machine: its jobs run one after another, in the order in which they came.

    session: of its own; None: the machine's.
    """

    def __init__(self, simulation: Simulation, machine: Machine, session: Session | None = None) -> None:
        self._simulation, self._machine, self.session = simulation, machine, session or machine.session
        self._waiting: deque[tuple[float, float, Then]] = deque()
        self._job: tuple[float, float, Then] | None = None
        self.left_s = 0.0
        """Seconds left of the present job; 0 if there is none."""
        self.running = False
        """Whether the process has a core."""
        self.ran_s = self.credit_s = 0.0
        """The time it has had, as the machine counts it, and what it lacked of the mean when it went to sleep."""
        self.used_s = 0.0
        """CPU seconds that it has used."""
        self.since = self.slice_s = 0.0
        """Time since when its time on the core is not counted yet, and what is left of its slice."""
        self.stay = 0
        """Number of this one among its times on a core."""
        self.came = self.done = 0
        self.waited_s = self.stayed_s = 0.0
        """Sums over the jobs that are done: before they began, and in all."""
        self.inside_s = 0.0
        """The number of jobs here, summed over time."""
        self._looked = 0.0

    @property
    def inside(self) -> int:
        return self.came - self.done

    @property
    def at_work(self) -> bool:
        return self._job is not None

    def ask(self, work_s: float, then: Then) -> None:
        """Queues a job of work_s CPU seconds, more than 0, and calls `then` at its end."""
        self._look()
        self.came += 1
        self._waiting.append((self._simulation.now, max(work_s, _LEAST_S), then))
        if self._job is None and not self.running:
            self._begin()
            self._machine.wake(self)

    def worked(self) -> None:
        """The machine has run it for some time: ends the present job if it is done, and begins the next."""
        assert self._job is not None
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

    def _look(self) -> None:
        self.inside_s += self.inside * (self._simulation.now - self._looked)
        self._looked = self._simulation.now


_LEAST_S = 1e-9
