"""Coding agents, unchanged, on a gateway in front of a scripted upstream: each edits one file.

Once on a model whose upstream speaks the agent's own API, and once on each kind of upstream that is translated.

They run with a home of their own, and a proxy that nothing answers keeps them on this machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shlex
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import yaml

from gateway.cli.coding_agents import GatewayAccess, command
from gateway.fake import FakeToolCall, FakeUpstream
from gateway.fake.wire import Received

pytestmark = [pytest.mark.real, pytest.mark.timeout(300)]
KEY = "sk-assay-of-one-test"
PROMPT = "In greeting.py, change hello to goodbye."
FILE, BEFORE, AFTER = "greeting.py", 'GREETING = "hello"\n', 'GREETING = "goodbye"\n'
RUN_S = 200
PATCH = f"""*** Begin Patch
*** Update File: {FILE}
@@
-{BEFORE}+{AFTER}*** End Patch
"""
Step = tuple[str, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Workplace:
    """The place where one agent runs. origin: of the gateway."""

    home: Path
    origin: str

    @property
    def folder(self) -> Path:
        return self.home / "work"

    @property
    def file(self) -> str:
        return str(self.folder / FILE)


@dataclass(frozen=True, slots=True)
class Agent:
    """A program."""

    name: str
    title: str
    upstreams: dict[str, dict[str, str]]
    """Settings of the upstreams on which it is tried, by what the table calls them."""
    program: str
    """A pattern below the folder where it is installed."""
    argv: tuple[str, ...]
    prepare: Callable[[Workplace], dict[str, str]]
    """Writes its config; returns its environment."""
    steps: Callable[[Workplace], list[Step]]
    """The tools that its model calls, one after the other. []: it reads the edit from the text."""
    version: tuple[str, ...] = ("--version",)
    model: str = "coder"
    configured: bool = False
    """Whether the agent's config file names the gateway; otherwise it starts as `gateway up` says."""
    sends: bytes = b""
    """Bytes that its requests must have, in lower case."""
    never: bytes = b"-"
    """Bytes that they must not have."""
    session: bytes = b""
    """The header with its session, in lower case: the gateway takes it for the run."""


def of_claude(place: Workplace) -> dict[str, str]:
    return dict.fromkeys(("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER"), "1")


def of_codex(place: Workplace) -> dict[str, str]:
    folder = place.home / ".codex"
    folder.mkdir()
    (folder / "config.toml").write_text("[analytics]\nenabled = false\n")
    return {}


def of_compressing_codex(place: Workplace) -> dict[str, str]:
    """Signed in as for OpenAI's own models, for which Codex compresses its requests; the token is the gateway's key."""
    folder = place.home / ".codex"
    folder.mkdir()
    provider = f'name = "OpenAI"\nbase_url = "{place.origin}/v1"\nwire_api = "responses"\nrequires_openai_auth = true\n'
    text = f'model = "coder"\nmodel_provider = "gateway"\n[model_providers.gateway]\n{provider}'
    (folder / "config.toml").write_text(text + "[analytics]\nenabled = false\n")
    account = {"chatgpt_account_id": "a", "chatgpt_plan_type": "pro"}
    claims = {"email": "a@example.com", "exp": 4_102_444_800, "https://api.openai.com/auth": account}
    parts = (json.dumps(part).encode() for part in ({"alg": "none"}, claims, "none"))
    identity = b".".join(urlsafe_b64encode(part).rstrip(b"=") for part in parts).decode()
    tokens = {"id_token": identity, "access_token": KEY, "refresh_token": "none", "account_id": "a"}
    state = {"auth_mode": "chatgpt", "OPENAI_API_KEY": None, "tokens": tokens}
    (folder / "auth.json").write_text(json.dumps({**state, "last_refresh": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}))
    return {}


