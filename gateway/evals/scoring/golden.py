"""The cases a scorer must get right before it may register, run against it."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import cast

from gateway.core.exchange import Exchange, Target
from gateway.core.score import Score, Skipped
from gateway.evals.scoring.pairs import GoldenPair, Pair, PairScorer
from gateway.evals.scoring.types import Golden, Scorer, Subject

TOLERANCE = 1e-6
PLAIN_EXCHANGE = Exchange(
    id="01900000-0000-7000-8000-000000000000",
    received=1_750_000_000.0,
    caller="golden",
    api="chat",
    alias="chat",
    target=Target("golden", "golden"),
    stream=False,
    request=b"{}",
    response=b"{}",
    status=200,
    outcome="ok",
    total_s=1.0,
    unit="golden",
    u=0.5,
    pi=1.0,
    stratum="base",
    incarnation="golden",
    seq=1,
)


def subject_of(case: Golden) -> Subject:
    exchange = replace(PLAIN_EXCHANGE, **case.exchange)
    return Subject(exchange, case.request, case.completion, case.reference, case.cost_usd)


def pair_of(case: GoldenPair) -> Pair:
    exchange = replace(PLAIN_EXCHANGE, **case.exchange)
    return Pair(
        Subject(exchange, case.request, case.a, case.reference), Subject(exchange, case.request, case.b, case.reference)
    )


def check_golden(scorer: Scorer | PairScorer, deadline_s: float = 10.0) -> list[str]:
    """One line for each case it gets wrong. deadline_s: for all cases together.

    Runs on a thread of its own, so that it may be called from a coroutine and a scorer that hangs stops nobody.
    """
    wrong: list[str] = []
    done = threading.Event()

    def check() -> None:
        try:
            wrong.extend(asyncio.run(failed_cases(scorer)))
        except BaseException as error:
            wrong.append(f"its golden cases cannot be run: {type(error).__name__}: {error}")
        done.set()

    threading.Thread(target=check, name=f"golden {scorer.name}", daemon=True).start()
    if not done.wait(deadline_s):
        return [f"its golden cases took longer than {deadline_s:g} s"]
    return wrong


async def failed_cases(scorer: Scorer | PairScorer) -> list[str]:
    """The same, without a thread and a deadline."""
    wrong: list[str] = []
    for case in scorer.golden():
        if isinstance(case, GoldenPair):
            said = await _said(partial(cast(PairScorer, scorer).compare, pair_of(case)))
        else:
            said = await _said(partial(cast(Scorer, scorer).score, subject_of(case)))
        expected = "not applicable" if case.expected is None else f"{case.expected:g}"
        if said != expected and not _near(said, case.expected):
            wrong.append(f'golden case "{case.name}": expected {expected}, got {said}')
    return wrong


async def _said(opinion: Callable[[], Awaitable[Score | Skipped]]) -> str:
    try:
        got = await opinion()
    except Exception as error:  # whatever a scorer of others raises is its answer to the case
        return f"{type(error).__name__}: {error}"
    return "not applicable" if isinstance(got, Skipped) else repr(got.value)


def _near(said: str, expected: float | None) -> bool:
    try:
        return expected is not None and math.isclose(float(said), expected, rel_tol=0, abs_tol=TOLERANCE)
    except ValueError:
        return False
