"""How far calls at once exceed a budget in dollars: python bench/overshoot.py [STREAMS [REPLICAS [USD]]]

Clients hold STREAMS streams open to each of REPLICAS gateways, which share one stream server and one key with a daily
budget of USD. They go on until every client has been refused three times in a row. The upstream is the witness: what
it has answered, priced as the gateways price it, is compared with the budget. It counts dollars, so the pace of the
machine does not matter.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx2
import load
import systems
from stage import Running, Spot, Stage, System

from gateway.fake import FakeUpstream
from gateway.fake.speech import count_words
from gateway.fake.wire import Received

INPUT_USD, OUTPUT_USD = 1.0, 10.0  # a million tokens
NANO = 1e9
ANSWER_TOKENS, MAX_TOKENS = 40, 64
PROMPT = "count these words of the request and no others please"
REFUSALS = 3  # in a row end a client


@dataclass(slots=True)
class Witness:
    """Counts what the upstream has answered, in 1e-9 USD."""

    calls: int = 0
    nano_usd: float = 0.0

    def __call__(self, received: Received) -> str:
        prompt = count_words(received.json["messages"])
        self.calls += 1
        self.nano_usd += (prompt * INPUT_USD + ANSWER_TOKENS * OUTPUT_USD) * NANO / 1e6
        return "word " * ANSWER_TOKENS


@dataclass(slots=True)
class Clients:
    """Clients that share one key. statuses: answers by HTTP status."""

    statuses: Counter[int] = field(default_factory=Counter)
    open_now: int = 0
    most_open: int = 0

    async def run(self, http: httpx2.AsyncClient, port: int) -> None:
        refused = 0
        while refused < REFUSALS:
            self.open_now += 1
            self.most_open = max(self.most_open, self.open_now)
            status = await self._ask(http, port)
            self.open_now -= 1
            self.statuses[status] += 1
            refused = 0 if status == 200 else refused + 1

    async def _ask(self, http: httpx2.AsyncClient, port: int) -> int:
        messages = [{"role": "user", "content": PROMPT}]
        body = {"model": systems.MODEL, "messages": messages, "stream": True, "max_tokens": MAX_TOKENS}
        response = await http.post(f"http://{load.HOST}:{port}/v1/chat/completions", json=body)
        return response.status_code


def replica(origin: str, usd: float) -> System:
    """A gateway of its own process; all have the same stream, and so the same budget."""

    def argv(spot: Spot) -> list[str]:
        path = spot.write("gateway.yaml", json.dumps(config(spot, origin, usd)))
        return systems.gateway_argv("serve", "--config", path, "--host", load.HOST, "--port", str(spot.port))

    return System("gateway", "", argv, lambda port: b"GET /health HTTP/1.1\r\nHost: %b\r\n\r\n" % load.HOST.encode())


def config(spot: Spot, origin: str, usd: float) -> dict[str, Any]:
    whole = systems.config_of(origin, spot.stage.stream, "overshoot", 0.0)
    price = {"input": INPUT_USD, "output": OUTPUT_USD}
    models = {f"{systems.MODEL}-{target}": price for target in "abc"}
    whole["keys"] = [whole["keys"][0] | {"limits": {"usd_per_day": usd}}]
    return whole | {"experiments": {}, "prices": {"as_of": "2026-11-01", "models": models}}


async def spent(replicas: list[Running], streams: int) -> Clients:
    clients = Clients()
    limits = httpx2.Limits(max_connections=None)
    headers = {"authorization": f"Bearer {systems.KEY}"}
    async with httpx2.AsyncClient(timeout=120, limits=limits, headers=headers) as http, asyncio.TaskGroup() as group:
        for running in replicas:
            for _ in range(streams):
                group.create_task(clients.run(http, running.port))
    return clients


async def measured(streams: int, count: int, usd: float) -> str:
    witness = Witness()
    async with FakeUpstream(model=systems.MODEL, remember=False) as upstream:
        upstream.replies(witness)
        with Stage() as stage:
            origin = upstream.base_url.removesuffix("/v1")
            replicas = [await asyncio.to_thread(stage.start, replica(origin, usd)) for _ in range(count)]
            clients = await spent(replicas, streams)
    used = witness.nano_usd / NANO
    return (
        f"{streams} streams x {count} replicas, at most {clients.most_open} calls at once: budget {usd:.4f} USD, "
        f"used {used:.6f} USD in {witness.calls} calls ({used / usd - 1:+.2%}); answers by status "
        f"{dict(sorted(clients.statuses.items()))}"
    )


def main() -> None:
    words = [*sys.argv[1:], *["128", "3", "2.0"][len(sys.argv) - 1 :]]
    print(asyncio.run(measured(int(words[0]), int(words[1]), float(words[2]))))  # noqa: T201


if __name__ == "__main__":
    main()
