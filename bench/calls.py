"""Counts the calls of functions, Python's and C's, that the gateway's own code makes for one request."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from types import FrameType
from typing import Any

import hot
import long_answers
import systems

import gateway
from gateway.core.learned_route import LearnedRoute

OURS = str(Path(gateway.__file__).parent)


def counted(kind: str, rate: float, n: int, limits: bool = False, run: str = "") -> float:
    """Calls for one request, by n of them after as many that are not counted. n: below the calls that are folded into
    the metrics at once, whose number depends on how long they took. kind: "plain", "stream" or "decision". run: that of
    the calls; with limits, its ceiling counts in place of other limits."""
    counter = _Calls()

    async def drive(driven: hot.Hot) -> None:
        request, answer = {"plain": hot.plain, "stream": hot.stream, "decision": hot.decision}[kind]()
        if run:
            request = request.replace(b"\r\n\r\n", b"\r\nx-gateway-run: %b\r\n\r\n" % run.encode(), 1)
        await driven.run(n, request, answer)
        driven.metrics.counts.flush()
        with counter:
            answers = await driven.run(n, request, answer)
        assert answers.startswith(b"HTTP/1.1 200 OK") or answers.endswith(b"0\r\n\r\n")

    sections = systems.with_ceiling if run else systems.with_limits
    asyncio.run(hot.driven(rate, drive, sections if limits else None))
    return counter.n / n


def emulated(questions: int, n: int = 10) -> float:
    """Calls for one decision of this number of questions, each read from a chat."""
    counter = _Calls()

    async def drive(driven: hot.Hot) -> None:
        request, answer = hot.reads(questions)
        await driven.run(n, request, answer)
        driven.metrics.counts.flush()
        with counter:
            answers = await driven.run(n, request, answer)
        assert answers.startswith(b"HTTP/1.1 200 OK")
        assert answers.count(b'"probabilities"') == questions

    asyncio.run(hot.driven(0.0, drive, systems.with_reads))
    return counter.n / n


def decided(n: int = 20) -> float:
    """Calls for one chat that a decision model answers."""
    counter = _Calls()

    async def drive(driven: hot.Hot) -> None:
        request, answer = hot.facade()
        await driven.run(n, request, answer)
        driven.metrics.counts.flush()
        with counter:
            answers = await driven.run(n, request, answer)
        assert b"x-gateway-decision: native" in answers

    asyncio.run(hot.driven(0.0, drive, hot.with_decisions))
    return counter.n / n


def routed(route: LearnedRoute | None, size: int, n: int = 10) -> float:
    """Calls for one request of about the given number of bytes, to a model with this route, or with weighted
    targets.
    """
    counter = _Calls()

    async def drive(driven: hot.Hot) -> None:
        request, answer = hot.conversation(size)
        await driven.run(n, request, answer)
        driven.metrics.counts.flush()
        with counter:
            answers = await driven.run(n, request, answer)
        assert answers.startswith(b"HTTP/1.1 200 OK")
        assert (b"x-gateway-route" in answers) == (route is not None)

    asyncio.run(hot.driven(0.0, drive, route=route))
    return counter.n / n


def guarded(guards: dict[str, Any] | None, chars: int, n: int = 20) -> float:
    """Calls for one request whose plain answer has a text of the given length, with these guards."""
    counter = _Calls()

    async def drive(driven: hot.Hot) -> None:
        request, answer = hot.long_answer(chars)
        await driven.run(n, request, answer)
        driven.metrics.counts.flush()
        with counter:
            answers = await driven.run(n, request, answer)
        assert answers.startswith(b"HTTP/1.1 200 OK")

    asyncio.run(hot.driven(0.0, drive, guards=guards))
    return counter.n / n


def of_streams(kind: long_answers.AnswerKind, *events: int) -> list[int]:
    """Calls for a stream of the given number of events each, after one that is not counted."""
    request, found = long_answers.request_of(kind, stream=True), list[int]()

    async def drive(driven: hot.Hot) -> None:
        await driven.answer(request, long_answers.stream_of(kind, events[0]))
        for n in events:
            pieces, counter = long_answers.stream_of(kind, n), _Calls()
            driven.metrics.counts.flush()
            with counter:
                assert await driven.answer(request, pieces) > n
            found.append(counter.n)

    asyncio.run(hot.driven(0.0, drive, kind=kind.upstream))
    return found


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
