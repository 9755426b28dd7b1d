"""Asks every scorer about one subject. What one scorer does, raises or fails to do stays its own result."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

from gateway.core.score import Bounds, Score, ScoreResult, Skipped, Spent, Status
from gateway.evals.http_client import DeadlinePassed
from gateway.evals.scoring.gate import GateClosed
from gateway.evals.scoring.registry import RegisteredPair, RegisteredScorer
from gateway.evals.scoring.threads import ScoringThreads, ScoringTimeout
from gateway.evals.scoring.types import Denied, OverBudget, Subject

Opinion = Callable[[], Awaitable[Score | Skipped]]
MAX_EXPLANATION = 2000  # characters
_NUMBERS = (int, float)


_Said = tuple[Status, Score | None, str | None, Spent | None]
_a_tuple = tuple.__new__  # a NamedTuple's own __new__ costs twice as much, and this runs for every score


class StartedScores(NamedTuple):
    """What scorers said at once of one subject, in the order of the config. waiting: (place in results, name, scorer)
    of those that need time; their results are None."""

    subject: Subject
    results: list[ScoreResult | None]
    waiting: list[tuple[int, str, RegisteredScorer]]


async def score_all(
    scorers: Mapping[str, RegisteredScorer], subject: Subject, draw: Callable[[str], float], threads: ScoringThreads
) -> list[ScoreResult]:
    """One result for each scorer that sees the subject, in the order of the config.

    draw: a domain → this subject's place in [0, 1) there. A scorer with a share below 1 sees the subject when
    draw("score:" + name) is below its share, and otherwise gives no result. Never raises for what a scorer does.
    """
    return await score_later(score_now(scorers, subject, draw), threads)


def score_now(scorers: Mapping[str, RegisteredScorer], subject: Subject, draw: Callable[[str], float]) -> StartedScores:
    """The part of it that waits for nothing."""
    begun = StartedScores(subject, [], [])
    for name, registered in scorers.items():
        if registered.share < 1 and draw(f"score:{name}") >= registered.share:
            continue
        result = _at_once(name, registered, subject)
        if result is None:
            begun.waiting.append((len(begun.results), name, registered))
        begun.results.append(result)
    return begun


async def score_later(begun: StartedScores, threads: ScoringThreads) -> list[ScoreResult]:
    """The rest of it; a task costs more than a rule does, so there is none where nothing waits."""
    if begun.waiting:
        later = await asyncio.gather(*(_later(name, of, begun.subject, threads) for _, name, of in begun.waiting))
        for (place, _, _), result in zip(begun.waiting, later, strict=True):
            begun.results[place] = result
    return [r for r in begun.results if r is not None]


def _at_once(name: str, registered: RegisteredScorer, subject: Subject) -> ScoreResult | None:
    """Without a task: what a scorer says that waits for nothing and computes little. None: ask later."""
    began = time.perf_counter()
    try:
        said = _said_at_once(registered, subject)
    except Exception as error:  # one scorer's failure on one exchange is its result, and the others go on
        return _result(name, registered, began, _failed(error))
    return None if said is None else _result(name, registered, began, _checked(said, registered.scorer.bounds))


def _said_at_once(registered: RegisteredScorer, subject: Subject) -> Score | Skipped | None:
    scorer = registered.scorer
    if registered.foreign or registered.waits:
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


async def _later(name: str, registered: RegisteredScorer, subject: Subject, threads: ScoringThreads) -> ScoreResult:
    return await run_scorer(name, registered, lambda: registered.scorer.score(subject), threads)


async def run_scorer(
    name: str, registered: RegisteredScorer | RegisteredPair, opinion: Opinion, threads: ScoringThreads
) -> ScoreResult:
    """What comes of one scorer's opinion: within its turn, its deadline and its budget. Never raises for it."""
    said: _Said
    began = time.perf_counter()
    try:
        said = await _asked(name, registered, opinion, threads)
    except ScoringTimeout as late:
        said = "timeout", None, str(late), late.spent
    except OverBudget as over:
        said = "budget", None, str(over), None
    except Exception as error:  # one scorer's failure on one subject is its result, and the others go on
        said = _failed(error)
    return _result(name, registered, began, said)


async def _asked(
    name: str, registered: RegisteredScorer | RegisteredPair, opinion: Opinion, threads: ScoringThreads
) -> _Said:
    gate, deadline_s = registered.gate, registered.deadline_s
    if gate is None:
        return _checked(await _in_time(name, registered, opinion, threads, deadline_s), registered.scorer.bounds)
    async with gate.turn(deadline_s) as left_s:
        try:
            said = await _in_time(name, registered, opinion, threads, left_s)
        except ScoringTimeout:
            gate.late()
            raise
        except DeadlinePassed as error:  # what was asked missed the same deadline, a moment before we did
            gate.late()
            late = ScoringTimeout(str(error))
            late.spent = getattr(error, "spent", None)
            raise late from error
        except Denied as error:
            gate.denied(str(error))
            raise
        except OverBudget:
            raise
        except Exception:
            gate.answered()
            raise
        gate.answered()
    return _checked(said, registered.scorer.bounds)


async def _in_time(
    name: str,
    registered: RegisteredScorer | RegisteredPair,
    opinion: Opinion,
    threads: ScoringThreads,
    deadline_s: float,
) -> Score | Skipped:
    if registered.foreign or registered.scorer.heavy:
        return await threads.run(name, opinion, deadline_s, heavy=registered.scorer.heavy)
    try:
        async with asyncio.timeout(deadline_s) as limit:
            return await opinion()
    except TimeoutError:
        if limit.expired():
            raise ScoringTimeout(f"not done after {registered.deadline_s:g} s") from None
        raise


def _checked(said: object, bounds: Bounds) -> _Said:
    """What a scorer said, unless it is no score at all or outside its own bounds: that would spoil every mean."""
    if isinstance(said, Skipped):
        return "not_applicable", None, said.need[:MAX_EXPLANATION], said.spent
    if not isinstance(said, Score):
        return "error", None, f"said neither Score nor Skipped but {type(said).__name__}", None
    low, high = bounds
    value, spent = said.value, said.spent
    if not isinstance(value, _NUMBERS) or not math.isfinite(value):
        return "error", None, f"value {value!r} is no finite number", spent
    if (low is not None and value < low) or (high is not None and value > high):
        return "error", None, f"value {value!r} is outside its bounds, {low} to {high}", spent
    return "scored", said, said.explanation[:MAX_EXPLANATION] if said.explanation else None, spent


def _failed(error: Exception) -> _Said:
    told = str(error) if isinstance(error, GateClosed) else f"{type(error).__name__}: {error}"
    spent = getattr(error, "spent", None)
    return "error", None, told[:MAX_EXPLANATION], spent if isinstance(spent, Spent) else None


def _result(name: str, registered: RegisteredScorer | RegisteredPair, began: float, said: _Said) -> ScoreResult:
    status, score, explanation, spent = said
    pi = registered.share if registered.share < 1 else 1.0
    of = registered.scorer.version, registered.config_hash
    return _a_tuple(ScoreResult, (name, *of, status, score, explanation, time.perf_counter() - began, pi, spent))