def of_codex_by_websocket(place: Workplace) -> dict[str, str]:
    folder = place.home / ".codex"
    folder.mkdir()
    provider = f'name = "gateway"\nbase_url = "{place.origin}/v1"\nenv_key = "GATEWAY_KEY"\nwire_api = "responses"\n'
    text = f'model = "coder"\nmodel_provider = "gateway"\n[model_providers.gateway]\n{provider}'
    (folder / "config.toml").write_text(text + "supports_websockets = true\n[analytics]\nenabled = false\n")
    return {"GATEWAY_KEY": KEY}


def of_opencode(place: Workplace) -> dict[str, str]:
    config = {"permission": {"edit": "allow"}, "autoupdate": False, "share": "disabled"}
    (place.folder / "opencode.json").write_text(json.dumps(config))
    return {"OPENCODE_DISABLE_AUTOUPDATE": "1", "OPENCODE_DISABLE_MODELS_FETCH": "1"}


def of_aider(place: Workplace) -> dict[str, str]:
    return {}


OPENAIS = {"kind": "openai"}
ANTHROPICS = {"kind": "anthropic"}
CHATS = {"kind": "openai", "responses": "chat"}
CODEX = "node_modules/.bin/codex"
CODEX_ARGV = ("exec", "--skip-git-repo-check", "--dangerously-bypass-approvals-and-sandbox", PROMPT)

AGENTS = (
    Agent(
        "claude-code", "Claude Code", {"native": ANTHROPICS, "translated": OPENAIS},
        "node_modules/@anthropic-ai/claude-code-*/claude",
        ("-p", PROMPT, "--allowedTools", "Read,Edit", "--permission-mode", "acceptEdits"), of_claude,
        lambda place: [
            ("Read", {"file_path": place.file}),
            ("Edit", {"file_path": place.file, "old_string": "hello", "new_string": "goodbye"}),
        ],
        session=b"x-claude-code-session-id: ",
    ),
    Agent(
        "codex", "Codex", {"native": OPENAIS, "translated": ANTHROPICS, "chat only": CHATS}, CODEX, CODEX_ARGV,
        of_codex, lambda place: [("exec_command", {"cmd": f"sed -i s/hello/goodbye/ {FILE}"})],
        session=b"\nsession-id: ",
    ),
    Agent(  # a model of which Codex knows that it writes patches: a custom tool
        "codex-patch", "Codex with apply_patch", {"translated": ANTHROPICS, "chat only": CHATS}, CODEX, CODEX_ARGV,
        of_codex, lambda place: [("apply_patch", {"input": PATCH})],
        model="gpt-5.5-codex",
    ),
    Agent(
        "codex-zstd", "Codex, compressing", {"native": OPENAIS, "translated": ANTHROPICS}, CODEX, CODEX_ARGV,
        of_compressing_codex, lambda place: [("exec_command", {"cmd": f"sed -i s/hello/goodbye/ {FILE}"})],
        configured=True, sends=b"content-encoding: zstd",
    ),
    Agent(
        "codex-websocket", "Codex by WebSocket", {"native": OPENAIS, "translated": ANTHROPICS, "chat only": CHATS},
        CODEX, CODEX_ARGV,
        of_codex_by_websocket, lambda place: [("exec_command", {"cmd": f"sed -i s/hello/goodbye/ {FILE}"})],
        configured=True, sends=b"upgrade: websocket", never=b"post /v1/responses", session=b"\nsession-id: ",
    ),
    Agent(
        "opencode", "opencode", {"native": OPENAIS, "translated": ANTHROPICS},
        "node_modules/opencode-*/bin/opencode", ("run", PROMPT),
        of_opencode,
        lambda place: [
            ("read", {"filePath": place.file}),
            ("edit", {"filePath": place.file, "oldString": "hello", "newString": "goodbye"}),
        ],
        session=b"x-session-id: ",
    ),
    Agent(
        "aider", "aider", {"native": OPENAIS, "translated": ANTHROPICS}, "bin/aider",
        ("--edit-format", "whole", "--no-git", "--yes-always", "--no-check-update",
         "--no-show-release-notes", "--no-show-model-warnings", "--analytics-disable", "--message", PROMPT, FILE),
        of_aider, lambda place: [],
    ),
)  # fmt: skip


