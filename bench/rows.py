"""The measurements: each starts its systems on the same upstream and asks them in turn, round after round."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPConnection
from resource import RLIMIT_NOFILE, getrlimit
from statistics import quantiles
from typing import Any, TypeVar

import long_answers
import paired
import predicting
import scored
import shadowed
import stores
import systems
from calls import counted
from cost import Meter, Others, rss_mb
from load import HOST, Paced, Requests, Streams, Wrk, Wrong, paced, with_headers
from phases import PHASES, PLAIN, RECORDED, STREAM, by_phase
from stage import ROOT, Failed, Running, Stage, System

T = TypeVar("T")
IN_FLIGHT = 64
OPEN = 1000
FEW, MANY = 100, 10_000
SPARE_FILES = 200  # for files and sockets other than the streams
DIRECTLY = "directly"
SLOW = 4  # a system that answers 60 requests a second has too many of them half done when a short run ends
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table. values: by system, one for each round, or one of all rounds together. compared: by
    system, where ratios are not to be had from `values`: the ratio, and between which ones nine of ten lie."""

    key: str
    label: str
    unit: str
    values: Mapping[str, Sequence[float]]
    compared: Mapping[str, tuple[float, float, float]] = field(default_factory=dict)


@dataclass(slots=True)
class Bench:
    """The measurements that are wanted, and those that were made. pin: the system on one core, upstream and load on the
    others. troubles: what went wrong, for the report. others: by measurement, what other programs took of the
    machine."""

    seconds: int
    rounds: int
    peers: list[System]
    say: Say
    pin: bool = False
    rows: list[Row] = field(default_factory=list)
    configurations: dict[str, Any] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)
    others: dict[str, float] = field(default_factory=dict)

    def run(self, measurements: Mapping[str, Measurement]) -> None:
        for name, measure in measurements.items():
            self.say(name)
            others, began = Others(), time.monotonic()
            try:
                # Two workers want two cores.
                with Stage(self.configurations, pin=self.pin and name != "workers") as stage:
                    self.rows += measure(self, stage)
                    self.others[name] = others.share()
            except (Failed, Wrong, OSError) as error:
                self.trouble(name, error)
            self.say(f"  {time.monotonic() - began:.0f} s")

    def all(self) -> list[System]:
        return [systems.gateway(), systems.nginx(), *self.peers]

    def start(
        self, stage: Stage, wanted: Iterable[System], upstream: Running, probe: Callable[[int], bytes] | None = None
    ) -> list[Running]:
        """Starts programs, and returns those that start."""
        running = []
        for system in wanted:
            try:
                running.append(stage.start(system, upstream, probe))
            except Failed as error:
                self.trouble(system.name, error)
        return running

    def turns(self, running: Sequence[Running], ask: Callable[[Running, int], T]) -> dict[str, list[T]]:
        """A B C A B C …: what each answered to ask(system, seconds), by system; a second to warm up comes first.

        A system that answers wrong is asked once more; if that is wrong too, it is asked no more; the others are.
        """
        found: dict[str, list[T]] = {}
        out: set[str] = set()
        for n in range(self.rounds + 1):
            self.say(f"  round {n} of {self.rounds}" if n else "  warming up")
            for each in running:
                if each.name in out:
                    continue
                measured = self._twice(each, ask, (self.seconds if n else 1) * (SLOW if each.slow else 1))
                if measured is None:
                    out.add(each.name)
                elif n:
                    found.setdefault(each.name, []).append(measured)
        return found

    def _twice(self, running: Running, ask: Callable[[Running, int], T], seconds: int) -> T | None:
        """Asks again after a failure. None if it failed twice."""
        for _ in range(2):
            try:
                return ask(running, seconds)
            except (Wrong, OSError) as error:
                self.trouble(running.name, error)
        return None

    def trouble(self, name: str, error: Exception) -> None:
        self.troubles.append(f"{name}: {error}".replace(f"{name}: {name}: ", f"{name}: "))
        self.say(self.troubles[-1])


@dataclass(frozen=True, slots=True)
class Asked:
    """cpu_us: of the tree, for a request. capacity: requests for a CPU second of the busiest process."""

    requests: Requests
    cpu_us: float
    capacity: float


