"""Imports change no figure of served traffic: 1 000 of them, with the model, the target and the key of served calls."""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import orjson
import pytest
from fixtures import traces
from fixtures.console_world import NAME, TOKEN, ConsoleWorld, console_world
from prometheus_client import CollectorRegistry, generate_latest
from typer.testing import CliRunner

from gateway.cli import app
from gateway.config.loading import load_for_consumer
from gateway.consumer.serve import opened
from gateway.core.exchange import Fields
from gateway.features.status.rows import recorded_bytes
from gateway.features.today.rows import HOUR_S, hour_sums, hour_to_json
from gateway.features.traces.files import TraceFile
from gateway.features.traces.survey import exchanges_in, survey
from gateway.runtime.embedded_socket import stream_url
from gateway.store.loss_accounting import delivery
from gateway.store.query import reading
from gateway.stream import Corridor

IMPORTS = 1_000


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleWorld]:
    """A console with an experiment, usage, feedback, a predictor and a broken record."""
    with console_world(tmp_path_factory.mktemp("unmixed")) as found:
        yield found


def verb(world: ConsoleWorld, *words: str) -> Any:
    done = CliRunner().invoke(app, [*words, "--config", str(world.config), "--data", str(world.data), "--json"])
    assert done.stdout, (words, done.stderr, done.exception)
    return json.loads(done.stdout)


async def metrics(world: ConsoleWorld) -> dict[str, str]:
    """Every metric of a consumer once it has read everything, but what tells the time."""
    path = world.data / "consumer.yaml"
    path.write_text(world.config.read_text().replace("target: length", "target: valid_json"))
    registry, config = CollectorRegistry(), load_for_consumer(path)
    async with opened(config, world.store_url, stream_url(None, world.data), registry) as consumer:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(consumer.run())
            corridor = Corridor(stream_url(None, world.data))
            async with asyncio.timeout(60):
                while (lag := await corridor.lag()).waiting or lag.pending or lag.length:
                    await asyncio.sleep(0.02)
            await corridor.aclose()
            consumer.stop()
        lines = generate_latest(registry).decode().splitlines()
    shown = dict(line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
    return {
        name: value for name, value in shown.items() if not re.search(r"_created|timestamp|consumers|shown_age", name)
    }


async def today(world: ConsoleWorld) -> str:
    """The page Today, once all hours are summed, without what tells the time."""
    async with httpx2.AsyncClient(base_url=world.url, follow_redirects=True) as client:
        form = (await client.get("/console/login")).text
        found = re.search(r'name="csrf" value="([^"]+)"', form)
        await client.post(
            "/console/login",
            data={"token": TOKEN, **({"csrf": found[1]} if found else {})},
            headers={"origin": world.url},
        )
        async with asyncio.timeout(60):
            while "as of <time" not in (page := (await client.get("/console")).text):
                await asyncio.sleep(0.05)
    return re.sub(r'as of <time.*?</time>|value="[0-9a-f]{40}"', "", page)


def figures(world: ConsoleWorld) -> dict[str, Any]:
    now = time.time() // HOUR_S * HOUR_S
    found: dict[str, Any] = {"metrics": asyncio.run(metrics(world)), "today": asyncio.run(today(world))}
    with reading(world.store_url) as connection:
        found["hours"] = [hour_to_json(hour_sums(connection, now - i * HOUR_S)) for i in range(-1, 30)]
        found["ledger"] = delivery(connection)
        found["recorded"] = recorded_bytes(connection, now - 86_400, now)
    report = verb(world, "report", "swap")
    found["report"] = {name: value for name, value in report.items() if name != "created"}
    found["usage"] = verb(world, "usage", "--by", "source,team,key,alias,upstream,model,day")
    found["predictor"] = verb(world, "learn", "status")
    return found


def imports(folder: Path, first: int, n: int) -> Path:
    """Calls that look like those of the world's own traffic, as bad as can be."""
    names = {
        "gen_ai.request.model": "chat", "gen_ai.response.model": "small", "gen_ai.provider.name": "local",
        "session.id": "one", "gen_ai.response.id": "the-same",
    }  # fmt: skip
    start = time.time() - 3000
    bad = traces.chat_attributes(answer="{broken", **names)
    kept = ("ot=th:8", "")  # for every second one, the probability with which it was kept is known
    spans = [
        traces.span("c", f"t{i}", start=start + i, took_s=60.0, attributes=bad, traceState=kept[i % 2])
        for i in range(first, first + n)
    ]
    path = folder / f"{first}.json"
    path.write_bytes(orjson.dumps(traces.export(*spans, service=NAME)))
    return path


async def appended(world: ConsoleWorld, entries: list[Fields]) -> None:
    corridor = Corridor(stream_url(None, world.data))
    await corridor.append(entries)
    await corridor.aclose()


def test_1_000_imports_change_no_figure(world: ConsoleWorld, tmp_path: Path) -> None:
    """Half of them by `gateway ingest`, half by the stream, as the receiver appends them."""
    before = figures(world)
    done = verb(world, "ingest", str(imports(tmp_path, 0, IMPORTS // 2)))
    assert (done["stored"], done["scored"]["length"]) == (IMPORTS // 2, IMPORTS // 2)
    file = imports(tmp_path, IMPORTS // 2, IMPORTS // 2)
    files = [TraceFile(file.name, lambda: file.open("rb"))]
    asyncio.run(appended(world, [each.to_fields() for each in exchanges_in(files, survey(files))]))
    after = figures(world)
    with reading(world.store_url) as connection:
        counts = "SELECT count(*), count(pi) FROM exchanges WHERE role = 'imported'"
        assert connection.exec_driver_sql(counts).one() == (IMPORTS, IMPORTS // 2)
        scored = "SELECT count(*) FROM scores s JOIN exchanges e ON e.id = s.exchange_id WHERE e.role = 'imported'"
        assert connection.exec_driver_sql(scored).scalar_one() >= 2 * IMPORTS
    assert before["metrics"]
    assert len(before["report"]["metrics"]) > 1
    assert before["usage"]
    for name, value in before.items():
        assert after[name] == value, name
