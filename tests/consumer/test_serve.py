"""`gateway evaluate` as a program: it scores, shows its metrics, stops in order, and goes on where it was."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import resource
import signal
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.metric_samples import sample_sum_of_page
from fixtures.program_command import gateway_command, program_pid
from fixtures.stores import WAITING
from sqlalchemy import make_url, text

from gateway.config.loading import load_for_consumer
from gateway.config.scorers import ScorerConfig
from gateway.consumer.consumer import ConsumerTiming
from gateway.consumer.serve import ConfigWatch
from gateway.features.consumer_report import ConsumerReport
from gateway.scoring.registry import build
from gateway.store import engine

Start = Callable[..., contextlib.AbstractAsyncContextManager[asyncio.subprocess.Process]]


@pytest.fixture
def port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def upstream_settings() -> dict[str, object]:
    """Further members of the config's upstream; a test can override it."""
    return {}


@pytest.fixture
def sections() -> dict[str, object]:
    """Sections of the config that replace those of `start`."""
    return {}


@pytest.fixture
def start(room, tmp_path: Path, port: int, upstream_settings: dict[str, object], sections: dict[str, object]) -> Start:
    """Starts `gateway evaluate` on the stream and store of `room`."""
    path = tmp_path / "gateway.yaml"
    config = {
        "open": True,
        "upstreams": {"local": {"kind": "vllm", "base_url": "http://127.0.0.1:1/v1", **upstream_settings}},
        "models": {"chat": {"targets": [{"upstream": "local", "model": "small"}]}},
        "stream": {"url": room.stream_url, "name": room.stream_name},
        "scorers": {"length": {}, "refusal": {}},
        **sections,
    }
    path.write_text(yaml.safe_dump(config))
    words = ["evaluate", "--config", str(path), "--data", str(tmp_path / "data"), "--metrics-port", str(port)]

    @contextlib.asynccontextmanager
    async def running(on_line: Callable[[bytes], object] = lambda _: None) -> AsyncIterator[asyncio.subprocess.Process]:
        process = await asyncio.create_subprocess_exec(
            *gateway_command(*words), stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        )  # fmt: skip
        try:
            assert process.stderr is not None
            async with asyncio.timeout(60):
                while b"metrics at" not in (line := await process.stderr.readline()):
                    assert line, "it ended before it was ready"
                    on_line(line)
            yield process
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    return running


async def metric(port: int, selector: str) -> float:
    def read() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
            return str(answer.read().decode())

    found = sample_sum_of_page(await asyncio.to_thread(read), selector)
    return math.nan if found is None else found


async def until(port: int, selector: str, value: float) -> None:
    async with asyncio.timeout(60):
        while await metric(port, selector) != value:
            await asyncio.sleep(0.1)


async def logged(process: asyncio.subprocess.Process, word: bytes) -> None:
    async with asyncio.timeout(60):
        while word not in (line := await process.stderr.readline()):
            assert line, "it ended"


SCORED = 'gateway_eval_scores_total{scorer="length",status="scored"}'


async def test_it_scores_stops_in_order_and_continues(room, exchange, tally, start, port):
    first = [exchange("two words") for _ in range(3)]
    async with start() as process:
        await room.send(*first, tally(first))
        await until(port, SCORED, 3.0)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert await room.corridor.state.consumers() == {}

    more = [exchange("one") for _ in range(2)]
    async with start() as process:
        await until(port, SCORED, 3.0)
        await room.send(*more, tally([*first, *more]))
        await until(port, SCORED, 5.0)
        assert await metric(port, "gateway_eval_unaccounted") == 0.0
        process.send_signal(signal.SIGINT)
        assert await process.wait() == 0
    assert room.sql("SELECT count(*) FROM exchanges") == [(5,)]


