"""The fleet as the simulator sees it: clients, gateways, the stream server, consumers and the store. Pure.

The costs are measured by fleet.py on one gateway with one worker and one consumer, and written to docs/fleet.json; what
is predicted from them are other sizes.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from simulator import SLICE_S, Machine, Process, Simulation, Then

GATHER_S = 0.010  # a recorder waits so long to fill a batch (proxy/recording/recorder.py)
BATCH = 256  # entries of one append, and of one read (evals/consumer.py)


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
    """Of the load generator, for a request."""
    upstream_s: float
    request_s: float
    """Of a gateway, for a request that is not recorded."""
    record_s: float
    """What it takes besides for one that is."""
    append: Cost
    """Of the stream server."""
    read: Cost
    """Of the stream server: read, acknowledged, trimmed."""
    consumer: Cost
    """Of a consumer: decode, score, build and send the rows."""
    store: Cost
    """Of the store's server, in the process that serves this consumer's connection."""
    background: Cost
    """Of the store's other processes."""
    wait_s: float
    """What a consumer waits for a batch without any CPU being used: for the disk."""
    writing: float = 0.5
    """The share of the consumer's time that it takes to write: it alternates with the store's connection,"""
    turns: int = 1
    """so many times a batch, and whoever wakes waits for a core again."""
    slice_s: float = SLICE_S
    """As in Machine."""
    consumer_tick_s: float = 0.0
    """What a consumer does once a second, with work or without; likewise the stream server and the store for it."""
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
    """What runs. rate: of the requests that are recorded. connections: of each gateway's client, which asks
    again as soon as it is answered."""

    gateways: int
    workers: int
    consumers: int
    rate: float
    connections: int = 32
    answer_s: float = 0.0
    """How long the upstream takes, without any CPU of this machine."""


@dataclass(slots=True)
class Seen:
    """What a run of so many seconds shows, by the second."""

    served: float
    scored: float
    waiting: int
    """Entries that were appended and not acknowledged at the end."""


class Shard:
    """One stream on one stream server: entries that wait to be read, with the time of their arrival."""

    def __init__(self, server: Process, costs: Costs) -> None:
        self.server, self._costs = server, costs
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

        self.server.ask(self._costs.append.of(n), appended)

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
    """What a consumer finds: of a machine that is measured, or of a fleet that is planned."""

    costs: Costs
    simulation: Simulation

    def judged_s(self, n: int) -> float:
        """How long a batch waits for its judges."""
        ...

    def commit(self, n: int, then: Then) -> None:
        """The store's disk."""
        ...

    def behind(self, n: int) -> None:
        """The store's other processes work, and nobody waits for them."""
        ...


class Consumer:
    """Reads, scores, writes, acknowledges; then again. own: its process. store: that of its connection."""

    def __init__(self, fleet: Surroundings, shard: Shard, own: Process, store: Process) -> None:
        self._fleet, self._shard, self._own, self._store = fleet, shard, own, store
        self.scored = 0
        self.longest_s = 0.0
        self.busy_s = 0.0
        """Time in rounds: from a read to its acknowledgement."""
        self.at_work = 0
        """Entries of the present round."""
        self._began = 0.0
        shard.sleeping.append(self)
        fleet.simulation.after(fleet.simulation.rng.random(), self._tick)

    def _tick(self) -> None:
        costs, fleet = self._fleet.costs, self._fleet
        self._own.ask(costs.consumer_tick_s, lambda: self._store.ask(costs.store_tick_s, lambda: None))
        self._shard.server.ask(costs.stream_tick_s, lambda: None)
        fleet.simulation.after(1.0, self._tick)

    def begin(self) -> None:
        costs = self._fleet.costs
        n, oldest = self._shard.take(BATCH)
        if not n:
            self._shard.sleeping.append(self)
            return
        self._began, self.at_work = self._fleet.simulation.now, n
        read = costs.read.of(n)
        # Reading, then scoring with what judges take, then writing, then acknowledging.
        self._shard.server.ask(read / 2, lambda: self._score(n, oldest))

    def _score(self, n: int, oldest: float) -> None:
        fleet = self._fleet

        def scored() -> None:
            fleet.simulation.after(fleet.judged_s(n), lambda: self._write(n, oldest, fleet.costs.turns))

        self._own.ask(fleet.costs.consumer.of(n) * (1 - fleet.costs.writing), scored)

    def _write(self, n: int, oldest: float, turns: int) -> None:
        """One turn after the other: the consumer sends, the store answers."""
        costs, fleet = self._fleet.costs, self._fleet
        if turns == 0:
            fleet.behind(n)
            fleet.simulation.after(costs.wait_s, lambda: fleet.commit(n, lambda: self._ack(n, oldest)))
            return

        def sent() -> None:
            self._store.ask(costs.store.of(n) / costs.turns, lambda: self._write(n, oldest, turns - 1))

        self._own.ask(costs.consumer.of(n) * costs.writing / costs.turns, sent)

    def _ack(self, n: int, oldest: float) -> None:
        self._shard.server.ask(self._fleet.costs.read.of(n) / 2, lambda: self._acked(n, oldest))

    def _acked(self, n: int, oldest: float) -> None:
        self.scored += n
        self.at_work = 0
        self.busy_s += self._fleet.simulation.now - self._began
        self.longest_s = max(self.longest_s, self._fleet.simulation.now - oldest)
        self.begin()


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
        n, self.gathered = min(self.gathered, BATCH), max(0, self.gathered - BATCH)
        self._shard.append(self._fleet.simulation, n)
        self._appending = self.gathered > 0
        if self._appending:
            self._fleet.simulation.after(GATHER_S, self._append)


