"""A small fleet on one machine: gateways with workers, a stream server, PostgreSQL and consumers under load.

Says where the CPU time goes, how many bytes an exchange takes, how far the consumers are behind, and how all that
compares with what the simulator predicts from the costs of one gateway with one worker and one consumer, which are
measured apart. Three minutes a round; Linux; needs nginx, wrk and PostgreSQL's programs.

    python bench/fleet.py                                      three rounds; prints the tables
    python bench/fleet.py --json FILE --markdown FILE          and writes them, with the costs that plan.py reads
    python bench/fleet.py --again FILE --rounds 1 --json FILE  a round more than FILE has
    python bench/fleet.py --again FILE --rounds 0              predicts again from what FILE has
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from statistics import median
from typing import Any

import fleet_report
import load
import plan
import psycopg
import redis
import run_bench
import scored
import systems
from cost import Others, tree
from fleet_measured import CALIBRATION, PILE, SIZES, Measured, Rounds, Window, as_json, difference, read
from fleet_model import Size
from stage import ROOT, Failed, Running, Stage, System, until

sys.path.append(f"{ROOT}/tests")
import servers

DRAIN_S = 5.0
IDLE_S = 2.0


class Servers:
    """The stream server and PostgreSQL, both with synced writes; they are started once for all sizes."""

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
        self.upstream = stage.start(_upstream() if not size.events else systems.upstream("stream"))
        self.gateways = [stage.start(self._gateway(), self.upstream) for _ in range(size.gateways)]
        self.phases = [stage.directory / f"phases-{n}.json" for n in range(size.consumers)]
        self.consumers = [stage.start(self._consumer(file)) for file in self.phases]
        self._connection = psycopg.connect(self.store, autocommit=True)

    def close(self) -> None:
        self._connection.close()

    def signal(self, number: int) -> None:
        """Sends a signal to every consumer; sampler.py says what it does."""
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
        if self._size.events:
            request = systems.request(running.port, stream=True)
            return load.Streams(running.port, request).run(connections, seconds)
        directory = self._stage.directory / f"wrk-{number}"
        directory.mkdir(exist_ok=True)
        wrk = load.Wrk(directory, systems.KEY, _question())
        return wrk.run(running.port, connections, seconds).n

    def waiting(self) -> int:
        """Entries that are not acknowledged."""
        added, read, pending = self._entries()
        return added - read + pending

    def pause(self, number: int) -> None:
        """SIGSTOP or SIGCONT to every process of the consumers."""
        for each in self.consumers:
            for pid in tree(each.pid):
                os.kill(pid, number)

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
        """Bytes of memory, and of the append-only file."""
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
            "load generator": sum(sum(resource.getrusage(who)[:2]) for who in _OURS) if self._size.events else
            sum(resource.getrusage(resource.RUSAGE_CHILDREN)[:2]),
        }  # fmt: skip
        serving = [pid for pid in store if self._serves(pid)]
        backends_s = sum(store[pid].cpu_s for pid in serving)
        return Window(
            time.monotonic(), cpu_s, backends_s, added, read - pending,
            _calls(calls, "eval", "evalsha"), _calls(calls, "xack"), sum(map(_switches, serving)),
            int(position), int(size),
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


def _switches(pid: int) -> int:
    """Number of times that the process gave up its core to wait."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches"))


def _cpu_s(*pids: int) -> float:
    return sum(p.cpu_s for pid in pids for p in tree(pid).values())


def _upstream() -> System:
    """The server nginx with sixteen answers of 1 KB of prose: a rule takes longer for prose than for one word."""
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


def measure(both: Servers, size: Size, number: int, seconds: int, *, idle_s: float, stopped: bool) -> Measured:
    """idle_s: how long to look at what is done without work. stopped: the consumers do nothing during the load."""
    with Stage() as stage:
        rig = Rig(stage, both, size, number)
        try:
            rig.ask(1, 1)
            _until_idle(rig, 2 * DRAIN_S)
            idle = _during(rig, lambda: time.sleep(idle_s))[0]
            rig.signal(signal.SIGUSR2)
            if stopped:
                rig.pause(signal.SIGSTOP)
            file, began, others = rig.entry_bytes()[1], rig.now(), Others()
            served = rig.ask(seconds, size.connections)
            found, others_s = difference(rig.now(), began), others.share()
            waiting, (held, file_now) = rig.waiting(), rig.entry_bytes()
            rig.pause(signal.SIGCONT)
            drain, drain_others = _during(rig, lambda: _until_idle(rig, DRAIN_S * (1 + stopped)))
            return Measured(
                found, drain, idle, served, waiting, held, (file_now - file) / max(found.appended, 1),
                _phases(rig), (others_s, drain_others),
            )  # fmt: skip
        finally:
            rig.close()


