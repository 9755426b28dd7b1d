"""Computes what 10, 100 and 1 000 gateways need, and what saturates first, from measured costs, checked by the
simulator.

    python bench/plan.py                                     the three fleets, with the costs in docs/fleet.json
    python bench/plan.py --gateways 40 --calls 500 --rate 1  one of your own

It is a program of the benchmark and no verb of `gateway`: its answers are as good as the costs, which fleet.py measures
on the machine where you run it.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from fleet_model import GATHER_S, MOST, Consumer, Cost, Costs, Judge, Shard, steady
from simulator import Machine, Process, Simulation, Then

COSTS = Path(__file__).resolve().parents[1] / "docs" / "fleet.json"
BUSY = 0.6  # of what each part can do, so that bursts find room
EVENTS_S = 300  # append events a second that are simulated: one stands for several where there are more
DAY_S = 86_400


@dataclass(frozen=True, slots=True)
class Bytes:
    """Bytes of an exchange, as measured."""

    stream_memory: float
    stream_file: float
    store: float
    wal: float


@dataclass(frozen=True, slots=True)
class Traffic:
    """calls: a second, of each gateway. rate: of them that are recorded. burst: how many times that, for burst_s of
    every minute."""

    gateways: int
    calls: float
    rate: float
    burst: float = 2.0
    burst_s: float = 10.0

    @property
    def recorded(self) -> float:
        """Exchanges a second."""
        return self.gateways * self.calls * self.rate


@dataclass(frozen=True, slots=True)
class Hardware:
    """store_cores, disk_mb_s: of the largest PostgreSQL server there is."""

    store_cores: int = 32
    disk_mb_s: float = 500.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The machines that the traffic needs, each part at BUSY. load: of each part as planned, 1 = saturated."""

    workers: int
    """Workers of each gateway."""
    gateway_cores: float
    shards: int
    consumers: int
    store_cores: int
    load: Mapping[str, float]

    @property
    def first(self) -> str:
        """The part that saturates first when traffic grows."""
        return max(self.load, key=lambda part: self.load[part])


class _Alone:
    """A consumer that never waits for entries, with a core of its own and one for its connection. As Surroundings."""

    def __init__(self, costs: Costs, judges: Sequence[Judge], batches: int) -> None:
        self.costs, self._judges = costs, judges
        self.simulation = simulation = Simulation(random.Random(1))
        self.acknowledged_at: list[tuple[float, int]] = []
        own, store, server = (Process(simulation, Machine(simulation, 1, slice_s=math.inf)) for _ in range(3))
        shard = Shard(server, replace(costs, append=Cost()))
        shard.append(simulation, batches * MOST)
        Consumer(self, shard, own, store)

    def judged_s(self, n: int) -> float:
        return judged_s(self.simulation.rng, self._judges, n)

    def commit(self, n: int, then: Then) -> None:
        then()

    def behind(self, n: int) -> None:
        """Parts on cores of their own."""

    def acknowledged(self, n: int) -> None:
        before = self.acknowledged_at[-1][1] if self.acknowledged_at else 0
        self.acknowledged_at.append((self.simulation.now, before + n))


def capacity(costs: Costs, judges: Sequence[Judge] = (), batches: int = 40) -> float:
    """Exchanges a second of one consumer that never waits for entries or for a core; simulated, since it scores one
    batch while it writes another, and both take its CPU time in turns."""
    alone = _Alone(costs, judges, batches)
    while len(alone.acknowledged_at) < batches - 1:
        alone.simulation.run(alone.simulation.now + 1.0)
    return steady(alone.acknowledged_at[3 : batches - 1])


def judged_s(rng: random.Random, judges: Sequence[Judge], n: int) -> float:
    """Seconds that a batch waits for its judges: calls run concurrently, up to the limit of each judge."""
    longest = 0.0
    for judge in judges:
        asked = sum(rng.random() < judge.share for _ in range(n)) if judge.share < 1 else n
        longest = max(longest, math.ceil(asked / judge.concurrency) * judge.seconds)
    return longest


def appended_s(costs: Costs, traffic: Traffic, workers: int) -> float:
    """CPU seconds of the stream server for one exchange: small batches cost more each."""
    of_worker = traffic.calls * traffic.rate / workers
    batch = 1 + of_worker * GATHER_S
    return costs.append.of(1) if batch <= 1 else costs.append.each_s + costs.append.batch_s / batch


