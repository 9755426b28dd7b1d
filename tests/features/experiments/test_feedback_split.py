"""Splits that thumbs decide, through real HTTP: clients, a gateway, a stream server, a consumer, and two upstreams.

Which thumbs are given is fixed by seeds. The arm of a call is known from its response, as a client's would be.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import random
import signal
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import httpx2 as httpx
import pytest
import yaml
from fixtures.program_command import gateway_command
from rich.console import Console
from servers import free_port

from gateway.fake import FakeUpstream
from gateway.features.experiments.report.build import read
from gateway.features.experiments.work import figures_of
from gateway.store.engine import StoreUnavailable
from gateway.store.location import default_url
from gateway.store.query import reading
from gateway.store.reader_config import StoreLocation
from gateway.verdict.gates.sample_ratio import units_for_srm
from gateway.verdict.report.html import to_html
from gateway.verdict.report.terminal import to_terminal

AT_ONCE, WINDOW_S = 16, 3600.0
FEW, ENOUGH = 300, 1500  # calls of an experiment: too few, and enough, to show that the arms have their shares
MARGINS = {"better": 0.2, "worse": 0.2, "equal": 0.35}
UP = {  # how often a thumb is up, by experiment and arm
    "better": {"control": 0.5, "candidate": 0.95},
    "worse": {"control": 0.95, "candidate": 0.25},
    "equal": {"control": 0.9, "candidate": 0.9},
}
ANSWERED = {"control": 0.95, "candidate": 0.95}


def config(old: str, new: str, stream: str, names: Sequence[str]) -> dict[str, Any]:
    def experiment(name: str) -> dict[str, Any]:
        return {
            "model": name, "control": {"upstream": "old", "model": "m"}, "candidate": {"upstream": "new", "model": "m"},
            "mode": "split", "primary": "feedback:thumb", "margin": MARGINS[name], "feedback_window_s": WINDOW_S,
            "min_hours": 0,
            "guardrails": {"error_rate": 0.2}, "headers": "all",
        }  # fmt: skip

    return {
        "keys": [{"name": "web", "sha256": sha256(b"k").hexdigest()}],
        "upstreams": {
            "old": {"kind": "openai", "base_url": old, "api_key": "k"},
            "new": {"kind": "openai", "base_url": new, "api_key": "k"},
        },
        "models": {name: {"targets": [{"upstream": "old", "model": "m"}]} for name in names},
        "stream": {"url": stream, "name": f"thumbs-{uuid.uuid4().hex[:12]}"},
        "experiments": {name: experiment(name) for name in names},
        "feedback": {"range": {"thumb": [0, 1]}},
    }


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


async def ready(client: httpx.AsyncClient, names: Sequence[str]) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.HTTPError):
                text = (await client.get("/metrics")).text
                if all(f'gateway_experiment_running{{experiment="{name}"}} 1' in text for name in names):
                    return
            await asyncio.sleep(0.05)


async def one(client: httpx.AsyncClient, turn: asyncio.Semaphore, name: str, i: int) -> int:
    """A call, and the thumb of the person who reads its answer. Returns the number of thumbs."""
    rng = random.Random(f"{name} {i}")
    body = {"model": name, "messages": [{"role": "user", "content": f"Is it so? {i}"}]}
    async with turn:
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200, answer.text
        arm = answer.headers["x-gateway-arm"]
        if rng.random() >= ANSWERED[arm]:
            return 0
        thumb = {"id": answer.headers["x-request-id"], "name": "thumb", "value": rng.random() < UP[name][arm]}
        given = await client.post("/v1/feedback", json=thumb)
        assert given.status_code in (200, 202), given.text
        return 1


async def stored(url: str, thumbs: int) -> None:
    """Every thumb has met its exchange."""
    async with asyncio.timeout(120):
        while True:
            with contextlib.suppress(StoreUnavailable), reading(url) as connection:
                query = "SELECT count(*) FROM scores WHERE scorer = 'feedback:thumb'"
                if connection.exec_driver_sql(query).scalar_one() == thumbs:
                    return
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def played(
    directory: Path, stream: str, names: Sequence[str], requests: int
) -> AsyncIterator[tuple[StoreLocation, int]]:
    """(the store, the number of thumbs) after all calls."""
    ports = free_port(), free_port()
    async with FakeUpstream(remember=False) as old, FakeUpstream(remember=False) as new:
        (directory / "gateway.yaml").write_text(yaml.safe_dump(config(old.base_url, new.base_url, stream, names)))
        headers = {"authorization": "Bearer k"}
        async with (
            program(directory, "serve", "--port", str(ports[0])),
            program(directory, "evaluate", "--metrics-port", str(ports[1])),
            httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports[0]}", timeout=60, headers=headers) as client,
        ):
            await ready(client, names)
            turn = asyncio.Semaphore(AT_ONCE)
            thumbs = sum(await asyncio.gather(*(one(client, turn, name, i) for i in range(requests) for name in names)))
            url = default_url(directory / "data")
            await stored(url, thumbs)
            yield StoreLocation(url), thumbs


def printed(report: Any) -> str:
    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: SIM115
    with console.file:
        console.print(to_terminal(report))
        return " ".join(console.export_text().split())


async def test_thumbs_decide_once_their_windows_have_closed(tmp_path: Path, stream_url: str) -> None:
    names = ("worse", "equal")
    async with played(tmp_path, stream_url, names, FEW) as (store, thumbs):
        later = time.time() + WINDOW_S
        worse, equal = (read(store, name, now=later) for name in names)
        assert (worse.verdict, worse.direction, worse.margin) == ("reject", "worse", "inferior")
        assert (equal.direction, equal.margin) == ("unclear", "equivalent")
        assert [(g.name, g.state) for g in equal.gates] == [("srm", 0), ("adjustment", 1)], "too few units for `ship`"
        assert equal.progress is not None
        [srm] = equal.progress.open
        assert (srm.name, srm.values + (srm.pairs or 0)) == ("srm", units_for_srm((1, 1), math.log(2 / 0.05)))
        assert equal.pairs == (equal.primary and equal.primary.pairs)
        responses = [r.primary.responses for r in (worse, equal) if r.primary and r.primary.responses]
        assert sum(r.a.answered + r.b.answered for r in responses) == thumbs
        assert sum(r.a.closed + r.b.closed for r in responses) == len(names) * FEW
        for shown in (printed(worse), " ".join(to_html(worse).split())):
            assert "feedback:thumb was given on 9" in shown
            assert "the others are in no mean" in shown
        now = read(store, "worse")
        assert (now.verdict, now.primary and now.primary.pairs) == ("hold", 0), "no window has closed"
        with reading(store.store) as connection:
            [figures] = [f for f in figures_of(connection, later) if f.experiment == "worse"]
        arms = {f.arm: f for f in figures.feedback}
        assert (arms["control"].mean, arms["candidate"].mean) == (
            pytest.approx(0.95, abs=0.1), pytest.approx(0.25, abs=0.2)
        )  # fmt: skip
        assert arms["candidate"].answered == pytest.approx(0.95, abs=0.1)


@pytest.mark.long
async def test_the_verdicts_by_thumbs_are_those_that_were_planted(tmp_path: Path, stream_url: str) -> None:
    async with played(tmp_path, stream_url, tuple(UP), ENOUGH) as (store, _):
        later = time.time() + WINDOW_S
        found = {name: read(store, name, now=later) for name in UP}
    assert {name: (report.verdict, report.direction) for name, report in found.items()} == {
        "better": ("ship", "better"), "worse": ("reject", "worse"), "equal": ("ship", "unclear"),
    }  # fmt: skip
