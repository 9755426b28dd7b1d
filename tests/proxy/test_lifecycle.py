"""From one config to the next, and to the end: hot reload, and a stop that loses nothing."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml

from gateway.config import parse
from gateway.exchange import Exchange, Tally, from_fields
from gateway.fake import HOLD, Delay, FakeUpstream, Fault
from gateway.stream import Corridor

Configured = Callable[..., dict[str, Any]]
BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}]}


@pytest.fixture(autouse=True)
def nothing_failed(caplog: pytest.LogCaptureFixture) -> Any:
    """What goes wrong unseen is said in the log, and nowhere else."""
    yield
    wrong = [r.getMessage() for r in caplog.records if r.exc_info or "ASGI" in r.getMessage()]
    assert not wrong


async def put_in_force(gateway: Any, config: dict[str, Any]) -> None:
    """Changes the file, and waits until its config, or its refusal, has taken the place of what was."""
    before = gateway.gateway
    gateway.write(config)
    await gateway.until(lambda: gateway.gateway is not before)


async def refused(gateway: Any, caplog: pytest.LogCaptureFixture, text: str) -> str:
    """Writes a file that must be refused; gives what the log says of it."""
    caplog.clear()
    gateway.config_path.write_text(text)
    await gateway.until(lambda: "is refused" in caplog.text)
    return caplog.text


async def read_until(lines: AsyncIterator[str], words: str) -> None:
    async for line in lines:
        if words in line:
            return
    raise AssertionError(f"the stream ended before {words!r}")


# ── a changed file ──


async def test_a_changed_file_is_in_force_without_a_restart(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    config = configured(upstream, second)
    gateway = await start(config)
    assert (await gateway.chat(model="new")).status_code == 404

    config["models"]["new"] = {"targets": [{"upstream": "u1", "model": "newer"}]}
    await put_in_force(gateway, config)

    assert (await gateway.chat(model="new")).status_code == 200
    assert (await gateway.chat()).status_code == 200
    assert second.calls[0].json["model"] == "newer"
    assert await gateway.metric("gateway_config_ok") == 1
    assert len({e.incarnation for e in await gateway.recorded(2)}) == 1, "the recorder outlives a config"


async def test_a_stream_in_flight_ends_on_the_config_it_began_with(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.says("one ", HOLD, "two")
    gateway = await start(configured(upstream))
    async with gateway.stream() as reply:
        lines = reply.aiter_lines()
        await read_until(lines, "one ")
        await put_in_force(gateway, configured(second))
        new = await gateway.chat()
        assert len(second.calls) == 1
        assert "Hello" in new.text
        upstream.release()
        await read_until(lines, "two")
        await read_until(lines, "[DONE]")
    assert [e.outcome for e in await gateway.recorded(2)] == ["ok", "ok"]
    await upstream.until(lambda u: u.open_connections == 0)
    assert second.open_connections == 1, "connections of the config in force stay"


async def test_a_call_that_waits_to_ask_again_is_not_forgotten_by_a_reload(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """It is at no upstream in that moment, and will open a connection of the old config later."""
    upstream.then(Fault.rate_limited(retry_after=1.5))
    gateway = await start(configured(upstream))
    asking = asyncio.get_running_loop().create_task(gateway.chat())
    await upstream.until(lambda u: len(u.calls) == 1)
    await put_in_force(gateway, configured(second))
    assert (await asking).status_code == 200
    assert len(upstream.calls) == 2
    await upstream.until(lambda u: u.open_connections == 0, timeout_s=3)


async def test_another_path_in_flight_is_not_cut_by_a_reload(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    upstream.streams([b"first half ", HOLD, b"second half"], content_type="application/octet-stream")
    gateway = await start(configured(upstream, passthrough="u0"))
    async with gateway.client.stream("GET", "/files/f/content") as reply:
        parts = reply.aiter_raw()
        assert await anext(parts) == b"first half "
        await put_in_force(gateway, configured(second, passthrough="u0"))
        await gateway.client.get("/files")
        assert second.calls, "the new config's upstream was asked"
        upstream.release()
        assert await anext(parts) == b"second half"
    await upstream.until(lambda u: u.open_connections == 0)


BAD_TEXTS = [
    ("no YAML", "models: [", "not YAML"),
    ("an unknown key", "modles: {}", "modles"),
    ("nothing", "", "expected sections"),
]


@pytest.mark.parametrize(("text", "said"), [b[1:] for b in BAD_TEXTS], ids=[b[0] for b in BAD_TEXTS])
async def test_a_refused_file_leaves_the_old_config_in_force_and_says_so(
    gateway: Any, caplog: pytest.LogCaptureFixture, text: str, said: str
) -> None:
    before, good = gateway.gateway, gateway.config_path.read_text()
    assert said in await refused(gateway, caplog, text)
    assert gateway.gateway is before
    assert await gateway.metric("gateway_config_ok") == 0
    assert (await gateway.chat()).status_code == 200

    gateway.config_path.write_text(good)
    await gateway.until(lambda: gateway.gateway is not before)
    assert await gateway.metric("gateway_config_ok") == 1
    assert (await gateway.chat()).status_code == 200


async def test_what_cannot_be_built_is_refused_and_the_next_file_is_read(
    start: Any, configured: Configured, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(config := configured(upstream))
    for wrong in ({"ca_file": "/nowhere/ca.pem"}, {"proxy": "nonsense"}):
        bad = configured(upstream)
        bad["upstreams"]["u0"] |= wrong
        await refused(gateway, caplog, yaml.safe_dump(bad))
        assert (await gateway.chat()).status_code == 200
    await put_in_force(gateway, config)
    assert await gateway.metric("gateway_config_ok") == 1


async def test_a_file_without_keys_is_refused_as_it_is_at_the_start(
    start: Any, configured: Configured, upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    gateway = await start(configured(upstream))
    assert "open: true" in await refused(gateway, caplog, yaml.safe_dump(configured(upstream, keys=[])))
    assert (await gateway.chat()).status_code == 200


async def test_an_open_breaker_is_not_carried_into_the_next_config(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """Neither its state, for the config may be what mends it, nor its metric; a target that is gone shows 0."""
    upstream.always(Fault.status(500))
    once = {"retries": {"attempts": 1}}
    gateway = await start(configured(upstream, chat=once))
    for _ in range(5):
        assert (await gateway.chat()).status_code == 502
    assert (await gateway.chat()).status_code == 503
    assert await gateway.metric("gateway_breaker_open") == 1

    config = configured(second, chat={"targets": [{"upstream": "u0", "model": "other"}]})
    await put_in_force(gateway, config)

    assert await gateway.metric("gateway_breaker_open") == 0
    assert (await gateway.chat()).status_code == 200
    assert await gateway.metric("gateway_breaker_open") == 0


async def test_a_health_check_of_the_old_config_ends_with_it(
    start: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """An upstream that is down is down again in the next config, and one that is there is asked."""
    config, watched = configured(upstream), {"health": "/health"}
    config["upstreams"]["u0"] |= watched
    gateway = await start(config)
    await upstream.until(lambda u: any(r.probe for r in u.received))
    other = configured(second)
    other["upstreams"]["u0"] |= watched
    await put_in_force(gateway, other)
    await second.until(lambda u: any(r.probe for r in u.received))
    await upstream.until(lambda u: u.open_connections == 0)
    names = [t.get_name() for t in asyncio.all_tasks()]
    assert names.count("health") == 1


async def test_many_reloads_leave_nothing_behind(gateway: Any, upstream: FakeUpstream) -> None:
    """SIGHUP asks at once: ten configs, ten pools, and at the end the connections and tasks of one."""
    await gateway.chat()
    before = len(asyncio.all_tasks())
    for _ in range(10):
        old = gateway.gateway
        os.kill(os.getpid(), signal.SIGHUP)
        await gateway.until(lambda old=old: gateway.gateway is not old)
        assert (await gateway.chat()).status_code == 200
    await upstream.until(lambda u: u.open_connections == 1)
    await gateway.until(lambda: len(asyncio.all_tasks()) <= before)


# ── a process ──


@dataclass
class Program:
    """`gateway serve` as it runs in production."""

    process: asyncio.subprocess.Process
    log: Path
    port: int
    config_path: Path
    corridor: Corridor

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def said(self) -> str:
        return self.log.read_text()

    async def until(self, holds: Callable[[], Any], timeout_s: float = 10) -> None:
        async with asyncio.timeout(timeout_s):
            while not holds():
                await asyncio.sleep(0.01)

    def tell(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def accepts(self) -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def ended(self) -> int:
        async with asyncio.timeout(20):
            code = await self.process.wait()
        assert "Traceback" not in self.said, self.said
        return code

    async def records(self) -> tuple[list[Exchange], list[Tally]]:
        """Everything in the stream; for after the end."""
        await self.corridor.join()
        found = [from_fields(e.fields) for e in await self.corridor.read("test", 1000, 100)]
        return [r for r in found if isinstance(r, Exchange)], [r for r in found if isinstance(r, Tally)]


@pytest.fixture
async def serve(tmp_path: Path) -> AsyncIterator[Callable[[dict[str, Any]], Awaitable[Program]]]:
    running: list[Program] = []

    async def go(config: dict[str, Any]) -> Program:
        path, log = tmp_path / "gateway.yaml", tmp_path / "log"
        path.write_text(yaml.safe_dump({"open": True, **config, "keys": []}))
        command = [sys.executable, "-m", "gateway", "serve", "--config", str(path), "--port", "0"]
        with log.open("wb") as out:
            process = await asyncio.create_subprocess_exec(*command, stdout=out, stderr=out)
        stream = parse(path.read_text()).stream
        program = Program(process, log, 0, path, Corridor(stream.url or "", stream.name))
        running.append(program)
        await program.until(lambda: "running on http" in program.said or process.returncode is not None, 20)
        program.port = int(re.search(r"running on http://127\.0\.0\.1:(\d+)", program.said)[1])  # type: ignore[index]
        return program

    yield go
    for program in running:
        if program.process.returncode is None:
            program.process.kill()
            await program.process.wait()
        await program.corridor.aclose()


async def test_sighup_puts_the_file_in_force_at_once(
    serve: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    config = configured(upstream)
    program = await serve(config)
    upstream.says("one ", HOLD, "two")
    async with httpx2.AsyncClient(base_url=program.url) as client:
        async with client.stream("POST", "/v1/chat/completions", json=BODY | {"stream": True}) as reply:
            lines = reply.aiter_lines()
            await read_until(lines, "one ")
            program.config_path.write_text(yaml.safe_dump({**configured(second), "keys": [], "open": True}))
            program.tell(signal.SIGHUP)
            await program.until(lambda: "config reloaded" in program.said)
            assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
            upstream.release()
            await read_until(lines, "two")
            await read_until(lines, "[DONE]")
        program.config_path.write_text("nonsense: true")
        program.tell(signal.SIGHUP)
        await program.until(lambda: "is refused" in program.said)
        assert "gateway_config_ok 0.0" in (await client.get("/metrics")).text
        assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
    assert len(second.calls) == 2
    program.tell(signal.SIGTERM)
    assert await program.ended() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["SIGTERM", "SIGINT"])
async def test_a_stopping_gateway_lets_what_is_in_flight_finish(
    serve: Any, configured: Configured, upstream: FakeUpstream, number: signal.Signals
) -> None:
    program = await serve(configured(upstream))
    upstream.says("one ", HOLD, "two")
    async with httpx2.AsyncClient(base_url=program.url) as client:
        async with client.stream("POST", "/v1/chat/completions", json=BODY | {"stream": True}) as reply:
            lines = reply.aiter_lines()
            await read_until(lines, "one ")
            program.tell(number)
            await program.until(lambda: "Shutting down" in program.said)
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


async def test_a_stream_longer_than_the_drain_is_ended_with_an_error_and_recorded(
    serve: Any, configured: Configured, upstream: FakeUpstream, events: Callable[[bytes], list[Any]]
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
    said = events("\n\n".join(rest).encode())
    assert "stopping" in said[-1]["error"]["message"]
    assert "[DONE]" not in said
    assert await program.ended() == 0
    exchanges, tallies = await program.records()
    assert [e.outcome for e in exchanges] == ["cut", "cut"]
    assert tallies[-1].final
    assert tallies[-1].last_seq == 2
    assert upstream.cancelled == 2


async def test_a_second_interrupt_does_not_wait(serve: Any, configured: Configured, upstream: FakeUpstream) -> None:
    program = await serve(configured(upstream))
    upstream.says("one ", HOLD, "two")
    async with httpx2.AsyncClient(base_url=program.url) as client:
        async with client.stream("POST", "/v1/chat/completions", json=BODY | {"stream": True}) as reply:
            await read_until(reply.aiter_lines(), "one ")
            program.tell(signal.SIGINT)
            await program.until(lambda: "Shutting down" in program.said)
            program.tell(signal.SIGINT)
            async with asyncio.timeout(5):
                await program.process.wait()


async def test_a_shadow_under_way_does_not_hold_up_the_stop(
    serve: Any, configured: Configured, upstream: FakeUpstream, second: FakeUpstream
) -> None:
    """It is given up: neither an answer of the candidate nor a failure of it."""
    experiment = {
        "model": "chat",
        "control": {"upstream": "u0", "model": "model-u0"},
        "candidate": {"upstream": "u1", "model": "model-u1"},
        "shadow": 1.0,
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
    serve: Any, configured: Configured, upstream: FakeUpstream, stream_server: Any
) -> None:
    program = await serve(configured(upstream, stream={"url": stream_server.url}))
    stream_server.kill()
    async with httpx2.AsyncClient(base_url=program.url) as client:
        assert (await client.post("/v1/chat/completions", json=BODY)).status_code == 200
    program.tell(signal.SIGTERM)
    assert await program.ended() == 0
