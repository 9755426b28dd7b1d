"""Callers spend a budget while workers die, the stream server restarts and hangs, and a clock is wrong: what the
upstream has answered never costs more than the budget, and the counters agree with it to the token.

The upstream in this process is the witness: it notes what each request that reached it has used, also those whose
worker was killed. The long test prints the worst overspend.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fixtures import limit_callers
from fixtures.gateway_pods import faults, pods

from gateway.core.exchange import Tally
from gateway.fake import HOLD, FakeUpstream
from gateway.fake.speech import count_words
from gateway.fake.wire import Received
from gateway.stream import Corridor

Limited = Callable[..., dict[str, Any]]
KEYS = [f"key-{i}" for i in range(4)]
TEXT = "count these words of the request and no others please"
MOST = 20  # max_tokens
NANO_IN, NANO_OUT = 1000, 10_000  # as conftest.PRICES
DAY_KEY = "{{{name}:limits}}:{owner}:{limit}:{day}"


@dataclass
class Witness:
    """Amounts that the upstream has answered: tokens and 1e-9 USD."""

    rng: random.Random
    limited: bool
    """Answers keep to MOST."""
    calls: int = 0
    tokens: int = 0
    nano_usd: int = 0
    dearest: int = 0
    last_at: float = field(default_factory=time.monotonic)

    def __call__(self, received: Received) -> str:
        prompt = count_words(received.json["messages"])
        words = self.rng.randint(1, MOST if self.limited else 2 * MOST)
        cost = prompt * NANO_IN + words * NANO_OUT
        self.calls, self.tokens, self.nano_usd = self.calls + 1, self.tokens + prompt + words, self.nano_usd + cost
        self.dearest = max(self.dearest, cost)
        self.last_at = time.monotonic()
        return "word " * words


@dataclass
class Callers:
    """Callers that ask one gateway after the other until they are stopped."""

    urls: list[str]
    rng: random.Random
    limited: bool
    statuses: dict[int, int] = field(default_factory=dict)
    in_flight: int = 0
    most_in_flight: int = 0
    stopped: bool = False

    async def run(self, key: str) -> None:
        async with httpx2.AsyncClient(timeout=30, headers={"authorization": f"Bearer {key}"}) as client:
            while not self.stopped:
                self.in_flight += 1
                self.most_in_flight = max(self.most_in_flight, self.in_flight)
                try:
                    status = await self._call(client)
                except httpx2.HTTPError:
                    status = 0  # the worker was killed
                finally:
                    self.in_flight -= 1
                self.statuses[status] = self.statuses.get(status, 0) + 1
                await asyncio.sleep(0.002 if status == 200 else 0.05)

    async def _call(self, client: httpx2.AsyncClient) -> int:
        body = {"model": "chat", "messages": [{"role": "user", "content": TEXT}], "stream": self.rng.random() < 0.3}
        body |= {"max_tokens": MOST} if self.limited else {}
        url = self.rng.choice(self.urls)
        return (await client.post(f"{url}/chat/completions", json=body)).status_code


def the_config(limited: Limited, usd: float, *, owner: str = "team:search", **sections: Any) -> dict[str, Any]:
    """All keys are of one team with a budget, or of one person with it, each in a team of its own; the organization has
    a limit of tokens that is never reached first."""
    budget = {"usd_per_day": usd, "tokens_per_day": 10**9}
    of_team = owner == "team:search"
    limits = {"team": budget} if of_team else {"person": budget}
    config = limited(**limits, organization={"concurrency": 50}, **sections)
    whose = {key: {"team": "search"} if of_team else {"team": f"of-{key}", "person": "ann"} for key in KEYS}
    config["keys"] = [{"name": k, "sha256": sha256(k.encode()).hexdigest(), **whose[k]} for k in KEYS]
    config["teams"] |= {its["team"]: {"organization": "acme"} for its in whose.values() if its["team"] != "search"}
    return {**config, "sampling": {"rate": 0.0}}


async def counters(url: str, name: str, limit: str, owner: str = "team:search") -> tuple[int, int]:
    """(spent, held beyond it) of a limit of the team or person today, on the stream server."""
    corridor = Corridor(url, name)
    day = time.strftime("%Y-%m-%d", time.gmtime())
    found: Any = await corridor.client.hgetall(DAY_KEY.format(name=name, owner=owner, limit=limit, day=day))
    await corridor.aclose()
    return int(found[b"s"]), int(found[b"o"])


async def until_quiet(url: str, name: str, limit: str, owner: str = "team:search") -> tuple[int, int]:
    """The counters once every lease has been given back, or nothing changes for some seconds."""
    seen, since = (-1, -1), time.monotonic()
    while time.monotonic() - since < 4 and not (seen[1] == 0 and time.monotonic() - since > 1):
        now = await counters(url, name, limit, owner)
        if now != seen:
            seen, since = now, time.monotonic()
        await asyncio.sleep(0.1)
    return seen


@pytest.mark.parametrize("owner", ["team:search", "person:ann"])
async def test_counters_ledger_and_upstream_agree_after_an_outage(
    stream_server: Any, start: Any, limited: Limited, stream_name: str, upstream: FakeUpstream, owner: str
) -> None:
    """Short form: two gateways in this process, a restart and a pause of the server; no worker dies. Four keys of one
    team, or of one person who is in four teams."""
    rng = random.Random(7)
    witness = Witness(rng, limited=True)
    upstream.replies(witness)
    config = the_config(limited, 0.02, owner=owner, stream={"url": stream_server.url, "name": stream_name})
    gateways = [await start(config) for _ in range(2)]
    callers = Callers([each.base_url for each in gateways], rng, limited=True)
    async with asyncio.TaskGroup() as group:
        for key in KEYS:
            group.create_task(callers.run(key))
        await upstream.until(lambda _: witness.calls >= 60)
        stream_server.kill()
        before = witness.calls
        await upstream.until(lambda _: witness.calls >= before + 10)
        stream_server.start()
        await upstream.until(lambda _: witness.calls >= before + 20)
        stream_server.pause()
        await asyncio.sleep(0.2)  # a hiccup of this length; nothing depends on it
        stream_server.resume()
        async with asyncio.timeout(60):
            while time.monotonic() - witness.last_at < 0.7:  # the budget is used up
                await asyncio.sleep(0.05)
        callers.stopped = True
    assert witness.nano_usd <= 0.02e9, "the budget holds"
    assert witness.nano_usd > 0.02e9 - 20 * witness.dearest, "and can be used"
    assert {200, 429} <= set(callers.statuses) <= {200, 429, 503}, "503: a worker has used its part in the outage"
    for limit, used in (("usd_per_day", witness.nano_usd), ("tokens_per_day", witness.tokens)):
        async with asyncio.timeout(30):
            while await counters(stream_server.url, stream_name, limit, owner) != (used, 0):
                await asyncio.sleep(0.05)
    assert await ledger(gateways[0], witness.tokens) == (witness.tokens, witness.nano_usd)


async def ledger(gateway: Any, tokens: int) -> tuple[int, int]:
    """Tokens and 1e-9 USD in the usage that all gateways report, once it has this number of tokens."""
    async with asyncio.timeout(30):
        while True:
            cells = {
                (record.incarnation, count.cell): count.sums
                for record in gateway.records
                if isinstance(record, Tally)
                for count in record.usage
            }
            found = sum(s.input_tokens + s.output_tokens for s in cells.values())
            if found >= tokens:
                return found, sum(s.nano_usd for s in cells.values())
            await gateway.read_more()


AMOUNTS: dict[str, float] = {"usd": 0.08, "tokens": 8000, "requests": 400, "gpu_seconds": 0.08}
UNITS = {"usd": 1e9, "tokens": 1, "requests": 1, "gpu_seconds": 1e9}


def limited_in(
    limited: Limited, kind: str, amount: float, *, owner: str = "team:search", **sections: Any
) -> dict[str, Any]:
    """One team or person whose day has this amount, with an upstream that takes its time; no other limit is reached.
    The same upstream answers in the dialects of OpenAI and of Anthropic."""
    config = the_config(limited, 1e6, owner=owner, **sections)
    config["upstreams"]["a0"] = {"kind": "anthropic", "base_url": config["upstreams"]["u0"]["base_url"]}
    model = config["models"]["chat"]
    config["models"][limit_callers.CLAUDE] = {**model, "targets": [{"upstream": "a0", "model": "model-u0"}]}
    group, _, name = owner.partition(":")
    config["people" if group == "person" else "teams"][name]["limits"] = {f"{kind}_per_day": amount}
    if kind == "gpu_seconds":
        config["prices"] = {**config["prices"], "gpu_seconds": config["prices"]["models"]}
    return config


async def until_spent(callers: limit_callers.Callers, quiet_s: float) -> None:
    """Waits until callers are refused and the upstream has not been asked for some time: the limit is used up."""
    async with asyncio.timeout(180):
        while not callers.statuses.get(429) or time.monotonic() - callers.witness.last_at < quiet_s:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(
    ("usd", "plays"), [(0.02, limit_callers.WAYS), (0.01, limit_callers.ANTHROPIC)], ids=["every API", "Messages"]
)
async def test_callers_who_leave_do_not_overspend(
    stream_url: str, start: Any, limited: Limited, stream_name: str, upstream: FakeUpstream, usd: float, plays: Any
) -> None:  # fmt: skip
    """Short form: two gateways in this process; callers leave, set deadlines, and write numbers as they like. One play
    has Messages alone: what other APIs are charged too much would hide what that is charged too little."""
    rng = random.Random(11)
    witness = limit_callers.Witness(rng)
    upstream.replies(witness)
    config = limited_in(limited, "usd", usd, stream={"url": stream_url, "name": stream_name})
    gateways = [await start(config) for _ in range(2)]
    callers = limit_callers.Callers([each.base_url for each in gateways], rng, witness, plays=plays)
    async with asyncio.TaskGroup() as group:
        for key in KEYS * 2:
            group.create_task(callers.run(key))
        await until_spent(callers, 1.0)
        callers.stopped = True
    spent, held = await until_quiet(stream_url, stream_name, "usd_per_day")
    assert held == 0
    assert set(callers.played) == {"waits", "leaves", "deadline"}
    assert callers.ways == set(plays)
    assert set(callers.statuses) <= {0, 200, 400, 429, 503, 504}, "503: an exchange took longer than 50 ms"
    assert witness.total("usd") <= usd * 1e9 + witness.missed("usd"), "the budget holds, but for the stated bound"
    assert witness.total("usd") <= spent + witness.missed("usd"), "nothing of it was free"
    assert spent <= usd * 1e9


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize(
    ("kind", "output", "owner"),
    [
        *[(kind, "limited", "team:search") for kind in AMOUNTS],
        *[("usd", output, "team:search") for output in ("default", "learned")],
        *[(kind, "limited", "person:ann") for kind in ("usd", "requests")],
    ],
)
async def test_no_fault_makes_a_limit_overspent(
    stream_server: Any, limited: Limited, stream_name: str, upstream: FakeUpstream, tmp_path: Path, servers: Any,
    capsys: pytest.CaptureFixture[str], n: int, kind: str, output: str, owner: str,
) -> None:  # fmt: skip
    """owner: of the limit, whose four keys call. output: requests have limits; or `budgets.default_max_tokens` adds
    them; or they have none."""
    rng, unit = random.Random(n), UNITS[kind]
    witness = limit_callers.Witness(rng)
    upstream.replies(witness)
    budgets = {"budgets": {"default_max_tokens": limit_callers.MOST}} if output == "default" else {}
    stream = {"url": stream_server.url, "name": stream_name}
    config = limited_in(limited, kind, AMOUNTS[kind], owner=owner, stream=stream, **budgets)
    async with pods(n, config, tmp_path, servers) as found, asyncio.TaskGroup() as group:
        urls = [f"http://127.0.0.1:{pod.port}/v1" for pod in found]
        callers = limit_callers.Callers(urls, rng, witness, limited=output == "limited")
        for key in KEYS * 2:
            group.create_task(callers.run(key))
        happened = await faults(rng, found, stream_server, 12)
        await until_spent(callers, 3)
        callers.stopped = True
    spent, held = await until_quiet(stream_server.url, stream_name, f"{kind}_per_day", owner)
    used, missed, amount = witness.total(kind), witness.missed(kind), AMOUNTS[kind] * unit
    over = max(0, used - amount - missed)
    row = (
        n, kind, output, " / ".join(map(str, happened.values())), f"{used / unit:.6g} of {AMOUNTS[kind]:g}",
        f"{missed / unit:.6g}", f"{over / unit:g}", f"{spent / unit:.6g} + {held / unit:.6g}", callers.played,
        callers.statuses,
    )  # fmt: skip
    with capsys.disabled():
        print("\n| " + " | ".join(map(str, row)) + " |")  # noqa: T201
    assert used <= amount + missed
    assert used <= spent + held + missed, "nothing was free, and the dead have counted what they held"
    assert set(callers.statuses) <= {0, 200, 400, 429, 503, 504}


@pytest.mark.long
@pytest.mark.timeout(180)
async def test_the_calls_in_flight_of_a_killed_worker_end_with_it(
    stream_url: str, limited: Limited, stream_name: str, upstream: FakeUpstream, tmp_path: Path, servers: Any
) -> None:
    upstream.says("one ", HOLD, "two ")
    config = the_config(limited, 1.0, stream={"url": stream_url, "name": stream_name})
    config["organizations"]["acme"]["limits"]["concurrency"] = 2
    headers = {"authorization": f"Bearer {KEYS[0]}"}
    body = {"model": "chat", "messages": [{"role": "user", "content": TEXT}], "max_tokens": MOST}
    async with pods(2, config, tmp_path, servers) as found, httpx2.AsyncClient(headers=headers, timeout=60) as client:
        killed, alive = (f"http://127.0.0.1:{pod.port}/v1/chat/completions" for pod in found)
        loop = asyncio.get_running_loop()
        held = [loop.create_task(client.post(killed, json=body)) for _ in range(2)]
        await upstream.until(lambda u: len(u.calls) == 2)
        assert (await client.post(alive, json=body)).status_code == 429
        await found[0].kill()
        await asyncio.gather(*held, return_exceptions=True)
        upstream.says("free")
        async with asyncio.timeout(90):
            while (await client.post(alive, json=body)).status_code == 429:
                await asyncio.sleep(0.5)