def plan(costs: Costs, size: Bytes, traffic: Traffic, hardware: Hardware, judges: Sequence[Judge] = ()) -> Plan:
    call_s = costs.request_s + costs.record_s * traffic.rate
    workers = max(1, math.ceil(traffic.calls * call_s / BUSY))
    n = traffic.recorded
    stream_s = appended_s(costs, traffic, workers) + costs.read.of(MOST) / MOST
    shards = max(1, math.ceil(n * stream_s / BUSY))
    own = capacity(costs, judges)
    consumers = max(1, math.ceil(n / own / BUSY))
    store = n * (costs.store.of(MOST) + costs.background.of(MOST)) / MOST + consumers * costs.store_tick_s
    cores = max(1, math.ceil(store / BUSY))
    load = {
        "gateways": traffic.calls * call_s / workers,
        "stream server": n * stream_s / shards,
        "consumers": n / own / consumers,
        "store's cores": store / min(cores, hardware.store_cores),
        "store's disk": n * size.wal / 1e6 / hardware.disk_mb_s,
    }
    return Plan(workers, traffic.gateways * traffic.calls * call_s, shards, consumers, cores, load)


@dataclass(slots=True)
class Outcome:
    """The result of a simulated run. behind_s: age of the oldest entry when it was acknowledged. load: as in Plan."""

    scored: float
    appended: float
    most_waiting: int
    behind_s: float
    left: int
    load: dict[str, float] = field(default_factory=dict)


class PlannedFleet:
    """Shards, consumers and a store with cores of their own; the gateways are where entries come from."""

    def __init__(
        self, costs: Costs, size: Bytes, traffic: Traffic, planned: Plan, hardware: Hardware,
        judges: Sequence[Judge] = (), seed: int = 1,
    ) -> None:  # fmt: skip
        self.spread = max(1, round(traffic.recorded / EVENTS_S))
        workers = traffic.gateways * planned.workers
        append_s = appended_s(costs, traffic, planned.workers)
        self.costs = replace(costs, append=Cost(append_s, 0.0))
        self.simulation = simulation = Simulation(random.Random(seed))
        self._judges, self._traffic, self._workers = judges, traffic, workers
        self._store = Machine(simulation, min(planned.store_cores, hardware.store_cores), slice_s=0.02)
        self._background = Process(simulation, self._store)
        self._disk = Process(simulation, Machine(simulation, 1, slice_s=math.inf))
        self._disk_s = size.wal / 1e6 / hardware.disk_mb_s
        self._servers = [Process(simulation, Machine(simulation, 1, slice_s=math.inf)) for _ in range(planned.shards)]
        self.shards = [Shard(server, self.costs) for server in self._servers]
        self.consumers = [
            Consumer(
                self,
                self.shards[i % planned.shards],
                Process(simulation, Machine(simulation, 1, slice_s=math.inf)),
                Process(simulation, self._store),
            )
            for i in range(planned.consumers)
        ]

    def judged_s(self, n: int) -> float:
        return judged_s(self.simulation.rng, self._judges, n)

    def behind(self, n: int) -> None:
        self._background.ask(self.costs.background.of(n), lambda: None)

    def acknowledged(self, n: int) -> None:
        """The consumer of the records counts them."""

    def commit(self, n: int, then: Then) -> None:
        """Commits in order of arrival: there is one log."""
        self._disk.ask(n * self._disk_s, then)

    def run(self, seconds: float) -> Outcome:
        traffic, simulation = self._traffic, self.simulation
        mean = 1 + (traffic.burst - 1) * traffic.burst_s / 60

        def rate() -> float:
            """Entries a second, of one event each `spread`; the mean over a minute is that of the traffic."""
            burst = traffic.burst if simulation.now % 60 < traffic.burst_s else 1.0
            return max(traffic.recorded / self.spread * burst / mean, 1e-9)

        def arrive() -> None:
            self.shards[simulation.rng.randrange(len(self.shards))].append(simulation, self.spread)

        simulation.arrivals(rate, arrive)
        simulation.run(seconds)
        return self._outcome(seconds)

    def _outcome(self, seconds: float) -> Outcome:
        scored = sum(c.scored for c in self.consumers)
        appended = sum(s.appended for s in self.shards)
        busiest = max(s.used_s for s in self._servers) / seconds
        load = {
            "stream server": busiest,
            "consumers": sum(c.busy() for c in self.consumers) / len(self.consumers) / seconds,
            "store's cores": self._store.busy_s / seconds / self._store.cores,
            "store's disk": self._disk.used_s / seconds,
        }
        most = sum(s.most for s in self.shards)
        longest = max((c.longest_s for c in self.consumers), default=0.0)
        return Outcome(scored / seconds, appended / seconds, most, longest, appended - scored, load)


