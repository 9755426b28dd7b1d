"""`mode: likelihood` between real vLLM engines: the same weights, rounded ones, fewer layers, another temperature."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]
MOST, WAVE, AT_ONCE, TOKENS = 200, 12, 12, 16
TOPICS = (
    "the sea", "a clock", "winter", "bread", "a bridge", "music", "an old house", "the moon", "a garden", "trains",
)  # fmt: skip
ASKED = (
    "Write one sentence about {}.", "Why do people like {}?", "Describe {} to a child.", "Name two facts about {}.",
    "What rhymes with {}?", "Tell me a short story about {}.", "Give advice about {}.", "Compare {} with a river.",
    "What would you ask {}?", "Finish the sentence: {} is like",
)  # fmt: skip
# candidate: (how weaken.py changes the weights; None: not at all, what the target sets, the verdicts that are right)
CANDIDATES: dict[str, tuple[int | None, dict[str, Any], tuple[str, ...]]] = {
    "the same weights": (None, {}, ("ship",)),
    "another temperature only": (None, {"temperature": 0.2}, ("ship",)),
    "8 bits": (8, {}, ("ship",)),
    "4 bits": (4, {}, ("reject", "hold")),
    "4 of 30 layers left out": (-4, {}, ("reject",)),
}


def model_of(stages: Any, model: Path, change: int | None) -> Path:
    if change is None:
        return model
    folder = Path(stages.REAL / f"smollm2{change:+d}")
    if not (folder / "model.safetensors").exists():
        python = str(stages.REAL / "vllm" / "bin" / "python")
        script = str(Path(__file__).with_name("weaken.py"))
        subprocess.run([python, script, str(model), str(folder), str(change)], check=True, capture_output=True)
    return folder


@contextlib.contextmanager
def engine(stages: Any, model: Path, folder: Path) -> Iterator[int]:
    """A vLLM that serves the model as "smollm2"; its port."""
    port = stages.free_port()
    command = [str(stages.REAL / "vllm" / "bin" / "vllm"), "serve", str(model), "--served-model-name", "smollm2",
               "--port", str(port), *stages.VLLM_ARGS, "--max-num-seqs", "16"]  # fmt: skip
    with (folder / f"engine-{port}.log").open("wb") as log:
        running = subprocess.Popen(
            ["nice", "-n", "15", *command], env=os.environ | stages.VLLM, stdout=log, stderr=log, start_new_session=True
        )
    try:
        stages.wait_for(lambda: stages.get(f"http://127.0.0.1:{port}/health") is not None, 600, "vLLM is healthy")
        yield port
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.wait(30)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@pytest.fixture(scope="module")
def control(stages: Any, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a running vLLM; skipped where it is not installed."""
    vllm = next(e for e in stages.ENGINES if e.name == "vllm")
    if vllm.missing:
        pytest.skip(vllm.missing)
    with engine(stages, model, tmp_path_factory.mktemp("control")) as port:
        yield port


def config(control: int, candidate: int, changes: dict[str, Any]) -> dict[str, Any]:
    def upstream(port: int) -> dict[str, Any]:
        return {"kind": "vllm", "base_url": f"http://127.0.0.1:{port}/v1"}

    varied = {"set": changes} if changes else {}
    return {
        "open": True,
        "upstreams": {"control": upstream(control), "candidate": upstream(candidate)},
        "models": {"chat": {"targets": [{"upstream": "control", "model": "smollm2"}]}},
        "sampling": {"rate": 0.0},
        "experiments": {
            "same": {
                "model": "chat", "control": {"upstream": "control", "model": "smollm2"},
                "candidate": {"upstream": "candidate", "model": "smollm2", **varied},
                "mode": "likelihood", "shadow": 1.0, "repeat_control": 0.5, "margin": 0.02, "min_hours": 0,
                "budget": {"concurrency": 64}, "gate": {"latency": False, "load": None}, "start": "manual",
            }
        },
    }  # fmt: skip


