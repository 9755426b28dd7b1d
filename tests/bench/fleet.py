"""A small fleet on one machine: gateways with workers, a stream server, PostgreSQL and consumers under load.

Says where the CPU time goes, how many bytes an exchange takes, how far the consumers are behind, and how all that
compares with what the simulator predicts from the costs of one gateway with one worker and one consumer. Three minutes;
Linux; needs nginx, wrk and PostgreSQL's programs.

    python tests/bench/fleet.py                            prints the tables
    python tests/bench/fleet.py --json docs/fleet.json     and writes them, with the costs that plan.py reads
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import bench
import fleet_model
import load
import plan
import psycopg
import redis
import scored
import systems
from cost import Others, tree
from fleet_model import Costs, Fleet, Size, fit
from stage import Failed, Running, Stage, System, until

sys.path.append(str(Path(__file__).resolve().parents[1]))
import servers

PARTS = ("gateways", "consumers", "stream server", "store", "upstream", "load generator")
STREAM_S = systems.TOKENS * systems.GAP_S
DRAIN_S = 5.0
IDLE_S = 2.0
TURNS = 12  # of a consumer and its connection for a batch: statements, COPYs, begin and commit (store/write.py)
ONE, TENTH = "1 × 1, 1 consumer, 100 %", "1 × 1, 1 consumer, 10 %"
SIZES: Mapping[str, Size] = {
    ONE: Size(1, 1, 1, 1.0),
    TENTH: Size(1, 1, 1, 0.1),
    "2 × 2, 1 consumer, 100 %": Size(2, 2, 1, 1.0),
    "2 × 2, 2 consumers, 100 %": Size(2, 2, 2, 1.0),
    "2 × 2, 2 consumers, 10 %": Size(2, 2, 2, 0.1),
}
STREAMS: Mapping[str, Size] = {
    "1 × 1, 1 consumer, 100 %, streams": Size(1, 1, 1, 1.0, 32, STREAM_S),
    "2 × 2, 2 consumers, 100 %, streams": Size(2, 2, 2, 1.0, 32, STREAM_S),
}


@dataclass(slots=True)
class Window:
    """What a stretch of time took. cpu_s: by part. entries: of the stream. batches: appends, and acknowledgements."""

    seconds: float = 0.0
    cpu_s: dict[str, float] = field(default_factory=dict)
    backends_s: float = 0.0
    """Of the store's CPU time, that of the processes that serve a connection."""
    appended: int = 0
    scored: int = 0
    appends: int = 0
    acks: int = 0
    wal_bytes: int = 0
    store_bytes: int = 0


@dataclass(slots=True)
class Measured:
    """One size. waiting: entries not acknowledged when the load ended. others: of the machine, for other programs."""

    load: Window
    drain: Window
    idle: Window
    served: int
    waiting: int
    oldest_s: float
    entry_bytes: float
    """Of the stream server's memory, for an entry."""
    file_bytes: float
    """Of its append-only file, for an entry."""
    phases: dict[str, float]
    """Of the consumers' CPU time, in [0, 1]."""
    others: tuple[float, float]
    """What other programs took of the machine during the load and during the drain, in [0, 1]."""


class Servers:
    """The stream server and PostgreSQL, both of which sync what they are told to keep; once for all sizes."""

    def __init__(self, stage: Stage, stack: ExitStack) -> None:
        port = load.free_port()
        words = ["--port", str(port), "--bind", load.HOST, "--save", "", "--appendonly", "yes"]
        program = stage.run("stream", [str(servers.programs()["valkey"]), *words, "--dir", str(stage.directory)])
        self.stream_pid = program.pid
        self.stream_url = f"redis://{load.HOST}:{port}/0"
        self.client = stack.enter_context(redis.Redis(port=port, protocol=2))
        until(self._answers, 10, lambda: "the stream server did not start")
        found = servers.postgres_programs()
        if found is None:
            raise Failed("PostgreSQL's programs (initdb, postgres) were not found")
        self.postgres = servers.Postgres(found, durable=True, group=stage.group)
        stack.callback(self.postgres.kill)
        self.postgres.start()

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False


