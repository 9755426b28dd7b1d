"""How many calls of functions, Python's and C's, the gateway's own code makes for one request."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import hot

import gateway

OURS = str(Path(gateway.__file__).parent)


def counted(kind: str, rate: float, n: int, limits: bool = False) -> float:
    """Calls for one request, by n of them after as many that are not counted. n: below the calls that are folded into
    the metrics at once, whose number depends on how long they took. kind: "plain" or "stream"."""
    calls = 0

    def count(frame: FrameType, event: str, _: Any) -> None:
        nonlocal calls
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(OURS):
            calls += 1

    async def drive(driven: hot.Hot) -> None:
        request, answer = {"plain": hot.plain, "stream": hot.stream}[kind]()
        await driven.run(n, request, answer)
        driven.metrics.counts.flush()
        sys.setprofile(count)
        try:
            answers = await driven.run(n, request, answer)
        finally:
            sys.setprofile(None)
        assert answers.startswith(b"HTTP/1.1 200 OK") or answers.endswith(b"0\r\n\r\n")

    asyncio.run(hot.driven(rate, drive, limits))
    return calls / n