async def test_a_changed_config_is_put_in_force_between_two_batches(room, exchange, start, port, tmp_path):
    """A scorer that is added scores what comes next; a config that is refused is named and changes nothing."""
    path = tmp_path / "gateway.yaml"

    async def says() -> ConsumerReport:
        state = room.corridor.state
        names = list(await state.consumers())
        return ConsumerReport.from_json(await state.recall(f"report:{names[-1]}") if names else None)

    async with start() as process:
        await room.send(exchange("two words"))
        await until(port, SCORED, 1.0)
        config = yaml.safe_load(path.read_text())
        path.write_text(yaml.safe_dump({**config, "scorers": {"length": {}, "latency": {}}}))
        await logged(process, b"config reloaded")
        await room.send(exchange("two words"))
        await until(port, SCORED.replace("length", "latency"), 1.0)
        await until(port, SCORED, 2.0)
        path.write_text(yaml.safe_dump({**config, "scorers": {"length": {"no_such_option": 1}}}))
        await logged(process, b"the previous one stays in force")
        async with asyncio.timeout(60):
            while "no_such_option" not in (await says()).config_refused:
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0


async def test_a_killed_consumer_loses_and_repeats_nothing(room, exchange, tally, start, port):
    """The entries that it held when it was killed are claimed; the store then holds each exchange once."""
    sent = [exchange("some words") for _ in range(4000)]
    for at in range(0, len(sent), 200):
        await room.send(*sent[at : at + 200])
    await room.send(tally(sent))
    async with start() as process:
        await room.until(lambda: (Path(room.store_url.removeprefix("sqlite:///"))).exists())
        await room.until(lambda: room.sql("SELECT count(*) FROM exchanges") > [(0,)])
        process.kill()
    killed_at = room.sql("SELECT count(*) FROM exchanges")[0][0]
    assert killed_at < 4000, "it was done before it was killed"

    room.scorers = build({"length": ScorerConfig(), "refusal": ScorerConfig()})
    pace = ConsumerTiming(block_ms=20, tick_s=0.0, claim_s=0.0, heartbeat_s=0.05, claim_idle_ms=0)
    async with room.consuming("heir", pace):
        await room.until_read()
    assert room.sql("SELECT count(*) FROM exchanges") == [(4000,)]
    assert {cell.key.scorer: cell.n["scored"] for cell in room.cells()} == {"length": 4000, "refusal": 4000}
    assert room.snapshot().unaccounted == 0


@pytest.fixture
def on_postgres(postgres_url: str, sections: dict[str, object]) -> str:
    """The consumer's store is on PostgreSQL. Before `start` in a test's arguments."""
    sections["store"] = {"url": postgres_url}
    return postgres_url


@pytest.fixture
def paused_postgres(postgres_server: Any, sections: dict[str, object]) -> int:
    """The consumer's store is on a PostgreSQL of its own: the id of its process, which a test may pause."""
    sections["store"] = {"url": postgres_server.new()}
    return int(postgres_server.pid)


async def test_it_waits_for_a_postgresql_that_is_paused_at_its_start(paused_postgres, start, port, room, exchange):
    def resume(line: bytes) -> None:
        if b"the store cannot be opened, so nothing is scored" in line:
            os.kill(paused_postgres, signal.SIGCONT)

    os.kill(paused_postgres, signal.SIGSTOP)
    try:
        async with start(resume):
            await room.send(exchange("one"))
            await until(port, SCORED, 1.0)
    finally:
        os.kill(paused_postgres, signal.SIGCONT)


def health(port: int) -> dict[str, str]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=60) as answer:
        found: dict[str, str] = json.loads(answer.read())
        return found