def table(costs: Costs, size: Bytes, fleets: Sequence[Traffic], hardware: Hardware, seconds: float) -> str:
    """A line for each fleet, in Markdown."""
    columns = (
        "gateways", "calls a second", "recorded a second", "gateway cores", "Redis shards", "consumers", "store cores",
        "connections", "store, GB a day", "log, MB a second", "behind in a burst, s", "fails first",
    )  # fmt: skip
    lines = [f"| {' | '.join(columns)} |", "|" + "---:|" * (len(columns) - 1) + "---|"]
    for traffic in fleets:
        planned = plan(costs, size, traffic, hardware)
        seen = PlannedFleet(costs, size, traffic, planned, hardware).run(seconds)
        behind = f"{seen.behind_s:.1f}" if seen.left < traffic.recorded * 10 else "grows"
        day = traffic.recorded * DAY_S * size.store / 1e9
        cells = (
            traffic.gateways, traffic.gateways * traffic.calls, traffic.recorded, planned.gateway_cores, planned.shards,
            planned.consumers, planned.store_cores, 2 * planned.consumers, day, traffic.recorded * size.wal / 1e6,
        )  # fmt: skip
        first = f"{planned.first} ({planned.load[planned.first]:.0%})"
        lines.append(f"| {' | '.join(map(spaced, cells))} | {behind} | {first} |")
    return "\n".join(lines)


def limits(costs: Costs, size: Bytes, hardware: Hardware) -> Mapping[str, float]:
    """Exchanges a second at which one of each saturates."""
    return {
        "a shard of the stream": 1 / (costs.append.each_s + (costs.read.of(MOST)) / MOST),
        "a consumer": capacity(costs),
        f"PostgreSQL on {hardware.store_cores} cores": hardware.store_cores
        / ((costs.store.of(MOST) + costs.background.of(MOST)) / MOST),
        f"a disk of {hardware.disk_mb_s:.0f} MB a second": hardware.disk_mb_s * 1e6 / size.wal,
    }


def spaced(value: float) -> str:
    """1 234 567; 1.2 if the value is below 10 and not a whole number."""
    return f"{value:.1f}" if value < 10 and value != int(value) else f"{value:,.0f}".replace(",", " ")


def read_costs(path: Path) -> tuple[Costs, Bytes]:
    found: dict[str, Any] = json.loads(path.read_text())
    raw = {name: Cost(**value) if isinstance(value, dict) else value for name, value in found["costs"].items()}
    return Costs(**raw), Bytes(**found["bytes"])


def tables(
    costs: Costs, size: Bytes, counts: Sequence[int] = (10, 100, 1000), rates: Sequence[float] = (0.1, 1.0),
    calls: float = 200, hardware: Hardware | None = None, seconds: float = 60,
) -> str:  # fmt: skip
    """Tables in Markdown of what fleets of these sizes need, and of what one of each part carries."""
    hardware = hardware or Hardware()
    parts = []
    for rate in rates:
        fleets = [Traffic(n, calls, rate) for n in counts]
        parts.append(f"Each gateway answers {calls:g} calls a second, {rate:.0%} are recorded:")
        parts.append(table(costs, size, fleets, hardware, seconds))
    lines = ["| one of each carries | exchanges a second |", "|---|---:|"]
    found = dict(limits(costs, size, hardware))
    for judge in (Judge(0.01, 2.0), Judge(0.1, 2.0)):
        what = f"{judge.share:.0%} that takes {judge.seconds:g} s, {judge.concurrency} at a time"
        found[f"a consumer with a judge of {what}"] = capacity(costs, [judge])
    lines += [f"| {name} | {spaced(most)} |" for name, most in found.items()]
    return "\n\n".join([*parts, "\n".join(lines)])


def main() -> None:
    asked = _arguments()
    costs, size = read_costs(asked.costs)
    counts = [asked.gateways] if asked.gateways else [10, 100, 1000]
    rates = [asked.rate] if asked.rate else [0.1, 1.0]
    hardware = Hardware(asked.store_cores, asked.disk_mb_s)
    sys.stdout.write(tables(costs, size, counts, rates, asked.calls, hardware, asked.seconds) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gateways", type=int, metavar="N", help="one fleet of that size (10, 100 and 1 000)")
    parser.add_argument("--calls", type=float, default=200, metavar="N", help="a second, of each gateway (200)")
    parser.add_argument("--rate", type=float, metavar="SHARE", help="of the calls that are recorded (0.1 and 1)")
    parser.add_argument("--store-cores", type=int, default=32, metavar="N", help="the most that PostgreSQL has (32)")
    parser.add_argument("--disk-mb-s", type=float, default=500, metavar="N", help="what its disk writes (500)")
    parser.add_argument("--seconds", type=float, default=60, metavar="N", help="that are simulated (60)")
    parser.add_argument("--costs", type=Path, default=COSTS, metavar="FILE", help="from fleet.py --json")
    return parser.parse_args()


if __name__ == "__main__":
    main()
