"""`gateway replay --on ray://…` on a real Ray on this machine: the result of a local replay, also after workers and
the program itself were killed in the middle."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.core.randomization import draw
from gateway.fake import FakeUpstream, Received

pytestmark = [pytest.mark.real, pytest.mark.timeout(900)]
ROWS, CPUS, AT_ONCE = 300, 2, 8
WAITS_TO_BE_STORED = 64 + 256  # answers: a transaction, and the queue before it


@pytest.fixture(scope="module")
def environment(stages: Any) -> Path:
    """The folder of the programs `ray` and `python`, which has this package too."""
    place = Path(stages.REAL / "replay")
    if not (place / "installed").exists():
        pytest.skip("Ray Client is not installed: run `make test-real`")
    return place / "bin"


@contextlib.contextmanager
def head(python: Path, folder: Path, stages: Any) -> Iterator[str]:
    """A Ray of one node, run by this Python; its address."""
    port, client = stages.free_port(), stages.free_port()
    command = [str(python), "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
               f"--num-cpus={CPUS}", f"--ray-client-server-port={client}", "--include-dashboard=false",
               "--disable-usage-stats"]  # fmt: skip
    environ = os.environ | stages.QUIET | {"PATH": f"{python.parent}:{os.environ['PATH']}"}
    with (folder / "log").open("wb") as log:
        running = subprocess.Popen(command, stdout=log, stderr=log, env=environ, cwd=folder, start_new_session=True)
    try:
        stages.wait_for(lambda: listens(client), 120, "Ray Client's server listens")
        yield f"ray://127.0.0.1:{client}"
    finally:
        os.killpg(running.pid, signal.SIGTERM)
        try:
            running.wait(60)
        finally:
            stages.wait_for(lambda: not workers_of("raylet"), 60, "Ray ends")


@pytest.fixture(scope="module")
def cluster(environment: Path, stages: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a running Ray cluster."""
    with head(environment / "python", tmp_path_factory.mktemp("ray"), stages) as address:
        yield address


def listens(port: int) -> bool:
    found = subprocess.run(["ss", "-Hltn", f"sport = :{port}"], capture_output=True, text=True, check=False)
    return bool(found.stdout.strip())


def workers_of(name: str) -> list[int]:
    """Processes whose title or program has this name."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if name in path.read_bytes().split(b"\0")[0].decode(errors="replace"):
                found.append(int(path.parent.name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def saying(name: str, share: float) -> Callable[[Received], str]:
    def choose(asked: Received) -> str:
        question = str(asked.json["messages"][-1]["content"])
        return question.replace("question", "answer") if draw(name, question) < share else "no idea"

    return choose


@pytest.fixture
async def upstreams() -> AsyncIterator[tuple[FakeUpstream, FakeUpstream]]:
    """Two doubles: `one` is right in 80 % of the questions, `two` in 75 %."""
    async with FakeUpstream() as one, FakeUpstream() as two:
        one.replies(saying("one", 0.8))
        two.replies(saying("two", 0.75))
        yield one, two


@pytest.fixture
def folder(tmp_path: Path, upstreams: tuple[FakeUpstream, FakeUpstream]) -> Path:
    """A folder with the gateway.yaml of both doubles."""
    names = dict(zip(("one", "two"), upstreams, strict=True))
    config = {
        "open": True,
        "upstreams": {name: {"kind": "fake", "base_url": each.base_url} for name, each in names.items()},
        "models": {name: {"targets": [{"upstream": name, "model": "m"}]} for name in names},
        "prices": {"as_of": "2026-11-01", "models": {"m": {"input": 1, "output": 4}}},
    }
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config))
    rows = "".join(f"question {i},answer {i}\n" for i in range(ROWS))
    (tmp_path / "questions.csv").write_text(f"examples,ground_truth\n{rows}")
    return tmp_path


async def started(environment: Path, folder: Path, *more: str) -> asyncio.subprocess.Process:
    words = ["-m", "gateway", "replay", "questions.csv", "--targets", "one,two", "--scorers", "exact,f1,length"]
    return await asyncio.create_subprocess_exec(
        str(environment / "python"), *words, "--margin", "0.1", "--concurrency", str(AT_ONCE), "--json", *more,
        cwd=folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip


async def ran(environment: Path, folder: Path, *more: str) -> tuple[int, str, str]:
    process = await started(environment, folder, *more)
    out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


def result(out: str) -> dict[str, Any]:
    """All that does not tell the time."""
    found: dict[str, Any] = json.loads(out)
    for target in found["targets"]:
        for name in ("p50", "p95", "curve"):
            del target[name]
    for report in found["reports"]:
        for name in ("first", "last", "created", "latency", "command"):
            del report[name]
        for name in ("metrics", "trails"):
            report[name] = [each for each in report[name] if each["metric"] != "total_s"]
    return found


def asked(upstreams: tuple[FakeUpstream, FakeUpstream]) -> int:
    return sum(len(each.calls) for each in upstreams)


async def until(holds: Callable[[], bool], process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(200):
        while not holds():
            assert process.returncode is None, (await process.communicate())[1].decode()
            await asyncio.sleep(0.001)


async def test_the_result_is_the_local_one(
    environment: Path, cluster: str, folder: Path, upstreams: tuple[FakeUpstream, FakeUpstream]
) -> None:
    code, here, notes = await ran(environment, folder, "--data", "here", "--on", "local")
    assert code == 0, notes
    assert asked(upstreams) == 2 * ROWS
    code, away, notes = await ran(environment, folder, "--data", "away", "--on", cluster)
    assert code == 0, notes
    assert f"asking from {CPUS} workers of {cluster}" in notes
    assert "scored in this process" not in notes
    assert asked(upstreams) == 4 * ROWS
    assert result(away) == result(here)


async def test_killed_workers_and_programs_lose_and_repeat_nothing(
    environment: Path, cluster: str, folder: Path, upstreams: tuple[FakeUpstream, FakeUpstream]
) -> None:
    """A worker after 60 answers, the program after 200, and a worker of the program that continues."""
    code, here, notes = await ran(environment, folder, "--data", "here")
    assert code == 0, notes
    for each in upstreams:
        each.received.clear()
    first = await started(environment, folder, "--data", "away", "--on", cluster)
    await until(lambda: asked(upstreams) >= 60, first)
    os.kill(workers_of("ray::RemoteWorker")[0], signal.SIGKILL)
    await until(lambda: asked(upstreams) >= 200, first)
    first.kill()
    await first.communicate()
    before = asked(upstreams)
    second = await started(environment, folder, "--data", "away", "--on", cluster)
    await until(lambda: asked(upstreams) >= before + 60, second)
    os.kill(workers_of("ray::RemoteWorker")[0], signal.SIGKILL)
    out, err = await second.communicate()
    assert second.returncode == 0, err.decode()
    assert result(out.decode()) == result(here)
    assert asked(upstreams) - 2 * ROWS <= 3 * AT_ONCE + WAITS_TO_BE_STORED


async def test_a_cluster_that_is_not_there_is_named(environment: Path, folder: Path, stages: Any) -> None:
    address = f"ray://127.0.0.1:{stages.free_port()}"
    code, out, err = await ran(environment, folder, "--on", address)
    assert (code, out) == (1, "")
    assert f"no Ray cluster answers at {address}" in err
    assert "Traceback" not in err
