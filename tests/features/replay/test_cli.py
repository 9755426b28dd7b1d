"""`gateway replay` as a user runs it: a program, killed and run again, and what it says to whom."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fixtures.json_outputs import conforms
from fixtures.program_command import gateway_command
from fixtures.verbs import RunVerb
from typer.testing import CliRunner

from gateway.cli import app
from gateway.core.errors import CannotRun, ConfigError
from gateway.core.randomization import draw
from gateway.fake import FakeAnswer, FakeUpstream, Received
from gateway.features.gateway_choice import answers
from gateway.features.replay.sending.run import BATCH
from gateway.scoring.http_client import HttpConnections

ROWS = 200
BODY = b'{"choices":[{"index":0,"message":{"content":"x"}}],"usage":{"prompt_tokens":9,"completion_tokens":9}}'


def saying(name: str, share: float) -> Callable[[Received], str]:
    """Right in this share of the questions, the same in every run."""

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
    """A folder with gateway.yaml and questions.csv."""
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


async def program(folder: Path, *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *gateway_command(*arguments), cwd=folder,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "200", "PYTHONPATH": str(Path(__file__).parents[3])},
    )  # fmt: skip


Ran = Callable[..., Awaitable[tuple[int, str, str]]]


@pytest.fixture
def ran(folder: Path, run_verb: RunVerb) -> Ran:
    """Runs one replay to its end. Returns its exit code, what it printed and its notes."""

    async def run(*arguments: str) -> tuple[int, str, str]:
        done = await asyncio.to_thread(run_verb, "replay", "questions.csv", *arguments, more={"COLUMNS": "200"})
        return done.returncode, done.stdout, done.stderr

    return run


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


@pytest.fixture
async def gateway_url(folder: Path) -> AsyncIterator[str]:
    """A real gateway that runs: no replay has to start its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await program(folder, "serve", "--port", str(port), "--data", "gateway")
    async with HttpConnections() as connections, asyncio.timeout(60):
        while not await answers(f"http://127.0.0.1:{port}", connections):
            assert process.returncode is None
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    await process.communicate()


@pytest.mark.timeout(180)  # several programs, one after the other
@pytest.mark.parametrize("kills", [(150,), pytest.param((20, 90, 230, 301, 399), marks=pytest.mark.long)], ids=len)
async def test_killed_and_run_again_a_replay_has_the_same_result(
    folder: Path, ran: Ran, upstreams, gateway_url: str, kills: tuple[int, ...]
) -> None:
    """200 rows, two targets, SIGKILL after the given number of answers: equal to an undisturbed run."""
    arguments = ("--targets", "one,two", "--scorers", "exact,f1,length", "--margin", "0.1", "--gateway", gateway_url)
    code, undisturbed, notes = await ran(*arguments, "--json", "--data", "undisturbed", "--html", "out.html")
    assert code == 0
    assert [len(each.calls) for each in upstreams] == [ROWS, ROWS]
    lines = notes.splitlines()
    assert lines[0] == "questions.csv: 200 rows, 200 with a reference"
    assert lines[1] == f"using the gateway at {gateway_url}/v1"
    assert lines[-2].startswith("400 of 400 answers; $0.00")
    assert lines[-1] == "wrote out.html"
    assert (folder / "out.html").read_text().startswith("<!doctype html>")
    assert (folder / "out.html").stat().st_mode & 0o777 == 0o600
    for each in upstreams:
        each.received.clear()
    for limit in kills:
        await killed(folder, lambda limit=limit: asked(upstreams) >= limit, *arguments, "--data", "disturbed")
    code, resumed, notes = await ran(*arguments, "--json", "--data", "disturbed")
    assert code == 0
    conforms("replay", undisturbed)
    assert result(resumed) == result(undisturbed)
    assert result(resumed)["targets"][0]["asked"] == ROWS
    again = asked(upstreams) - 2 * ROWS
    assert 0 <= again <= len(kills) * (8 + 2 * BATCH), "in flight, in the transaction, and waiting for the next one"
    assert again < sum(kills), "what was written is not asked again"


def asked(upstreams: tuple[FakeUpstream, FakeUpstream]) -> int:
    return sum(len(each.calls) for each in upstreams)


async def killed(folder: Path, when: Callable[[], bool], *arguments: str) -> None:
    process = await program(folder, "replay", "questions.csv", *arguments)
    try:
        async with asyncio.timeout(50):
            while not when() and process.returncode is None:
                await asyncio.sleep(0.001)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.timeout(180)
