"""Derives costs from what fleet.py has measured, the simulator's predictions from them, and tables. Measures
nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from statistics import fmean, median
from typing import Any

import fleet_model
import plan
import run_bench
from fleet_measured import (
    CALIBRATION,
    DRAIN,
    LOAD,
    OPEN,
    PARTS,
    PILE,
    SIZES,
    SMALL,
    Measured,
    Rounds,
    Window,
    at_speed,
    quiet,
    together,
)
from fleet_model import Cost, Costs, Fleet, Size, fit

WITHIN = 0.20
QUIET = run_bench.QUIET


def costs_of(rounds: Rounds, place: Mapping[str, float]) -> Costs:
    """Derives costs from one gateway and one consumer. What is recorded piles up while the consumer is stopped; then it
    has the machine for itself and reads the largest batches; the smaller rate gives it small ones. place: slice_s,
    wait_s."""
    usual_s = usual(rounds)
    pile, small = (level(quiet(rounds[name], QUIET), usual_s) for name in (PILE, SMALL))
    load = together(m.load for m in pile)
    drain = together(m.drain for m in level(quiet(rounds[PILE], QUIET, during=DRAIN), usual_s))
    few = together([w for m in small for w in (m.load, m.drain)])
    idle = together(m.idle for m in (*pile, *small))
    ticks = {part: idle.cpu_s[part] / idle.seconds for part in ("consumers", "stream server", "store")}
    request_s, record_s = _requests(pile, small)
    served = sum(m.served for m in (*pile, *small))

    def without_ticks(window: Window, part: str) -> float:
        return window.cpu_s[part] - ticks[part] * window.seconds

    read = fit([(drain.scored, drain.acks, without_ticks(drain, "stream server"))])
    appending = [(w.appended, w.appends, without_ticks(w, "stream server") - read.of(w.scored)) for w in (load, few)]
    both = (drain, few)
    return Costs(
        client_s=sum(m.load.cpu_s["load generator"] for m in (*pile, *small)) / served,
        upstream_s=sum(m.load.cpu_s["upstream"] for m in (*pile, *small)) / served,
        request_s=request_s, record_s=record_s, append=fit(appending), read=read,
        consumer=fit([(w.scored, w.acks, without_ticks(w, "consumers")) for w in both]),
        store=fit([(w.scored, w.acks, w.backends_s - ticks["store"] * w.seconds) for w in both]),
        background=fit([(w.scored, w.acks, w.cpu_s["store"] - w.backends_s) for w in both]),
        writing=fmean(m.phases.get("write", 0.5) for m in pile),
        turns=max(1, round(drain.switches / max(drain.acks, 1))), **place,
        consumer_tick_s=ticks["consumers"], stream_tick_s=ticks["stream server"], store_tick_s=ticks["store"],
    )  # fmt: skip


def usual(rounds: Rounds) -> float:
    """The yardstick of the machine as it mostly was when the costs were measured."""
    return median(m.yardstick_s for name in (PILE, SMALL) for m in rounds[name])


def level(rounds: Sequence[Measured], usual_s: float) -> list[Measured]:
    """Scales the measurements to the machine's usual speed."""
    found = []
    for m in rounds:
        windows = {name: at_speed(getattr(m, name), usual_s / m.yardstick_s) for name in ("load", "drain", "idle")}
        found.append(replace(m, **windows))
    return found


def at_yardstick(costs: Costs, factor: float) -> Costs:
    """Scales everything that takes CPU time to a yardstick that takes this many times its usual time."""
    found: dict[str, Any] = {}
    for name, value in asdict(costs).items():
        if isinstance(value, dict):
            found[name] = Cost(factor * value["each_s"], factor * value["batch_s"])
        elif name.endswith("_s") and name not in ("wait_s", "slice_s"):
            found[name] = factor * value
    return replace(costs, **found)


def drain_factor(costs: Costs, drain: Window) -> float:
    """The yardstick of a drain, when there is no load: what consumers and their connections to the store take for an
    exchange."""
    if drain.scored <= 2 * fleet_model.MOST:
        return 1.0
    expected_s = sum(each.each_s * drain.scored + each.batch_s * drain.acks for each in (costs.consumer, costs.store))
    ticks_s = (costs.consumer_tick_s + costs.store_tick_s) * drain.seconds
    return (drain.cpu_s["consumers"] + drain.backends_s - ticks_s) / expected_s


def concurrent(costs: Costs, m: Measured) -> tuple[float, float]:
    """Shares of the machine, in [0, 1], during the load and during the drain: other programs, and autovacuum, which
    comes once a minute and looks at the databases of all sizes."""
    found = []
    for window, others in zip((m.load, m.drain), m.others, strict=True):
        expected_s = costs.background.each_s * window.scored + costs.background.batch_s * window.acks
        vacuum_s = max(0.0, window.cpu_s["store"] - window.backends_s - expected_s)
        found.append(others + vacuum_s / max(window.seconds, 1e-9) / run_bench.this_machine()["cores"])
    return found[LOAD], found[DRAIN]


