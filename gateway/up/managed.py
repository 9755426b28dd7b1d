"""An upstream's `run` → the child that is its engine: llama.cpp or vLLM, with the words that each understands.

It starts nothing: up.py gives the child to the supervisor, which waits for its health, restarts it and stops it.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from gateway.config.upstreams import EngineRun
from gateway.core.errors import CannotRun, NotInstalled
from gateway.core.providers import VENDORS
from gateway.runtime.child import Child
from gateway.up import engines

HOST = "127.0.0.1"
READY_S = {"llamacpp": 120.0, "vllm": 900.0}
GRACE_S = {"llamacpp": 10.0, "vllm": 30.0}  # vLLM ends an engine process of its own first
_ANSWER_S = 1.0
_HUB = "HF_TOKEN"  # the one key of a vendor that an engine may need: it fetches models with it


def ours(*arguments: str) -> tuple[str, ...]:
    """A verb of this very installation. -P: modules in the working directory do not shadow those that are installed."""
    return (sys.executable, "-P", "-m", "gateway", *arguments)


def child_of(upstream: str, run: EngineRun, port: int, environ: Mapping[str, str]) -> Child:
    """environ: ours. Raises CannotRun where the engine or its model is not there, with what to do."""
    return Child(
        f"engine-{upstream}",
        _vllm(upstream, run, port) if run.engine == "vllm" else _llamacpp(upstream, run, port),
        answering(HOST, port, "/health"),
        ready_s=run.ready_s or READY_S[run.engine],
        grace_s=GRACE_S[run.engine],
        environ=_environ(run, environ),
    )


def log_of(upstream: str) -> str:
    """A file's name in the data directory: what an upstream may be called, a file may not."""
    return f"engine-{re.sub(r'[^A-Za-z0-9._-]', '_', upstream)[:100]}.log"


def name_of(run: EngineRun) -> str:
    """What requests call the model."""
    if run.name:
        return run.name
    return engines.alias(run.model) if run.engine == "llamacpp" else _folder(run.model) or run.model


def _folder(model: str) -> str | None:
    path = Path(model)
    return path.resolve().name if path.is_dir() else None


def _llamacpp(upstream: str, run: EngineRun, port: int) -> tuple[str, ...]:
    if run.command is None:
        if lacks := engines.missing(run.model):
            raise NotInstalled("; ".join(lacks))
        engines.model_file(run.model)
        return ours("engine", "--model", run.model, "--name", name_of(run), "--port", str(port))
    program = _program(upstream, run.command)
    asked = ("--model", str(engines.model_file(run.model)), "--alias", name_of(run))
    return (*program, *asked, "--host", HOST, "--port", str(port), *run.args)


def _vllm(upstream: str, run: EngineRun, port: int) -> tuple[str, ...]:
    program = _program(upstream, run.command) if run.command else (_installed_vllm(),)
    asked = ("serve", run.model, "--served-model-name", name_of(run), "--host", HOST, "--port", str(port))
    return (*program, *asked, *run.args)


def _installed_vllm() -> str:
    """Beside our own Python, else on the PATH."""
    beside = Path(sys.executable).with_name("vllm")
    found = str(beside) if beside.exists() else shutil.which("vllm")
    if found is None:
        raise NotInstalled(
            'the vllm engine needs vLLM: pip install "assay-gateway[vllm]", or say where its program is: '
            "run.command: [/opt/vllm/bin/vllm]"
        )
    return found


def _program(upstream: str, command: tuple[str, ...]) -> tuple[str, ...]:
    found = shutil.which(command[0])
    if found is None:
        raise CannotRun(f"upstreams.{upstream}.run.command: no program {command[0]!r} here or on the PATH")
    return (found, *command[1:])


def _environ(run: EngineRun, environ: Mapping[str, str]) -> dict[str, str]:
    """Ours without vendors' keys and what `gateway up` tells its own programs. Neither engine reports its use."""
    secret = {v.key_env for v in VENDORS.values()} - {_HUB}
    kept = {k: v for k, v in environ.items() if k not in secret and not k.startswith("GATEWAY_")}
    return {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", **kept, **run.environ}


def answering(host: str, port: int, path: str) -> Callable[[], Awaitable[bool]]:
    """Asks whether a program on this machine answers 200 there."""

    async def ask() -> bool:
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_connection(host, port)
                try:
                    writer.write(f"GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n".encode())
                    return b" 200 " in await reader.readline()
                finally:
                    writer.close()
        except (OSError, TimeoutError):
            return False

    return ask
