"""A real gateway before doubles of models, with the key of `evals`, and a store."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import uvicorn
import yaml

from gateway.config.config import Config
from gateway.config.environment import WorkerEnvironment
from gateway.config.loading import load
from gateway.fake import FakeUpstream
from gateway.features.models.probes.model import ProbeRound
from gateway.features.models.probes.work import ProbeKeeper, asker_of, probes_of
from gateway.features.task import TaskWorker
from gateway.proxy.serve import Process, server_settings
from gateway.scoring.http_client import HttpConnections
from gateway.store.store import Store

DAY_S = 86_400.0
BEGAN = 1_764_547_200.0  # 2025-12-01, midnight in UTC
KEY = "sk-evals"
QUESTIONS = [f"What is {n} squared?" for n in range(6)]


@dataclass
class Speaker:
    """A model behind a double: its answers name it, and are the same at temperature 0 but for noise."""

    name: str
    noise: float = 0.0
    """The share of answers at temperature 0 that are another one of two."""
    asked: Any = field(default_factory=itertools.count)

    def __call__(self, received: Any) -> str:
        number, body = next(self.asked), received.json
        question = sha256(str(body["messages"]).encode()).digest()[0]
        if body.get("temperature") == 0:
            return f"{self.name} {question} {(number * 7 % 10) < 10 * self.noise}"
        return f"{self.name} " + "and so on " * (1 + (number * 7 + question) % 5)


@dataclass
class Deployment:
    """A gateway, the doubles behind it, and the keeper of its probes at a clock of its own."""

    config: Config
    path: Path
    store: Store
    keeper: ProbeKeeper
    clock: list[float]

    async def days(self, n: int) -> list[ProbeRound]:
        """All rounds of n days; a target that is due soon is asked again within the day."""
        done = []
        for _ in range(n):
            for _ in range(3):  # hours of the day
                while (of := await self.keeper.ask_next()) is not None:
                    done.append(of)
                self.clock[0] += 3600.0
            self.clock[0] += DAY_S - 3 * 3600.0
        return done


def made(upstreams: dict[str, FakeUpstream], stream: tuple[str, str], key: dict[str, Any], **watch: Any) -> Any:
    targets = [{"upstream": name, "model": "m"} for name in upstreams]
    names = {f"{name}/m": {"input": 1.0, "output": 2.0} for name in upstreams}
    return {
        "keys": [{"name": "evals", "sha256": sha256(KEY.encode()).hexdigest(), "sample": "never", **key}],
        "upstreams": {
            name: {"kind": "openai", "base_url": up.base_url, "api_key": "sk-upstream"}
            for name, up in upstreams.items()
        },
        "models": {"chat": {"targets": targets, "retries": {"attempts": 1}}},
        "prices": {"as_of": "2026-11-01", "models": names},
        "stream": {"url": stream[0], "name": stream[1]},
        "watch": {"probes": "own.jsonl", **watch},
    }


@contextlib.asynccontextmanager
async def served(path: Path) -> AsyncIterator[str]:
    """The base URL of a gateway in this process."""
    process = Process(WorkerEnvironment(path, path.parent / "data", loopback=True))
    server = uvicorn.Server(server_settings(process, process.config, "127.0.0.1", 0, 1))
    with contextlib.closing(server.config.bind_socket()) as sock:
        serving = asyncio.get_running_loop().create_task(server._serve([sock]))
        while not server.started:
            await asyncio.sleep(0.005)
            assert not serving.done(), "the gateway did not start"
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/v1"
        server.should_exit = True
        await serving


@pytest.fixture
async def deployed(
    tmp_path: Path, stream_url: str, stream_name: str, file_url: str
) -> AsyncIterator[Callable[..., Any]]:
    """Starts a gateway before these doubles, with the section `watch`; key: further members of the key of evals."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(upstreams: dict[str, FakeUpstream], key: Any = None, **watch: Any) -> Deployment:
            path = tmp_path / "gateway.yaml"
            rows = "".join(f'{{"messages": [{{"role": "user", "content": "{text}"}}]}}\n' for text in QUESTIONS)
            (tmp_path / "own.jsonl").write_text(rows)
            of = made(upstreams, (stream_url, stream_name), {"allow": ["target"]} if key is None else key, **watch)
            path.write_text(yaml.safe_dump(of))
            url = await stack.enter_async_context(served(path))
            path.write_text(
                yaml.safe_dump({**of, "evals": {"base_url": url, "api_key": KEY}, "store": {"url": file_url}})
            )
            config, clock = load(path), [BEGAN]
            connections = await stack.enter_async_context(HttpConnections())
            store = await stack.enter_async_context(Store(file_url))
            probes = probes_of(config)
            assert probes is not None
            worker = TaskWorker(store, "one", lambda: clock[0])
            keeper = ProbeKeeper(worker, probes, asker_of(config, config.evals, connections))
            return Deployment(config, path, store, keeper, clock)

        yield start
