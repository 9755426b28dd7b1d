"""Everything fails at once, with eighty budgets at half: people hear of every cause before any information.

Real programs: a gateway, two consumers, a stream server, a provider, a receiver of webhooks.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml
from fixtures.program_command import gateway_command, program_pid, send_signal

from gateway.core.limits import window_name
from gateway.fake import FakeUpstream, Fault
from gateway.stream import Corridor
from gateway.stream.leases import LeaseServer

pytestmark = [pytest.mark.long, pytest.mark.skipif(sys.platform != "linux", reason="prlimit fills one program's disk")]
KEYS = 80
PATIENCE_S = 150
CAUSES = {
    "Redis": "the stream server is unreachable",
    "config": "the newest gateway.yaml",
    "key": "upstream openai refuses our key",
    "disk": "the store cannot write, because of its disk",
    "consumer": " is gone",
}
SHOWN = {
    "Redis": "! stream server: ",
    "config": "surely_unknown",
    "key": "an upstream refuses the gateway's key: upstreams.openai: HTTP 401 invalid_api_key",
    "disk": "disk I/O error",
}


def secret(n: int) -> str:
    return f"sk-drill-{n:04d}"


async def until(holds: Callable[[], Awaitable[Any]], what: str) -> Any:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while not (found := await holds()):
                await asyncio.sleep(2)
            return found
    raise AssertionError(what)


class Drill:
    """One deployment in a directory, and its programs by name."""

    def __init__(self, stream_url: str, upstream: FakeUpstream, receiver: Any, ports: tuple[int, int, int]) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="gwdrill"))
        self.receiver, self.ports = receiver, ports
        self.programs: dict[str, asyncio.subprocess.Process] = {}
        limits = {"requests_per_month": 2, "time_zone": "UTC"}
        self.config: dict[str, Any] = {
            "keys": [
                {"name": f"k{n}", "sha256": sha256(secret(n).encode()).hexdigest(), "limits": limits}
                for n in range(KEYS)
            ] + [{"name": "drill", "sha256": sha256(secret(KEYS).encode()).hexdigest()}],
            "upstreams": {"openai": {"kind": "openai", "base_url": upstream.base_url, "api_key": "sk-ours"}},
            "models": {"chat": {"targets": [{"upstream": "openai", "model": "m"}]}},
            "stream": {"url": stream_url, "name": "drill"},
            "notify": {"targets": {"ops": {"kind": "slack", "url": receiver.url}}},
        }  # fmt: skip
        self.write()

    def write(self, **more: Any) -> None:
        (self.directory / "gateway.yaml").write_text(yaml.safe_dump({**self.config, **more}))

    async def run(self, name: str, *words: str) -> None:
        with (self.directory / f"{name}.log").open("wb") as log:
            self.programs[name] = await asyncio.create_subprocess_exec(
                *gateway_command(*words), cwd=self.directory, stdout=log, stderr=log
            )

    async def start(self) -> None:
        gateway, *metrics = map(str, self.ports)
        await self.run("serve", "serve", "--port", gateway, "--data", "data-serve")
        for name, port in zip(("one", "two"), metrics, strict=True):
            await self.run(name, "evaluate", "--metrics-port", port, "--data", "data")
            await until(lambda port=port: self.answers(port), f"consumer {name} does not start")
        self.started = time.time()
        await until(lambda: self.answers(gateway), "the gateway does not start")

    async def answers(self, port: str | int) -> bool:
        async with httpx2.AsyncClient() as client:
            with contextlib.suppress(httpx2.TransportError):
                return (await client.get(f"http://127.0.0.1:{port}/health")).status_code == 200
        return False

    async def call(self, n: int) -> int:
        async with httpx2.AsyncClient(timeout=60) as client:
            reply = await client.post(
                f"http://127.0.0.1:{self.ports[0]}/v1/chat/completions",
                json={"model": "chat", "messages": [{"role": "user", "content": "hi"}]},
                headers={"authorization": f"Bearer {secret(n)}"},
            )
        return reply.status_code

    def corridor(self) -> Corridor:
        return Corridor(self.config["stream"]["url"], "drill")

    async def half_spent(self, corridor: Corridor) -> bool:
        names = [f"key:k{n}:requests_per_month:{window_name('month', 'UTC', time.time())}" for n in range(KEYS)]
        spent = await LeaseServer(corridor.client, "drill", "drill").spent(names)
        return all(amount == 1 for amount, _ in spent.values())

    async def both_beat(self, corridor: Corridor) -> bool:
        """Each has a heartbeat that is newer than the start of the other: no one replaces anyone."""
        beats = await corridor.state.consumers()
        return len(beats) == 2 and min(beats.values()) > self.started + 5

    def fill_disk(self, *, full: bool) -> None:
        """No file of the consumer may grow beyond a byte: its disk is full."""
        hard = resource.prlimit(self.pid("two"), resource.RLIMIT_FSIZE)[1]
        resource.prlimit(self.pid("two"), resource.RLIMIT_FSIZE, (1 if full else hard, hard))

    def pid(self, name: str) -> int:
        return program_pid(self.programs[name].pid)

    async def status(self) -> str:
        process = await asyncio.create_subprocess_exec(
            *gateway_command("status", "--data", "data", *(w for p in self.ports for w in ("--process", f"http://127.0.0.1:{p}"))),
            cwd=self.directory, stdout=asyncio.subprocess.PIPE, env={**os.environ, "COLUMNS": "1000"},
        )  # fmt: skip
        out, _ = await process.communicate()
        return " ".join(out.decode().split())

    def messages(self) -> list[str]:
        return [str(received.body["text"]) for received in self.receiver.got]

    def heard(self) -> set[str]:
        return {name for name, words in CAUSES.items() if any(words in text for text in self.messages())}

    async def end(self) -> None:
        for process in self.programs.values():
            send_signal(process.pid, signal.SIGKILL)
            await process.wait()


async def test_every_cause_is_heard_before_any_information(stream_server: Any, servers: Any, receiver: Any) -> None:
    async with FakeUpstream() as upstream:
        drill = Drill(stream_server.url, upstream, receiver, tuple(servers.free_ports(3)))
        try:
            await drill.start()
            await through_the_outages(drill, upstream, stream_server)
        except AssertionError as error:
            logs = (f"{log.name}: {log.read_text()[-2000:]}" for log in sorted(drill.directory.glob("*.log")))
            raise AssertionError("\n".join([str(error), *logs])) from error
        finally:
            await drill.end()


async def through_the_outages(drill: Drill, upstream: FakeUpstream, stream_server: Any) -> None:
    assert [await drill.call(n) for n in range(KEYS)] == [200] * KEYS  # half of each budget
    async with contextlib.aclosing(drill.corridor()) as corridor:
        await until(lambda: drill.half_spent(corridor), "the gateway does not report what was spent")
        await until(lambda: drill.both_beat(corridor), "a consumer has no heartbeat next to the other's")
    upstream.always(Fault.status(401, error_code="invalid_api_key"))
    for _ in range(3):
        assert await drill.call(KEYS) >= 500
    drill.write(surely_unknown=1)
    drill.fill_disk(full=True)
    send_signal(drill.programs["one"].pid, signal.SIGKILL)
    stream_server.kill()

    async def all_shown() -> bool:
        text = await drill.status()
        return all(words in text for words in SHOWN.values())

    await until(all_shown, f"the status while the stream server is away: {await drill.status()}")

    async def away() -> bool:
        return {"Redis", "config", "disk"} <= drill.heard()

    await until(away, f"heard while the stream server is away: {drill.messages()}")
    stream_server.start()

    async def all_heard() -> bool:
        return set(CAUSES) == drill.heard()

    await until(all_heard, f"heard: {drill.messages()}")
    shown = await drill.status()
    named = ("consumers without a heartbeat", "surely_unknown", "HTTP 401 invalid_api_key", "disk I/O error")
    assert [words for words in named if words not in shown] == [], shown
    assert not [text for text in drill.messages() if "50%" in text], "information came during the outages"
    drill.fill_disk(full=False)

    async def digest() -> list[str]:
        return [text for text in drill.messages() if "50%" in text]

    (information,) = await until(digest, "no digest")
    assert information == drill.messages()[-1]
    assert information.endswith(f"and {KEYS - 20} more")
    drill_bodies = [orjson.loads(received.raw) for received in drill.receiver.got]
    assert len(drill_bodies) >= len(CAUSES) + 1