def _during(rig: Rig, work: Callable[[], None]) -> tuple[Window, float]:
    """Returns what the work took, and the share of other programs."""
    others, before = Others(), rig.now()
    work()
    return difference(rig.now(), before), others.share()


def _until_idle(rig: Rig, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while rig.waiting() and time.monotonic() < deadline:
        time.sleep(0.05)


def _phases(rig: Rig) -> dict[str, float]:
    counts: Counter[str] = Counter()
    rig.signal(signal.SIGUSR1)
    for file in rig.phases:
        until(file.exists, 5, lambda: "a consumer did not write its phases")
        time.sleep(0.1)
        counts.update(json.loads(file.read_text()))
    return {name: n / counts.total() for name, n in sorted(counts.items())}


_SPIN = """
import os, sys, time
os.sched_setaffinity(0, {int(sys.argv[1])})
began = last = start = time.monotonic()
while last < began + 1:
    now = time.monotonic()
    if now - last > 2e-4:
        print(last - start)
        start = now
    last = now
"""


def slice_s() -> float:
    """Seconds for which this machine's scheduler lets a program run while another waits: the median, with three on a
    core that never rest."""
    core = min(os.sched_getaffinity(0))
    command = [sys.executable, "-c", _SPIN, str(core)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [float(line) for each in running for line in each.communicate()[0].split()]
    return median(each for each in found if each > 1e-4)


def disk_s(size: int = 4 << 20) -> float:
    """Seconds that the disk takes to store what was written: the median of ten writes of these bytes, about a batch's
    log.
    """
    found, block = [], os.urandom(size)
    with tempfile.TemporaryFile() as file:
        for _ in range(10):
            file.write(block)
            file.flush()
            began = time.monotonic()
            os.fdatasync(file.fileno())
            found.append(time.monotonic() - began)
    return median(found)


def main() -> None:
    asked = _arguments()
    began = time.monotonic()
    found, place = read(asked.again) if asked.again else ({}, {"slice_s": slice_s(), "wait_s": disk_s()})

    def keep(more: Mapping[str, Any]) -> None:
        if asked.json:
            asked.json.write_text(json.dumps({"place": place, **more, "measured": as_json(found)}, indent=1) + "\n")

    if asked.rounds:
        _measured(asked, found, lambda: keep({}))
    lacking = [name for name in (*CALIBRATION, *SIZES) if name not in found]
    if lacking:
        run_bench.note(f"nothing to predict yet: {', '.join(lacking)} was not measured")
        return
    whole = fleet_report.report(found, place, asked.seconds)
    run_bench.say(f"{whole.text}\n\nIt took {time.monotonic() - began:.0f} s.")
    keep(whole.as_json())
    if asked.markdown:
        _between_marks(asked.markdown, f"{whole.text}\n\n{plan.tables(whole.costs, whole.size)}")


def _measured(asked: argparse.Namespace, found: Rounds, keep: Callable[[], None]) -> None:
    """Adds rounds to what was found: all sizes once in each, those that give the costs first. keep: after each."""
    run_bench.need(None)
    began = time.monotonic()
    signal.signal(signal.SIGTERM, run_bench.told_to_end)
    with ExitStack() as stack:
        both = Servers(stack.enter_context(Stage()), stack)
        wanted = [(name, size) for name, size in {**CALIBRATION, **SIZES}.items() if asked.only in name]
        number = count()
        for name, size in wanted * asked.rounds:
            for _ in range(asked.tries):
                run_bench.note(f"{name} ({time.monotonic() - began:.0f} s)")
                idle_s = IDLE_S if name in CALIBRATION else 0.0
                measured = measure(both, size, next(number), asked.seconds, idle_s=idle_s, stopped=name == PILE)
                found.setdefault(name, []).append(measured)
                keep()
                if max(measured.others) <= run_bench.QUIET:
                    break
                run_bench.note(f"  other programs took {max(measured.others):.0%} of the machine")


BEGIN, END = "<!-- `make bench-fleet` writes from here -->\n", "<!-- to here -->\n"


def _between_marks(page: Path, text: str) -> None:
    before, _, rest = page.read_text().partition(BEGIN)
    page.write_text(f"{before}{BEGIN}\n{text}\n\n{END}{rest.partition(END)[2]}")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=10, metavar="N", help="of load for each size (10)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="of all sizes; 0: predict only (3)")
    parser.add_argument("--tries", type=int, default=1, metavar="N", help="of one during which other programs ran (1)")
    parser.add_argument("--only", default="", metavar="TEXT", help="sizes whose name contains this")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the report as JSON")
    parser.add_argument("--again", type=Path, metavar="FILE", help="begin with what an earlier --json has")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="also between the marks of this page")
    return parser.parse_args()


if __name__ == "__main__":
    main()
