"""Two gateways, a consumer, a stream server and a receiver of webhooks, over real sockets: a good candidate gets all
traffic, a bad one is rolled back, and no unit changes its arm when something of it fails."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.program_command import gateway_command

from gateway.fake import FakeUpstream, Fault

pytestmark = [pytest.mark.long, pytest.mark.timeout(600)]
KEY = "sk-live-ramp"
PATIENCE_S = 200.0
HEADERS = {"authorization": f"Bearer {KEY}"}

Arms = dict[str, str]
"""Arms of each conversation, as the gateway says in its answer."""


async def until(holds: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    end = time.monotonic() + timeout_s
    while True:
        found = holds()
        found = await found if isinstance(found, Awaitable) else found
        if found:
            return found
        assert time.monotonic() < end, what() if callable(what) else what
        await asyncio.sleep(0.2)


class Program:
    """A verb in a process of its own."""

    def __init__(self, directory: Path, name: str, *words: str) -> None:
        self.directory, self.log, self.words = directory, directory / f"{name}.log", words
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as out:
            self.process = await asyncio.create_subprocess_exec(
                *gateway_command(*self.words), cwd=self.directory, stdout=out, stderr=out,
                env={**os.environ, "LIVE_HOOK": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
            )  # fmt: skip

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(how)
            await asyncio.wait_for(self.process.wait(), 60)


class Live:
    """Everything, running."""

    def __init__(self, directory: Path, stream: Any, doubles: dict[str, FakeUpstream], ports: list[int]) -> None:
        self.directory, self.stream, self.doubles = directory, stream, doubles
        self.urls = [f"http://127.0.0.1:{port}" for port in ports[:2]]
        self.gateways = [
            Program(directory, f"serve{i}", "serve", "--port", str(port), "--workers", str(i + 1), "--data", f"data{i}")
            for i, port in enumerate(ports[:2])
        ]
        self.consumer = Program(directory, "evaluate", "evaluate", "--metrics-port", str(ports[2]), "--data", "data")
        self.seen: dict[str, list[str]] = {}
        """The arms that each conversation has had, in order."""
        self.named = False
        """Calls say their conversation. Until the verdict they do not: a conversation counts once it has ended."""
        self.client = httpx2.AsyncClient(timeout=60, headers=HEADERS)

    async def start(self) -> None:
        for each in (*self.gateways, self.consumer):
            await each.start()
        for url in self.urls:
            await self.ready(url)

    async def ready(self, url: str) -> None:
        async def answers() -> bool:
            try:
                return (await self.client.get(f"{url}/health")).status_code == 200
            except httpx2.TransportError:
                return False

        await until(answers, f"{url} does not start")

    async def stop(self) -> None:
        await self.client.aclose()
        for each in (*self.gateways, self.consumer):
            await each.end()

    async def ask(self, url: str, conversation: str) -> str:
        body = {"model": "chat", "messages": [{"role": "user", "content": f"Say it, {conversation}."}],
                "response_format": {"type": "json_object"}}  # fmt: skip
        answer = await self.client.post(
            f"{url}/v1/chat/completions",
            json=body,
            headers={
                **({"x-gateway-conversation": conversation} if self.named else {}),
                "x-gateway-user": f"u{int(conversation[1:]) % 60}",
            },
        )
        assert answer.status_code == 200, answer.text
        arm = answer.headers.get("x-gateway-arm", "")
        if self.named:
            self.seen.setdefault(conversation, []).append(arm)
        return str(arm)

    async def arms(self, url: str, conversations: Iterable[str]) -> Arms:
        """Asks each conversation once, eight at a time."""
        names, found = list(conversations), {}
        waiting = iter(names)

        async def through() -> None:
            for name in waiting:
                found[name] = await self.ask(url, name)

        await asyncio.gather(*(through() for _ in range(8)))
        return found

    async def verb(self, *words: str) -> str:
        program = await asyncio.create_subprocess_exec(
            *gateway_command("ab", *words, "--data", "data"), cwd=self.directory,
            env={**os.environ, "LIVE_HOOK": "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="},
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await program.communicate()
        assert program.returncode is not None
        assert b"Traceback" not in err, err.decode()
        return out.decode() or err.decode()

    async def gate(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(await self.verb("gate", "swap", "--json"))
        return found

    async def history(self) -> list[dict[str, Any]]:
        text = await self.verb("history", "swap", "--json")
        found: list[dict[str, Any]] = json.loads(text)
        return found

    async def traffic_until(self, holds: Callable[[dict[str, Any]], bool], what: str) -> dict[str, Any]:
        """Conversations go on and new ones begin, at both gateways, until the gate says what is waited for."""
        wave = 0

        async def there() -> dict[str, Any] | None:
            nonlocal wave
            names = [f"c{(wave * 40 + i) % 200}" for i in range(80)]
            await self.arms(self.urls[wave % 2], names)
            wave += 1
            found = await self.gate()
            return found if holds(found) else None

        try:
            found: dict[str, Any] = await until(there, what)
        except AssertionError as error:
            error.add_note(str(await self.gate()))
            error.add_note("\n".join(each.log.read_text()[-2000:] for each in (*self.gateways, self.consumer)))
            raise
        return found

    async def shown(self, url: str, metric: str) -> float:
        """The value of a metric of the experiment in /metrics."""
        text = (await self.client.get(f"{url}/metrics")).text
        lines = [line for line in text.splitlines() if line.startswith(f'{metric}{{experiment="swap"}}')]
        return float(lines[0].split()[-1]) if lines else -1.0


def config(doubles: dict[str, FakeUpstream], stream: str, hook: str) -> dict[str, Any]:
    to = {name: {"upstream": name, "model": "m"} for name in doubles}
    return {
        "keys": [{"name": "web", "sha256": sha256(KEY.encode()).hexdigest()}],
        "upstreams": {name: {"kind": "vllm", "base_url": double.base_url} for name, double in doubles.items()},
        "models": {"chat": {"targets": [to["control"]], "retries": {"attempts": 1, "backoff_s": 0}}},
        "stream": {"url": stream, "name": "live"},
        "scorers": {"valid_json": {}},
        "webhooks": {"ops": {"url": hook, "secret": "${LIVE_HOOK}"}},
        "experiments": {
            "swap": {
                "model": "chat", "control": to["control"], "candidate": to["candidate"], "shadow": 1.0,
                "repeat_control": 0.5, "primary": "valid_json", "margin": 0.3,
                "guardrails": {"error_rate": 0.3}, "min_hours": 0, "headers": "all",
                "budget": {"concurrency": 64}, "gate": {"latency": False, "load": None},
                "ramp": {"mode": "auto", "steps": [0.25, 0.5, 1.0], "soak_s": 4, "min_units": 40, "cooldown_s": 600},
            }
        },
    }  # fmt: skip


@asynccontextmanager
async def running(stream_server: Any, servers: Any, receiver: Any) -> AsyncIterator[Live]:
    directory = Path(tempfile.mkdtemp(prefix="gwlive"))
    async with AsyncExitStack() as stack:
        doubles = {name: await stack.enter_async_context(FakeUpstream()) for name in ("control", "candidate")}
        for double in doubles.values():
            double.says('{"ok": ', "true}")
        text = yaml.safe_dump(config(doubles, stream_server.url, receiver.url))
        (directory / "gateway.yaml").write_text(text)
        live = Live(directory, stream_server, doubles, servers.free_ports(3))
        stack.push_async_callback(live.stop)
        await live.start()
        yield live


def never_back(seen: dict[str, list[str]]) -> list[str]:
    """The conversations that had the candidate and then the control."""
    return [name for name, arms in seen.items() if "control" in arms[arms.index("candidate") :]] if seen else []


async def test_a_good_candidate_gets_everything_and_nobody_is_moved_back(
    stream_server: Any, servers: Any, receiver: Any
) -> None:
    async with running(stream_server, servers, receiver) as live:
        await live.traffic_until(lambda gate: gate["state"] == "ramp", "the first step is not taken")
        live.named = True
        await live.verb("pause", "swap", "--reason", "to look at it")
        paused = await live.gate()
        assert paused["paused"]
        share, names = paused["share"], [f"c{i}" for i in range(200)]
        for url in live.urls:
            await until(lambda url=url: share_is(live, url, share), "a gateway does not follow")
        first = await live.arms(live.urls[0], names)
        assert await live.arms(live.urls[1], names) == first, "two gateways say the same"
        part = sum(arm == "candidate" for arm in first.values()) / len(names)
        assert abs(part - share) < 6 * (share * (1 - share) / len(names)) ** 0.5 + 1e-9

        await live.gateways[0].end(signal.SIGKILL)
        await live.gateways[0].start()
        text = (live.directory / "gateway.yaml").read_text()
        (live.directory / "gateway.yaml").write_text(text + "\n# read again\n")
        assert live.gateways[1].process is not None
        live.gateways[1].process.send_signal(signal.SIGHUP)
        await until(lambda: live.gateways[1].log.read_text().count("config reloaded") >= 2, "it is not reloaded")
        await live.ready(live.urls[0])
        for url in live.urls:
            assert await live.arms(url, names) == first

        live.stream.kill()
        for url in live.urls:
            await until(lambda url=url: stale(live, url), "a gateway does not say that it reads no record")
            assert await live.arms(url, names) == first, "without the stream server"
        live.stream.start()
        for url in live.urls:
            await until(lambda url=url: fresh(live, url), "a gateway does not read the record again")
            assert await live.arms(url, names) == first

        await live.verb("resume", "swap", "--reason", "looked at")
        await live.traffic_until(lambda gate: gate["state"] == "promoted", "it is not promoted")
        for url in live.urls:
            await until(lambda url=url: share_is(live, url, 0.98), "a gateway keeps no holdout")
        await live.verb("promote", "swap", "--full", "--reason", "the old engine is switched off")
        for url in live.urls:
            await until(lambda url=url: share_is(live, url, 1.0), "a gateway does not follow")
            assert set((await live.arms(url, names)).values()) == {"candidate"}
        had = {name: arms for name, arms in live.seen.items() if "candidate" in arms}
        assert never_back(had) == []
        await audited(live, receiver)
        kinds = [row["kind"] for row in await live.history()]
        assert kinds == ["shadowing", "advanced", "paused", "resumed", "advanced", "advanced", "promoted",
                         "holdout_ended"]  # fmt: skip


async def test_a_bad_candidate_is_rolled_back_at_its_first_step(
    stream_server: Any, servers: Any, receiver: Any
) -> None:
    async with running(stream_server, servers, receiver) as live:
        await live.traffic_until(lambda gate: gate["state"] == "ramp", "the first step is not taken")
        live.named = True
        live.doubles["candidate"].always(Fault.status(500))
        done = await live.traffic_until(lambda gate: gate["state"] == "rolled_back", "it is not rolled back")
        assert done["status"] == "failure"
        for url in live.urls:
            await until(lambda url=url: share_is(live, url, 0.0), "a gateway does not follow")
            assert set((await live.arms(url, [f"c{i}" for i in range(100)])).values()) == {"control"}
        rows = await live.history()
        assert [row["kind"] for row in rows] == ["shadowing", "advanced", "rolled_back"]
        assert rows[-1]["before"] == {"state": "ramp", "step": 0}
        assert rows[-1]["by"] == "controller"
        evidence = rows[-1]["evidence"]  # of an alarm on served answers, or of open breakers before they were read
        assert evidence["requests"] > 0 or evidence["breakers"]["processes"] > 0
        await audited(live, receiver)


async def share_is(live: Live, url: str, share: float) -> bool:
    return await live.shown(url, "gateway_ramp_share") == share


async def stale(live: Live, url: str) -> bool:
    return await live.shown(url, "gateway_ramp_stale") == 1.0


async def fresh(live: Live, url: str) -> bool:
    return await live.shown(url, "gateway_ramp_stale") == 0.0


async def audited(live: Live, receiver: Any) -> None:
    """The audit is complete, and the receiver has seen each of its events once."""
    rows = await live.history()
    assert [row["version"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["reason"] for row in rows)
    ids = {f"ramp_{row['id']}" for row in rows}
    await until(lambda: {each.id for each in receiver.got} >= ids, "not every webhook comes")
    assert len(receiver.got) == len(ids)
    assert {each.id for each in receiver.got} == ids
    assert all(each.genuine() for each in receiver.got)