class Fleet:
    """Everything on one machine, as fleet.py measures it: clients that never rest, and cores that all share.

    others: as in Machine.
    """

    def __init__(self, costs: Costs, size: Size, cores: int, others: int = 0, seed: int = 1) -> None:
        self.costs, self.rate = costs, size.rate
        self.simulation = simulation = Simulation(random.Random(seed))
        self.machine = Machine(simulation, cores, others, costs.slice_s)
        self.shard = Shard(self.process(), costs)
        self._background, self._upstream = self.process(), self.process()
        self._clients = [self.process() for _ in range(size.gateways)]
        self.workers = [Worker(self, self.process(), self.shard) for _ in range(size.gateways * size.workers)]
        self.consumers = [Consumer(self, self.shard, self.process(), self.process()) for _ in range(size.consumers)]
        self._size, self._closed = size, False

    def process(self) -> Process:
        return Process(self.simulation, self.machine)

    def judged_s(self, n: int) -> float:
        return 0.0

    def commit(self, n: int, then: Then) -> None:
        """What the disk takes is in costs.wait_s."""
        then()

    def behind(self, n: int) -> None:
        self._background.ask(self.costs.background.of(n), lambda: None)

    def run(self, seconds: float) -> Seen:
        """The load, from an empty stream, and what was seen in that time."""
        for gateway, client in enumerate(self._clients):
            own = self.workers[gateway * self._size.workers :][: self._size.workers]
            for connection in range(self._size.connections):
                self._ask(client, own[connection % len(own)])
        self.simulation.run(self.simulation.now + seconds)
        self._closed = True
        scored = sum(c.scored for c in self.consumers)
        return Seen(self.served / seconds, scored / seconds, self.shard.appended - scored)

    @property
    def served(self) -> int:
        return sum(w.served for w in self.workers)

    def drain(self, seconds: float) -> float:
        """Entries scored a second, after the clients have stopped; at most for so long."""
        before, began, last = sum(c.scored for c in self.consumers), self.simulation.now, self.simulation.now
        while self.simulation.now < began + seconds and (self.shard.waiting or not self.shard.appended):
            self.simulation.run(self.simulation.now + 0.05)
            last = self.simulation.now
        return (sum(c.scored for c in self.consumers) - before) / max(last - began, 1e-9)

    def _ask(self, client: Process, worker: Worker) -> None:
        """One request: the client, the gateway, the upstream, the gateway; then the next on this connection."""
        costs = self.costs
        if self._closed:
            return

        def answered() -> None:
            worker.answered()
            self._ask(client, worker)

        def back() -> None:
            worker.process.ask(costs.request_s / 2 + costs.record_s * self.rate, answered)

        def asked() -> None:
            self._upstream.ask(costs.upstream_s, lambda: self.simulation.after(self._size.answer_s, back))

        client.ask(costs.client_s, lambda: worker.process.ask(costs.request_s / 2, asked))
