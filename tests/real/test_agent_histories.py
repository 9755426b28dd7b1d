"""Coding agents, unchanged, whose calls are runs by their history alone: three sessions of one key at the same time.

An agent is known by the bodies that it sends. The ids of sessions that some send in headers do not count here.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.core.exchange import new_id
from gateway.fake import FakeToolCall, FakeUpstream
from gateway.fake.wire import Received
from gateway.proxy.request.call import Api, Call, Caller
from gateway.proxy.routing.call_histories import CallHistories
from gateway.proxy.routing.response_ids import ResponseIds
from gateway.runtime.tasks import Tasks

sys.path.insert(0, str(Path(__file__).parent))
from test_agents import AGENTS, KEY, Agent, Workplace, a_gateway, argv_of, config_of, program_of, run

pytestmark = [pytest.mark.real, pytest.mark.timeout(600)]
SESSIONS, TURNS = 3, 7
PROMPT = "This is session {}. Read the seven files, one after the other."
_SESSION = re.compile(rb"This is session (\d)")
_RESULT = re.compile(rb'"tool_result"|"role": ?"tool"|"(?:function|custom_tool)_call_output"')
_APIS: dict[str, tuple[Api, str]] = {
    "/chat/completions": ("chat", "messages"),
    "/messages": ("messages", "messages"),
    "/responses": ("responses", "input"),
}


def of_qwen(place: Workplace) -> dict[str, str]:
    """Qwen Code uses a proxy for this machine, too: it gets none, and its own reports are turned off."""
    folder = place.home / ".qwen"
    folder.mkdir()
    off = {"privacy": {"usageStatisticsEnabled": False}, "telemetry": {"enabled": False}}
    (folder / "settings.json").write_text(json.dumps({**off, "general": {"disableAutoUpdate": True}}))
    model = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": f"{place.origin}/v1", "OPENAI_MODEL": "coder"}
    return {**model, "HTTPS_PROXY": ""}


def of_pi(place: Workplace) -> dict[str, str]:
    folder = place.home / ".pi" / "agent"
    folder.mkdir(parents=True)
    provider = {
        "baseUrl": f"{place.origin}/v1",
        "apiKey": KEY,
        "api": "openai-completions",
        "models": [{"id": "coder"}],
    }
    (folder / "models.json").write_text(json.dumps({"providers": {"gateway": provider}}))
    return {"PI_OFFLINE": "1"}


def of_kilo(place: Workplace) -> dict[str, str]:
    options = {"baseURL": f"{place.origin}/v1", "apiKey": KEY}
    provider = {"npm": "@ai-sdk/openai-compatible", "name": "gateway", "options": options, "models": {"coder": {}}}
    config = {"provider": {"gateway": provider}, "model": "gateway/coder", "small_model": "gateway/coder"}
    off = dict.fromkeys(("KILO_DISABLE_AUTOUPDATE", "KILO_DISABLE_MODELS_FETCH", "KILO_DISABLE_SESSION_INGEST"), "1")
    return {**off, "KILO_CONFIG_CONTENT": json.dumps(config)}


def of_cline(place: Workplace) -> dict[str, str]:
    folder = place.home / ".cline" / "data" / "settings"
    folder.mkdir(parents=True)
    name = "openai-compatible"
    settings = {"provider": name, "apiKey": KEY, "model": "coder", "baseUrl": f"{place.origin}/v1"}
    providers = {name: {"settings": settings, "updatedAt": "2026-12-07T00:00:00.000Z", "tokenSource": "manual"}}
    state = {"version": 1, "lastUsedProvider": name, "modes": {}, "providers": providers}
    (folder / "providers.json").write_text(json.dumps(state))
    return {"CLINE_NO_AUTO_UPDATE": "1", "CLINE_SESSION_BACKEND_MODE": "local"}  # no daemon that outlives the session


def file_of(place: Workplace, n: int) -> str:
    return str(place.folder / f"file-{n}.txt")


@dataclass(frozen=True, slots=True)
class ReadingAgent:
    """An agent that reads files. agent: its program, with arguments before the prompt."""

    agent: Agent
    read: Callable[[Workplace, int], tuple[str, dict[str, Any]]]
    """The call of its tool that reads the file of this number."""
    recall: float
    """The least share of its pairs of calls that are one run."""


def known(name: str, *argv: str) -> Agent:
    """An agent of test_agents.py with other arguments."""
    found = next(agent for agent in AGENTS if agent.name == name)
    return Agent(**{**{f: getattr(found, f) for f in Agent.__dataclass_fields__}, "argv": argv})


def further(
    name: str, title: str, program: str, argv: tuple[str, ...], prepare: Callable[..., dict[str, str]]
) -> Agent:
    """An agent that `gateway up` does not name."""
    return Agent(name, title, {"native": {"kind": "openai"}}, program, argv, prepare, lambda place: [], configured=True)


READING = (
    ReadingAgent(
        known("claude-code", "-p", PROMPT, "--allowedTools", "Read"),
        lambda place, n: ("Read", {"file_path": file_of(place, n)}), 0.9,
    ),
    ReadingAgent(
        known("codex", "exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", PROMPT),
        lambda place, n: ("exec_command", {"cmd": f"cat {file_of(place, n)}"}), 0.9,
    ),
    ReadingAgent(
        known("opencode", "run", PROMPT), lambda place, n: ("read", {"filePath": file_of(place, n)}), 0.7,
    ),
    ReadingAgent(
        further("qwen", "Qwen Code", "node_modules/.bin/qwen", ("-p", PROMPT, "--approval-mode", "yolo"), of_qwen),
        lambda place, n: ("read_file", {"file_path": file_of(place, n)}), 0.9,
    ),
    ReadingAgent(
        further("pi", "Pi", "node_modules/.bin/pi",
                ("--provider", "gateway", "--model", "coder", "-p", PROMPT), of_pi),
        lambda place, n: ("read", {"path": file_of(place, n)}), 0.9,
    ),
    ReadingAgent(
        further("kilo", "Kilo Code", "node_modules/@kilocode/cli-linux-*/bin/kilo", ("run", "--auto", PROMPT), of_kilo),
        lambda place, n: ("read", {"filePath": file_of(place, n)}), 0.7,
    ),
    ReadingAgent(
        further("cline", "Cline", "node_modules/@cline/cli-linux-*/bin/cline", ("-P", "openai-compatible", PROMPT),
                of_cline),
        lambda place, n: ("read_files", {"files": [{"path": file_of(place, n)}]}), 0.9,
    ),
)  # fmt: skip


@dataclass
class Model:
    """The scripted model of all sessions, which keeps what it was sent."""

    reads: Callable[[Workplace, int], tuple[str, dict[str, Any]]]
    places: Sequence[Workplace]
    sent: list[tuple[str, str, dict[str, Any]]] = field(default_factory=list)
    """(session, path, body) of each call, in order."""

    def __call__(self, received: Received) -> FakeToolCall | str:
        found = _SESSION.search(received.body)
        session = found[1].decode() if found else "none"
        self.sent.append((session, received.path, received.json))
        done = len(_RESULT.findall(received.body))
        if not found or not received.json.get("tools") or done >= TURNS:
            return "Seven files."
        name, arguments = self.reads(self.places[int(session)], done)
        return FakeToolCall(name, json.dumps(arguments), f"toolu_{session}{done:019d}")


async def runs_of(sent: Sequence[tuple[str, str, dict[str, Any]]]) -> list[str]:
    """The run of each call by its history."""
    found = []
    async with Tasks() as tasks:
        histories = CallHistories(None, tasks, ResponseIds(b"s" * 32), 10_000)
        for _, path, body in sent:
            api, member = next(value for end, value in _APIS.items() if path.partition("?")[0].endswith(end))
            fields = {**body, "previous_response_id": None}
            call = Call(new_id(), 1.0, 1.0, Caller("agent"), api, b"POST", b"/", "coder", False,
                        json.dumps(body).encode(), fields)  # fmt: skip
            assert member in body
            run_id = (await histories.assign(call)).run
            assert run_id is not None
            found.append(run_id.id)
    return found


def with_files(place: Workplace) -> Workplace:
    place.folder.mkdir(parents=True)
    for n in range(TURNS):
        Path(file_of(place, n)).write_text(f"line {n} of {place.home.name}\n")
    return place


def precision_and_recall(true: Sequence[str], named: Sequence[str]) -> tuple[float, float]:
    """Over pairs of calls: the share of those in one run that are of one session, and the reverse."""
    pairs = list(itertools.combinations(range(len(true)), 2))
    together = {pair for pair in pairs if named[pair[0]] == named[pair[1]]}
    truly = {pair for pair in pairs if true[pair[0]] == true[pair[1]]}
    return len(together & truly) / max(1, len(together)), len(together & truly) / max(1, len(truly))


@pytest.mark.parametrize("reading", [pytest.param(each, id=each.agent.name) for each in READING])
async def test_sessions_of_an_agent_are_runs_by_history(
    reading: ReadingAgent, installed: Path, tmp_path: Path, stages: Any, journal: Any
) -> None:
    agent, port = reading.agent, stages.free_port()
    origin, program = f"http://127.0.0.1:{port}", program_of(agent, installed)
    places = [with_files(Workplace(tmp_path / f"session-{n}", origin)) for n in range(SESSIONS)]
    model = Model(reading.read, places)
    async with FakeUpstream() as upstream:
        upstream.replies(model)
        gateway_place = Workplace(tmp_path, origin)
        gateway = a_gateway(gateway_place, config_of(agent, upstream, agent.upstreams["native"]), port)
        try:
            await asyncio.to_thread(stages.wait_for, lambda: stages.get(f"{origin}/health"), 60, "it answers")

            async def session(n: int) -> tuple[int | None, str]:
                argv = [word.replace(PROMPT, PROMPT.format(n)) for word in argv_of(agent, program, places[n])]
                return await run(argv, places[n], {"TERM": "dumb", **agent.prepare(places[n])})

            ends = await asyncio.gather(*map(session, range(SESSIONS)))
        finally:
            gateway.terminate()
            await asyncio.to_thread(gateway.wait, 30)
    assert [status for status, _ in ends] == [0] * SESSIONS, "\n".join(out[-1500:] for _, out in ends)
    true = [session for session, _, _ in model.sent]
    assert all(true.count(str(n)) > TURNS for n in range(SESSIONS)), f"{true}: {ends[0][1][-1500:]}"
    precision, recall = precision_and_recall(true, await runs_of(model.sent))
    own = {"PATH": os.environ["PATH"]}
    _, version = await run([program, *agent.version], places[0], own)
    said = f"precision {precision:.2f}, recall {recall:.2f} over {len(true)} calls ({version.strip().splitlines()[-1]})"
    journal.note("agents", f"{agent.title} by history", said)
    assert precision == 1.0, said
    assert recall >= reading.recall, said
