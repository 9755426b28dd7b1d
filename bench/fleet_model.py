"""The fleet as the simulator sees it: clients, gateways, the stream server, consumers and the store. Pure.

The costs are measured by fleet.py on one gateway with one worker and one consumer, and written to docs/fleet.json; what
is predicted from them are other sizes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from simulator import SLICE_S, Machine, Process, Session, Simulation, Then

from gateway.consumer.consumer import ConsumerTiming

GATHER_S = 0.010  # a recorder waits so long to fill a batch (proxy/recording/recorder.py)
APPENDED = 256  # entries of one append, at most
FEWEST, MOST = ConsumerTiming().count, ConsumerTiming().most_count
"""Entries of a read: while it finds fewer, and while more wait."""
MOST_WAITING_S = ConsumerTiming().most_waiting_s
"""Seconds until a batch of more than FEWEST is scored, judges included."""
TICK_S = ConsumerTiming().tick_s
OTHERS_S = 0.05
GIL_S = 0.005  # sys.getswitchinterval()


@dataclass(frozen=True, slots=True)
class Cost:
    """CPU seconds: of each exchange, and once for each batch of them."""

    each_s: float = 0.0
    batch_s: float = 0.0

    def of(self, n: int) -> float:
        return self.each_s * n + self.batch_s


def fit(points: Sequence[tuple[int, int, float]]) -> Cost:
    """(exchanges, batches, CPU seconds) → the cost of each, by least squares, none below 0."""
    nn, bb = sum(n * n for n, _, _ in points), sum(b * b for _, b, _ in points)
    nb = sum(n * b for n, b, _ in points)
    ns, bs = sum(n * s for n, _, s in points), sum(b * s for _, b, s in points)
    apart = nn * bb - nb * nb
    each, batch = ((ns * bb - bs * nb) / apart, (bs * nn - ns * nb) / apart) if apart else (ns / nn, 0.0)
    if batch < 0 or not apart:
        return Cost(max(0.0, ns / nn), 0.0)
    return Cost(each, batch) if each >= 0 else Cost(0.0, bs / bb)


@dataclass(frozen=True, slots=True)
class Costs:
    """CPU seconds, of one core of the machine on which they were measured."""

    client_s: float
    """Time of the load generator for a request."""
    upstream_s: float
    request_s: float
    """Time of a gateway for a request that is not recorded."""
    record_s: float
    """CPU seconds in addition for one that is recorded."""
    append: Cost
    """Cost at the stream server."""
    read: Cost
    """Cost at the stream server: read, acknowledge, trim."""
    consumer: Cost
    """Cost at a consumer: decode, score, build and send the rows."""
    store: Cost
    """Cost at the store's server, in the process that serves this consumer's connection."""
    background: Cost
    """Cost in the store's other processes."""
    wait_s: float
    """Seconds that a consumer waits for a batch without any CPU being used: until the disk has it."""
    writing: float = 0.5
    """Share of the consumer's CPU time in which it writes. It alternates with the store's connection `turns` times a
    batch.
    """
    turns: int = 1
    """Number of times in a batch that the consumer and the store's connection alternate."""
    slice_s: float = SLICE_S
    """Seconds, as in Machine."""
    consumer_tick_s: float = 0.0
    """Work of a consumer once a second, between two rounds, and of the stream server and the store for it."""
    stream_tick_s: float = 0.0
    store_tick_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Judge:
    """A scorer that asks a model. concurrency: calls of one consumer at a time."""

    share: float
    seconds: float
    concurrency: int = 8


@dataclass(frozen=True, slots=True)
class Size:
    """The programs that run. rate: of the requests that are recorded. connections: of each gateway's client, which asks
    again as soon as it is answered."""

    gateways: int
    workers: int
    consumers: int
    rate: float
    connections: int = 32
    events: int = 0
    """Events of a streamed answer; 0: it comes at once, and whole."""
    gap_s: float = 0.0
    """Seconds between two events of an answer."""


@dataclass(slots=True)
class Seen:
    """The results of a simulated run, per second."""

    served: float
    scored: float
    waiting: int
    """Entries that were appended and not acknowledged at the end."""
    cpu_s: Mapping[str, float] = field(default_factory=dict)
    """CPU time by part, as fleet.py names them."""