class Rig:
    """The programs of one size, and what they have done so far."""

    def __init__(self, stage: Stage, both: Servers, size: Size, number: int) -> None:
        self._stage, self._servers, self._size = stage, both, size
        self._name = f"fleet-{number}"
        self.store = both.postgres.new()
        self.upstream = stage.start(_upstream() if not size.answer_s else systems.upstream("stream"))
        self.gateways = [stage.start(self._gateway(), self.upstream) for _ in range(size.gateways)]
        self.phases = [stage.directory / f"phases-{n}.json" for n in range(size.consumers)]
        self.consumers = [stage.start(self._consumer(file)) for file in self.phases]
        self._connection = psycopg.connect(self.store, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def signal(self, number: int) -> None:
        """To every consumer; sampler.py says what it does."""
        for each in self.consumers:
            os.kill(each.pid, number)

    def _config(self, origin: str) -> str:
        config = systems.config_of(origin, self._servers.stream_url, self._name, self._size.rate)
        return json.dumps(config | {"store": {"url": self.store}})

    def _gateway(self) -> System:
        def argv(spot: Any) -> list[str]:
            path = spot.write("gateway.yaml", self._config(f"http://{load.HOST}:{spot.upstream}"))
            where = ["--host", load.HOST, "--port", str(spot.port), "--workers", str(self._size.workers)]
            return systems.gateway_argv("serve", "--config", path, *where)

        return System("gateway", "", argv, systems.request)

    def _consumer(self, phases: Path) -> System:
        def argv(spot: Any) -> list[str]:
            path = spot.write("gateway.yaml", self._config(f"http://{load.HOST}:9"))
            sampler = [sys.executable, str(Path(__file__).with_name("sampler.py")), str(phases)]
            return [*sampler, "evaluate", "--config", path, "--metrics-port", str(spot.port)]

        return systems.consumer_of(argv)

    def ask(self, seconds: int, connections: int) -> int:
        """Sends load to all gateways at once, and returns how many requests were answered."""
        found: list[int] = []
        failed: list[Exception] = []

        def one(number: int, running: Running) -> None:
            try:
                found.append(self._ask(number, running, seconds, connections))
            except (load.Wrong, OSError) as error:
                failed.append(error)

        threads = [threading.Thread(target=one, args=each) for each in enumerate(self.gateways)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return sum(found)

    def _ask(self, number: int, running: Running, seconds: int, connections: int) -> int:
        if self._size.answer_s:
            request = systems.request(running.port, stream=True)
            return load.Streams(running.port, request).run(connections, seconds)
        directory = self._stage.directory / f"wrk-{number}"
        directory.mkdir(exist_ok=True)
        wrk = load.Wrk(directory, systems.KEY, _question())
        return wrk.run(running.port, connections, seconds).n

    def waiting(self) -> tuple[int, float]:
        """(entries that are not acknowledged, seconds since the oldest that was not read came)."""
        added, read, pending = self._entries()
        first = self._servers.client.xrange(self._key, f"({self._last_read()}", count=1)
        oldest_s = time.time() - int(first[0][0].split(b"-")[0]) / 1000 if first else 0.0
        return added - read + pending, oldest_s

    def _last_read(self) -> str:
        (group,) = self._servers.client.xinfo_groups(self._key)
        return group["last-delivered-id"].decode()

    @property
    def _key(self) -> str:
        return f"{self._name}:exchanges"

    def _entries(self) -> tuple[int, int, int]:
        """(appended, read, pending)."""
        (group,) = self._servers.client.xinfo_groups(self._key)
        added = self._servers.client.execute_command("XINFO", "STREAM", self._key)
        found = dict(zip(added[::2], added[1::2], strict=True)) if isinstance(added, list) else added
        return int(found.get(b"entries-added", found.get("entries-added", 0))), group["entries-read"], group["pending"]

    def entry_bytes(self) -> tuple[float, float]:
        """Of memory, and of the append-only file."""
        client = self._servers.client
        held = client.xlen(self._key)
        size = client.memory_usage(self._key, samples=0) or 0
        return (size / held if held else 0.0), float(client.info("persistence")["aof_current_size"])

    def now(self) -> Window:
        """Everything so far; a difference of two is what the time between took."""
        added, read, pending = self._entries()
        calls = self._servers.client.info("commandstats")
        store = tree(self._servers.postgres.pid)
        position, size = self._connection.execute(
            "SELECT pg_current_wal_lsn() - '0/0'::pg_lsn, pg_database_size(current_database())"
        ).fetchone() or (0, 0)
        cpu_s = {
            "gateways": _cpu_s(*(g.pid for g in self.gateways)),
            "consumers": _cpu_s(*(c.pid for c in self.consumers)),
            "stream server": _cpu_s(self._servers.stream_pid),
            "store": sum(p.cpu_s for p in store.values()),
            "upstream": _cpu_s(self.upstream.pid),
            "load generator": sum(sum(resource.getrusage(who)[:2]) for who in _OURS) if self._size.answer_s else
            sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]),
        }  # fmt: skip
        serving = [pid for pid in store if self._serves(pid)]
        backends_s = sum(store[pid].cpu_s for pid in serving)
        return Window(
            time.monotonic(), cpu_s, backends_s, added, read - pending,
            _calls(calls, "eval", "evalsha"), _calls(calls, "xack"), int(position), int(size),
        )  # fmt: skip

    def _serves(self, pid: int) -> bool:
        """Whether it is the process of PostgreSQL that serves a connection to this size's database."""
        try:
            title = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False
        return f" {self.store.partition('?')[0].rpartition('/')[2]} ".encode() in title


