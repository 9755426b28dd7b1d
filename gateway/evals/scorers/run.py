"""Asks every scorer about one subject. What one scorer does, raises or fails to do stays its own result."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from gateway.evals.scorers import Bounds, Score, Scorer, Skipped, Subject
from gateway.evals.scorers.registry import Registered
from gateway.evals.scorers.threads import Late, Threads

Status = Literal["scored", "not_applicable", "error", "timeout"]
MAX_EXPLANATION = 2000  # characters


@dataclass(frozen=True, slots=True)
class Result:
    """What came of asking one scorer about one subject.

    scorer: its name in the config. score: None unless scored. explanation: the score's; what it needed, when not
    applicable; what went wrong, else. pi: the probability with which the scorer saw this subject, given that it was
    recorded.
    """

    scorer: str
    version: str
    config_hash: str
    status: Status
    score: Score | None
    explanation: str | None
    seconds: float
    pi: float


Said = tuple[Status, Score | None, str | None]


async def score_all(
    scorers: Mapping[str, Registered], subject: Subject, draw: Callable[[str], float], threads: Threads
) -> list[Result]:
    """One result for each scorer that sees the subject, in the order of the config.

    draw: a domain → this subject's place in [0, 1) there. A scorer with a share below 1 sees the subject when
    draw("score:" + name) is below its share, and otherwise gives no result. Never raises for what a scorer does.
    """
    results: list[Result | None] = []
    waiting: list[tuple[int, str, Registered]] = []
    for name, registered in scorers.items():
        if registered.share < 1 and draw(f"score:{name}") >= registered.share:
            continue
        results.append(_at_once(name, registered, subject))
        if results[-1] is None:
            waiting.append((len(results) - 1, name, registered))
    if waiting:
        later = await asyncio.gather(*(_later(name, registered, subject, threads) for _, name, registered in waiting))
        for (place, _, _), result in zip(waiting, later, strict=True):
            results[place] = result
    return [r for r in results if r is not None]


def _at_once(name: str, registered: Registered, subject: Subject) -> Result | None:
    """Without a task: what a scorer says that waits for nothing and computes little. None: ask later."""
    began = time.perf_counter()
    try:
        said = _said_at_once(registered, subject)
    except Exception as error:  # one scorer's failure on one exchange is its result, and the others go on
        return _result(name, registered, began, _failed(error))
    return None if said is None else _result(name, registered, began, _checked(said, registered.scorer.bounds))


def _said_at_once(registered: Registered, subject: Subject) -> Score | Skipped | None:
    scorer = registered.scorer
    if registered.foreign:
        return None
    if scorer.heavy:
        return registered.prompt.at_once(subject) if registered.prompt is not None else None
    if scorer.kind != "code":
        return None
    scoring = scorer.score(subject)
    try:
        scoring.send(None)
    except StopIteration as stop:
        said: Score | Skipped = stop.value
        return said
    scoring.close()  # it waits for something; only in a task of its own may it do so
    return None


async def _later(name: str, registered: Registered, subject: Subject, threads: Threads) -> Result:
    began = time.perf_counter()
    scorer, deadline_s = registered.scorer, registered.deadline_s
    try:
        if registered.foreign or scorer.heavy:
            said = await threads.run(name, lambda: scorer.score(subject), deadline_s, heavy=scorer.heavy)
        else:
            said = await _in_time(scorer, subject, deadline_s)
        outcome = _checked(said, scorer.bounds)
    except Late as late:
        outcome = ("timeout", None, str(late))
    except Exception as error:  # the same as above
        outcome = _failed(error)
    return _result(name, registered, began, outcome)


async def _in_time(scorer: Scorer, subject: Subject, deadline_s: float) -> Score | Skipped:
    try:
        async with asyncio.timeout(deadline_s) as limit:
            return await scorer.score(subject)
    except TimeoutError:
        if limit.expired():
            raise Late(f"not done after {deadline_s:g} s") from None
        raise


def _checked(said: object, bounds: Bounds) -> Said:
    """What a scorer said, unless it is no score at all or outside its own bounds: that would spoil every mean."""
    if isinstance(said, Skipped):
        return "not_applicable", None, said.need[:MAX_EXPLANATION]
    if not isinstance(said, Score):
        return "error", None, f"said neither Score nor Skipped but {type(said).__name__}"
    low, high = bounds
    value = said.value
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "error", None, f"value {value!r} is no finite number"
    if (low is not None and value < low) or (high is not None and value > high):
        return "error", None, f"value {value!r} is outside its bounds, {low} to {high}"
    return "scored", said, said.explanation[:MAX_EXPLANATION] if said.explanation else None


def _failed(error: Exception) -> Said:
    return "error", None, f"{type(error).__name__}: {error}"[:MAX_EXPLANATION]


def _result(name: str, registered: Registered, began: float, said: Said) -> Result:
    status, score, explanation = said
    seconds = time.perf_counter() - began
    version, pi = registered.scorer.version, min(registered.share, 1.0)
    return Result(name, version, registered.config_hash, status, score, explanation, seconds, pi)