def asker(wrk: Wrk, connections: int) -> Callable[[Running, int], Asked]:
    def ask(running: Running, seconds: int) -> Asked:
        meter = Meter(running.pid)
        requests = wrk.run(running.port, connections, seconds, running.headers)
        cost = meter.read()
        return Asked(requests, cost.cpu_s / requests.n * 1e6, requests.n / max(cost.busiest_s, 0.01))

    return ask


def each_value(found: Mapping[str, Sequence[T]], value: Callable[[T], float]) -> dict[str, list[float]]:
    return {name: [value(f) for f in each] for name, each in found.items()}


def paired_values(found: Mapping[str, Sequence[T]], to: str, value: Callable[[T, T], float]) -> dict[str, list[float]]:
    """value(this system's, the other's), round by round, for every system but the other."""
    base = found.get(to, [])
    return {name: [value(a, b) for a, b in zip(f, base, strict=False)] for name, f in found.items() if name != to}


def plain(bench: Bench, stage: Stage) -> list[Row]:
    upstream = stage.start(systems.upstream("plain"))
    ask = asker(Wrk(stage.directory, systems.KEY, systems.body()), IN_FLIGHT)
    found = bench.turns(bench.start(stage, bench.all(), upstream), ask)
    return [Row("plain", f"plain request, {IN_FLIGHT} in flight", "µs CPU", each_value(found, lambda a: a.cpu_us))]


def one(bench: Bench, stage: Stage) -> list[Row]:
    upstream = stage.start(systems.upstream("plain"))
    directly = Running(DIRECTLY, upstream.port, upstream.pid)
    ask = asker(Wrk(stage.directory, systems.KEY, systems.body()), 1)
    found = bench.turns([directly, *bench.start(stage, bench.all(), upstream)], ask)
    through = {name: each for name, each in found.items() if name != DIRECTLY}

    def added(value: Callable[[Requests], float]) -> dict[str, list[float]]:
        return paired_values(found, DIRECTLY, lambda a, d: value(a.requests) - value(d.requests))

    return [
        Row("one", "plain request, 1 in flight", "µs CPU", each_value(through, lambda a: a.cpu_us)),
        Row("p50", "latency added, 1 in flight, p50", "ms", added(lambda r: r.p50_ms)),
        Row("p99", "latency added, 1 in flight, p99", "ms", added(lambda r: r.p99_ms)),
    ]


def stream(bench: Bench, stage: Stage) -> list[Row]:
    upstream = stage.start(systems.upstream("stream"))

    def ask(running: Running, seconds: int) -> float:
        meter = Meter(running.pid)
        ended = Streams(running.port, _stream_of(running)).run(IN_FLIGHT, seconds)
        return meter.read().cpu_s / ended * 1e6

    found = bench.turns(bench.start(stage, bench.all(), upstream), ask)
    return [Row("stream", f"103-event stream, {IN_FLIGHT} open", "µs CPU", found)]


def first(bench: Bench, stage: Stage) -> list[Row]:
    upstream = stage.start(systems.upstream("short"))
    wanted = [s for s in bench.all() if not s.slow]

    def ask(running: Running, seconds: int) -> Paced:
        return paced(running.port, _stream_of(running), seconds)

    directly = Running(DIRECTLY, upstream.port, upstream.pid)
    found = bench.turns([directly, *bench.start(stage, wanted, upstream)], ask)
    first_ms = paired_values(found, DIRECTLY, lambda a, d: 1e3 * (_middle(a.first_s) - _middle(d.first_s)))
    jitter_ms = paired_values(found, DIRECTLY, lambda a, d: 1e3 * (_jitter(a) - _jitter(d)))
    return [
        Row("first", "time to first token added, p50", "ms", first_ms),
        Row("jitter", "jitter between tokens added, p99", "ms", jitter_ms),
    ]


def _stream_of(running: Running) -> bytes:
    return with_headers(systems.request(running.port, stream=True), running.headers)


