"""The process of guards, as the gateway runs it: a real child, real pipes, and guards that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import os
import pickle
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from gateway.config.guards import GuardConfig
from gateway.config.scorers import EvalsConfig, ScorerConfig
from gateway.core.prices import Prices
from gateway.proxy.guards.guard import GuardFailed
from gateway.proxy.guards.process import GuardProcess
from gateway.runtime.frames import HEAD, frame, json_frame
from gateway.runtime.tasks import Tasks

MISBEHAVING = """
import asyncio, os, pathlib, time
from gateway.core.score import Score

pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))

class Base:
    version, kind, direction, bounds, heavy = "1", "code", "maximise", (0.0, 1.0), False
    def __init__(self, name): self.name = name
    def golden(self): return ()

class Says(Base):
    async def score(self, subject):
        text = subject.completion.text
        print("printed by a scorer")
        if text == "raise": raise RuntimeError("as told")
        if text == "nan": return Score(float("nan"))
        if text == "hang": time.sleep(60)
        if text == "exit": os._exit(3)
        if text == "wait": await asyncio.sleep(60)
        return Score(1.0 if text == "good" else 0.25)
"""


def spec_of(directory: Path, deadline_s: float) -> dict[str, Any]:
    """Spec of a process with one guard. deadline_s: of its scorer."""
    return {
        "guards": {"own": GuardConfig.model_validate({"on": "answer", "scorer": "says"})},
        "sections": {"says": ScorerConfig.model_validate({"use": "misbehaving:Says", "deadline_s": deadline_s})},
        "evals": EvalsConfig(),
        "prices": Prices(),
        "directory": directory,
        "path": [*sys.path, str(directory)],
    }


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Callable[..., GuardProcess]]:
    """Starts the process with one guard, `own`, whose scorer does what its text says."""
    (tmp_path / "misbehaving.py").write_text(MISBEHAVING)
    made: list[GuardProcess] = []
    async with Tasks() as tasks:

        def start(**more: Any) -> GuardProcess:
            made.append(GuardProcess(spec_of(tmp_path, 1.0), tasks, **more))
            return made[-1]

        yield start
        for each in made:
            await each.aclose()


async def until_ready(process: GuardProcess) -> None:
    async with asyncio.timeout(60):
        while process.trouble:
            await asyncio.sleep(0.02)


def says(text: str) -> dict[str, Any]:
    return {"call": {}, "request": {}, "answer": {"text": text}}


async def failure(process: GuardProcess, text: str) -> str:
    with pytest.raises(GuardFailed) as caught:
        await process.ask("own", says(text))
    return caught.value.reason


async def test_it_scores_and_survives_what_a_scorer_does(make: Callable[..., GuardProcess]) -> None:
    process = make()
    await until_ready(process)
    assert await process.ask("own", says("good")) == 0.0
    assert await process.ask("own", says("bad")) == 0.75
    assert [await failure(process, text) for text in ("raise", "nan", "hang")] == ["error", "invalid", "timeout"]
    many = await asyncio.gather(*(process.ask("own", says("good" if i % 2 else "bad")) for i in range(50)))
    assert many == [0.0 if i % 2 else 0.75 for i in range(50)]


async def test_a_process_that_ends_is_started_again(make: Callable[..., GuardProcess]) -> None:
    process = make()
    await until_ready(process)
    waiting = asyncio.get_running_loop().create_task(failure(process, "wait"))
    assert await failure(process, "exit") == "crashed"
    assert await waiting == "crashed", "what waits is answered at once"
    assert await failure(process, "good") == "crashed", "it is not there yet"
    await until_ready(process)
    assert await process.ask("own", says("good")) == 0.0


async def test_a_process_that_answers_nothing_is_killed(make: Callable[..., GuardProcess]) -> None:
    process = make(hung_s=1.0)
    await until_ready(process)
    assert process._process is not None
    os.kill(process._process.pid, signal.SIGSTOP)
    assert await failure(process, "good") == "crashed"
    await until_ready(process)
    assert await process.ask("own", says("good")) == 0.0


async def test_a_hanging_process_ends_though_nobody_waits(make: Callable[..., GuardProcess], tmp_path: Path) -> None:
    """Callers give up at their deadline, and an open breaker asks now and then: the subjects have no reply all the
    same."""
    process = make(hung_s=1.0)
    await until_ready(process)
    hanging = int((tmp_path / "pid").read_text())
    os.kill(hanging, signal.SIGSTOP)
    async with asyncio.timeout(60):
        while int((tmp_path / "pid").read_text() or hanging) == hanging:
            with contextlib.suppress(TimeoutError, GuardFailed):
                async with asyncio.timeout(0.05):
                    await process.ask("own", says("good"))
            await asyncio.sleep(0.02)
    await until_ready(process)
    assert await process.ask("own", says("good")) == 0.0


async def test_a_process_replies_while_its_scorer_works(tmp_path: Path) -> None:
    (tmp_path / "misbehaving.py").write_text(MISBEHAVING)
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "gateway.features.guards.process"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(frame(pickle.dumps(spec_of(tmp_path, 600.0))))
    child.stdin.write(json_frame({"id": 1, "guard": "own", **says("wait")}))
    child.stdin.write(json_frame({"alive": True}))
    async with asyncio.timeout(60):
        while (reply := await read_reply(child.stdout)) != {"alive": True}:
            assert reply == {"ready": True}
    child.kill()
    await child.wait()


async def read_reply(source: asyncio.StreamReader) -> Any:
    return orjson.loads(await source.readexactly(HEAD.unpack(await source.readexactly(HEAD.size))[0]))


async def test_it_ends_with_its_config(make: Callable[..., GuardProcess]) -> None:
    process = make()
    await until_ready(process)
    assert process._process is not None
    child = process._process
    await process.aclose()
    assert child.returncode is not None
    assert await failure(process, "good") == "crashed"
