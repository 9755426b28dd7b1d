"""`gateway evaluate --workers N`: what one consumer would do, done by several, with one page of metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
import threading
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
import yaml
from fixtures.metric_samples import sample_sum_of_page
from fixtures.program_command import gateway_command, program_pid
from prometheus_client import CollectorRegistry, generate_latest

from gateway import __version__
from gateway.consumer.worker_processes import WorkersCollector, WorkersHealth


@pytest.fixture
def port(servers) -> int:
    """No other program gets the port in the meantime."""
    return servers.free_ports(1)[0]


@contextlib.asynccontextmanager
async def evaluating(
    room, tmp_path: Path, port: int, workers: int, killed: int = 0
) -> AsyncIterator[asyncio.subprocess.Process]:
    """killed: workers that are killed as soon as they exist, before they are ready."""
    path = tmp_path / "gateway.yaml"
    config = {
        "open": True,
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1"}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "small"}]}},
        "stream": {"url": room.stream_url, "name": room.stream_name, "claim_idle_s": 15},
        "store": {"url": room.store_url},
        "scorers": {"length": {}, "refusal": {}},
    }
    path.write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        *gateway_command("evaluate", "--config", str(path), "--data", str(tmp_path / "data")),
        "--metrics-port", str(port), "--workers", str(workers), stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    try:
        for _ in range(killed):
            await kill_the_first_worker(process)
        await logged(process, b"metrics at")
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def kill_the_first_worker(process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(120):
        while not (found := workers_of(program_pid(process.pid))):
            await asyncio.sleep(0.005)
    os.kill(found[0], signal.SIGKILL)
    async with asyncio.timeout(120):
        while found[0] in workers_of(program_pid(process.pid)):
            await asyncio.sleep(0.005)


async def logged(process: asyncio.subprocess.Process, word: bytes) -> None:
    assert process.stderr is not None
    seen = [b""]
    async with asyncio.timeout(120):
        while word not in seen[-1]:
            seen.append(await process.stderr.readline())
            assert seen[-1], b"it ended:" + b"".join(seen)


async def metrics(port: int) -> Callable[[str], float | None]:
    """Sums of the page of /metrics by selector."""

    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            return str(answer.read().decode())

    return partial(sample_sum_of_page, await asyncio.to_thread(read))


async def health(port: int) -> dict[str, object]:
    def read() -> dict[str, object]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=20) as answer:
            found: dict[str, object] = json.loads(answer.read())
            return found

    return await asyncio.to_thread(read)


async def until(port: int, selector: str, value: float) -> Callable[[str], float | None]:
    async with asyncio.timeout(120):
        while (shown := await metrics(port))(selector) != value:
            await asyncio.sleep(0.2)  # each page takes all workers' time
    return shown


def workers_of(parent: int) -> list[int]:
    """Process ids of what runs `gateway evaluate` below the parent."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            status, command = (path / "stat").read_text(), (path / "cmdline").read_bytes()
            if int(status.rpartition(")")[2].split()[1]) == parent and b"evaluate" in command:
                found.append(int(path.name))
    return sorted(found)


SCORED = 'gateway_eval_scores_total{scorer="length",status="scored"}'


@pytest.mark.skipif(sys.platform != "linux", reason="it looks for the workers in /proc")
async def test_workers_share_the_stream_and_one_that_dies_is_replaced(room, exchange, tally, tmp_path, port):
    first = [exchange("two words") for _ in range(600)]
    async with evaluating(room, tmp_path, port, 2) as process:
        await room.send(*first, tally(first))
        shown = await until(port, SCORED, 600.0)
        assert (shown("gateway_eval_workers"), shown("gateway_eval_worker_restarts")) == (2.0, 0.0)
        before = workers_of(program_pid(process.pid))
        assert len(before) == 2
        assert await health(port) == {"status": "ok", "version": __version__, "paused": "", "reasons": []}

        os.kill(before[0], signal.SIGKILL)
        await until(port, "gateway_eval_worker_restarts", 1.0)
        more = [exchange("one") for _ in range(600)]
        await room.send(*more, tally([*first, *more]))
        shown = await until(port, SCORED, 1200.0)
        assert shown("gateway_eval_unaccounted") == 0.0
        await until(port, "gateway_eval_workers", 2.0)
        assert len(workers_of(program_pid(process.pid))) == 2

        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert room.sql("SELECT count(*) FROM exchanges") == [(1200,)]
    assert room.sql("SELECT count(*) FROM scores") == [(2400,)]


@pytest.mark.skipif(sys.platform != "linux", reason="it looks for the workers in /proc")
async def test_a_worker_that_is_killed_before_it_is_ready_is_replaced(room, tmp_path, port):
    async with evaluating(room, tmp_path, port, 2, killed=1) as process:
        shown = await until(port, "gateway_eval_workers", 2.0)
        assert shown("gateway_eval_worker_restarts") == 1.0
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.server.page.encode())  # type: ignore[attr-defined]

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def page(text: str) -> Iterator[int]:
    """A server whose every answer is the text."""
    server = HTTPServer(("127.0.0.1", 0), _Page)
    server.page = text  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


WORKER = """# HELP gateway_eval_duplicates_total Exchanges
# TYPE gateway_eval_duplicates_total counter
gateway_eval_duplicates_total {}
# HELP gateway_eval_workers Workers
# TYPE gateway_eval_workers gauge
gateway_eval_workers 1.0
# HELP gateway_eval_failing_parts Parts
# TYPE gateway_eval_failing_parts gauge
gateway_eval_failing_parts {}
# HELP gateway_eval_scorer_blocked Blocked
# TYPE gateway_eval_scorer_blocked gauge
gateway_eval_scorer_blocked{{scorer="a"}} {}
gateway_eval_scorer_blocked{{scorer="b"}} 0.0
"""


def scrape(ports: list[int], restarts: int = 0) -> str:
    registry = CollectorRegistry()
    registry.register(WorkersCollector(ports, lambda: restarts))
    return generate_latest(registry).decode()


def test_totals_are_the_first_workers_and_trouble_is_of_any(port: int) -> None:
    with page(WORKER.format("7.0", "0.0", "0.0")) as one, page(WORKER.format("5.0", "2.0", "1.0")) as two:
        assert scrape([port, one, two]) == WORKER.format("7.0", "2.0", "1.0").replace("workers 1.0", "workers 2.0")


def test_health_has_the_reasons_of_all_workers(port: int) -> None:
    """`port`: of a worker that does not answer."""
    full = "scoring is paused: store: disk full"
    paused = json.dumps({"status": "paused", "paused": "store: disk full", "reasons": [full, "scorer a is blocked"]})
    other = json.dumps({"status": "paused", "paused": "store: disk full", "reasons": [full]})
    with page(paused) as one, page(other) as two:
        assert WorkersHealth([one, two, port])() == {
            "status": "paused",
            "version": __version__,
            "paused": "store: disk full",
            "reasons": [
                f"{full} (at 2 of 3 workers)",
                "scorer a is blocked (at 1 of 3 workers)",
                "a worker does not answer: it is starting, or is busy (at 1 of 3 workers)",
            ],
        }


def test_without_a_worker_that_answers_the_page_says_so(port: int) -> None:
    lines = scrape([port], restarts=3).splitlines()
    assert [line for line in lines if line[0] != "#"] == [
        "gateway_eval_workers 0.0",
        "gateway_eval_worker_restarts 3.0",
    ]
