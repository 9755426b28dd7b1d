"""Engines that `gateway up` runs: what each is told, what it must not know, and its whole life beside the gateway."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from openai import OpenAI

from gateway.config.loading import load
from gateway.config.upstreams import EngineRun
from gateway.core.errors import CannotRun, NotInstalled
from gateway.up import engines, managed

# Speaks vLLM's command line, says what it was told, takes a moment, and then answers as the shipped double.
STAND_IN = f"""#!{sys.executable}
import argparse, asyncio, os, sys
from gateway.fake import serve
parser = argparse.ArgumentParser()
parser.add_argument("verb", choices=["serve"])
parser.add_argument("model_tag")
for option in ("--served-model-name", "--host", "--max-model-len"):
    parser.add_argument(option, required=True)
parser.add_argument("--port", type=int, required=True)
told = parser.parse_args()
print("INFO: loading", told.model_tag, "as", told.served_model_name, "len", told.max_model_len, file=sys.stderr)
print("INFO: variables", *sorted(os.environ), flush=True)
asyncio.run(serve(told.host, told.port))
"""


@pytest.fixture
def vllm(tmp_path: Path) -> Path:
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return program


def run_of(**section: Any) -> EngineRun:
    return EngineRun.model_validate(section)


def test_vllm_is_told_its_model_name_and_place_and_what_the_file_adds(vllm: Path) -> None:
    run = run_of(engine="vllm", model="org/m", name="m", command=[str(vllm)], args=["--max-model-len", "512"])
    child = managed.child_of("big", run, 4321, {})
    assert child.name == "engine-big"
    assert child.argv == (
        str(vllm), "serve", "org/m", "--served-model-name", "m", "--host", "127.0.0.1", "--port", "4321",
        "--max-model-len", "512",
    )  # fmt: skip
    assert child.ready_s == 900
    assert managed.child_of("big", run.model_copy(update={"ready_s": 7.0}), 1, {}).ready_s == 7


def test_a_llama_server_of_ones_own_is_told_the_same_in_its_words(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").touch()
    run = run_of(engine="llamacpp", model=str(tmp_path / "tiny.gguf"), command=[sys.executable, "x"], args=["-c", "9"])
    assert managed.child_of("l", run, 4321, {}).argv == (
        sys.executable, "x", "--model", str(tmp_path / "tiny.gguf"), "--alias", "tiny", "--host", "127.0.0.1",
        "--port", "4321", "-c", "9",
    )  # fmt: skip


def test_the_name_that_requests_use(tmp_path: Path) -> None:
    assert managed.name_of(run_of(engine="vllm", model="Qwen/Qwen3-8B")) == "Qwen/Qwen3-8B"
    (tmp_path / "smol").mkdir()
    assert managed.name_of(run_of(engine="vllm", model=str(tmp_path / "smol"))) == "smol"
    assert managed.name_of(run_of(engine="llamacpp")) == "smollm2"
    assert managed.name_of(run_of(engine="llamacpp", model="a/b.gguf")) == "b"
    assert managed.name_of(run_of(engine="llamacpp", model="a/b.gguf", name="c")) == "c"


def test_an_upstream_with_an_odd_name_has_a_log_in_the_data_directory() -> None:
    assert managed.log_of("local") == "engine-local.log"
    assert managed.log_of("../a/b c") == "engine-.._a_b_c.log"


def test_vllm_on_the_path_is_found_and_its_absence_says_what_to_do(vllm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(vllm.parent.parent / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", str(vllm.parent))
    assert managed.child_of("v", run_of(engine="vllm", model="m"), 1, {}).argv[0] == str(vllm)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NotInstalled, match=r'pip install "assay-gateway\[vllm\]", or say where its program is'):
        managed.child_of("v", run_of(engine="vllm", model="m"), 1, {})


def test_what_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotRun, match=r"upstreams\.v\.run\.command: no program '/nowhere/vllm' here or on the PATH"):
        managed.child_of("v", run_of(engine="vllm", model="m", command=["/nowhere/vllm"]), 1, {})
    with pytest.raises(CannotRun, match=r"no model file gone\.gguf"):
        managed.child_of("l", run_of(engine="llamacpp", model="gone.gguf"), 1, {})
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(NotInstalled, match=r"assay-gateway\[local\]"):
        managed.child_of("l", run_of(engine="llamacpp"), 1, {})


def test_an_engine_gets_no_vendors_key_and_no_word_of_ours(vllm: Path) -> None:
    ours = {"OPENAI_API_KEY": "sk", "GATEWAY_UP_KEY_SHA256": "d", "HF_TOKEN": "hf", "PATH": "/bin", "DO_NOT_TRACK": "0"}
    run = run_of(engine="vllm", model="m", command=[str(vllm)], environ={"OMP_NUM_THREADS": "2"})
    environ = managed.child_of("v", run, 1, ours).environ
    assert environ == {
        "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "0", "HF_TOKEN": "hf", "PATH": "/bin", "OMP_NUM_THREADS": "2",
    }  # fmt: skip


# ── the whole ──


def config(vllm: Path, **run: Any) -> dict[str, Any]:
    big = {"engine": "vllm", "model": "org/m", "command": [str(vllm)], "args": ["--max-model-len", "512"], **run}
    return {
        "open": True,
        "upstreams": {
            "big": {"kind": "vllm", "run": big},
            "small": {"kind": "llamacpp", "run": {"engine": "llamacpp", "name": "little"}},
        },
        "models": {
            "chat": {"targets": [{"upstream": "big", "model": "org/m"}]},
            "little": {"targets": [{"upstream": "small", "model": "little"}]},
        },
    }


class Up:
    """A `gateway up` on a file. printed: until all answers."""

    def __init__(self, cwd: Path, section: dict[str, Any]) -> None:
        self.cwd = cwd
        (cwd / "gateway.yaml").write_text(yaml.safe_dump(section))
        environ = {"PATH": os.environ["PATH"], "HOME": str(cwd), "OPENAI_API_KEY": "sk-secret"}
        self.notes = (cwd / "notes").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "up"], cwd=cwd, env=environ,
            stdout=subprocess.PIPE, stderr=self.notes, text=True,
        )  # fmt: skip
        assert self.process.stdout is not None
        self.printed = ""
        for line in self.process.stdout:
            self.printed += line
            if "Ctrl-C stops everything" in line:
                break

    def engine(self, upstream: str) -> tuple[str, str, Path]:
        found = re.search(rf"^  engine     {upstream}: (\S+) at (\S+), log (\S+)$", self.printed, re.MULTILINE)
        assert found, self.printed
        return found[1], found[2], self.cwd / found[3]

    def client(self) -> OpenAI:
        found = re.search(r"^  base_url +(\S+)$", self.printed, re.MULTILINE)
        assert found
        return OpenAI(base_url=found[1], api_key="none", max_retries=10, timeout=20)

    def close(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        finally:
            self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.notes.close()


@pytest.fixture
def up(tmp_path: Path, vllm: Path) -> Iterator[Up]:
    running = Up(tmp_path, config(vllm))
    yield running
    if running.process.poll() is None:
        running.close()


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def pids(word: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [int(path.parent.name)] if word in words else []
    return found


def ask(client: OpenAI, model: str) -> str | None:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    return answer.choices[0].message.content


@pytest.mark.model
def test_engines_are_started_said_restarted_and_stopped(up: Up, vllm: Path) -> None:
    """vLLM by a program with its command line; llama.cpp is the real one."""
    name, _, log = up.engine("big")
    assert (name, up.engine("small")[0]) == ("org/m", "little")
    with up.client() as client:
        assert ask(client, "chat")
        assert ask(client, "little")
        said = log.read_text()
        assert "loading org/m as org/m len 512" in said
        assert "VLLM_NO_USAGE_STATS" in said
        assert "OPENAI_API_KEY" not in said
        assert up.engine("small")[2].read_text()

        [before] = pids(str(vllm))
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: log.read_text().count("loading org/m") == 2)
        assert ask(client, "chat")
    assert up.close() == 0
    assert not pids(str(vllm))


def test_an_engine_that_cannot_start_is_named_with_its_last_words(tmp_path: Path, vllm: Path) -> None:
    vllm.write_text(f"#!{sys.executable}\nraise SystemExit('out of memory')\n")
    running = Up(tmp_path, config(vllm))
    assert running.process.wait(20) == 1
    notes = (tmp_path / "notes").read_text()
    assert "engine-big ended with 1 before it was ready; it said:\n  out of memory" in notes
    assert "out of memory" in (tmp_path / ".gateway" / "engine-big.log").read_text()
    running.close()


def test_an_upstream_that_is_run_here_needs_no_place_in_the_file(tmp_path: Path, vllm: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config(vllm)))
    read = load(tmp_path / "gateway.yaml")
    assert read.upstreams["big"].run == run_of(**config(vllm)["upstreams"]["big"]["run"])
