"""Two gateways, with and without session affinity, before doubles that bill as providers do: the page names the loss.

Clients, a gateway, a consumer and two servers with a cache each, over real sockets. The figures go to the terminal.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.json_outputs import conforms
from typer.testing import CliRunner

from gateway.cli import app
from gateway.fake import FakeAnswer, FakeUpstream
from tests.features.experiments.test_worlds import program

pytestmark = [pytest.mark.long, pytest.mark.timeout(300)]
SESSIONS, TURNS = 30, 6
INPUT, CACHED, OUTPUT = 2.0, 0.2, 8.0


@dataclass
class Bill:
    """Bill of both servers of a gateway. Each keeps the prompts that it has read, in blocks of 128 tokens."""

    usd: float = 0.0
    kept: dict[tuple[str, str], int] = field(default_factory=dict)

    def server(self, name: str) -> Any:
        def answer(received: Any) -> FakeAnswer:
            session, tokens = received.json["prompt_cache_key"], len(received.json["messages"][0]["content"]) // 4
            known = min(self.kept.get((name, session), 0), tokens)
            cached = known // 128 * 128 if known >= 1024 else 0
            self.kept[name, session] = tokens
            self.usd += ((tokens - cached) * INPUT + cached * CACHED + OUTPUT) / 1e6
            return FakeAnswer(json.dumps(_completion(tokens, cached)).encode())

        return answer


def _completion(tokens: int, cached: int) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}
    usage = {"prompt_tokens": tokens, "completion_tokens": 1, "total_tokens": tokens + 1}
    usage["prompt_tokens_details"] = {"cached_tokens": cached}  # type: ignore[assignment]
    return {"id": "c", "object": "chat.completion", "created": 1, "model": "m-1", "choices": [choice], "usage": usage}


@dataclass
class Deployment:
    """A gateway, its consumer and the bill of their two servers."""

    directory: Path
    port: int
    bill: Bill = field(default_factory=Bill)

    def configure(self, stream: str, strategy: str, urls: dict[str, str]) -> None:
        price = {"input": INPUT, "cached_input": CACHED, "output": OUTPUT}
        targets = [{"upstream": name, "model": "m"} for name in urls]
        config = {
            "open": True,
            "upstreams": {name: {"kind": "vllm", "base_url": url} for name, url in urls.items()},
            "models": {"chat": {"targets": targets, "strategy": strategy}},
            "stream": {"url": stream, "name": f"affinity-{strategy}"},
            "prices": {"as_of": "2026-11-29", "models": {f"{name}/m": price for name in urls}},
            "sampling": {"rate": 1.0},
        }
        self.directory.mkdir()
        (self.directory / "gateway.yaml").write_text(yaml.safe_dump(config))

    async def ask(self) -> None:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{self.port}", timeout=60) as client:
            for number in range(SESSIONS):  # one after the other: a loaded target's sessions move
                await self._session(client, f"session-{number}")

    async def _session(self, client: httpx2.AsyncClient, session: str) -> None:
        for turn in range(TURNS):
            content = f"{session} " + "word " * (1600 + 200 * turn)
            message = {"role": "user", "content": content}
            body = {"model": "chat", "prompt_cache_key": session, "messages": [message]}
            while True:
                with contextlib.suppress(httpx2.TransportError):
                    headers = {"x-gateway-run": session}
                    reply = await client.post("/v1/chat/completions", json=body, headers=headers)
                    assert reply.status_code == 200, reply.text
                    break
                await asyncio.sleep(0.1)

    def stored(self) -> int:
        path = self.directory / "data" / "gateway.db"
        with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=60)) as connection:
            return int(connection.execute("SELECT count(*) FROM exchanges").fetchone()[0])
        return 0

    async def models(self) -> dict[str, Any]:
        where = ["--config", str(self.directory / "gateway.yaml"), "--data", str(self.directory / "data")]
        done = await asyncio.to_thread(CliRunner().invoke, app, ["models", "--json", *where])
        assert done.exit_code == 0, done.output
        found: dict[str, Any] = conforms("models", done.stdout)
        return found


async def measured(directory: Path, stream: str, servers: Any, strategy: str) -> tuple[Bill, dict[str, Any]]:
    """The bill of all sessions, and the output of `gateway models`."""
    port, metrics_port = servers.free_ports(2)
    made = Deployment(directory, port)
    async with contextlib.AsyncExitStack() as stack:
        doubles = {name: await stack.enter_async_context(FakeUpstream(remember=False)) for name in ("east", "west")}
        for name, double in doubles.items():
            double.replies(made.bill.server(name))
        made.configure(stream, strategy, {name: double.base_url for name, double in doubles.items()})
        await stack.enter_async_context(program(made, "serve", "--port", str(port)))  # type: ignore[arg-type]
        await stack.enter_async_context(program(made, "evaluate", "--metrics-port", str(metrics_port)))  # type: ignore[arg-type]
        await made.ask()
        while made.stored() < SESSIONS * TURNS:
            await asyncio.sleep(0.2)
        return made.bill, await made.models()


async def test_the_page_names_what_a_spread_session_costs(
    tmp_path: Path, stream_url: str, servers: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    together, kept = await measured(tmp_path / "session", stream_url, servers, "session")
    spread, lost = await measured(tmp_path / "weighted", stream_url, servers, "weighted")
    assert kept["spread"] == []
    warm, cold = ([run["hit_rate"] for run in found["runs"]] for found in (kept, lost))
    assert max(cold) < 0.9 < min(warm)
    [found] = lost["spread"]
    difference = spread.usd - together.usd
    figures = (
        f"billed {together.usd:.4f} and {spread.usd:.4f} USD: lost {difference:.4f}, named {found['lost_usd']:.4f}"
    )
    with capsys.disabled():
        sys.stdout.write(f"\n{figures}\n")
    assert difference > 0
    assert abs(found["lost_usd"] - difference) < 0.1 * difference, figures
