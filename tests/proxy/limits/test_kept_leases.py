"""A killed gateway gives back what it held of runs: they end at their ceiling, neither before nor after."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fixtures.gateway_pods import Pod, pods

from gateway.core.run_ceilings import ceiling_of, run_scope
from gateway.fake import FakeUpstream
from gateway.proxy.limits.book import LeaseBook
from gateway.proxy.limits.kept_leases import KeptLeases
from gateway.proxy.limits.lease import Lease

Limited = Callable[..., dict[str, Any]]
KEY = "sk-agents"
CALLS = 60
BODY = {"model": "chat", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}


class Agent:
    """An agent whose calls go to one gateway after the other."""

    def __init__(self, found: list[Pod]) -> None:
        self._urls = [f"http://127.0.0.1:{pod.port}/v1/chat/completions" for pod in found]
        self.answered = self.refused = 0

    async def call(self, times: int) -> None:
        headers = {"authorization": f"Bearer {KEY}", "x-gateway-run": "task-1"}
        async with httpx2.AsyncClient(timeout=60, headers=headers) as client:
            for n in range(times):
                try:
                    answer = await client.post(self._urls[n % len(self._urls)], json=BODY)
                except httpx2.HTTPError:  # the worker was killed
                    continue
                assert answer.status_code in (200, 429), answer.text
                self.answered += answer.status_code == 200
                self.refused += answer.status_code == 429

    async def call_until(self, answered: int) -> None:
        """Calls until this many calls were answered: what a killed gateway held comes back."""
        async with asyncio.timeout(250):
            while self.answered < answered:
                await self.call(1)


@pytest.mark.timeout(300)
async def test_a_run_of_a_killed_gateway_reaches_its_ceiling(
    limited: Limited, stream_url: str, stream_name: str, upstream: FakeUpstream, tmp_path: Path, servers: Any
) -> None:
    """A call is reserved, and a slice is leased ahead, when the gateway is killed."""
    upstream.replies(lambda received: "one two")
    config = limited(team={"per_run": {"calls": CALLS}}, stream={"url": stream_url, "name": stream_name})
    config["keys"] = [{"name": "agents", "sha256": sha256(KEY.encode()).hexdigest(), "team": "search"}]
    async with pods(1, config, tmp_path, servers) as found:
        agent = Agent(found)
        await agent.call(20)
        await found[0].kill()
        await found[0].start()
        await agent.call_until(CALLS)
        agent.refused = 0
        await agent.call(5)
        assert (agent.answered, agent.refused) == (CALLS, 5), "not one call above the ceiling"


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_worker_that_the_parent_replaces_gives_back_what_it_held(
    limited: Limited, stream_url: str, stream_name: str, upstream: FakeUpstream, tmp_path: Path, servers: Any
) -> None:
    upstream.replies(lambda received: "one two")
    config = limited(team={"per_run": {"calls": CALLS}}, stream={"url": stream_url, "name": stream_name})
    config["keys"] = [{"name": "agents", "sha256": sha256(KEY.encode()).hexdigest(), "team": "search"}]
    async with pods(1, config, tmp_path, servers, workers=2) as found:
        agent = Agent(found)
        await agent.call(20)
        workers = found[0].workers()
        assert len(workers) == 2
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        await agent.call_until(CALLS)
        agent.refused = 0
        await agent.call(5)
        assert (agent.answered, agent.refused) == (CALLS, 5)


def run_lease(book: LeaseBook, n: int) -> Lease:
    scope = run_scope(f"run_{n:024x}", ceiling_of({"calls": 10}))
    return book.lease(scope, scope.limits[0], 0.0)


def test_leases_beyond_the_slots_are_not_kept_until_one_is_free(tmp_path: Path) -> None:
    book = LeaseBook(kept=KeptLeases(tmp_path, "process", most=2))
    first, second, third = (run_lease(book, n) for n in range(3))
    assert {first.slot is None, second.slot is None} == {False}
    assert third.slot is None
    book.kept.release(first)
    assert run_lease(book, 3).slot is not None


def test_an_orderly_end_leaves_no_file_and_no_run_makes_none(tmp_path: Path) -> None:
    book = LeaseBook(kept=KeptLeases(tmp_path, "process"))
    assert [*tmp_path.iterdir()] == []
    run_lease(book, 1)
    assert [path.name for path in (tmp_path / "leases").iterdir() if not path.suffix] == ["process"]
    book.kept.close()
    assert [*(tmp_path / "leases").iterdir()] == []


def test_a_directory_that_cannot_be_written_stops_no_run(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    book = LeaseBook(kept=KeptLeases(tmp_path / "file", "process"))
    assert run_lease(book, 1).slot is None