def _middle(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


def _jitter(read: Paced) -> float:
    """The 99th percentile of how far a gap is from the one that the upstream makes."""
    return quantiles([abs(gap - systems.GAP_S) for gap in read.gaps_s], n=100)[98]


def sampling(bench: Bench, stage: Stage) -> list[Row]:
    upstream = stage.start(systems.upstream("plain"))
    ask = asker(Wrk(stage.directory, systems.KEY, systems.body()), IN_FLIGHT)
    running = [stage.start(systems.gateway(name, rate=rate), upstream) for name, rate in (("none", 0.0), ("all", 1.0))]
    found = bench.turns(running, ask)
    if dropped := _counted(running[1].port, "gateway_eval_dropped_total"):
        bench.trouble("sampling", Failed(f"{dropped:g} exchanges were dropped: recording them is not in the ratio"))
    ratios = paired_values(found, "none", lambda a, b: a.cpu_us / b.cpu_us)
    return [Row("sampling", "CPU at 100 % sampling, of that at 0 %", "×", {"gateway": ratios.get("all", [])})]


def shadow(bench: Bench, stage: Stage) -> list[Row]:
    """Measures with an upstream that answers at once, so that every delay of an answer is visible."""
    return _shadowed(bench, stage, "plain", (shadowed.AGAIN, *shadowed.SHADOWED), "shadow")


def shadow_model(bench: Bench, stage: Stage) -> list[Row]:
    states = (shadowed.AGAIN, shadowed.HEALTHY, shadowed.SOME_HANG)
    return _shadowed(bench, stage, "model", states, "shadow_model", " with a model of 5 ms")


def _shadowed(bench: Bench, stage: Stage, kind: str, states: Sequence[str], key: str, suffix: str = "") -> list[Row]:
    with ExitStack() as holds:
        running = shadowed.start(stage, holds, kind)
        found = shadowed.measure(running, states, bench.rounds * bench.seconds, bench.say)
        asked, not_asked = (
            {s: [_counted(running.port, "gateway_shadow_total", *shadowed.labels(s, what))] for s in states}
            for what in ("asked", "not_offered")
        )
    for state, (n,) in asked.items():
        if (n == 0) == (state in shadowed.SHADOWED):
            bench.trouble(state, Failed(f"{n:g} shadows were asked: its latency says nothing of them"))
    if found.disturbed:
        bench.say(f"{key}: {found.disturbed} slices are left out: other programs ran at the same time")
    rows = []
    for percent in (50, 99):
        of = {s: c for s in states if (c := found.compared(s, percent)) is not None}
        ms = {shadowed.OFF: [found.off(percent)], **{s: [c.ms] for s, c in of.items()}} if of else {}
        label = f"latency with shadows at 20 %{suffix}, p{percent}"
        ratios = {s: (c.ratio, c.low, c.high) for s, c in of.items()}
        rows.append(Row(f"{key}_p{percent}", label, "ms", ms, ratios))
        more = {s: [c.ms - c.than] for s, c in of.items()}
        rows.append(Row(f"{key}_p{percent}_more", f"{label}: more than without", "ms", more))
    rows.append(Row(f"{key}_asked", f"shadows asked{suffix}", "of a target", asked))
    rows.append(Row(f"{key}_not_asked", f"shadows drawn{suffix}, not asked", "counted", not_asked))
    return rows


def _counted(port: int, name: str, *having: str) -> float:
    """The sum of a counter over its labels, where these hold such texts, from the gateway's /metrics."""
    asking = HTTPConnection(HOST, port, timeout=10)
    asking.request("GET", "/metrics")
    lines = asking.getresponse().read().decode().splitlines()
    asking.close()
    return sum(
        float(line.rpartition(" ")[2])
        for line in lines
        if line.startswith(name) and all(text in line for text in having)
    )


def body(bench: Bench, stage: Stage) -> list[Row]:
    upstream = stage.start(systems.upstream("body"))
    ask = asker(Wrk(stage.directory, systems.KEY, systems.body(big=True)), 4)
    found = bench.turns(bench.start(stage, bench.all(), upstream), ask)
    return [Row("body", "request of 10 MB, 4 in flight", "ms CPU", each_value(found, lambda a: a.cpu_us / 1e3))]


def rss(bench: Bench, stage: Stage) -> list[Row]:
    """Measured once: a process that has had a thousand streams is not idle as a new one is."""
    upstream = stage.start(systems.upstream("long"))
    running = bench.start(stage, bench.all(), upstream, partial(systems.request, stream=True))
    idle = {each.name: [rss_mb(each.pid)] for each in running}
    full: dict[str, list[float]] = {}
    for each in (r for r in running if not r.slow):  # LiteLLM does not begin that many in two minutes
        streams = Streams(each.port, _stream_of(each))
        try:
            full[each.name] = [streams.hold(OPEN, 2, partial(rss_mb, each.pid))]
        except (Wrong, OSError) as error:
            bench.trouble(each.name, error)
    each = {name: [(full[name][0] - idle[name][0]) * 1e3 / OPEN] for name in full}
    return [
        Row("idle", "memory, idle", "MB RSS", idle),
        Row("open", f"memory, {OPEN} streams open", "MB RSS", full),
        Row("open_each", f"memory, each of {OPEN} streams", "KB RSS", each),
    ]


def many(bench: Bench, stage: Stage) -> list[Row]:
    """Opens as many streams as one worker keeps: each takes two of its files. Measured once, as `rss`; the gateway
    alone."""
    upstream = stage.start(systems.upstream("slow"))
    [running] = bench.start(stage, [systems.gateway()], upstream, partial(systems.request, stream=True))
    most = min(MANY, (getrlimit(RLIMIT_NOFILE)[1] - SPARE_FILES) // 2)
    streams, late = f"{most} streams open on one worker", {}
    for n in (FEW, most):
        gaps, rss = Streams(running.port, _stream_of(running)).gaps(n, 4 * systems.SLOW_S, partial(rss_mb, running.pid))
        late[n] = 1e3 * (quantiles(gaps, n=100)[98] - systems.SLOW_S)
    gap = (late[most] / 1e3 + systems.SLOW_S) / (late[FEW] / 1e3 + systems.SLOW_S)
    return [
        Row("many", f"memory, {streams}", "MB RSS", {running.name: [rss]}),
        Row("many_late", f"p99 delay of an event, {streams}", "ms", {running.name: [late[most]]}),
        Row("many_gap", f"p99 between events, {streams}, over {FEW}", "×", {running.name: [gap]}),
    ]


def workers(bench: Bench, stage: Stage) -> list[Row]:
    """Compares one worker with two. Where cores are too few for two workers, the upstream and wrk, two workers can only
    be as fast as what is left: so the second row says how many requests the busiest process takes for a second of CPU,
    by two workers over one."""
    upstream = stage.start(systems.upstream("plain"))
    ask = asker(Wrk(stage.directory, systems.KEY, systems.body()), IN_FLIGHT)
    wanted = [systems.gateway("one"), systems.gateway("two", workers=2)]
    found = bench.turns(bench.start(stage, wanted, upstream), ask)
    wall = paired_values(found, "one", lambda a, b: a.requests.rate / b.requests.rate)
    capacity = paired_values(found, "one", lambda a, b: a.capacity / b.capacity)
    return [
        Row("wall", "throughput, 2 workers over 1, as it came", "×", {"gateway": wall.get("two", [])}),
        Row(
            "workers", "throughput, 2 workers over 1, on cores of their own", "×", {"gateway": capacity.get("two", [])}
        ),
    ]


@dataclass(frozen=True, slots=True)
class Scored:
    """cpu_us: of the consumer, for an exchange. capacity: exchanges for a CPU second of its busiest process. rate:
    exchanges a second, as it came."""

    cpu_us: float
    capacity: float
    rate: float


def _scorer(stage: Stage, n: int) -> Callable[[Running, int], Scored]:
    """Read, scored, stored, acknowledged: all of `gateway evaluate`, without its start."""

    def ask(running: Running, _: int) -> Scored:
        meter, began = Meter(running.pid), time.monotonic()
        scored.send_and_wait(stage.stream, systems.stream_name(running.port), n)
        seconds, cost = time.monotonic() - began, meter.read()
        return Scored(cost.cpu_s / n * 1e6, n / max(cost.busiest_s, 0.01), n / seconds)

    return ask


def consumer(bench: Bench, stage: Stage) -> list[Row]:
    found = bench.turns([stage.start(systems.consumer())], _scorer(stage, bench.seconds * 2000))
    rates = {"gateway": [1e6 / each.cpu_us for each in found.get("consumer", ())]}
    return [Row("consumer", "exchanges scored and stored, 1 KB answers", "a second a core", rates)]


def phases(bench: Bench, stage: Stage) -> list[Row]:
    """The gateway's own work without sockets. The rest of a plain request's CPU time is the kernel's and uvloop's."""
    kinds = (PLAIN, RECORDED, STREAM)
    found: dict[str, list[Mapping[str, float]]] = {kind: [] for kind in kinds}
    for n in range(bench.rounds):
        bench.say(f"  round {n + 1} of {bench.rounds}")
        for kind in kinds:
            found[kind].append(by_phase(kind, min(bench.seconds, 2)))
    rows = [Row(f"phase_{n}", phase, "µs CPU", {kind: [us[phase] for us in each] for kind, each in found.items()})
            for n, phase in enumerate(PHASES)]  # fmt: skip
    whole = {kind: [sum(us.values()) for us in each] for kind, each in found.items()}
    return [*rows, Row("phases", "all phases, without sockets", "µs CPU", whole)]


def long(bench: Bench, stage: Stage) -> list[Row]:
    """Streams of many events and large plain answers, without sockets: long_answers.py. No call is recorded."""
    rows = []
    for name, kind in long_answers.STREAMS.items():
        bench.say(f"  {name}")
        found = {n: [long_answers.stream_cost(kind, n) for _ in range(bench.rounds)] for n in long_answers.EVENTS}
        cpu_us = {f"{n} events": [cost.cpu_us for cost in costs] for n, costs in found.items()}
        peak_kb = {f"{n} events": [cost.peak_kb for cost in costs] for n, costs in found.items()}
        key = name.replace(" ", "_").replace(",", "")
        rows.append(Row(f"long_{key}", f"an event of a stream: {name}", "µs CPU", cpu_us))
        rows.append(Row(f"long_{key}_peak", f"a stream: {name}", "KB at most", peak_kb))
    for name, kind in long_answers.PLAIN.items():
        bench.say(f"  {name}")
        costs = {size: [long_answers.plain_cost(kind, n) for _ in range(bench.rounds)]
                 for size, n in long_answers.ANSWERS.items()}  # fmt: skip
        key = name.replace(" ", "_").replace(",", "")
        rows.append(
            Row(f"long_plain_{key}", f"a plain answer: {name}", "µs CPU", each_value(costs, lambda c: c.cpu_us))
        )
    return rows


def calls(bench: Bench, stage: Stage) -> list[Row]:
    """The same in each round; of another version of Python others."""
    kinds = {PLAIN: ("plain", 0.0), RECORDED: ("plain", 1.0), STREAM: ("stream", 0.0)}
    found = {kind: [counted(request, rate, 20)] for kind, (request, rate) in kinds.items()}
    return [Row("calls", "function calls of the gateway's own code", "calls", found)]


def ready(bench: Bench, stage: Stage) -> list[Row]:
    """Seconds from the start of `gateway serve` until it answers, with the keys and aliases of all other rows."""
    upstream = stage.start(systems.upstream("plain"))
    found = []
    for n in range(bench.rounds + 1):
        with Stage() as own:
            started = own.start(systems.gateway(), upstream)
            found += [started.ready_s] if n else []  # the first one fills the page cache
    return [Row("ready", "`gateway serve`, until it answers", "s", {"gateway": found})]


def install(bench: Bench, stage: Stage) -> list[Row]:
    """`make up` in a new environment, and until the gateway answers. Once; pip's cache has what it needs, since `make
    bench` has installed the same."""
    environment, began = stage.directory / "venv", time.monotonic()
    command = ["make", "--no-print-directory", "-C", str(ROOT), f"VENV={environment}", f"{environment}/.up"]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise Failed(f"make up: {made.stderr.strip()[-300:]}")
    installed_s = time.monotonic() - began
    up = System("make up", "", lambda spot: [str(environment / "bin/gateway"), "up", "--port", str(spot.port)], _health)
    whole_s = installed_s + stage.start(up).ready_s
    return [
        Row("install", "`make up` from pip's cache: the environment", "s", {"gateway": [installed_s]}),
        Row("up", "`make up` from pip's cache, until the gateway answers", "s", {"gateway": [whole_s]}),
    ]


def _health(port: int) -> bytes:
    return f"GET /health HTTP/1.1\r\nHost: {HOST}:{port}\r\n\r\n".encode()


def consumer_postgres(bench: Bench, stage: Stage) -> list[Row]:
    """The database's own processes are not counted; the second row has them."""
    with stores.postgres() as server:
        ask, theirs = _scorer(stage, bench.seconds * 2000), []

        def both(running: Running, seconds: int) -> Scored:
            meter = Meter(server.pid)
            ours = ask(running, seconds)
            theirs.append(meter.read().cpu_s / (bench.seconds * 2000) * 1e6)
            return ours

        found = bench.turns([stage.start(systems.consumer(store=server.new()))], both)
    ours = {"gateway": [each.cpu_us for each in found.get("consumer", ())]}
    label = "exchange scored and stored in PostgreSQL"
    return [
        Row("consumer_postgres", label, "µs CPU", ours),
        Row("consumer_database", f"{label}: the database's part", "µs CPU", {"PostgreSQL": theirs[1:]}),
    ]


def consumer_workers(bench: Bench, stage: Stage) -> list[Row]:
    """Compares one worker with two, as `workers` does: where cores are too few for two workers, the database and
    Valkey, the second row of a store says what two would do on cores of their own. Several dozen batches: of four, one
    worker may take three."""
    ask, rows = _scorer(stage, bench.seconds * 10_000), list[Row]()
    with stores.postgres() as server:
        for store, url in (("SQLite", lambda: None), ("PostgreSQL", server.new)):
            wanted = [systems.consumer("one", store=url()), systems.consumer("two", workers=2, store=url())]
            running = [stage.start(system) for system in wanted]
            found = bench.turns(running, ask)
            for key, how, value in (
                ("wall", "as it came", lambda each: each.rate),
                ("own", "on cores of their own", lambda each: each.capacity),
            ):
                ratios = paired_values(found, "one", lambda two, one, of=value: of(two) / of(one))
                label = f"scored into {store}, 2 workers over 1, {how}"
                rows.append(Row(f"consumer_{store.lower()}_{key}", label, "×", {"gateway": ratios.get("two", [])}))
    return rows


def consumer_pairs(bench: Bench, stage: Stage) -> list[Row]:
    """Measures, in this process and without a stream, an exchange of a shadow experiment, with the statistics of older
    plans (rules 1) and of new ones (rules 2), in turns on the same traffic."""
    found = list[Mapping[int, paired.PairedCost]]()
    for n in range(bench.rounds):
        bench.say(f"  round {n + 1} of {bench.rounds}")
        found.append(paired.measured((1, 2), paired.LARGE, max(2, bench.seconds) * paired.TURN, seed=n))
    rows = [
        Row(f"consumer_pairs_{rules}_{part}", f"exchange of an experiment, rules {rules}: {label}", "µs CPU",
            {"gateway": [getattr(each[rules], part) for each in found]})
        for rules in (1, 2)
        for part, label in (("all", "all"), ("experiments", "the experiment's part"))
    ]  # fmt: skip
    ratios = {"gateway": [each[2].all / each[1].all for each in found]}
    return [*rows, Row("consumer_pairs", "exchange of an experiment, rules 2 over rules 1", "×", ratios)]


def predictor(bench: Bench, stage: Stage) -> list[Row]:
    """Measures, in this process and without a stream, what a consumer with a predictor spends beyond one without."""
    model, found = predicting.trained(), list[predicting.PredictorCost]()
    for n in range(bench.rounds):
        bench.say(f"  round {n + 1} of {bench.rounds}")
        found.append(predicting.measured(model, 4 * bench.seconds, seed=n))
    label = f"predictor, batches of {predicting.BATCH} chats"
    parts = (
        ("features", "features"),
        ("trees", "trees"),
        ("draw", "probability and draw"),
        ("storing", "row and sums into SQLite"),
    )
    rows = [Row(f"predictor_{key}", f"{label}: {name}", "µs CPU", {"gateway": [getattr(each, key) for each in found]})
            for key, name in parts]  # fmt: skip
    return [*rows, Row("predictor", label, "µs CPU", {"gateway": [each.all for each in found]})]


Measurement = Callable[[Bench, Stage], list[Row]]

ROWS: Mapping[str, Measurement] = {
    "plain": plain,
    "one": one,
    "stream": stream,
    "first": first,
    "sampling": sampling,
    "shadow": shadow,
    "shadow_model": shadow_model,
    "body": body,
    "rss": rss,
    "many": many,
    "workers": workers,
    "consumer": consumer,
    "phases": phases,
    "long": long,
    "calls": calls,
    "ready": ready,
    "install": install,
    "consumer_postgres": consumer_postgres,
    "consumer_workers": consumer_workers,
    "consumer_pairs": consumer_pairs,
    "predictor": predictor,
}
