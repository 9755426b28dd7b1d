"""The child of isolate.py: builds one scorer, proves it on its golden cases, and gives opinions until its input ends.

Its first frame is the spec; every further one a subject or a pair. Whatever the scorer prints goes nowhere.
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
from gateway.evals.scoring.isolate import HEAD
from gateway.evals.scoring.pairs import Pair
from gateway.evals.scoring.registry import build_all

_PR_SET_PDEATHSIG = 1


def main() -> None:
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a scorer prints must not stand among its opinions
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
    told = {name: getattr(scorer, name) for name in names}
    return {**told, "fingerprint": getattr(scorer, "fingerprint", ""), "pairs": not hasattr(scorer, "score")}


def _serve(scorer: Any, source: BinaryIO, sink: BinaryIO, memory_mb: int) -> None:
    loop = asyncio.new_event_loop()
    while frame := _read(source):
        of = pickle.loads(frame)  # noqa: S301 - from our own parent
        said: dict[str, Any]
        try:
            opinion = scorer.compare(of) if isinstance(of, Pair) else scorer.score(of)
            said = _said(loop.run_until_complete(opinion))
        except MemoryError:
            said = {"error": f"MemoryError: more than memory_mb: {memory_mb}", "last": True}
        except Exception as error:  # whatever a stranger's scorer raises is what it says
            said = {"error": f"{type(error).__name__}: {error}"[:2000]}
        _write(sink, said)


def _said(opinion: object) -> dict[str, Any]:
    if isinstance(opinion, Skipped):
        return {"need": opinion.need}
    if isinstance(opinion, Score):
        return {
            "value": opinion.value,
            "label": opinion.label,
            "explanation": opinion.explanation,
            "detail": opinion.detail,
        }
    return {"error": f"said neither Score nor Skipped but {type(opinion).__name__}"}


def _read(source: BinaryIO) -> bytes:
    """One frame; b"" at the end."""
    head = source.read(HEAD.size)
    return source.read(HEAD.unpack(head)[0]) if len(head) == HEAD.size else b""


def _write(sink: BinaryIO, said: dict[str, Any]) -> None:
    try:
        data = orjson.dumps(said, option=orjson.OPT_SERIALIZE_NUMPY, default=str)
    except TypeError as error:
        data = orjson.dumps({"error": f"what it says is no JSON: {error}"})
    sink.write(HEAD.pack(len(data)) + data)
    sink.flush()


def _limit(memory_mb: int) -> None:
    """Address space beyond what we ourselves have by now. Where the system has no such limit (macOS), there is none."""
    ours = 0
    with contextlib.suppress(OSError):
        ours = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    most = ours + memory_mb * (1 << 20)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_AS, (most, most))


def _end_with_parent() -> None:
    """A scorer that hangs reads no end of its input: Linux ends us when our parent ends."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
