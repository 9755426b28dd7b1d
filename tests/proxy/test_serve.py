"""`gateway serve` as it runs in production: how it starts, reloads, stops, and serves by several workers."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import socket
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.program_command import gateway_command
from fixtures.secret_of_draws import SECRET
from prometheus_client.parser import text_string_to_metric_families
from servers import bound_socket, free_port

from gateway.config.loading import load
from gateway.core.exchange import Exchange, Tally, from_fields
from gateway.fake import HOLD, FakeUpstream
from gateway.proxy.serve import WorkerProcess, is_loopback, server_settings
from gateway.runtime.progress import work_done
from gateway.stream import Corridor

Configured = Callable[..., dict[str, Any]]
BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - asked from this machine only
FAR = {"metrics": {"sha256": sha256(b"look").hexdigest()}}


@dataclass
class Program:
    """One `gateway serve`. corridor: what it records, read from outside."""

    process: asyncio.subprocess.Process
    log: Path
    config_path: Path
    corridor: Corridor

    @property
    def output(self) -> str:
        return self.log.read_text()

    @property
    def port(self) -> int:
        return int(re.findall(r"running on http://[^:]+:(\d+)", self.output)[0])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def workers(self) -> list[int]:
        return [int(pid) for pid in dict.fromkeys(re.findall(r"Started server process \[(\d+)\]", self.output))]

    async def until(self, holds: Callable[[], Any], timeout_s: float = 60) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.01)

    async def until_said(self, words: str, times: int = 1) -> None:
        await self.until(lambda: self.output.count(words) >= times)

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def call(self, **fields: Any) -> int:
        """The status of one call, on a connection of its own."""
        async with httpx2.AsyncClient(base_url=self.url, timeout=20) as client:
            return (await client.post("/v1/chat/completions", json=BODY | fields)).status_code

    async def get(self, path: str, key: str = "") -> httpx2.Response:
        async with httpx2.AsyncClient(base_url=self.url, headers={"x-api-key": key}) as client:
            return await client.get(path)

    async def accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def ended(self) -> int:
        async with asyncio.timeout(60):
            code = await self.process.wait()
        assert "Traceback" not in self.output, self.output
        return code

    async def records(self) -> tuple[list[Exchange], list[Tally]]:
        """Everything in the stream; for after the end."""
        await self.corridor.join()
        found = [from_fields(e.fields) for e in await self.corridor.read("test", 1000, 100)]
        return [r for r in found if isinstance(r, Exchange)], [r for r in found if isinstance(r, Tally)]


Serve = Callable[..., Any]


@pytest.fixture
async def serve(tmp_path: Path, stream_url: str, stream_name: str) -> AsyncIterator[Serve]:
    """Starts `gateway serve` with a config and further arguments. up: waits until it serves. The config is open,
    unless it says otherwise."""
    programs: list[Program] = []

    async def go(config: dict[str, Any], *more: str, up: bool = True, python: tuple[str, ...] = ()) -> Program:
        path, log = tmp_path / "gateway.yaml", tmp_path / "log"
        path.write_text(yaml.safe_dump({"open": True, **config, "keys": []}))
        words = ("serve", "--config", str(path), "--port", "0", *more)
        command = [sys.executable, *python, "-m", "gateway", *words] if python else gateway_command(*words)
        given = config.get("stream", {"url": stream_url, "name": stream_name})
        corridor = Corridor(given["url"], given.get("name", "gateway"))
        if config.get("experiments"):
            await corridor.state.set_draw_secret(SECRET)  # a consumer puts it there; here there is none
        with log.open("wb") as out:
            environ = {**os.environ, "TMPDIR": str(tmp_path)}  # what a killed parent leaves goes with the test
            process = await asyncio.create_subprocess_exec(*command, cwd=tmp_path, env=environ, stdout=out, stderr=out)
        program = Program(process, log, path, corridor)
        programs.append(program)
        if up:
            await program.until(lambda: "running on http" in program.output and "startup complete" in program.output)
        return program

    yield go
    for program in programs:
        if program.process.returncode is None:
            program.process.kill()
            await program.process.wait()
        await program.corridor.aclose()


async def read_until(lines: AsyncIterator[str], words: str) -> None:
    async for line in lines:
        if words in line:
            return
    raise AssertionError(f"the stream ended before {words!r}")


@contextlib.asynccontextmanager
async def streaming(program: Program) -> AsyncIterator[AsyncIterator[str]]:
    """A stream whose first words have come; gives its further lines."""
    async with (
        httpx2.AsyncClient(base_url=program.url, timeout=20) as client,
        client.stream("POST", "/v1/chat/completions", json=BODY | {"stream": True}) as reply,
    ):
        lines = reply.aiter_lines()
        await read_until(lines, "one ")
        yield lines


async def test_it_answers_soon_and_imports_nothing_of_the_other_room(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    program = await serve(configured(upstream, passthrough="u0"), python=("-X", "importtime"))
    assert await program.call() == 200
    assert await program.call(stream=True) == 200
    for path in ("/metrics", "/ready", "/v1/models", "/v1/files"):
        await program.get(path)
    program.tell(signal.SIGTERM)
    assert await program.ended() == 0
    imported = {
        line.rpartition("|")[2].strip().split(".")[0] for line in program.output.splitlines() if "import" in line
    }
    assert {"gateway", "uvicorn", "redis", "prometheus_client"} <= imported, "the list is one of what was imported"
    heavy = {"numpy", "scipy", "typer", "rich", "sqlalchemy", "alembic", "httpx2", "httpx", "jsonschema_rs", "openai"}
    assert imported & heavy == set()


async def test_it_serves_nobody_rather_than_everybody(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    program = await serve(configured(upstream, open=False), up=False)
    assert await program.ended() == 1
    assert "keys: none. Add one (name and sha256), add `admin` to make keys" in program.output
    assert "or set `open: true` to let everyone in" in program.output


async def test_a_part_that_cannot_open_is_named_and_ends_the_start(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    config = configured(upstream)
    config["upstreams"]["u0"]["ca_file"] = "/nowhere/ca.pem"
    program = await serve(config, up=False)
    assert await program.ended() == 1
    assert "upstreams.u0.ca_file: /nowhere/ca.pem: No such file" in program.output


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_port_in_use_is_said_and_ends_it(
    serve: Serve, configured: Configured, upstream: FakeUpstream, workers: str
) -> None:
    program = await serve(configured(upstream), "--port", str(upstream.port), "--workers", workers, up=False)
    assert await program.ended() == 1
    assert "ddress already in use" in program.output


@pytest.mark.parametrize(
    ("host", "is_one"),
    [
        ("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True),
        (EVERYWHERE, False), ("::", False), ("10.1.1.1", False), ("example.org", False), ("", False),
    ],
)  # fmt: skip
def test_loopback_is_this_machine_alone(host: str, is_one: bool) -> None:
    assert is_loopback(host) is is_one


def total(text: str, name: str, **labels: str) -> float:
    samples = [s for f in text_string_to_metric_families(text) for s in f.samples if s.name == name]
    return sum(s.value for s in samples if labels.items() <= s.labels.items())


def has_ended(pid: int) -> bool:
    """A process that its parent has not waited for yet has closed its files, too, once its last thread has ended."""
    try:
        ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
        return ended and len(list(Path(f"/proc/{pid}/task").iterdir())) == 1
    except (FileNotFoundError, ProcessLookupError):
        return True


async def scraped(url: str, name: str, wanted: float) -> str:
    """Scrapes until a metric has this value; it must never go back on the way. A new connection each time: any worker
    may answer."""
    last = -1.0
    async with asyncio.timeout(60):
        while last != wanted:
            async with httpx2.AsyncClient() as client:
                text = (await client.get(f"{url}/metrics")).text
            now = total(text, name)
            assert last <= now <= wanted
            last = now
    return text


async def test_beyond_loopback_metrics_and_detail_need_a_key(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    program = await serve(configured(upstream, **FAR), "--host", EVERYWHERE)
    for key in ("", "wrong", "test-key"):
        assert (await program.get("/metrics", key)).status_code == 401
        assert (await program.get("/ready", key)).json() == {"status": "ready"}
    assert "gateway_config_ok 1.0" in (await program.get("/metrics", "look")).text
    assert (await program.get("/ready", "look")).json()["targets"] == {"u0/model-u0": "ready"}
    assert (await program.get("/health")).status_code == 200


async def test_beyond_loopback_metrics_need_a_key(serve: Serve, configured: Configured, upstream: FakeUpstream) -> None:
    program = await serve(configured(upstream), "--host", EVERYWHERE)
    refused = await program.get("/metrics")
    assert refused.status_code == 401
    assert "set metrics.sha256 or metrics.bind" in refused.json()["error"]["message"]
    assert "without TLS: API keys and prompts travel in clear" in program.output


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_metrics_may_have_a_listener_of_their_own(
    serve: Serve, configured: Configured, upstream: FakeUpstream, workers: str
) -> None:
    port = free_port()
    config = configured(upstream, metrics={"bind": f"127.0.0.1:{port}"})
    program = await serve(config, "--host", EVERYWHERE, "--workers", workers)
    await program.until_said("Application startup complete", int(workers))
    assert await program.call() == 200
    own = f"http://127.0.0.1:{port}"
    await scraped(own, "gateway_requests_total", 1)
    async with httpx2.AsyncClient(base_url=own) as client:
        assert (await client.get("/ready")).json()["targets"] == {"u0/model-u0": "ready"}
        assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 404
    if workers == "2":
        await is_taken_over(program, own)
    far = await program.get("/metrics")
    assert far.status_code == 404, "with a listener of their own, the main port does not have them"
    program.tell(signal.SIGTERM)
    assert await program.ended() == 0
    assert "ERROR" not in program.output


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_gateway_says_that_it_runs_once_it_answers(
    serve: Serve, configured: Configured, upstream: FakeUpstream, workers: str
) -> None:
    """Each line of its life is one JSON object, the server's included, and is there once. A model that retires is
    logged once, not by each worker; and every worker's gauge of it is one series.
    """
    url, day = f"127.0.0.1:{free_port()}", datetime.now(UTC).date() - timedelta(days=3)
    config = configured(upstream, metrics={"bind": url})
    config["models"]["chat"]["targets"][0]["retires"] = day
    program = await serve(config, "--workers", workers, up=False)
    await program.until_said("running on http")
    assert await program.accepts()
    await program.until_said("running on http", int(workers))
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
    await scraped(f"http://{url}", "gateway_target_retires_timestamp_seconds", midnight)
    program.tell(signal.SIGTERM)
    assert await program.ended() == 0
    lines = [json.loads(line) for line in program.output.splitlines()]
    assert {line["logger"] for line in lines} >= {"gateway", "uvicorn"}
    assert "uvicorn.error" not in {line["logger"] for line in lines}
    counts = Counter(line["message"] for line in lines)
    for lifecycle in ("running on http", "Started server process", "Finished server process"):
        assert [n for message, n in counts.items() if lifecycle in message] == [1] * int(workers), counts
    [said] = [line["message"] for line in lines if "retired " in line["message"]]
    assert f"days ago ({day}); 1 alias: chat; successor: none is listed" in said


async def is_taken_over(program: Program, url: str) -> None:
    """The worker that replaces a dead one which had the listener has it next."""
    for i in range(2):  # one of them is the one
        os.kill(program.workers[i], signal.SIGKILL)
        await program.until_said("Application startup complete", 3 + i)
    await scraped(url, "gateway_requests_total", 1)


async def test_a_metrics_listener_that_cannot_be_opened_ends_the_start(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    program = await serve(configured(upstream, metrics={"bind": f"127.0.0.1:{upstream.port}"}), up=False)
    assert await program.ended() == 1
    assert f"metrics.bind: 127.0.0.1:{upstream.port} cannot be bound" in program.output


LISTENING, ESTABLISHED = "0A", "01"


def sockets(pid: int, port: int, state: str) -> int:
    """Number of sockets on the port that a process has in this state (proc(5): tcp's columns are address, state,
    inode)."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    inodes = {line[9] for line in lines if line[1].endswith(f":{port:04X}") and line[3] == state}
    held: set[str] = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            held |= set(re.findall(r"socket:\[(\d+)\]", os.readlink(fd)))
    return len(held & inodes)