def steady(acknowledged: Sequence[tuple[float, int]]) -> float:
    """Entries a second, from (time, all that were acknowledged until then): between the first time and the last, so
    that a batch of which only a part falls into the window does not count. 0.0 if there is no such time."""
    if len(acknowledged) < 2:
        return 0.0
    (began, first), (ended, last) = acknowledged[0], acknowledged[-1]
    return (last - first) / (ended - began)


class Shard:
    """One stream on one stream server: entries that wait to be read, with the time of their arrival."""

    def __init__(self, server: Process, costs: Costs) -> None:
        self.server, self.costs = server, costs
        self.waiting = self.appended = self.most = 0
        self._arrived: deque[tuple[float, int]] = deque()
        self.sleeping: deque[Consumer] = deque()

    def append(self, simulation: Simulation, n: int) -> None:
        def appended() -> None:
            self.waiting += n
            self.appended += n
            self.most = max(self.most, self.waiting)
            self._arrived.append((simulation.now, n))
            if self.sleeping:
                self.sleeping.popleft().begin()

        self.server.ask(self.costs.append.of(n), appended)

    def take(self, most: int) -> tuple[int, float]:
        """(entries, the arrival of the oldest); (0, 0.0): none waits."""
        taken, oldest = 0, self._arrived[0][0] if self._arrived else 0.0
        while self._arrived and taken < most:
            at, n = self._arrived.popleft()
            part = min(n, most - taken)
            if part < n:
                self._arrived.appendleft((at, n - part))
            taken += part
        self.waiting -= taken
        return taken, oldest


class Surroundings(Protocol):
    """The conditions of a consumer: of a machine that is measured, or of a fleet that is planned."""

    costs: Costs
    simulation: Simulation

    def judged_s(self, n: int) -> float:
        """Seconds that a batch waits for its judges."""
        ...

    def commit(self, n: int, then: Then) -> None:
        """The store's disk."""
        ...

    def behind(self, n: int) -> None:
        """Work of the store's background processes, which delays no caller."""
        ...

    def acknowledged(self, n: int) -> None:
        """Entries are scored, stored and acknowledged."""
        ...