async def test_a_spent_budget_is_exit_code_1(ran: Ran, folder: Path, upstreams) -> None:
    """A fake upstream takes the place of the gateway."""
    one, _ = upstreams
    one.replies(lambda asked: FakeAnswer(BODY, headers=(("x-gateway-upstream", "one"), ("x-gateway-model", "m"))))
    code, out, err = await ran("--targets", "one,two", "--gateway", one.origin, "--budget", "0.0005")
    assert code == 1
    assert "Hold." in out
    assert "run the command again with a higher --budget to continue" in err
    code, out, err = await ran("--as-reference", "one", "--limit", "20", "--gateway", one.origin)
    assert (code, out) == (0, "")
    assert err.splitlines()[-1] == "wrote questions.with-references.jsonl"
    assert len((folder / "questions.with-references.jsonl").read_text().splitlines()) == 20


@pytest.mark.parametrize(
    ("arguments", "notes"),
    [
        ([], "give at least one target, or --as-reference MODEL"),
        (["--targets", "one", "--set", "temperature"], "expected NAME=VALUE, as in temperature=0"),
        (["--targets", "one", "--guard", "error_rate=low"], "expected METRIC=MARGIN"),
        (["--targets", "one", "--from-log", "one"], "recorded calls are frozen into a .jsonl file"),
        (["--targets", "on,two"], "'on' is not a target; did you mean \"one\"?"),
    ],
)
def test_wrong_options_are_reported_before_any_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], notes: str
) -> None:
    monkeypatch.chdir(folder)
    found = CliRunner().invoke(app, ["replay", "questions.csv", *arguments])
    assert found.exit_code == (1 if isinstance(found.exception, CannotRun | ConfigError) else 2)
    assert notes in f"{found.output} {found.exception}"


def test_recorded_traffic_is_written_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    (folder / "log.jsonl").write_text('{"examples": "kept"}\n')
    found = CliRunner().invoke(app, ["replay", "log.jsonl", "--from-log", "one", "--since", "7d"])
    assert found.exit_code == 0
    assert "log.jsonl exists: it is replayed unchanged, and no recorded calls are read" in found.output
    assert (folder / "log.jsonl").read_text() == '{"examples": "kept"}\n'
    odd = CliRunner().invoke(app, ["replay", "new.jsonl", "--from-log", "one", "--since", "yesterday"])
    assert odd.exit_code == 2
    assert "write 90s, 30m, 2h, 1d or 1w" in odd.output
    none = CliRunner().invoke(app, ["replay", "new.jsonl", "--from-log", "one"])
    assert isinstance(none.exception, CannotRun)


def test_the_docs_name_existing_options() -> None:
    """The page has `gateway compare` as well, whose section comes last."""
    help_text = CliRunner().invoke(app, ["replay", "--help"]).output
    page = (Path(__file__).parents[3] / "docs" / "compare-and-replay.md").read_text()
    docs, of_compare = page.split("## Compare scores\n")
    of_others = {"--log_samples", "--output_path"}
    known = set(re.findall(r"--[a-z][a-z-]+", CliRunner().invoke(app, ["compare", "--help"]).output))
    assert set(re.findall(r"--[a-z][a-z_-]+", of_compare)) - of_others <= known
    named = set(re.findall(r"--[a-z][a-z-]+", docs))
    assert named <= set(re.findall(r"--[a-z][a-z-]+", help_text))
    assert len(named) > 15


@pytest.mark.timeout(180)
async def test_a_gate_exits_with_its_verdict(
    ran: Ran, folder: Path, upstreams, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 ships, 1 rejects, 2 is neither: undecided, or not run at all."""
    upstreams[1].replies(saying("two", 0.3))
    config = yaml.safe_load((folder / "gateway.yaml").read_text())
    arms = {name: {"upstream": upstream, "model": "m"} for name, upstream in (("control", "one"), ("candidate", "two"))}
    config["scorers"] = {"exact": {}}
    config["experiments"] = {"swap": {"model": "one", "primary": "exact", "margin": 0.05, **arms}}
    (folder / "gateway.yaml").write_text(yaml.safe_dump(config))
    code, out, _ = await ran("--gate", "swap")
    assert code == 1, out
    assert "Reject." in out
    code, out, _ = await ran("--gate", "swap", "--margin", "0.8")
    assert code == 0, out
    assert "Ship." in out
    monkeypatch.chdir(folder)
    unknown = CliRunner().invoke(app, ["replay", "questions.csv", "--gate", "swop"])
    assert unknown.exit_code == 2
    assert 'no experiment "swop"; did you mean "swap"' in unknown.output
