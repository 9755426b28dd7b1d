"""Forty teams with little traffic and plenty of money, while their stream server is full, killed, paused or flushed.

No team may hear that its money is used up. The long test prints which calls were refused, and why.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
import redis.asyncio
from fixtures.gateway_pods import pods

from gateway.fake import FakeUpstream

Limited = Callable[..., dict[str, Any]]
TEAMS = [f"team-{i}" for i in range(40)]
IDLE_S = 36.0
"""Longer than a lease keeps its share without being used (lease.SHARE_IDLE_S)."""


def the_config(limited: Limited, **sections: Any) -> dict[str, Any]:
    config = limited(**sections)
    config["keys"] = [{"name": team, "sha256": sha256(team.encode()).hexdigest(), "team": team} for team in TEAMS]
    limits = {"usd_per_month": 500, "tokens_per_day": 10**8, "requests_per_month": 10**6}
    config["teams"] = {team: {"limits": limits, "organization": "acme"} for team in TEAMS}
    return {**config, "organizations": {"acme": {"limits": {"usd_per_month": 20_000}}}, "sampling": {"rate": 0.0}}


async def ask_all(urls: list[str], times: int, results: Counter[str]) -> None:
    """Each team asks a few times, one call after the other, at one gateway after the other."""

    async def one(at: int, team: str) -> None:
        headers = {"authorization": f"Bearer {team}"}
        body = {"model": "chat", "messages": [{"role": "user", "content": "one two"}], "max_tokens": 20}
        async with httpx2.AsyncClient(timeout=60, headers=headers) as client:
            for n in range(times):
                answer = await client.post(f"{urls[(at + n) % len(urls)]}/chat/completions", json=body)
                ok = answer.status_code == 200
                results["answered" if ok else answer.json()["error"]["code"]] += 1

    await asyncio.gather(*(one(at, team) for at, team in enumerate(TEAMS)))


@contextlib.asynccontextmanager
async def trouble(what: str, server: Any) -> AsyncIterator[None]:
    """The stream server in this trouble; afterwards it is well again."""
    client = redis.asyncio.Redis.from_url(server.url)
    if what == "full":
        await client.config_set("maxmemory-policy", "noeviction")
        await client.config_set("maxmemory", "1")
    elif what == "flushed":
        await client.flushall()
    elif what == "killed":
        server.kill()
    elif what == "paused":
        server.pause()
    yield
    if what == "full":
        await client.config_set("maxmemory", "0")
    elif what == "killed":
        server.start()
    elif what == "paused":
        server.resume()
    await client.aclose()


@pytest.mark.long
@pytest.mark.timeout(900)
async def test_no_team_hears_that_its_money_is_used_up(
    stream_server: Any, limited: Limited, stream_name: str, upstream: FakeUpstream, tmp_path: Path, servers: Any,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    config = the_config(limited, stream={"url": stream_server.url, "name": stream_name})
    found: dict[str, Counter[str]] = {}
    async with pods(2, config, tmp_path, servers) as gateways:
        urls = [f"http://127.0.0.1:{pod.port}/v1" for pod in gateways]
        for what in ("well", "full", "killed", "paused", "flushed"):
            results = found[what] = Counter()
            await ask_all(urls, 2, Counter())
            await asyncio.sleep(IDLE_S)
            async with trouble(what, stream_server):
                for _ in range(3):
                    await ask_all(urls, 4, results)
                    await asyncio.sleep(1)
            await asyncio.sleep(3)
    with capsys.disabled():
        rows = "\n".join(f"| {what} | {dict(results)} |" for what, results in found.items())
        print(f"\n40 teams, 480 calls in each state of the stream server\n{rows}")  # noqa: T201
    assert not any(results["insufficient_quota"] for results in found.values()), found
    assert all(set(results) <= {"answered", "limits_unavailable"} for results in found.values()), found