class Consumer:
    """Reads, scores, writes, acknowledges; while more entries wait than it reads, it reads and scores the next ones
    during the write. own: its process. store: that of its connection."""

    def __init__(self, fleet: Surroundings, shard: Shard, own: Process, store: Process) -> None:
        self._fleet, self._shard, self._own, self._store = fleet, shard, own, store
        self.scored = 0
        self.longest_s = 0.0
        self.at_work = 0
        """Entries that are read and not acknowledged."""
        self._slept_s = self._asleep_since = 0.0
        self._asleep = False
        self._writing = False
        self._then: Then | None = None  # what waits for the end of the write
        self._count = FEWEST
        self._each_s = 0.0  # from the read until it is scored, of an entry of the newest batch
        self._tick_at = fleet.simulation.rng.random() * TICK_S
        self.sleep()

    def busy(self) -> float:
        """Seconds in which it had entries at work."""
        now = self._fleet.simulation.now
        return now - self._slept_s - (now - self._asleep_since if self._asleep else 0.0)

    def sleep(self) -> None:
        """Waits until entries come, or the next tick is due."""
        simulation = self._fleet.simulation
        self._asleep, self._asleep_since = True, simulation.now
        self._shard.sleeping.append(self)
        simulation.after(max(0.0, self._tick_at - simulation.now), self._wake)

    def _wake(self) -> None:
        if self in self._shard.sleeping:
            self._shard.sleeping.remove(self)
            self.begin()

    def _tick(self) -> None:
        costs, simulation = self._fleet.costs, self._fleet.simulation
        self._tick_at = simulation.now + TICK_S
        self._shard.server.ask(costs.stream_tick_s, lambda: None)
        self._own.ask(costs.consumer_tick_s, lambda: self._store.ask(costs.store_tick_s, self.begin))

    def begin(self) -> None:
        """A round: it ticks between two of them."""
        costs, now = self._fleet.costs, self._fleet.simulation.now
        if self._asleep:
            self._asleep, self._slept_s = False, self._slept_s + now - self._asleep_since
        if now >= self._tick_at:
            self._tick()
            return
        asked = self._count
        n, oldest = self._shard.take(asked)
        quick = int(MOST_WAITING_S / max(self._each_s, 1e-9))
        self._count = FEWEST if n < asked else max(FEWEST, min(MOST, quick))
        if not n:
            self.sleep()
            return
        self.at_work += n
        left_s = costs.consumer.of(n) * (1 - costs.writing)
        batch = _Batch(n, now, oldest, ahead=n == asked)
        self._shard.server.ask(costs.read.of(n) / 2, lambda: self._score(batch, left_s))

    def _score(self, batch: _Batch, left_s: float) -> None:
        """Scores in pieces: Python's threads take turns, and the one that writes is the other."""
        fleet = self._fleet
        if left_s > GIL_S:
            self._own.ask(GIL_S, lambda: self._score(batch, left_s - GIL_S))
            return

        def scored() -> None:
            fleet.simulation.after(fleet.judged_s(batch.n), lambda: self._scored(batch))

        self._own.ask(left_s, scored)

    def _scored(self, batch: _Batch) -> None:
        self._each_s = (self._fleet.simulation.now - batch.read_at) / batch.n
        self._store_next(batch)

    def _store_next(self, batch: _Batch) -> None:
        if self._writing:
            self._then = lambda: self._store_next(batch)
            return
        self._writing = True
        self._write(batch, self._fleet.costs.turns)
        if batch.ahead:
            self.begin()
        else:
            self._then = self.begin

    def _write(self, batch: _Batch, turns: int) -> None:
        """One turn after the other: the consumer sends, the store answers."""
        costs, fleet = self._fleet.costs, self._fleet
        if turns == 0:
            fleet.behind(batch.n)
            fleet.simulation.after(costs.wait_s, lambda: fleet.commit(batch.n, lambda: self._ack(batch)))
            return

        def sent() -> None:
            self._store.ask(costs.store.of(batch.n) / costs.turns, lambda: self._write(batch, turns - 1))

        self._own.ask(costs.consumer.of(batch.n) * costs.writing / costs.turns, sent)

    def _ack(self, batch: _Batch) -> None:
        self._shard.server.ask(self._fleet.costs.read.of(batch.n) / 2, lambda: self._acked(batch))

    def _acked(self, batch: _Batch) -> None:
        self.scored += batch.n
        self.at_work -= batch.n
        self.longest_s = max(self.longest_s, self._fleet.simulation.now - batch.oldest)
        self._fleet.acknowledged(batch.n)
        self._writing = False
        then, self._then = self._then, None
        if then is not None:
            then()


@dataclass(frozen=True, slots=True)
class _Batch:
    """read_at, oldest: when it was read, and its oldest entry arrived. ahead: the next is read before it is stored."""

    n: int
    read_at: float
    oldest: float
    ahead: bool


class Worker:
    """A gateway's worker: answers requests, gathers records, appends them."""

    def __init__(self, fleet: Fleet, process: Process, shard: Shard) -> None:
        self._fleet, self.process, self._shard = fleet, process, shard
        self.served = 0
        self.gathered = 0
        self._appending = False

    def answered(self) -> None:
        self.served += 1
        if self._fleet.simulation.rng.random() < self._fleet.rate:
            self.gathered += 1
            if not self._appending:
                self._appending = True
                self._fleet.simulation.after(GATHER_S, self._append)

    def _append(self) -> None:
        n, self.gathered = min(self.gathered, APPENDED), max(0, self.gathered - APPENDED)
        self._shard.append(self._fleet.simulation, n)
        self._appending = self.gathered > 0
        if self._appending:
            self._fleet.simulation.after(GATHER_S, self._append)


