"""Budgets of models, tags and end users while workers die and the stream server is away: none is exceeded.

The upstream is the witness: it notes what each call that reached it has used, by its model, tag and end user.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fixtures.gateway_pods import faults, pods
from proxy.limits.test_spend import KEYS, MOST, NANO_IN, NANO_OUT, the_config

from gateway.fake import FakeUpstream
from gateway.fake.speech import count_words
from gateway.fake.wire import Received

Limited = Callable[..., dict[str, Any]]
USERS = [f"user-{i}" for i in range(6)]
TAGS = ("alpha", "beta")
PER_USER, PER_MODEL, PER_TAG = 0.004, 0.012, 0.009
PRICE = {"input": NANO_IN / 1000, "output": NANO_OUT / 1000}


@dataclass
class Witness:
    """1e-9 USD, or GPU-seconds, of what the upstream has answered, by scope."""

    rng: random.Random
    spent: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    last_at: float = field(default_factory=time.monotonic)

    def __call__(self, received: Received) -> str:
        body = received.json
        words = self.rng.randint(1, MOST)
        cost = count_words(body["messages"]) * NANO_IN + words * NANO_OUT
        tag = body["messages"][0]["content"].split()[0]
        for scope in (body["user"], body["model"], tag):
            self.spent[scope] += cost
        self.calls, self.last_at = self.calls + 1, time.monotonic()
        return "word " * words

    def budgets_hold(self) -> None:
        """A plain call with a limit of its own exceeds nothing, however its worker ends."""
        for scope, nano_usd in self.spent.items():
            amount = PER_USER if scope in USERS else PER_TAG if scope in TAGS else PER_MODEL
            assert nano_usd <= amount * 1e9, f"{scope}: {nano_usd / 1e9:g} of {amount:g} USD"


@dataclass
class Callers:
    urls: list[str]
    rng: random.Random
    statuses: Counter[int] = field(default_factory=Counter)
    stopped: bool = False

    async def run(self, key: str) -> None:
        async with httpx2.AsyncClient(timeout=30, headers={"authorization": f"Bearer {key}"}) as client:
            while not self.stopped:
                tag = self.rng.choice(TAGS)
                body = {
                    "model": self.rng.choice(("chat", "other")), "user": self.rng.choice(USERS), "max_tokens": MOST,
                    "messages": [{"role": "user", "content": f"{tag} count these words and no others please"}],
                }  # fmt: skip
                try:
                    url = f"{self.rng.choice(self.urls)}/chat/completions"
                    answer = await client.post(url, json=body, headers={"x-gateway-tags": f"project={tag}"})
                    status = answer.status_code
                except httpx2.HTTPError:
                    status = 0  # the worker was killed
                self.statuses[status] += 1
                await asyncio.sleep(0.002 if status == 200 else 0.05)


def a_config(limited: Limited, measure: str = "usd", **sections: Any) -> dict[str, Any]:
    """measure: of the budgets, in dollars or in as many GPU-seconds."""
    config = the_config(limited, 1e3, tags={"keys": ["project"]}, **sections)
    chat = config["models"]["chat"]
    config["models"]["other"] = {**chat, "targets": [{**chat["targets"][0], "model": "model-x"}]}
    config["prices"]["models"]["model-x"] = PRICE
    if measure == "gpu_seconds":
        config["prices"]["gpu_seconds"] = config["prices"]["models"]
    day = f"{measure}_per_day"
    config["teams"]["search"]["limits"] |= {
        "models": {name: {day: PER_MODEL} for name in ("chat", "other")},
        "tags": {f"project={tag}": {day: PER_TAG} for tag in TAGS},
        "per_user": {day: PER_USER},
    }
    return config


async def until_refused(callers: Callers, witness: Witness, quiet_s: float) -> None:
    async with asyncio.timeout(180):
        while not callers.statuses[429] or time.monotonic() - witness.last_at < quiet_s:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("measure", ["usd", "gpu_seconds"])
async def test_budgets_of_calls_hold_through_outages(
    stream_server: Any, start: Any, limited: Limited, stream_name: str, upstream: FakeUpstream, measure: str
) -> None:
    """Short form: two gateways in this process, a restart and a pause of the server."""
    rng = random.Random(5)
    witness = Witness(rng)
    upstream.replies(witness)
    config = a_config(limited, measure, stream={"url": stream_server.url, "name": stream_name})
    gateways = [await start(config) for _ in range(2)]
    callers = Callers([each.base_url for each in gateways], rng)
    async with asyncio.TaskGroup() as group:
        for key in KEYS:
            group.create_task(callers.run(key))
        await upstream.until(lambda _: witness.calls >= 30)
        stream_server.kill()
        before = witness.calls
        await upstream.until(lambda _: witness.calls >= before + 5)
        stream_server.start()
        await upstream.until(lambda _: witness.calls >= before + 10)
        stream_server.pause()
        await asyncio.sleep(0.2)  # a hiccup of this length; nothing depends on it
        stream_server.resume()
        await until_refused(callers, witness, 0.7)
        callers.stopped = True
    witness.budgets_hold()
    assert set(callers.statuses) <= {200, 429, 503}
    assert sum(witness.spent[user] for user in USERS) > 0.3 * PER_USER * 1e9 * len(USERS), "and can be used"


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [1, 2, 3])
@pytest.mark.parametrize(("n", "measure"), [(1, "usd"), (2, "usd"), (4, "usd"), (2, "gpu_seconds")])
async def test_no_fault_makes_a_budget_of_calls_overspent(
    stream_server: Any, limited: Limited, stream_name: str, upstream: FakeUpstream, tmp_path: Path, servers: Any,
    capsys: pytest.CaptureFixture[str], n: int, measure: str, seed: int,
) -> None:  # fmt: skip
    rng = random.Random(10 * n + seed)
    witness = Witness(rng)
    upstream.replies(witness)
    config = a_config(limited, measure, stream={"url": stream_server.url, "name": stream_name})
    async with pods(n, config, tmp_path, servers) as found, asyncio.TaskGroup() as group:
        callers = Callers([f"http://127.0.0.1:{pod.port}/v1" for pod in found], rng)
        for key in KEYS * 2:
            group.create_task(callers.run(key))
        happened = await faults(rng, found, stream_server, 12)
        await until_refused(callers, witness, 3)
        callers.stopped = True
    users = [witness.spent[user] / 1e9 for user in USERS]
    row = (n, measure, happened, f"{max(users):.6f} of {PER_USER}", witness.calls, dict(callers.statuses))
    with capsys.disabled():
        print("\n| " + " | ".join(map(str, row)) + " |")  # noqa: T201
    witness.budgets_hold()