class Gateway:
    """The programs of one experiment, in a folder of their own."""

    def __init__(self, stages: Any, folder: Path) -> None:
        self.stages, self.folder, self.port = stages, folder, stages.free_port()
        self.running: list[subprocess.Popen[bytes]] = []

    def start(self, *words: str) -> None:
        with (self.folder / f"{words[0]}.log").open("wb") as log:
            argv = [sys.executable, "-m", "gateway", *words]
            self.running.append(subprocess.Popen(argv, cwd=self.folder, stdout=log, stderr=log))

    def command(self, *words: str) -> str:
        argv = [sys.executable, "-m", "gateway", *words]
        return subprocess.run(argv, cwd=self.folder, capture_output=True, text=True, check=False).stdout

    def report(self) -> Any:
        text = self.command("report", "same", "--json")
        return json.loads(text) if text else {"pairs": 0, "verdict": "hold"}

    def settled(self, asked: int) -> bool:
        """Whether every call has its pair, or the experiment has stopped with its verdict. Read from the store itself:
        a command takes longer than a prefill."""
        path = self.folder / ".gateway" / "gateway.db"
        with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)) as store:
            [[pairs]] = store.execute("SELECT count(*) FROM pairs WHERE state != 'open'")
            [[stopped]] = store.execute("SELECT count(*) FROM plans WHERE state = 'stopped'")
        return bool(pairs >= asked or stopped)

    def ask(self, place: int) -> None:
        text = ASKED[place // len(TOPICS) % len(ASKED)].format(TOPICS[place % len(TOPICS)])
        body = {"model": "chat", "messages": [{"role": "user", "content": text}], "max_tokens": TOKENS,
                "temperature": 1.0, "top_p": 1.0, "seed": place}  # fmt: skip
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1/chat/completions", json.dumps(body).encode(),
            {"content-type": "application/json"},
        )  # fmt: skip
        with urllib.request.urlopen(request, timeout=600) as answer:
            answer.read()

    def stop(self) -> None:
        for each in reversed(self.running):
            each.terminate()
        for each in reversed(self.running):
            try:
                each.wait(30)
            except subprocess.TimeoutExpired:
                each.kill()


@pytest.fixture
def gateway(stages: Any, tmp_path: Path) -> Iterator[Gateway]:
    """A gateway in front of the engines, stopped after the test."""
    made = Gateway(stages, tmp_path)
    yield made
    made.stop()


@pytest.mark.parametrize("name", CANDIDATES)
def test_a_changed_model_is_found(
    stages: Any, model: Path, control: int, gateway: Gateway, journal: Any, tmp_path: Path, name: str
) -> None:
    change, sets, right = CANDIDATES[name]
    with engine(stages, model_of(stages, model, change), tmp_path) as candidate:
        (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config(control, candidate, sets)))
        gateway.start("serve", "--port", str(gateway.port))
        base = f"http://127.0.0.1:{gateway.port}"
        stages.wait_for(lambda: stages.get(f"{base}/health") is not None, 120, "the gateway")
        gateway.start("evaluate", "--metrics-port", str(stages.free_port()))
        assert "is running" in gateway.command("ab", "start", "same")
        running = 'gateway_experiment_running{experiment="same"} 1'
        stages.wait_for(lambda: running in stages.get(f"{base}/metrics"), 60, "the plan")
        asked = 0
        with ThreadPoolExecutor(AT_ONCE) as pool:
            while asked < MOST and gateway.report()["verdict"] == "hold":
                list(pool.map(gateway.ask, range(asked, asked + WAVE)))
                asked += WAVE
                stages.wait_for(lambda asked=asked: gateway.settled(asked), 900, "the pairs")
        made = gateway.report()
        Path(stages.REAL / f"likelihood-{name.replace(' ', '-')}.json").write_text(json.dumps(made))
        gateway.command("report", "same", "--html", str(stages.REAL / f"likelihood-{name.replace(' ', '-')}.html"))
    found = made["likelihood"]
    noise = "" if found["noise"] is None else f", noise {found['noise']['value']:+.5f}"
    journal.notes["likelihood"] = (
        "`mode: likelihood`, SmolLM2-135M in bfloat16 on two vLLM engines, margin 0.02 nats per token"
    )
    journal.note(
        "likelihood", name,
        f"{made['verdict']} after {made['pairs']} pairs: {found['divergence']['value']:+.5f} nats per token{noise}, "
        f"same most likely token {found['agreement']['value']:.4f}",
    )  # fmt: skip
    assert made["verdict"] in right, made["sentence"]
    if change is None:
        assert abs(found["divergence"]["value"]) < 0.01
