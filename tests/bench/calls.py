"""How many calls of functions, Python's and C's, the gateway's own code makes for one request."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import hot
import long_answers

import gateway

OURS = str(Path(gateway.__file__).parent)


def counted(kind: str, rate: float, n: int, limits: bool = False) -> float:
    """Calls for one request, by n of them after as many that are not counted. n: below the calls that are folded into
    the metrics at once, whose number depends on how long they took. kind: "plain" or "stream"."""
    counter = _Calls()

    async def drive(driven: hot.Hot) -> None:
        request, answer = {"plain": hot.plain, "stream": hot.stream}[kind]()
        await driven.run(n, request, answer)
        driven.metrics.counts.flush()
        with counter:
            answers = await driven.run(n, request, answer)
        assert answers.startswith(b"HTTP/1.1 200 OK") or answers.endswith(b"0\r\n\r\n")

    asyncio.run(hot.driven(rate, drive, limits))
    return counter.n / n


def of_stream(kind: long_answers.AnswerKind, events: int) -> int:
    """Calls for one stream of so many events, after one that is not counted."""
    counter = _Calls()

    async def drive(driven: hot.Hot) -> None:
        request, pieces = long_answers.request_of(kind, stream=True), long_answers.stream_of(kind, events)
        await driven.answer(request, pieces)
        driven.metrics.counts.flush()
        with counter:
            assert await driven.answer(request, pieces) > events

    asyncio.run(hot.driven(0.0, drive, kind=kind.upstream))
    return counter.n


class _Calls:
    """Counts the calls of functions that the gateway's own code makes while it is entered."""

    n = 0

    def __enter__(self) -> None:
        sys.setprofile(self._count)

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _count(self, frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "c_call") and frame.f_code.co_filename.startswith(OURS):
            self.n += 1