async def test_a_full_disk_is_one_line_and_scoring_continues_later(room, exchange, start, port):
    """The process may not write beyond a few kilobytes of its store, as on a full disk."""
    lines: list[bytes] = []

    async def until_logged(word: bytes) -> None:
        async with asyncio.timeout(60):
            while not lines or word not in lines[-1]:
                lines.append(await process.stderr.readline())
                assert lines[-1], "it ended"

    async with start() as process:
        await room.send(exchange("one"))
        await until(port, SCORED, 1.0)
        pid = program_pid(process.pid)
        most = resource.prlimit(pid, resource.RLIMIT_FSIZE)[1]
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (4096, most))
        await room.send(*[exchange("two words") for _ in range(32)])
        await until_logged(b"scoring paused")
        said = await asyncio.to_thread(health, port)
        assert (said["status"], said["reasons"]) == ("paused", [f"scoring is paused: {said['paused']}"])
        assert said["paused"].startswith("store: OperationalError: ")
        assert await metric(port, "gateway_eval_failing_parts") == 1.0
        await asyncio.sleep(1)  # it is tried again several times meanwhile
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (most, most))
        await until_logged(b"scoring resumed")
        await until(port, SCORED, 33.0)
        assert (await asyncio.to_thread(health, port))["reasons"] == []
        process.send_signal(signal.SIGTERM)
        lines += (await asyncio.wait_for(process.stderr.read(), 60)).splitlines()
        assert await process.wait() == 0
    text = b"\n".join(lines)
    assert text.count(b"scoring paused") == 1
    assert b"Traceback" not in text


async def test_a_consumer_that_stops_in_an_outage_claims_nothing(on_postgres, start, port, room, exchange):
    """One line and /health say why it is paused, and the last line that the entries stay in the stream; there is no
    traceback."""
    other = engine.connect_writer(on_postgres)
    async with start() as process:
        assert (await asyncio.to_thread(health, port))["status"] == "ok"
        with other.begin() as connection:
            connection.execute(text("ALTER TABLE exchanges RENAME TO away"))
        await room.send(exchange("one"))
        await logged(process, b"scoring paused; retrying")
        said = await asyncio.to_thread(health, port)
        assert (said["status"], "exchanges" in said["paused"]) == ("paused", True)
        process.send_signal(signal.SIGTERM)
        rest = await asyncio.wait_for(process.stderr.read(), 60)
        assert await process.wait() == 0
    other.dispose()
    assert b"scoring stopped while it was paused; entries stay in the stream: store: " in rest
    assert b"Traceback" not in rest
    assert (await room.corridor.lag()).pending == 1


@pytest.mark.long  # it waits for 25 s
async def test_it_stops_while_postgresql_does_not_answer(on_postgres, start, room, exchange):
    """A write waits, and its thread cannot be cancelled: the process ends before a service manager kills it."""
    other = engine.connect_writer(on_postgres)
    async with start() as process:
        with other.begin() as connection:
            connection.execute(text("LOCK TABLE exchanges"))
            await room.send(exchange("one"))
            with other.connect() as watch:
                async with asyncio.timeout(60):
                    while not watch.execute(text(WAITING)).scalar():
                        await asyncio.sleep(0.02)
            began = time.monotonic()
            process.send_signal(signal.SIGTERM)
            await logged(process, b"entries in progress were not stored within 25 s")
            assert await process.wait() == 1
            assert time.monotonic() - began >= 25
    other.dispose()


async def test_a_port_that_is_taken_is_said(start, port):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        taken.listen()
        with pytest.raises(AssertionError, match="ended before"):
            async with start():
                pass


class TestWithoutTheUpstreamsSecrets:
    @pytest.fixture
    def upstream_settings(self, tmp_path: Path) -> dict[str, object]:
        """Secrets in variables and files that are not there, and in a pipe: a program that reads it waits forever."""
        pipe = tmp_path / "secret"
        os.mkfifo(pipe)
        headers = {"x-team": "${file:/nowhere/else}", "x-plain": "plain"}
        return {"api_key": "${NOT_SET_ANYWHERE}", "ca_file": f"${{file:{pipe}}}", "headers": headers}

    async def test_it_scores_without_them(self, room, exchange, tally, start, port):
        sent = [exchange("two words")]
        async with start() as process:
            await room.send(*sent, tally(sent))
            await until(port, SCORED, 1.0)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0


