"""An agent on two planted models, of which one loops in a fifth of its runs, through real HTTP: a split by run rejects
that model, and the same tasks judged call by call do not show it."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
import yaml
from fixtures.program_command import gateway_command
from fixtures.scripted_agent import MOST_STEPS, solve
from servers import free_port

from gateway.core.randomization import draw
from gateway.fake import FakeUpstream
from gateway.fake.answers import FakeToolCall
from gateway.features.experiments.report.build import read
from gateway.store.engine import StoreUnavailable
from gateway.store.location import default_url
from gateway.store.query import reading
from gateway.store.reader_config import StoreLocation

LOOPING = 0.2
AT_ONCE = 8
MODELS = ("by_run", "by_call")
SCORED = """
SELECT (SELECT COUNT(*) FROM runs), (SELECT COUNT(*) FROM runs WHERE scored_to = last_at),
       (SELECT COUNT(*) FROM exchanges)
"""


def planted(loops: float) -> Callable[[Any], FakeToolCall | str]:
    """A model that searches, reads, adds and answers; in a share of the tasks it reads the same file forever."""

    def answer(received: Any) -> FakeToolCall | str:
        messages = orjson.loads(received.body)["messages"]
        task = int(re.findall(r"project (\d+)", messages[0]["content"])[0])
        called = [call["function"]["name"] for message in messages for call in message.get("tool_calls") or ()]
        results = [message["content"] for message in messages if message["role"] == "tool"]
        id = f"call_{len(called)}"
        if "search" not in called:
            return FakeToolCall("search", f'{{"project": {task}}}', id)
        if "read" not in called or draw("loops", str(task)) < loops:
            return FakeToolCall("read", f'{{"file": "notes-{task}.txt"}}', id)
        if "add" not in called:
            return FakeToolCall("add", f'{{"a": {7 * task}, "b": 1}}', id)
        return f"It is {results[called.index('add')]}."

    return answer


def config(old: str, new: str, stream: str) -> dict[str, Any]:
    def experiment(name: str, unit: str, primary: str) -> dict[str, Any]:
        return {
            "model": name, "control": {"upstream": "old", "model": "m"}, "candidate": {"upstream": "new", "model": "m"},
            "mode": "split", "unit": unit, "primary": primary, "margin": 0.02, "min_hours": 0, "headers": "all",
            "guardrails": {"error_rate": 0.05, "tool_calls": 0.05},
        }  # fmt: skip

    upstream = {"kind": "openai", "api_key": "k"}
    return {
        "keys": [{"name": "web", "sha256": sha256(b"k").hexdigest()}],
        "upstreams": {"old": {**upstream, "base_url": old}, "new": {**upstream, "base_url": new}},
        "models": {
            name: {"targets": [{"upstream": "old", "model": "m"}], "timeouts": {"connect_s": 60, "total_s": 600}}
            for name in MODELS
        },
        "stream": {"url": stream, "name": f"agents-{uuid.uuid4().hex[:12]}"},
        "sampling": {"rate": 1.0, "unit": "run"},
        "runs": {"quiet_s": 0.5},
        "scorers": {name: {} for name in ("run_loops", "run_finished", "tool_calls", "repetition")},
        "experiments": {
            "by_run": experiment("by_run", "run", "run_loops"),
            "by_call": experiment("by_call", "request", "completion"),
        },
    }  # fmt: skip


@contextlib.asynccontextmanager
async def program(directory: Path, *words: str) -> AsyncIterator[None]:
    where = ("--config", str(directory / "gateway.yaml"), "--data", str(directory / "data"))
    with (directory / f"{words[0]}.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *gateway_command(*words, *where), stdout=log, stderr=log, cwd=Path(__file__).parents[3]
        )
    try:
        yield
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await process.wait()


async def until(holds: Callable[[], Any]) -> None:
    async with asyncio.timeout(240):
        while True:
            with contextlib.suppress(httpx2.HTTPError, StoreUnavailable):
                found = holds()
                if await found if asyncio.iscoroutine(found) else found:
                    return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def played(directory: Path, stream: str, tasks: int) -> AsyncIterator[tuple[str, Counter[str]]]:
    """(the store's URL, how often the agent gave up by model), once all runs are scored."""
    ports, sent, gave_up = (free_port(), free_port()), Counter[str](), Counter[str]()
    url, turn = default_url(directory / "data"), asyncio.Semaphore(AT_ONCE)

    async def count(request: httpx2.Request) -> None:
        sent[request.method] += 1

    def scored() -> bool:
        with reading(url) as connection:
            runs, done, calls = connection.exec_driver_sql(SCORED).one()
        return bool(runs == done == 2 * tasks and calls == sent["POST"])

    async with FakeUpstream(remember=False) as old, FakeUpstream(remember=False) as new:
        old.replies(planted(0.0))
        new.replies(planted(LOOPING))
        (directory / "gateway.yaml").write_text(yaml.safe_dump(config(old.base_url, new.base_url, stream)))
        async with (
            program(directory, "serve", "--port", str(ports[0])),
            program(directory, "evaluate", "--metrics-port", str(ports[1])),
            httpx2.AsyncClient(
                base_url=f"http://127.0.0.1:{ports[0]}", timeout=60, headers={"authorization": "Bearer k"},
                event_hooks={"request": [count]},
            ) as client,
        ):  # fmt: skip

            async def ready() -> bool:
                text = (await client.get("/metrics")).text
                return all(f'gateway_experiment_running{{experiment="{name}"}} 1' in text for name in MODELS)

            async def one(model: str, task: int) -> None:
                async with turn:
                    answer = await solve(client, model, task)
                assert answer in (f"It is {7 * task + 1}.", None)
                gave_up[model] += answer is None

            await until(ready)
            await asyncio.gather(*(one(model, task) for task in range(tasks) for model in MODELS))
            await until(scored)
            yield url, gave_up


async def test_an_agent_keeps_its_model_and_its_runs_are_scored(tmp_path: Path, stream_url: str) -> None:
    async with played(tmp_path, stream_url, 30) as (url, gave_up):
        with reading(url) as connection:
            arms = connection.exec_driver_sql(
                "SELECT run_id, COUNT(DISTINCT arm), COUNT(*) FROM exchanges WHERE alias = 'by_run' GROUP BY run_id"
            ).all()
            loops = connection.exec_driver_sql(
                "SELECT arm, value, COUNT(*) FROM scores WHERE scorer = 'run_loops' AND subject = 'run' "
                "AND experiment = 'by_run' GROUP BY arm, value"
            ).all()
            ended = connection.exec_driver_sql(
                "SELECT COUNT(*) FROM scores WHERE scorer = 'run_finished' AND value = 0 AND experiment = 'by_run'"
            ).scalar()
        assert {row[1] for row in arms} == {1}, "an agent keeps its model for the task"
        assert {row[2] for row in arms} <= {4, MOST_STEPS}
        counts = {(row[0], row[1]): row[2] for row in loops}
        assert sum(counts.values()) == 30
        assert ("control", 0.0) not in counts
        assert counts.get(("candidate", 0.0), 0) == gave_up["by_run"] == ended


@pytest.mark.long
@pytest.mark.timeout(600)
async def test_a_model_that_loops_is_rejected_by_run_and_not_by_call(tmp_path: Path, stream_url: str) -> None:
    async with played(tmp_path, stream_url, 800) as (url, _):
        by_run, by_call = (read(StoreLocation(url), name) for name in ("by_run", "by_call"))
        assert (by_run.verdict, by_call.verdict) == ("reject", "ship"), by_call.sentence
        metrics = {each.metric: each for each in by_run.metrics}
        assert abs((metrics["run_loops"].difference.value or 0.0) + LOOPING) < 0.1
        assert metrics["tool_calls"].difference.value == 0.0
