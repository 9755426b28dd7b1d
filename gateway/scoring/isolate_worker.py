"""The child of isolate.py: builds one scorer, runs its golden cases, and scores until its input ends.

The first frame is the spec; every further one is a subject or a pair. Output that the scorer prints is discarded.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import pickle
import resource
import signal
import sys
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.errors import ConfigError
from gateway.core.score import Score, Skipped
from gateway.runtime.confinement import drop_capabilities
from gateway.scoring.isolate import HEAD
from gateway.scoring.registry import build_all
from gateway.scoring.types import Pair

_PR_SET_PDEATHSIG = 1


def main() -> None:
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a scorer prints must not mix with the replies
    drop_capabilities()
    _end_with_parent()
    spec = orjson.loads(_read(source) or b"{}")
    sys.path[:] = spec["path"]
    _limit(spec["memory_mb"])
    try:
        scorer = _built(spec)
    except ConfigError as error:
        at = f"scorers.{spec['name']}"
        _write(sink, {"mistakes": [m.removeprefix(at) for m in error.mistakes]})
        return
    except MemoryError:
        _write(sink, {"mistakes": [f": needs more than memory_mb: {spec['memory_mb']} to be loaded"]})
        return
    _write(sink, {"attributes": _attributes(scorer)})
    _serve(scorer, source, sink, spec["memory_mb"])


def _built(spec: dict[str, Any]) -> Any:
    section = Section.model_validate({**spec["options"], "use": spec["use"]})
    built = build_all({spec["name"]: section})
    return built.all()[spec["name"]].scorer


def _attributes(scorer: Any) -> dict[str, Any]:
    names = ("name", "version", "kind", "direction", "bounds")
    values = {name: getattr(scorer, name) for name in names}
    kinds = {"pairs": hasattr(scorer, "compare"), "runs": hasattr(scorer, "score_run")}
    return {**values, "fingerprint": getattr(scorer, "fingerprint", ""), **kinds}


def _serve(scorer: Any, source: BinaryIO, sink: BinaryIO, memory_mb: int) -> None:
    loop = asyncio.new_event_loop()
    while frame := _read(source):
        of = pickle.loads(frame)  # noqa: S301 - from our own parent
        reply: dict[str, Any]
        try:
            call = scorer.compare(of) if isinstance(of, Pair) else scorer.score(of)
            reply = _reply(loop.run_until_complete(call))
        except MemoryError:
            reply = {"error": f"MemoryError: more than memory_mb: {memory_mb}", "last": True}
        except Exception as error:  # a foreign scorer may raise anything; it is the reply
            reply = {"error": f"{type(error).__name__}: {error}"[:2000]}
        _write(sink, reply)


def _reply(result: object) -> dict[str, Any]:
    if isinstance(result, Skipped):
        return {"need": result.need}
    if isinstance(result, Score):
        return {
            "value": result.value,
            "label": result.label,
            "explanation": result.explanation,
            "detail": result.detail,
        }
    return {"error": f"returned {type(result).__name__}, expected Score or Skipped"}


def _read(source: BinaryIO) -> bytes:
    """Reads one frame; b"" at the end of the input."""
    head = source.read(HEAD.size)
    return source.read(HEAD.unpack(head)[0]) if len(head) == HEAD.size else b""


def _write(sink: BinaryIO, reply: dict[str, Any]) -> None:
    try:
        data = orjson.dumps(reply, option=orjson.OPT_SERIALIZE_NUMPY, default=str)
    except TypeError as error:
        data = orjson.dumps({"error": f"the result cannot be written as JSON: {error}"})
    sink.write(HEAD.pack(len(data)) + data)
    sink.flush()


def _limit(memory_mb: int) -> None:
    """Limits the address space beyond what this process already uses; no effect where the system lacks it (macOS)."""
    used = 0
    with contextlib.suppress(OSError):
        used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = used + memory_mb * (1 << 20)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _end_with_parent() -> None:
    """Asks Linux to kill this process with its parent: a scorer that hangs would not notice the end of its input."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
