"""Runs a scorer's golden cases, which it must get right before it is registered."""

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
from gateway.scoring.types import Golden, GoldenPair, GoldenRun, Pair, PairScorer, RunScorer, Scorer, Subject

TOLERANCE = 1e-6
AnyScorer = Scorer | PairScorer | RunScorer
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


def check_golden(scorer: AnyScorer, deadline_s: float = 10.0) -> list[str]:
    """Returns one line for each failed case. The deadline is for all cases together.

    The cases run on a thread, so that a coroutine may call this and a scorer that hangs does not block the caller.
    """
    wrong: list[str] = []
    done = threading.Event()

    def check() -> None:
        try:
            wrong.extend(asyncio.run(failed_cases(scorer)))
        except BaseException as error:  # on a thread, it would end unseen; here it is a mistake of the scorer
            wrong.append(f"its golden cases cannot be run: {type(error).__name__}: {error}")
        done.set()

    threading.Thread(target=check, name=f"golden {scorer.name}", daemon=True).start()
    if not done.wait(deadline_s):
        return [f"its golden cases took longer than {deadline_s:g} s"]
    return wrong


async def failed_cases(scorer: AnyScorer) -> list[str]:
    """Returns one line for each failed case, run without a thread and a deadline."""
    wrong: list[str] = []
    for case in scorer.golden():
        if isinstance(case, GoldenPair):
            output = await _output(partial(cast(PairScorer, scorer).compare, pair_of(case)))
        elif isinstance(case, GoldenRun):
            output = await _output(partial(cast(RunScorer, scorer).score_run, case.run))
        else:
            output = await _output(partial(cast(Scorer, scorer).score, subject_of(case)))
        expected = "not applicable" if case.expected is None else f"{case.expected:g}"
        if output != expected and not _close(output, case.expected):
            wrong.append(f'golden case "{case.name}": expected {expected}, got {output}')
    return wrong


async def _output(call: Callable[[], Awaitable[Score | Skipped]]) -> str:
    try:
        result = await call()
    except Exception as error:  # a foreign scorer may raise anything; it fails the case
        return f"{type(error).__name__}: {error}"
    return "not applicable" if isinstance(result, Skipped) else repr(result.value)


def _close(output: str, expected: float | None) -> bool:
    try:
        return expected is not None and math.isclose(float(output), expected, rel_tol=0, abs_tol=TOLERANCE)
    except ValueError:
        return False
