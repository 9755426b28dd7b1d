"""Agents and their sub-agents spend while gateways die and the stream server restarts and hangs: no run passes its
ceiling, and no other run is refused.

The upstream in this process is the witness: it counts the calls of each run that reached it.
"""

from __future__ import annotations

import asyncio
import random
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fixtures.gateway_pods import faults, pods

from gateway.fake import FakeUpstream
from gateway.fake.wire import Received

Limited = Callable[..., dict[str, Any]]
CALLS = 60
"""Ceiling of each run."""
AGENTS = 3
"""An agent and its sub-agents."""
MODEST = 20
"""Calls of a run that stays below its ceiling."""
ENDED = -1
"""A refusal that ends the run; after 429 the agent asks again, since the rest of its ceiling is only reserved."""
REACHED = 0.95
"""Share of its ceiling that a run reaches, whatever dies."""
LONG_CALLS, LONG_PAUSE_S, FAULTS_S = 300, 1.0, 60
"""The same of runs that last as long as the faults."""
_RUN = re.compile(rb"run-([a-z]+-\d+)")


@dataclass
class RunWitness:
    """Calls that reached the upstream, by run."""

    calls: Counter[str] = field(default_factory=Counter)

    def __call__(self, received: Received) -> str:
        found = _RUN.search(received.body)
        assert found is not None
        self.calls[found[1].decode()] += 1
        return "one two"


@dataclass
class Agent:
    """One agent, or a sub-agent of its run, until the run ends or it has made its calls."""

    run: str
    number: int
    urls: list[str]
    rng: random.Random
    statuses: Counter[int]
    pause_s: float = 0.1
    """The longest pause after an answer."""

    async def work(self, most: int) -> None:
        headers = {"authorization": f"Bearer {KEY}", "x-gateway-run": self.run}
        if self.number:
            headers |= {"x-gateway-run": f"{self.run}-sub-{self.number}", "x-gateway-run-parent": self.run}
        body = {"model": "chat", "messages": [{"role": "user", "content": f"run-{self.run}"}], "max_tokens": 5}
        async with httpx2.AsyncClient(timeout=30, headers=headers) as client:
            for _ in range(most):
                try:
                    answer = await client.post(f"{self.rng.choice(self.urls)}/chat/completions", json=body)
                    status = answer.status_code
                except httpx2.HTTPError:
                    status = 0  # the gateway was killed
                ended = status == 429 and answer.headers.get("x-should-retry") == "false"
                self.statuses[ENDED if ended else status] += 1
                if ended:
                    return
                await asyncio.sleep(self.rng.uniform(0.0, self.pause_s) if status == 200 else 0.2)


KEY = "sk-agents"


def with_ceilings(limited: Limited, calls: int = CALLS, **sections: Any) -> dict[str, Any]:
    config = limited(team={"per_run": {"calls": calls}}, **sections)
    config["keys"] = [{"name": "agents", "sha256": sha256(KEY.encode()).hexdigest(), "team": "search"}]
    return {**config, "sampling": {"rate": 0.0}}


async def play(
    urls: list[str], rng: random.Random, endless: int, modest: int, pause_s: float = 0.1
) -> dict[str, Counter[int]]:
    """Statuses by run: of agents that never stop by themselves, and of those that stay below their ceiling."""
    statuses: dict[str, Counter[int]] = {}
    async with asyncio.TaskGroup() as group:
        for kind, n, most in (("endless", endless, 10_000), ("modest", modest, MODEST // AGENTS)):
            for run in (f"{kind}-{i}" for i in range(n)):
                statuses[run] = Counter()
                for number in range(AGENTS):
                    group.create_task(Agent(run, number, urls, rng, statuses[run], pause_s).work(most))
    return statuses


async def test_no_run_passes_its_ceiling_and_no_other_is_refused(
    start: Any, limited: Limited, upstream: FakeUpstream
) -> None:
    witness = RunWitness()
    upstream.replies(witness)
    config = with_ceilings(limited, chat={"timeouts": {"answer_s": 60, "total_s": 60}})
    gateways = [await start(config, key=None) for _ in range(2)]
    statuses = await play([each.base_url for each in gateways], random.Random(5), 4, 4)
    ends = {run: found for run, found in statuses.items() if run.startswith("endless")}
    assert all(witness.calls[run] <= CALLS for run in ends), witness.calls
    assert all(witness.calls[run] == CALLS for run in ends), "the ceiling is used, not kept back"
    assert all(set(found) == {200} for run, found in statuses.items() if run not in ends)
    assert all(set(found) <= {200, 429, ENDED} for found in ends.values()), (
        "a busy machine refuses no call with HTTP 503"
    )


@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_faults_let_no_run_pass_its_ceiling(
    stream_server: Any, limited: Limited, stream_name: str, upstream: FakeUpstream, tmp_path: Path, servers: Any,
    capsys: pytest.CaptureFixture[str], seed: int,
) -> None:  # fmt: skip
    """Gateways are killed, and the stream server restarts and hangs, while six runs spend and six more begin."""
    rng, witness = random.Random(seed), RunWitness()
    upstream.replies(witness)
    config = with_ceilings(limited, LONG_CALLS, stream={"url": stream_server.url, "name": stream_name})
    async with pods(3, config, tmp_path, servers) as found, asyncio.TaskGroup() as group:
        urls = [f"http://127.0.0.1:{pod.port}/v1" for pod in found]
        happened = group.create_task(faults(rng, found, stream_server, FAULTS_S))
        statuses = await play(urls, rng, 6, 6, LONG_PAUSE_S)
        await happened
    with capsys.disabled():
        print(f"\n{happened.result()}: calls by run {dict(witness.calls)}")  # noqa: T201
    assert all(witness.calls[run] <= LONG_CALLS for run in statuses), witness.calls
    assert all(witness.calls[run] >= REACHED * LONG_CALLS for run in statuses if run.startswith("endless")), (
        witness.calls
    )
    modest = [found for run, found in statuses.items() if run.startswith("modest")]
    assert all(ENDED not in found and 429 not in found for found in modest), modest
    assert all(503 not in found for found in statuses.values()), "no call is refused since nobody could be asked"