def _requests(pile: Sequence[Measured], small: Sequence[Measured]) -> tuple[float, float]:
    """CPU seconds of a gateway: for a request, and in addition for one that is recorded."""
    whole, part = (sum(m.load.cpu_s["gateways"] for m in of) / sum(m.served for m in of) for of in (pile, small))
    record_s = max(0.0, (whole - part) / (CALIBRATION[PILE].rate - CALIBRATION[SMALL].rate))
    return whole - record_s, record_s


def of_streams(costs: Costs, rounds: Rounds) -> Costs:
    """The same with the requests of one gateway's streams."""
    found = quiet(rounds[OPEN], QUIET)
    load, served = together(m.load for m in found), sum(m.served for m in found)
    return replace(
        costs, request_s=load.cpu_s["gateways"] / served - costs.record_s,
        client_s=load.cpu_s["load generator"] / served, upstream_s=load.cpu_s["upstream"] / served,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """One quantity of one size, round by round."""

    size: str
    what: str
    measured: Sequence[float]
    simulated: Sequence[float]
    others: float
    """The most that other programs took of the machine in these rounds, in [0, 1]."""

    @property
    def deviations(self) -> list[float]:
        """Deviations of the simulated values from the measured ones, of each round; lowest first."""
        return sorted(s / m - 1 for s, m in zip(self.simulated, self.measured, strict=True))

    @property
    def deviation(self) -> float:
        return median(self.deviations)

    @property
    def noisy(self) -> bool:
        """Whether the rounds disagree by more than what is asked of the prediction."""
        return self.deviations[-1] - self.deviations[0] > WITHIN


@dataclass(frozen=True, slots=True)
class Simulated:
    """A size as the simulator has it: by the second, and CPU cores by part."""

    served: float
    scored: float
    drained: float
    waiting: float
    cores: Mapping[str, float]


def simulated(
    size: Size, costs: Costs, afterwards: Costs, others: tuple[float, float], seconds: float, seed: int
) -> Simulated:
    """seconds: of load, at these costs. afterwards: the costs of the drain. others: as in Measured."""
    fleet = Fleet(costs, size, run_bench.this_machine()["cores"], seed)
    fleet.others = others[LOAD]
    seen = fleet.run(seconds)
    used = {part: seen.cpu_s[part] / fleet.simulation.now for part in PARTS}
    fleet.costs = fleet.shard.costs = afterwards
    fleet.others = others[DRAIN]
    return Simulated(seen.served, seen.scored, fleet.drain(5.0), seen.waiting, used)


Pairs = Sequence[tuple[Measured, Simulated]]
"""The rounds of a size, and each as the simulator has it at the speed that the machine had then."""


def compared(name: str, pairs: Pairs) -> list[Compared]:
    """A backlog, and what is scored of it afterwards, only where it is several batches: of fewer, it counts whether one
    is just being written."""

    def of(
        what: str, value: Callable[[Measured], float], predicted: Callable[[Simulated], float], during: int = LOAD
    ) -> Compared:
        kept = quiet([m for m, _ in pairs], QUIET, during=during)
        both = [(value(m), predicted(s)) for m, s in pairs if any(m is each for each in kept)]
        others = max(m.others[during] for m in kept)
        return Compared(name, what, [m for m, _ in both], [s for _, s in both], others)

    answered = of("requests answered a second", lambda m: m.served / m.load.seconds, lambda s: s.served)
    if median(m.waiting for m, _ in pairs) <= 2 * fleet_model.MOST:
        return [answered, of("scored a second", lambda m: m.load.scored / m.load.seconds, lambda s: s.scored)]
    return [
        answered,
        of("scored a second meanwhile", lambda m: m.load.scored / m.load.seconds, lambda s: s.scored),
        of("scored a second afterwards", lambda m: m.drain.scored / m.drain.seconds, lambda s: s.drained, DRAIN),
        of("left to score", lambda m: m.waiting, lambda s: s.waiting),
    ]


@dataclass(frozen=True, slots=True)
class Report:
    text: str
    costs: Costs
    of_streams: Costs
    size: plan.Bytes
    rows: Sequence[Compared]
    seconds: int

    def as_json(self) -> dict[str, Any]:
        rows = [asdict(row) | {"deviation": row.deviation} for row in self.rows]
        return {
            "seconds": self.seconds, "costs": asdict(self.costs),
            "costs_of_streams": asdict(self.of_streams), "bytes": asdict(self.size), "compared": rows,
        }  # fmt: skip


def report(found: Rounds, place: Mapping[str, float], seconds: int) -> Report:
    usual_s = usual(found)
    costs = costs_of(found, place)
    streams = of_streams(costs, found)
    pairs = dict[str, Pairs]()
    for name, size in SIZES.items():
        pairs[name] = [
            (m, simulated(size, streams, streams, concurrent(streams, m), seconds, seed) if size.events else
             simulated(size, at_yardstick(costs, m.yardstick_s / usual_s),
                       at_yardstick(costs, drain_factor(costs, m.drain)), concurrent(costs, m), m.load.seconds, seed))
            for seed, m in enumerate(found[name])
        ]  # fmt: skip
    rows = [row for name, each in pairs.items() for row in compared(name, each)]
    size = sized(found[PILE])
    parts = [_caption(found, seconds), _prediction(rows), _shares(pairs), _costs(found, costs, size)]
    return Report("\n\n".join(parts), costs, streams, size, rows, seconds)


def _prediction(rows: Sequence[Compared]) -> str:
    columns = ("measured", "simulated", "deviation", f"within {WITHIN:.0%}")
    lines = [f"| gateways × workers | | {' | '.join(columns)} |", "|---|---|" + "---:|" * (len(columns) - 1) + "---|"]
    for row in rows:
        low, *_, high = row.deviations if len(row.deviations) > 1 else row.deviations * 2
        deviation = f"{row.deviation:+.0%} ({low:+.0%} … {high:+.0%})"
        verdict = ("yes" if abs(row.deviation) <= WITHIN else "**no**") + (", rounds disagree" if row.noisy else "")
        if row.others > QUIET:
            verdict = f"other programs took {row.others:.0%}"
        cells = (_range(row.measured), _range(row.simulated), deviation, verdict)
        lines.append(f"| {row.size} | {row.what} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _range(values: Sequence[float]) -> str:
    return f"{plan.spaced(median(values))} ({plan.spaced(min(values))} … {plan.spaced(max(values))})"


def _shares(pairs: Mapping[str, Pairs]) -> str:
    """CPU cores by part during the load."""
    head = "cores during the load, measured / simulated"
    lines = [f"| {head} | {' | '.join(PARTS)} | others |", "|---|" + "---:|" * (len(PARTS) + 1)]
    for name, each in pairs.items():
        rounds = quiet([m for m, _ in each], QUIET)
        load = together(m.load for m in rounds)
        cells = (
            f"{load.cpu_s[part] / load.seconds:.2f} / {fmean(s.cores[part] for _, s in each):.2f}" for part in PARTS
        )
        lines.append(f"| {name} | {' | '.join(cells)} | {max(m.others[0] for m in rounds):.0%} |")
    return "\n".join(lines)


def _costs(rounds: Rounds, costs: Costs, size: plan.Bytes) -> str:
    phases = ", ".join(f"{name} {share:.0%}" for name, share in rounds[PILE][0].phases.items())
    us = {
        "gateway: a request / more if it is recorded": (costs.request_s, costs.record_s),
        "stream server: an exchange appended / an append": (costs.append.each_s, costs.append.batch_s),
        "stream server: an exchange read, acknowledged, trimmed / a batch": (costs.read.each_s, costs.read.batch_s),
        "consumer: an exchange / a batch": (costs.consumer.each_s, costs.consumer.batch_s),
        "store, the consumer's connection: an exchange / a batch": (costs.store.each_s, costs.store.batch_s),
        "store, other processes: an exchange / a batch": (costs.background.each_s, costs.background.batch_s),
    }
    lines = ["| CPU, µs | each | per batch or in addition |", "|---|---:|---:|"]
    lines += [f"| {name} | {a * 1e6:.0f} | {b * 1e6:.0f} |" for name, (a, b) in us.items()]
    memory, file, store, log = (plan.spaced(n) for n in asdict(size).values())
    text = (
        f"An exchange takes {memory} bytes of the stream server's memory, {file} of its append-only file, {store} of "
        f"PostgreSQL's tables and indexes, and {log} of its write-ahead log. A consumer's CPU time: {phases}. A batch "
        f"makes the consumer's connection wait {costs.turns} times, and the consumer also waits for "
        f"{costs.wait_s * 1e3:.1f} ms. A process gives its core to one that waits after {costs.slice_s * 1e3:.1f} ms."
    )
    return "\n".join([*lines, "", text])


def sized(rounds: Sequence[Measured]) -> plan.Bytes:
    stored = together([w for m in rounds for w in (m.load, m.drain)])
    n = max(stored.scored, 1)
    memory, file = (fmean(getattr(m, name) for m in rounds) for name in ("entry_bytes", "file_bytes"))
    return plan.Bytes(memory, file, stored.store_bytes / n, stored.wal_bytes / n)


def _today() -> str:
    return f"{datetime.now(UTC):%Y-%m-%d}"


def _caption(found: Rounds, seconds: int) -> str:
    at = run_bench.this_machine()
    rounds = {name: quiet(measured, QUIET) for name, measured in found.items()}
    busiest = max(each.others[LOAD] for measured in rounds.values() for each in measured)
    few = min(map(len, rounds.values()))
    left_out = sum(map(len, found.values())) - sum(map(len, rounds.values()))
    speeds = [m.yardstick_s for name in found if not {**CALIBRATION, **SIZES}[name].events for m in found[name]]
    busy = "" if busiest <= QUIET and few >= 3 else " **A preliminary run: only bytes can be quoted.**"
    return (
        f"{_today()}; {at['cpu']}, {at['cores']} cores, {at['memory_gb']} GB, {seconds} s of load for each size, {few} "
        f"rounds or more. {left_out} are left out because other programs took more than {QUIET:.0%} of the "
        f"machine. The yardstick took {min(speeds) * 1e6:.0f} to {max(speeds) * 1e6:.0f} µs a request.{busy}"
    )