class TestWithAStreamServerThatVanishes:
    """Packets are dropped, and nothing is acknowledged or refused."""

    @pytest.fixture
    async def peer(self, room, vanishing) -> AsyncIterator[Any]:
        """A peer in front of the server, which can go away."""
        async with vanishing(room.stream_url.removeprefix("unix://")) as peer:
            yield peer

    @pytest.fixture
    def sections(self, room, peer) -> dict[str, object]:
        """Config sections that reach the stream server through `peer`."""
        return {"stream": {"url": f"redis://127.0.0.1:{peer.port}/0", "name": room.stream_name}}

    async def test_it_continues_when_the_server_is_back_and_stops_without_it(self, room, exchange, start, port, peer):
        async with start() as process:
            await room.send(exchange("two words"))
            await until(port, SCORED, 1.0)
            peer.vanish()
            await room.send(exchange("two words"))
            await logged(process, b"stream server")
            peer.appear()
            await until(port, SCORED, 2.0)
            peer.vanish()
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(40):
                assert await process.wait() == 0


@pytest.mark.long
class TestWithAStoreThatVanishes:
    @pytest.fixture
    async def peer(self, postgres, vanishing) -> AsyncIterator[Any]:
        """A peer in front of the server, which can go away."""
        async with vanishing(f"{postgres.directory}/.s.PGSQL.5432") as peer:
            yield peer

    @pytest.fixture
    def sections(self, peer, postgres_url) -> dict[str, object]:
        """tcp_user_timeout and connect_timeout are shorter than ours, of 15 and 5 s."""
        database = make_url(postgres_url).database
        short = "tcp_user_timeout=500&connect_timeout=2&sslmode=disable"
        return {"store": {"url": f"postgresql://assay@127.0.0.1:{peer.port}/{database}?{short}"}}

    async def test_it_continues_when_the_store_is_back_and_stops_without_it(self, room, exchange, start, port, peer):
        async with start() as process:
            await room.send(exchange("two words"))
            await until(port, SCORED, 1.0)
            peer.vanish()
            await room.send(exchange("two words"))
            await logged(process, b"store")
            peer.appear()
            await until(port, SCORED, 2.0)
            peer.vanish()
            await room.send(exchange("two words"))
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(40):
                assert await process.wait() == 0


TEXT = """
open: true
upstreams: {local: {kind: vllm, base_url: "http://127.0.0.1:1/v1"}}
models: {chat: {targets: [{upstream: local, model: small}]}}
"""
MORE = TEXT + "scorers: {length: {}}\n"


@pytest.fixture
def path(tmp_path):
    """The path of a gateway.yaml."""
    file = tmp_path / "gateway.yaml"
    file.write_text(TEXT)
    return file


def watch(path, check_s=0.01):
    return ConfigWatch(path, load_for_consumer(path), check_s=check_s)


async def test_a_changed_file_is_the_next_config(path):
    watching = watch(path)
    path.write_text(MORE)
    async with asyncio.timeout(30):
        assert list((await watching.changed()).scorers) == ["length"]
    assert watching.refused == ""


async def test_a_refused_file_is_named_until_it_is_mended(path, caplog):
    watching = watch(path)
    path.write_text(TEXT + "scorers: {lenght: 3}\n")
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        changed = tasks.create_task(watching.changed())
        while not watching.refused:
            await asyncio.sleep(0.01)
        assert "scorers.lenght" in watching.refused
        path.write_text(MORE)
        await changed
    assert watching.refused == ""
    assert "the previous one stays in force" in caplog.text


async def test_a_signal_rereads_the_file_and_equal_text_changes_nothing(path):
    watching = watch(path, check_s=3600)
    async with asyncio.TaskGroup() as tasks, asyncio.timeout(30):
        changed = tasks.create_task(watching.changed())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        await asyncio.sleep(0.2)
        assert not changed.done()
        path.write_text(MORE)
        os.kill(os.getpid(), signal.SIGHUP)
        assert list((await changed).scorers) == ["length"]