async def test_workers_listen_for_themselves_and_share_connections(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    """The kernel's hash gives each of two workers at least 10 of 64 connections, except with probability below 1e-7."""
    program = await serve(configured(upstream), "--workers", "2")
    await program.until(lambda: [sockets(pid, program.port, LISTENING) for pid in program.workers] == [1, 1])
    async with contextlib.AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(httpx2.AsyncClient(base_url=program.url, timeout=60)) for _ in range(64)
        ]
        for _ in range(2):
            answers = await asyncio.gather(*(c.post("/v1/chat/completions", json=BODY) for c in clients))
            assert [answer.status_code for answer in answers] == [200] * 64
        counts = [sockets(pid, program.port, ESTABLISHED) for pid in program.workers]
        assert sum(counts) == 64
        assert min(counts) >= 10, counts
    program.tell(signal.SIGTERM)
    assert await program.ended() == 0


async def test_a_scrape_has_the_exemplars_of_all_workers(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    """Also those of a worker that was killed: prometheus_client would keep none where several count."""
    program = await serve(configured(upstream, otel={"endpoint": "http://127.0.0.1:9"}), "--workers", "2")
    await program.until_said("Application startup complete", 2)
    asked = {"accept": "application/openmetrics-text;version=1.0.0"}
    for _ in range(20):
        assert await program.call() == 200
    os.kill(program.workers[0], signal.SIGKILL)
    async with httpx2.AsyncClient() as client, asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx2.TransportError):
                page = (await client.get(f"{program.url}/metrics", headers=asked)).text
                if any("trace_id=" in line and "duration_seconds_bucket" in line for line in page.splitlines()):
                    break
            await asyncio.sleep(0.1)
    assert page.endswith("# EOF\n")