def program_of(agent: Agent, installed: Path) -> str:
    return str(next(installed.glob(agent.program)))


def argv_of(agent: Agent, program: str, place: Workplace) -> list[str]:
    """The command that `gateway up` prints, with the agent's own arguments behind it."""
    if agent.configured:
        return [program, *agent.argv]
    line = command(Path(program).name, GatewayAccess(f"{place.origin}/v1", KEY, agent.model))
    folder = shlex.quote(str(Path(program).parent))
    return ["sh", "-c", f'PATH={folder}:"$PATH"; {line} {shlex.join(agent.argv)}']


def play(agent: Agent, place: Workplace, received: Received) -> FakeToolCall | str:
    """The model's answer: the next step, or that it is done."""
    steps = agent.steps(place)
    if not steps:
        return f"{FILE}\n```\n{AFTER}```\n"
    if not received.json.get("tools"):
        return "Say goodbye."  # the title of a conversation
    done = len(re.findall(rb'"tool_result"|"role": ?"tool"|"(?:function|custom_tool)_call_output"', received.body))
    if done >= len(steps):
        return "It says goodbye now."
    name, arguments = steps[done]
    return FakeToolCall(name, json.dumps(arguments), f"toolu_{done:020d}")


async def run(argv: list[str], place: Workplace, environ: dict[str, str]) -> tuple[int | None, str]:
    """Exit status of the agent, and all that it wrote."""
    nowhere = "http://127.0.0.1:9"
    own = {"PATH": os.environ["PATH"], "HOME": str(place.home), "HTTPS_PROXY": nowhere, "NO_PROXY": "127.0.0.1"}
    process = await asyncio.create_subprocess_exec(
        *argv, cwd=place.folder, env={**own, **environ}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        out, _ = await asyncio.wait_for(process.communicate(), RUN_S)
    except TimeoutError:
        process.kill()
        out, _ = await process.communicate()
    return process.returncode, out.decode("utf-8", "replace")


def config_of(agent: Agent, upstream: FakeUpstream, settings: dict[str, str]) -> dict[str, Any]:
    models = {agent.model: {"targets": [{"upstream": "double", "model": "m"}]}}
    upstreams = {"double": {**settings, "base_url": upstream.base_url}}
    keys = [{"name": "agent", "sha256": sha256(KEY.encode()).hexdigest()}]
    return {"keys": keys, "upstreams": upstreams, "models": models}


def a_gateway(place: Workplace, config: dict[str, Any], port: int) -> subprocess.Popen[bytes]:
    (place.home / "gateway.yaml").write_text(yaml.safe_dump(config))
    with (place.home / "log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--port", str(port)], cwd=place.home, stdout=log, stderr=log
        )


@contextlib.asynccontextmanager
async def listening(gateway_port: int, heard: list[bytes]) -> AsyncIterator[str]:
    """The origin of a relay in front of the gateway, which keeps what clients send."""

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kept: list[bytes]) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                kept.append(data)
                writer.write(data)
                await writer.drain()
        writer.close()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", gateway_port)
        writers.extend((writer, inner_writer))
        await asyncio.gather(pump(reader, inner_writer, heard), pump(inner_reader, writer, []))

    writers: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    server.close()
    for writer in writers:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


