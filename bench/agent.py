"""Measurements at the sizes of coding agents' requests: cost, other callers' delay, memory, the record, throughput.

The gateway has everything on: 1 000 keys, limits of the key, its team and its organization, 10 % sampling and an
experiment. nginx passes a request on as it arrives.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from statistics import median, quantiles

import agent_bodies
import scored
import systems
from agent_bodies import SHARES, SIZES
from cost import Meter, peak_mb, rss_mb
from load import Clients, NoneEnded, Requests, Wrk, WrkMix
from rows import Asked, Bench, Row, asker, each_value, paired_values
from stage import Running, Stage, System

MIX = "mix"
REDACTING = "redacting"
IN_FLIGHT = 8
SMALL_CLIENTS, SMALL_REST_S = 4, (0.002, 0.010)
MIX_CLIENTS, MIX_REST_MS = 2, 20
"""Clients of the mix while small requests are timed. They pause: a gateway without CPU time left delays everything."""
BOUNDS_MS = (1, 5, 10, 50)
CONNECTIONS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
FAST, LARGE_S = ("103 KB", "570 KB"), 4
SETTLED_S, RECOVERY_S = 1.0, 5.0
_EVERY_S = 0.05
CAP_BYTES = 1 << 20
"""Bytes that are recorded of a request; the rest is cut."""


def _systems(bench: Bench) -> list[System]:
    return [systems.gateway(limits=True), systems.nginx(unbuffered=True), *bench.peers]


def _mix(stage: Stage, *, stream: bool = False, rest_ms: int = 0) -> WrkMix:
    bodies = tuple(agent_bodies.body(size, stream=stream) for size in SIZES)
    order = [n for n, size in enumerate(SIZES) for _ in range(SHARES[size])]
    random.Random(1).shuffle(order)
    return WrkMix(stage.directory, systems.KEY, bodies[0], bodies, tuple(order), rest_ms)


def agent_plain(bench: Bench, stage: Stage) -> list[Row]:
    return _costs(bench, stage, stream=False)


def agent_stream(bench: Bench, stage: Stage) -> list[Row]:
    return _costs(bench, stage, stream=True)


def _costs(bench: Bench, stage: Stage, *, stream: bool) -> list[Row]:
    """Each size alone and the mix; in the same rounds the gateway with redaction, which has rows of its own."""
    kind, what = ("stream", "stream of 100 events") if stream else ("plain", "plain answer")
    upstream = stage.start(systems.agent_upstream(stream=stream))
    wanted = [*_systems(bench), systems.gateway(REDACTING, limits=True, redaction=True)]
    running = bench.start(stage, wanted, upstream, partial(systems.request, stream=stream))
    rows = []
    for size in (*SIZES, MIX):
        bench.say(f"  {size}")
        mix = _mix(stage, stream=stream)
        wrk = mix if size == MIX else Wrk(stage.directory, systems.KEY, agent_bodies.body(size, stream=stream))
        found = each_value(bench.turns(running, _patient(wrk, IN_FLIGHT, size)), lambda asked: asked.cpu_us)
        redacted = found.pop(REDACTING, [])
        label = f"{'the mix' if size == MIX else f'request of {size}'}, {what}"
        key = f"agent_{kind}_{size.partition(' ')[0]}"
        rows.append(Row(key, label, "µs CPU", found))
        others = {name: values for name, values in found.items() if name == "nginx"}
        rows.append(Row(f"{key}_redacted", f"{label}, redaction on", "µs CPU", {"gateway": redacted, **others}))
    return rows


def _patient(wrk: Wrk, connections: int, size: str) -> Callable[[Running, int], Asked]:
    """Asks for longer where requests are large, and again for longer where none ended: the machine may be busy."""
    ask = asker(wrk, connections)

    def patiently(running: Running, seconds: int) -> Asked:
        seconds = seconds if size in FAST else max(seconds, LARGE_S)
        with contextlib.suppress(NoneEnded):
            return ask(running, seconds)
        return ask(running, 4 * seconds)

    return patiently


@dataclass(frozen=True, slots=True)
class SmallLatencies:
    """Milliseconds that requests of 1 KB took, by percentile: alone, and while another client sends the mix."""

    alone: Mapping[int, float]
    beside: Mapping[int, float]


def agent_beside(bench: Bench, stage: Stage) -> list[Row]:
    upstream = stage.start(systems.agent_upstream(stream=False))
    mix = _mix(stage, rest_ms=MIX_REST_MS)

    def ask(running: Running, seconds: int) -> SmallLatencies:
        request = systems.request(running.port)
        if running.headers:
            request = systems.load.with_headers(request, running.headers)
        with Clients(running.port, SMALL_CLIENTS, SMALL_REST_S, random.Random(3)) as clients, _Background() as behind:
            alone = _percentiles(clients.ask(request, seconds))
            loading = behind.run(mix, running, MIX_CLIENTS, seconds + 1)
            beside = _percentiles(clients.ask(request, seconds))
            loading.result()
        return SmallLatencies(alone, beside)

    wanted = [system for system in _systems(bench) if not system.slow]
    found = bench.turns(bench.start(stage, wanted, upstream), ask)
    rows = []
    for percent in (50, 99):
        for when, of in (("alone", lambda f: f.alone), ("beside", lambda f: f.beside)):
            label = f"1 KB request {'alone' if when == 'alone' else 'alongside the mix'}, p{percent}"
            values = each_value(found, lambda f, of=of, percent=percent: of(f)[percent])  # type: ignore[misc]
            rows.append(Row(f"agent_{when}_p{percent}", label, "ms", values))
    ratio = each_value(found, lambda f: f.beside[99] / f.alone[99])
    return [*rows, Row("agent_beside_ratio", "1 KB request alongside the mix, p99 over that alone", "×", ratio)]


def _percentiles(seconds: Sequence[float]) -> dict[int, float]:
    cuts = quantiles(seconds, n=100, method="inclusive")
    return {percent: 1e3 * cuts[percent - 1] for percent in (50, 99)}


class _Background:
    """Runs wrk on a thread, which waits for it."""

    def __enter__(self) -> _Background:
        self._pool = ThreadPoolExecutor(1)
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def run(self, wrk: Wrk, running: Running, connections: int, seconds: int) -> Future[Requests]:
        return self._pool.submit(wrk.run, running.port, connections, seconds, running.headers)


def agent_memory(bench: Bench, stage: Stage) -> list[Row]:
    """Measured once, on processes that are new: idle before the first request of the mix, steady while it runs, peak of
    all, recovered some seconds after it."""
    upstream = stage.start(systems.agent_upstream(stream=False))
    mix = _mix(stage)
    found: dict[str, list[float]] = {}
    for running in bench.start(stage, _systems(bench), upstream):
        bench.say(f"  {running.name}")
        found[running.name] = _memory(running, mix, max(2, 2 * bench.seconds))
    names = ("idle", "steady under the mix", "peak under the mix", "recovered after the mix")
    return [
        Row(f"agent_rss_{label.split()[0]}", f"memory, {label}", "MB RSS", {name: [v[n]] for name, v in found.items()})
        for n, label in enumerate(names)
    ]


def _memory(running: Running, mix: WrkMix, seconds: int) -> list[float]:
    """[idle, steady, peak, recovered]: medians of samples, but for the peak."""
    idle = median(_samples(running, SETTLED_S))
    with _Background() as behind:
        loading = behind.run(mix, running, IN_FLIGHT, seconds)
        under_load = _samples(running, seconds)
        loading.result()
    recovered = _samples(running, RECOVERY_S)
    return [idle, median(under_load[len(under_load) // 2 :]), peak_mb(running.pid), median(recovered[-20:])]


def _samples(running: Running, seconds: float) -> list[float]:
    found, until = list[float](), time.monotonic() + seconds
    while time.monotonic() < until:
        found.append(rss_mb(running.pid))
        time.sleep(_EVERY_S)
    return found


def agent_record(bench: Bench, stage: Stage) -> list[Row]:
    """Measures what recording a call adds in the gateway, and what the consumer then spends on the record."""
    upstream = stage.start(systems.agent_upstream(stream=False))
    names = ("none", "all")
    pair = [systems.gateway(name, rate=rate, limits=True) for name, rate in zip(names, (0.0, 1.0), strict=True)]
    running = bench.start(stage, pair, upstream)
    consumer = bench.start(stage, [systems.consumer()], upstream)
    rows = []
    for size, of in SIZES.items():
        bench.say(f"  {size}")
        body = agent_bodies.body(size)
        asked = bench.turns(running, _patient(Wrk(stage.directory, systems.KEY, body), 2, size))
        more = paired_values(asked, "none", _difference)
        found = bench.turns(consumer, _consuming(stage, body[:CAP_BYTES], max(10, bench.seconds * 20_000_000 // of)))
        key = size.partition(" ")[0]
        added = {"gateway": more.get("all", [])}
        rows.append(Row(f"agent_record_{key}", f"recording a request of {size}", "µs CPU", added))
        scored_us = {"gateway": found.get("consumer", [])}
        rows.append(
            Row(f"agent_consumer_{key}", f"record of a request of {size}, scored and stored", "µs CPU", scored_us)
        )
    return rows


def _difference(recorded: Asked, not_recorded: Asked) -> float:
    return recorded.cpu_us - not_recorded.cpu_us


def _consuming(stage: Stage, request: bytes, n: int) -> Callable[[Running, int], float]:
    def ask(running: Running, _: int) -> float:
        meter = Meter(running.pid)
        scored.send_and_wait(stage.stream, systems.stream_name(running.port), n, request)
        return meter.read().cpu_s / n * 1e6

    return ask


def agent_rate(bench: Bench, stage: Stage) -> list[Row]:
    """The throughput frontier of onthebench.ai: the most requests a second while 99 % end within a bound, over one
    sweep of connections. Requests of 1 KB."""
    upstream = stage.start(systems.upstream("plain"))
    wrk = Wrk(stage.directory, systems.KEY, systems.body())

    def sweep(running: Running, seconds: int) -> list[Requests]:
        return [wrk.run(running.port, n, seconds, running.headers) for n in CONNECTIONS]

    found = bench.turns(bench.start(stage, _systems(bench), upstream), sweep)
    return [
        Row(
            f"agent_rate_{bound}", f"requests of 1 KB with p99 ≤ {bound} ms", "a second",
            each_value(found, lambda rungs, bound=bound: _most(rungs, bound)),  # type: ignore[misc]
        )
        for bound in BOUNDS_MS
    ]  # fmt: skip


def _most(rungs: Sequence[Requests], bound_ms: float) -> float:
    return max((each.rate for each in rungs if each.p99_ms <= bound_ms), default=0.0)


AGENT_ROWS: Mapping[str, Callable[[Bench, Stage], list[Row]]] = {
    "agent_plain": agent_plain,
    "agent_stream": agent_stream,
    "agent_beside": agent_beside,
    "agent_memory": agent_memory,
    "agent_record": agent_record,
    "agent_rate": agent_rate,
}