async def test_a_scrape_covers_all_workers_and_a_killed_one(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    program = await serve(configured(upstream), "--workers", "2")
    await program.until_said("Application startup complete", 2)
    for i in range(40):
        assert await program.call(model="chat" if i % 4 else f"unknown-{i}") in (200, 404)
    text = await scraped(program.url, "gateway_requests_total", 30)
    assert "unknown-" not in text
    assert total(text, "gateway_refused_total", code="model_not_found") == 10
    assert total(text, "gateway_config_ok") == 1
    killed = program.workers[0]
    os.kill(killed, signal.SIGKILL)
    await program.until(lambda: has_ended(killed))  # until then it still gets connections
    for _ in range(10):
        await scraped(program.url, "gateway_requests_total", 30)
    await program.until_said("Application startup complete", 3)
    for _ in range(12):
        assert await program.call() == 200
    await scraped(program.url, "gateway_worker_restarts", 1)
    text = await scraped(program.url, "gateway_requests_total", 42)
    workers = {f'"{pid}"' for pid in (killed, *program.workers)}
    assert not [label for label in workers if label in text], "no worker's id is a label value"
    assert "pid=" not in text
    assert total(text, "gateway_inflight_requests") == 0

    program.tell(signal.SIGTERM)
    assert await program.ended() == 0
    exchanges, tallies = await program.records()
    assert len({e.id for e in exchanges}) == len(exchanges) == 42
    assert len({e.incarnation for e in exchanges}) <= 3
    assert len({t.incarnation for t in tallies if t.final}) == 2, "the killed one could not say good-bye"


@pytest.fixture
def worker(tmp_path: Path, configured: Configured, upstream: FakeUpstream) -> Iterator[WorkerProcess]:
    """A worker without a parent, which is not started; its application is empty."""
    path = tmp_path / "gateway.yaml"
    path.write_text(yaml.safe_dump(configured(upstream)))
    settings = server_settings("starlette.applications:Starlette", load(path), "127.0.0.1", 0, 2)
    with contextlib.closing(bound_socket()) as sock:
        process = WorkerProcess(settings, [sock])
        yield process
        process.process.kill()
        process.join()
        process.kill()  # closes its pipe


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(60):
        while not holds():
            await asyncio.sleep(0.005)


async def stop(process: WorkerProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGSTOP)
    status = Path(f"/proc/{process.pid}/stat")
    await until(lambda: status.read_text().rpartition(")")[2].split()[0] == "T")


async def test_a_worker_that_dies_while_it_is_pinged_is_noticed_at_once(worker: WorkerProcess) -> None:
    worker.start()
    await stop(worker)
    assert [worker.trouble(now) for now in (0.0, 0.5)] == ["", ""]
    await until(worker.child_conn.poll)  # nobody reads the ping
    worker.process.kill()
    worker.process.join()
    assert worker.trouble(1.0) == "died (SIGKILL)"


async def test_a_worker_that_starts_slowly_is_judged_by_its_progress(worker: WorkerProcess) -> None:
    """A process that computes for hours stands for a slow start, and once it is stopped for one that hangs."""
    worker.process = get_context("spawn").Process(target=sum, args=(range(10**15),))
    worker.start()
    assert worker.trouble(0.0) == ""
    for minute in range(1, 5):
        before = work_done(worker.pid or 0)
        await until(lambda before=before: work_done(worker.pid or 0) != before)
        assert worker.trouble(60.0 * minute) == ""
    await stop(worker)
    worker.trouble(245.0)  # may see work that was done before the stop
    assert worker.trouble(269.0) == ""
    assert worker.trouble(276.0).startswith("has not started and is killed: it made no progress for 3")


async def test_a_worker_that_answered_once_must_go_on_answering(worker: WorkerProcess) -> None:
    worker.start()
    worker.trouble(0.0)
    await until(worker.parent_conn.poll)
    assert worker.trouble(1.0) == ""
    await stop(worker)
    worker.trouble(2.0)  # may read an answer that came before the stop
    assert worker.trouble(30.0) == ""
    assert re.fullmatch("has not answered for 3[12] s and is killed", worker.trouble(33.0))


@pytest.mark.long
async def test_a_worker_that_hangs_is_replaced_in_words_of_its_own(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    program = await serve(configured(upstream), "--workers", "2")
    await program.until_said("Application startup complete", 2)
    os.kill(program.workers[0], signal.SIGSTOP)
    calls = await asyncio.gather(*(program.call() for _ in range(40)), return_exceptions=True)
    assert calls.count(200) >= 1, "the other worker gets none of 40 calls in one of 10^12 runs"
    assert {type(call) for call in calls if call != 200} <= {httpx2.ReadError, httpx2.ReadTimeout}
    await program.until(lambda: f"worker {program.workers[0]} has not answered for 3" in program.output, 90)
    await program.until_said("Application startup complete", 3)
    assert "died" not in program.output
    assert await program.call() == 200


async def test_every_worker_reloads_and_keeps_its_streams_until_it_stops(
    serve: Serve, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Workers that stop let what is in flight finish."""
    program = await serve(configured(upstream), "--workers", "2")
    await program.until_said("Application startup complete", 2)
    upstream.says("one ", HOLD, "two")
    async with streaming(program) as lines:
        program.config_path.write_text(yaml.safe_dump({**configured(second), "keys": [], "open": True}))
        program.tell(signal.SIGHUP)
        await program.until_said("config reloaded", 2)
        for _ in range(8):
            assert await program.call() == 200
        upstream.release()
        await read_until(lines, "two")
        await read_until(lines, "[DONE]")
    assert (len(upstream.calls), len(second.calls)) == (1, 8)
    assert len(program.workers) == 2, "no worker was restarted"
    second.says("one ", HOLD, "two")
    async with streaming(program) as lines:
        program.tell(signal.SIGTERM)
        await program.until_said("Shutting down", 2)
        second.release()
        await read_until(lines, "two")
        await read_until(lines, "[DONE]")
    assert await program.ended() == 0
    exchanges, tallies = await program.records()
    assert [exchange.outcome for exchange in exchanges] == ["ok"] * 10
    assert len({t.incarnation for t in tallies if t.final}) == 2


async def test_a_replaced_worker_has_the_config_and_ends_with_its_parent(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    """Leftover workers end by themselves: nothing else would stop them, and they would keep the port."""
    program = await serve(configured(upstream), "--workers", "2")
    await program.until_said("Application startup complete", 2)
    program.config_path.write_text("nonsense: true")
    await program.until_said("is refused", 2)
    for worker in program.workers[:2]:
        os.kill(worker, signal.SIGKILL)
    await program.until_said("Application startup complete", 4)
    assert await program.call() == 200
    assert total((await program.get("/metrics")).text, "gateway_config_ok") == 0
    assert "Traceback" not in program.output
    program.tell(signal.SIGKILL)
    await program.process.wait()
    await program.until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in program.workers))
    assert not await program.accepts()


async def test_workers_that_still_start_do_not_outlive_their_parent(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    """The parent is killed between a worker's start and the moment from which it looks for its parent."""
    program = await serve(configured(upstream), "--workers", "2", up=False)
    await program.until_said("Started server process", 1)
    program.tell(signal.SIGKILL)
    await program.process.wait()
    await program.until(lambda: all(map(has_ended, program.workers)))


async def test_sighup_puts_the_file_in_force_at_once(
    serve: Serve, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    program = await serve(configured(upstream))
    upstream.says("one ", HOLD, "two")
    async with streaming(program) as lines:
        program.config_path.write_text(yaml.safe_dump({**configured(second), "keys": [], "open": True}))
        program.tell(signal.SIGHUP)
        await program.until_said("config reloaded")
        assert await program.call() == 200
        upstream.release()
        await read_until(lines, "two")
        await read_until(lines, "[DONE]")
    program.config_path.write_text("nonsense: true")
    program.tell(signal.SIGHUP)
    await program.until_said("is refused")
    assert "gateway_config_ok 0.0" in (await program.get("/metrics")).text
    assert await program.call() == 200
    assert len(second.calls) == 2
    program.tell(signal.SIGTERM)
    assert await program.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_stopping_gateway_lets_what_is_in_flight_finish(
    serve: Serve, configured: Configured, upstream: FakeUpstream, number: signal.Signals
) -> None:
    program = await serve(configured(upstream))
    upstream.says("one ", HOLD, "two")
    async with streaming(program) as lines:
        program.tell(number)
        await program.until_said("Shutting down")
        assert not await program.accepts()
        upstream.release()
        await read_until(lines, "two")
        await read_until(lines, "[DONE]")
    assert await program.ended() == 0
    [exchange], tallies = await program.records()
    assert exchange.outcome == "ok"
    assert tallies[-1].final
    assert (tallies[-1].last_seq, tallies[-1].incarnation) == (1, exchange.incarnation)
    assert sum(c.n for c in tallies[-1].enqueued) == 1


async def test_a_stream_longer_than_the_drain_ends_with_an_error(
    serve: Serve, configured: Configured, upstream: FakeUpstream, events: Callable[[bytes], list[Any]]
) -> None:
    program = await serve(configured(upstream, limits={"drain_s": 1}))
    upstream.says("one ", HOLD, "two")
    async with httpx2.AsyncClient(base_url=program.url) as client:
        plain = asyncio.get_running_loop().create_task(client.post("/v1/chat/completions", json=BODY))
        await upstream.until(lambda u: len(u.calls) == 1)
        async with client.stream("POST", "/v1/chat/completions", json=BODY | {"stream": True}) as reply:
            lines = reply.aiter_lines()
            await read_until(lines, "one ")
            program.tell(signal.SIGTERM)
            rest = [line async for line in lines]
        assert (await plain).status_code == 503
    assert (await plain).headers["retry-after"]
    output = events("\n\n".join(rest).encode())
    assert "stopping" in output[-1]["error"]["message"]
    assert "[DONE]" not in output
    assert await program.ended() == 0
    exchanges, tallies = await program.records()
    assert [e.outcome for e in exchanges] == ["cut", "cut"]
    assert {a.failure for e in exchanges for a in e.attempts} == {"gateway stopped"}
    assert tallies[-1].final
    assert tallies[-1].last_seq == 2
    assert upstream.cancelled == 2


async def test_a_client_that_does_not_read_does_not_hold_up_the_stop(
    serve: Serve, configured: Configured, upstream: FakeUpstream
) -> None:
    upstream.says(*["x" * 100_000] * 200)
    timeouts = {"timeouts": {"total_s": 3600, "idle_s": 3600}}  # longer than the test
    program = await serve(configured(upstream, limits={"drain_s": 1}, chat=timeouts))
    with socket.create_connection(("127.0.0.1", program.port)) as client:
        body = json.dumps(BODY | {"stream": True}).encode()
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body
        )
        await asyncio.to_thread(client.recv, 100)
        program.tell(signal.SIGTERM)
        assert await program.ended() == 0
    [exchange], _ = await program.records()
    assert exchange.outcome == "cut"


async def test_a_second_interrupt_does_not_wait(serve: Serve, configured: Configured, upstream: FakeUpstream) -> None:
    program = await serve(configured(upstream))
    upstream.says("one ", HOLD, "two")
    async with streaming(program):
        program.tell(signal.SIGINT)
        await program.until_said("Shutting down")
        program.tell(signal.SIGINT)
        async with asyncio.timeout(60):
            await program.process.wait()


async def test_a_shadow_in_progress_does_not_hold_up_the_stop(
    serve: Serve, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """The shadow is given up, and counts neither as an answer of the candidate nor as its failure."""
    experiment = {
        "model": "chat",
        "control": {"upstream": "u0", "model": "model-u0"},
        "candidate": {"upstream": "u1", "model": "model-u1"},
        "shadow": 1.0,
        "repeat_control": 0.0,
        "aa": "proof",
    }
    program = await serve(configured(upstream, second, chat={"fallback": []}, experiments={"swap": experiment}))
    second.says(HOLD, "late")
    async with httpx2.AsyncClient(base_url=program.url) as client:
        assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
        await second.until(lambda u: len(u.calls) == 1)
    program.tell(signal.SIGTERM)
    assert await program.ended() == 0
    [exchange], tallies = await program.records()
    assert exchange.role == "served"
    last = tallies[-1]
    assert last.final
    assert sum(c.n for c in last.sampled) == sum(c.n for c in last.enqueued) == last.last_seq == 1


async def test_a_stream_server_that_is_gone_does_not_hold_up_the_stop(
    start: Any, configured: Configured, stream_server: Any, upstream: FakeUpstream
) -> None:
    """Appending is tried for a while; records that could not be appended count as lost."""
    gateway = await start(configured(upstream, stream={"url": stream_server.url, "name": "gone"}), flush_s=0.1)
    recorder = gateway.gateway.recorder
    stream_server.kill()
    for _ in range(3):
        assert (await gateway.chat()).status_code == 200
    gateway.server.should_exit = True
    await gateway.until(lambda: sum(recorder.ledger.dropped.values()) == 3)
    assert {cell[4] for cell in recorder.ledger.dropped} == {"shutdown"}
    assert recorder.waiting == 0


SECRETS = ("sk-secret-key", "my-own-words", "in-a-header")


@pytest.mark.parametrize("access", [True, False])
async def test_the_access_log_holds_numbers_and_no_content(
    serve: Serve, upstream: FakeUpstream, configured: Configured, access: bool
) -> None:
    program = await serve(configured(upstream, log={"access": access}), "--workers", "2" if access else "1")
    messages = [{"role": "user", "content": "my-own-words"}]
    async with httpx2.AsyncClient(base_url=program.url, timeout=20) as client:
        head = {"authorization": "Bearer sk-secret-key", "x-odd": "in-a-header"}
        answer = await client.post("/v1/chat/completions", json=BODY | {"messages": messages}, headers=head)
        missing = await client.post("/v1/chat/completions", json=BODY | {"model": "my-own-words"}, headers=head)
    assert (answer.status_code, missing.status_code) == (200, 404)
    program.tell(signal.SIGTERM)
    await program.ended()
    output = [json.loads(line) for line in program.output.splitlines() if line.startswith("{")]
    lines = {line["id"]: line for line in output if line["logger"] == "gateway.access"}
    assert not any(secret in program.output for secret in SECRETS)
    if not access:
        assert lines == {}
        return
    good, bad = lines[answer.headers["x-request-id"]], lines[missing.headers["x-request-id"]]
    assert (good["alias"], good["status"], good["outcome"], good["attempts"]) == ("chat", 200, "ok", 1)
    assert good["output_tokens"] == answer.json()["usage"]["completion_tokens"]
    assert 0 < good["total_s"] < 20
    assert (bad["alias"], bad["status"], bad["error"]) == (None, 404, "model_not_found")