@pytest.mark.parametrize(
    ("agent", "model"), [pytest.param(a, m, id=f"{a.name}-{m}") for a in AGENTS for m in a.upstreams]
)
async def test_an_agent_edits_a_file(
    agent: Agent, model: str, installed: Path, tmp_path: Path, stages: Any, journal: Any
) -> None:
    port = stages.free_port()
    origin, heard = f"http://127.0.0.1:{port}", list[bytes]()
    place = Workplace(tmp_path, origin)
    place.folder.mkdir()
    (place.folder / FILE).write_text(BEFORE)
    program = program_of(agent, installed)
    async with FakeUpstream() as upstream:
        upstream.replies(lambda received: play(agent, place, received))
        gateway = a_gateway(place, config_of(agent, upstream, agent.upstreams[model]), port)
        try:
            await asyncio.to_thread(stages.wait_for, lambda: stages.get(f"{origin}/health"), 30, "it answers")
            async with listening(port, heard) as outside:
                place = Workplace(tmp_path, outside)
                environ = agent.prepare(place)
                status, out = await run(argv_of(agent, program, place), place, environ)
        finally:
            gateway.terminate()
            await asyncio.to_thread(gateway.wait, 30)
    assert status == 0, out[-2000:]
    assert (place.folder / FILE).read_text() == AFTER, out[-2000:]
    sent = b"".join(heard).lower()
    assert agent.sends in sent
    assert agent.never == b"-" or agent.never not in sent
    assert agent.session in sent
    _, version = await run([program, *agent.version], place, environ)
    journal.note("agents", f"{agent.title}, {model}", f"edits a file ({version.strip().splitlines()[-1]})")


OURS = "this run has used 6 calls of 6 calls: finish with what you have, or ask a person"
SHOWN_AT_THE_END = {
    "claude-code": (f"API Error: Request rejected (429) · {OURS}", 1),
    "codex": ("ERROR: Quota exceeded. Check your plan and billing details.", 2),
    "opencode": (OURS, 8),
}
"""Last line on the terminal, and the most calls that an agent sends after the end: opencode retries whatever
`x-should-retry` says."""
CALLS = 6
"""Ceiling of a run: enough for the edit, after which the model reads the file again and again."""


def play_on(agent: Agent, place: Workplace, received: Received) -> FakeToolCall | str:
    """The steps, and then the first of them without an end."""
    answer = play(agent, place, received)
    if not received.json.get("tools") or isinstance(answer, FakeToolCall):
        return answer
    name, arguments = agent.steps(place)[0]
    return FakeToolCall(name, json.dumps(arguments), f"toolu_{len(received.body):020d}")


@pytest.mark.parametrize("agent", [pytest.param(a, id=a.name) for a in AGENTS if a.name in SHOWN_AT_THE_END])
async def test_an_agent_ends_at_the_ceiling_of_its_run(
    agent: Agent, installed: Path, tmp_path: Path, stages: Any, journal: Any
) -> None:
    """An agent stops, says why, and keeps the file that it has edited."""
    port = stages.free_port()
    origin, heard, answered = f"http://127.0.0.1:{port}", list[bytes](), list[bytes]()
    place = Workplace(tmp_path, origin)
    place.folder.mkdir()
    (place.folder / FILE).write_text(BEFORE)
    async with FakeUpstream() as upstream:

        def reply(received: Received) -> FakeToolCall | str:
            answered.append(received.body)
            return play_on(agent, place, received)

        upstream.replies(reply)
        config = config_of(agent, upstream, agent.upstreams["native"])
        config["keys"][0]["limits"] = {"per_run": {"calls": CALLS}}
        gateway = a_gateway(place, config, port)
        try:
            await asyncio.to_thread(stages.wait_for, lambda: stages.get(f"{origin}/health"), 30, "it answers")
            async with listening(port, heard) as outside:
                place = Workplace(tmp_path, outside)
                environ = agent.prepare(place)
                _, out = await run(argv_of(agent, program_of(agent, installed), place), place, environ)
        finally:
            gateway.terminate()
            await asyncio.to_thread(gateway.wait, 30)
    line, most = SHOWN_AT_THE_END[agent.name]
    assert line in out, out[-2000:]
    assert (place.folder / FILE).read_text() == AFTER, out[-2000:]
    refused = (place.home / "log").read_bytes().count(b'"error":"insufficient_quota"')
    assert 1 <= refused <= most, f"{refused} calls after the end"
    assert len(answered) == CALLS
    journal.note("agents", f"{agent.title} at a ceiling", f"ends, with {refused} refused, and keeps its file")