_OURS = (resource.RUSAGE_CHILDREN, resource.RUSAGE_SELF)


def _calls(stats: Mapping[str, Any], *names: str) -> int:
    return sum(int(stats.get(f"cmdstat_{name}", {}).get("calls", 0)) for name in names)


def _cpu_s(*pids: int) -> float:
    return sum(p.cpu_s for pid in pids for p in tree(pid).values())


def difference(now: Window, before: Window) -> Window:
    cpu_s = {part: now.cpu_s[part] - before.cpu_s[part] for part in now.cpu_s}
    rest = {
        name: getattr(now, name) - getattr(before, name)
        for name in Window.__dataclass_fields__
        if name != "cpu_s"
    }  # fmt: skip
    return Window(cpu_s=cpu_s, **rest)


def _upstream() -> System:
    """nginx with sixteen answers of 1 KB of prose: a rule takes longer for prose than for one word."""
    chance = random.Random(1)
    return systems.answering(
        [_completion(" ".join(chance.choices(scored.PROSE.split(), k=210))[:800] + ".") for _ in range(16)]
    )


def _completion(text: str) -> str:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 200, "completion_tokens": 180, "total_tokens": 380}
    head = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": systems.MODEL}
    return json.dumps({**head, "choices": [choice], "usage": usage})


def _question() -> bytes:
    """A chat request of 1 KB."""
    words = " ".join(random.Random(2).choices(scored.PROSE.split(), k=230))[:900]
    return json.dumps({"model": systems.MODEL, "messages": [{"role": "user", "content": words}]}).encode()


def measure(both: Servers, size: Size, number: int, seconds: int) -> Measured:
    with Stage() as stage:
        rig = Rig(stage, both, size, number)
        try:
            rig.ask(1, 1)
            _until_idle(rig, 2 * DRAIN_S)
            idle = _during(rig, lambda: time.sleep(IDLE_S))[0]
            rig.signal(signal.SIGUSR2)
            file, began = rig.entry_bytes()[1], rig.now()
            others = Others()
            served = rig.ask(seconds, size.connections)
            found, others_s = difference(rig.now(), began), others.share()
            waiting, oldest_s = rig.waiting()
            held, file_now = rig.entry_bytes()
            drain, drain_others = _during(rig, lambda: _until_idle(rig, DRAIN_S))
            return Measured(
                found, drain, idle, served, waiting, oldest_s, held, (file_now - file) / max(found.appended, 1),
                _phases(rig), (others_s, drain_others),
            )  # fmt: skip
        finally:
            rig.close()


def _during(rig: Rig, work: Callable[[], None]) -> tuple[Window, float]:
    """What it took, and the share of other programs."""
    others, before = Others(), rig.now()
    work()
    return difference(rig.now(), before), others.share()