class Fleet:
    """Everything on one machine, as fleet.py measures it: clients that never rest, and cores that all share.

    A process of PostgreSQL is a session of its own (it calls setsid(2)); all others are in one.
    """

    others: float = 0.0
    """Share of the machine that other programs want, each a session of its own, in [0, 1]; it may change."""

    def __init__(self, costs: Costs, size: Size, cores: int, seed: int = 1) -> None:
        self.costs, self.rate = costs, size.rate
        self.simulation = simulation = Simulation(random.Random(seed))
        self.machine = Machine(simulation, cores, costs.slice_s)
        self._parts: dict[str, list[Process]] = {}
        self.shard = Shard(self._process("stream server"), costs)
        self._background, self._upstream = self._process("store", Session()), self._process("upstream")
        self._clients = [self._process("load generator") for _ in range(size.gateways)]
        self.workers = [
            Worker(self, self._process("gateways"), self.shard) for _ in range(size.gateways * size.workers)
        ]
        self.consumers = [
            Consumer(self, self.shard, self._process("consumers"), self._process("store", Session()))
            for _ in range(size.consumers)
        ]
        self._size, self._closed, self._asked = size, False, 0
        for number in range(cores):
            self._disturb(Process(simulation, self.machine, Session()), number)

    def _process(self, part: str, session: Session | None = None) -> Process:
        process = Process(self.simulation, self.machine, session)
        self._parts.setdefault(part, []).append(process)
        return process

    def _disturb(self, process: Process, number: int) -> None:
        """The part of the other programs that the first cores, or a share of the next, are enough for."""
        wanted = min(1.0, self.others * self.machine.cores - number)
        if wanted > 0 and not process.at_work:
            process.ask(wanted * OTHERS_S, lambda: None)
        self.simulation.after(OTHERS_S, lambda: self._disturb(process, number))

    def judged_s(self, n: int) -> float:
        return 0.0

    def commit(self, n: int, then: Then) -> None:
        """Commits; what the disk takes is in costs.wait_s."""
        then()

    def behind(self, n: int) -> None:
        self._background.ask(self.costs.background.of(n), lambda: None)

    def acknowledged(self, n: int) -> None:
        """Consumers count for themselves."""

    def run(self, seconds: float) -> Seen:
        """The load, from an empty stream, until the last answer has ended, and what was seen in that time."""
        simulation = self.simulation
        began = simulation.now
        for gateway, client in enumerate(self._clients):
            own = self.workers[gateway * self._size.workers :][: self._size.workers]
            for connection in range(self._size.connections):
                self._ask(client, own[connection % len(own)])
        simulation.run(began + seconds)
        self._closed = True
        while self._size.events and self._asked > self.served:
            simulation.run(simulation.now + 0.01)
        took_s = simulation.now - began
        scored = sum(c.scored for c in self.consumers)
        cpu_s = {part: sum(p.used_s for p in processes) for part, processes in self._parts.items()}
        return Seen(self.served / took_s, scored / took_s, self.shard.appended - scored, cpu_s)

    @property
    def served(self) -> int:
        return sum(w.served for w in self.workers)

    def drain(self, seconds: float) -> float:
        """Entries scored a second, after the clients have stopped; at most for so long."""
        before, began, last = sum(c.scored for c in self.consumers), self.simulation.now, self.simulation.now
        while self.simulation.now < began + seconds and self.shard.appended > sum(c.scored for c in self.consumers):
            self.simulation.run(self.simulation.now + 0.05)
            last = self.simulation.now
        return (sum(c.scored for c in self.consumers) - before) / max(last - began, 1e-9)

    def _ask(self, client: Process, worker: Worker) -> None:
        """One request, of which the client's, the gateway's and the upstream's work is done in equal parts: to ask, and
        for each event of the answer; then the next on this connection."""
        if self._closed:
            return
        self._asked += 1
        costs, size = self.costs, self._size
        events = max(size.events, 1)
        client_s, request_s = costs.client_s / (1 + events), costs.request_s / (1 + events)

        def event(left: int) -> None:
            def relayed() -> None:
                client.ask(client_s, ended if left == 1 else lambda: None)

            def sent() -> None:
                worker.process.ask(request_s, relayed)
                if left > 1:
                    self.simulation.after(size.gap_s, lambda: event(left - 1))

            self._upstream.ask(costs.upstream_s / events, sent)

        def ended() -> None:
            worker.process.ask(costs.record_s * self.rate, worker.answered)
            self._ask(client, worker)

        client.ask(client_s, lambda: worker.process.ask(request_s, lambda: event(events)))