def _until_idle(rig: Rig, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while rig.waiting()[0] and time.monotonic() < deadline:
        time.sleep(0.05)


def _phases(rig: Rig) -> dict[str, float]:
    counts: Counter[str] = Counter()
    rig.signal(signal.SIGUSR1)
    for file in rig.phases:
        until(file.exists, 5, lambda: "a consumer did not write its phases")
        time.sleep(0.1)
        counts.update(json.loads(file.read_text()))
    return {name: n / counts.total() for name, n in sorted(counts.items())}


def together(one: Window, two: Window) -> Window:
    """Two stretches of time as one."""
    cpu_s = {part: one.cpu_s[part] + two.cpu_s[part] for part in one.cpu_s}
    rest = {name: getattr(one, name) + getattr(two, name) for name in Window.__dataclass_fields__ if name != "cpu_s"}
    return Window(cpu_s=cpu_s, **rest)


def speed_of(others: float) -> float:
    """How fast one thread of ours ran beside other programs that took such a share of the machine: theirs are equal
    threads that never rest, so c of them leave it cores / (1 + c) of a core."""
    cores = bench.this_machine()["cores"]
    return min(1.0, cores * (1 - others))


def costs_of(one: Measured, tenth: Measured) -> Costs:
    """From one gateway with one worker and one consumer, at 100 % and at 10 %."""
    served = one.served + tenth.served
    each = [m.load.cpu_s["gateways"] / m.served for m in (one, tenth)]
    record_s = max(0.0, (each[0] - each[1]) / 0.9)
    ticks = {p: one.idle.cpu_s[p] / one.idle.seconds for p in ("consumers", "stream server", "store")}
    reading = [together(m.load, m.drain) for m in (one, tenth)]

    def points(part: str) -> list[tuple[int, int, float]]:
        return [(w.scored, w.acks, w.cpu_s[part] - ticks[part] * w.seconds) for w in reading]

    def stream_s(window: Window) -> float:
        return window.cpu_s["stream server"] - ticks["stream server"] * window.seconds

    read = fit([(one.drain.scored, one.drain.acks, stream_s(one.drain))])
    appending = [(w.appended, w.appends, stream_s(w) - read.of(w.scored)) for w in (one.load, tenth.load)]
    backends = [(w.scored, w.acks, w.backends_s - ticks["store"] * w.seconds) for w in reading]
    behind = [(w.scored, w.acks, w.cpu_s["store"] - w.backends_s) for w in reading]
    drain = one.drain
    used_s = drain.cpu_s["consumers"] + drain.backends_s + drain.cpu_s["stream server"]
    used_s /= speed_of(one.others[1])
    return Costs(
        client_s=sum(m.load.cpu_s["load generator"] for m in (one, tenth)) / served,
        upstream_s=sum(m.load.cpu_s["upstream"] for m in (one, tenth)) / served,
        request_s=each[0] - record_s, record_s=record_s, append=fit(appending), read=read,
        consumer=fit(points("consumers")), store=fit(backends), background=fit(behind),
        wait_s=max(0.0, (drain.seconds - used_s) / max(drain.acks, 1)),
        writing=one.phases.get("write", 0.5), turns=TURNS,
        consumer_tick_s=ticks["consumers"], stream_tick_s=ticks["stream server"], store_tick_s=ticks["store"],
    )  # fmt: skip


def of_streams(costs: Costs, one: Measured) -> Costs:
    """The same with the requests of one gateway's streams."""
    parts = one.load.cpu_s
    return replace(
        costs, request_s=parts["gateways"] / one.served - costs.record_s, client_s=parts["load generator"] / one.served,
        upstream_s=parts["upstream"] / one.served,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Compared:
    """By the second, measured and predicted. drained: scored after the load."""

    served: tuple[float, float]
    scored: tuple[float, float]
    drained: tuple[float, float]
    waiting: tuple[float, float]


def with_slice(costs: Costs, one: Measured, size: Size, cores: int) -> Costs:
    """The slice of time that the machine's scheduler gives, fitted to what the consumer scored during the load."""
    measured = one.load.scored / one.load.seconds

    def apart(slice_s: float) -> float:
        tried = replace(costs, slice_s=slice_s)
        others = threads_of_others(tried, size, cores, one.others[0])
        return abs(Fleet(tried, size, cores, others).run(2.0).scored - measured)

    return replace(costs, slice_s=min((0.0005, 0.001, 0.002, 0.003, 0.004, 0.006, 0.008), key=apart))


def threads_of_others(costs: Costs, size: Size, cores: int, share: float) -> int:
    """The number of other programs' threads beside which the fleet leaves them such a share of the machine."""
    if share <= bench.QUIET:
        return 0

    def apart(threads: int) -> float:
        fleet = Fleet(costs, size, cores, threads)
        fleet.run(0.3)
        return abs(fleet.machine.others_s / 0.3 / cores - share)

    return min((1, 2, 3, 4, 6, 8, 12, 16), key=apart)


def _drained(costs: Costs, size: Size, cores: int, measured: Measured) -> float:
    """Scored a second of what was left when the load ended. A consumer and its connection are one thread at a time."""
    share = measured.others[1]
    others = round(size.consumers / (1 - share) - size.consumers) if share > bench.QUIET else 0
    fleet = Fleet(costs, size, cores, others)
    fleet.shard.append(fleet.simulation, max(measured.waiting, 1))
    return fleet.drain(DRAIN_S)


def compared(measured: Measured, size: Size, costs: Costs, cores: int) -> Compared:
    seconds = measured.load.seconds
    fleet = Fleet(costs, size, cores, threads_of_others(costs, size, cores, measured.others[0]))
    seen = fleet.run(seconds)
    drained = _drained(costs, size, cores, measured)
    drain = measured.drain
    by_drain = drain.scored / drain.seconds if measured.waiting > 4 * fleet_model.BATCH else 0.0
    return Compared(
        (measured.served / seconds, seen.served), (measured.load.scored / seconds, seen.scored),
        (by_drain, drained if by_drain else 0.0), (measured.waiting, seen.waiting),
    )  # fmt: skip


def report(found: Mapping[str, Measured], rows: Mapping[str, Compared], costs: Costs) -> str:
    """Three tables in Markdown."""
    return "\n\n".join([_prediction(rows), _shares(found), _sizes(found, costs, _sized(found[ONE]))])


def _prediction(rows: Mapping[str, Compared]) -> str:
    columns = ("requests answered a second", "scored a second meanwhile", "scored a second afterwards", "left to score")
    lines = [f"| gateways × workers | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    for name, row in rows.items():
        cells = (_beside(*getattr(row, column)) for column in ("served", "scored", "drained", "waiting"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _beside(measured: float, predicted: float) -> str:
    if not measured and not predicted:
        return "–"
    ratio = f" ({predicted / measured - 1:+.0%})" if measured >= 100 else ""
    return f"{plan.spaced(measured)} / {plan.spaced(predicted)}{ratio}"


def _shares(found: Mapping[str, Measured]) -> str:
    """CPU cores by part during the load."""
    lines = [f"| cores during the load | {' | '.join(PARTS)} | others |", "|---|" + "---:|" * (len(PARTS) + 1)]
    for name, each in found.items():
        cores = [f"{each.load.cpu_s[part] / each.load.seconds:.2f}" for part in PARTS]
        lines.append(f"| {name} | {' | '.join(cores)} | {each.others[0]:.0%} |")
    return "\n".join(lines)


def _sizes(found: Mapping[str, Measured], costs: Costs, size: plan.Bytes) -> str:
    one = found[ONE]
    phases = ", ".join(f"{name} {share:.0%}" for name, share in one.phases.items())
    us = {
        "gateway: a request / more if it is recorded": (costs.request_s, costs.record_s),
        "stream server: an exchange appended / an append": (costs.append.each_s, costs.append.batch_s),
        "stream server: an exchange read, acknowledged, trimmed / a batch": (costs.read.each_s, costs.read.batch_s),
        "consumer: an exchange / a batch": (costs.consumer.each_s, costs.consumer.batch_s),
        "store, the consumer's connection: an exchange / a batch": (costs.store.each_s, costs.store.batch_s),
        "store, other processes: an exchange / a batch": (costs.background.each_s, costs.background.batch_s),
    }
    lines = ["| CPU, µs | each | besides |", "|---|---:|---:|"]
    lines += [f"| {name} | {a * 1e6:.0f} | {b * 1e6:.0f} |" for name, (a, b) in us.items()]
    memory, file, store, log = (plan.spaced(n) for n in asdict(size).values())
    text = (
        f"An exchange takes {memory} bytes of the stream server's memory, {file} of its append-only file, {store} of "
        f"PostgreSQL's tables and indexes, and {log} of its write-ahead log. A consumer's CPU time during the load: "
        f"{phases}."
    )
    return "\n".join([*lines, "", text])


def _sized(one: Measured) -> plan.Bytes:
    n = max(one.load.scored + one.drain.scored, 1)
    store, log = (getattr(one.load, name) + getattr(one.drain, name) for name in ("store_bytes", "wal_bytes"))
    return plan.Bytes(one.entry_bytes, one.file_bytes, store / n, log / n)


def main() -> None:
    asked = _arguments()
    began = time.monotonic()
    found = _read(asked.again) if asked.again else _measured(asked.seconds)
    cores = bench.this_machine()["cores"]
    costs = with_slice(costs_of(found[ONE], found[TENTH]), found[ONE], SIZES[ONE], cores)
    streams = of_streams(costs, found[next(iter(STREAMS))])
    sizes = {**SIZES, **STREAMS}
    rows = {n: compared(found[n], sizes[n], streams if n in STREAMS else costs, cores) for n in sizes}
    text = f"{_caption(asked.seconds, found)}\n\n{report(found, rows, costs)}"
    bench.say(f"{text}\n\nIt took {time.monotonic() - began:.0f} s.")
    if asked.json:
        asked.json.write_text(json.dumps(_as_json(found, rows, costs, streams, asked.seconds), indent=1) + "\n")
    if asked.markdown:
        _between_marks(asked.markdown, f"{text}\n\n{plan.tables(costs, _sized(found[ONE]))}")


def _measured(seconds: int) -> dict[str, Measured]:
    bench.need(None)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, bench.told_to_end)
    found: dict[str, Measured] = {}
    with ExitStack() as stack:
        both = Servers(stack.enter_context(Stage()), stack)
        for number, (name, size) in enumerate({**SIZES, **STREAMS}.items()):
            bench.note(f"{name} ({time.monotonic() - began:.0f} s)")
            found[name] = measure(both, size, number, seconds)
    return found


def _read(file: Path) -> dict[str, Measured]:
    """What an earlier run measured."""
    found = {}
    for name, each in json.loads(file.read_text())["measured"].items():
        windows = {w: Window(**each[w]) for w in ("load", "drain", "idle")}
        found[name] = Measured(**{**each, **windows, "others": tuple(each["others"])})
    return found


BEGIN, END = "<!-- `make bench-fleet` writes from here -->\n", "<!-- to here -->\n"


def _between_marks(page: Path, text: str) -> None:
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{rest.partition(END)[2]}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=4, metavar="N", help="of load for each size (4)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report as JSON")
    parser.add_argument("--again", type=Path, metavar="FILE", help="predict from what an earlier --json measured")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also between the marks of this page")
    return parser.parse_args()


def _caption(seconds: int, found: Mapping[str, Measured]) -> str:
    at = bench.this_machine()
    busiest = max(max(each.others) for each in found.values())
    place = f"{at['cpu']}, {at['cores']} cores, {at['memory_gb']} GB"
    busy = (
        ""
        if busiest <= bench.QUIET
        else f" **A preliminary run: quiet is {bench.QUIET:.0%}, and only bytes can be quoted.**"
    )
    return (
        f"{datetime.now(UTC):%Y-%m-%d}; {place}, {seconds} s of load for each size; other programs took up to "
        f"{busiest:.0%} of the machine.{busy} Measured / predicted."
    )


def _as_json(
    found: Mapping[str, Measured], rows: Mapping[str, Compared], costs: Costs, streams: Costs, seconds: int
) -> dict[str, Any]:
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}", "machine": bench.this_machine(), "seconds": seconds,
        "costs": asdict(costs), "costs_of_streams": asdict(streams), "bytes": asdict(_sized(found[ONE])),
        "measured": {name: asdict(each) for name, each in found.items()},
        "compared": {name: asdict(each) for name, each in rows.items()},
    }  # fmt: skip


if __name__ == "__main__":
    main()
