"""Runs the scorers on one subject. Every error or delay of one scorer becomes its own result."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

from gateway.core.score import Bounds, Score, ScoreResult, Skipped, Spent, Status
from gateway.scoring.asker import total_spent
from gateway.scoring.gate import GateClosed
from gateway.scoring.http_client import DeadlinePassed
from gateway.scoring.registry import Registered, RegisteredScorer
from gateway.scoring.threads import ScorerBlocked, ScoringThreads, ScoringTimeout
from gateway.scoring.types import Denied, OverBudget, Scorer, Subject

Call = Callable[[], Awaitable[Score | Skipped]]
MAX_EXPLANATION = 2000  # characters
_NUMBERS = (int, float)
_Outcome = tuple[Status, Score | None, str | None, Spent | None]  # a result's status, score, explanation and spent
_new_tuple = tuple.__new__  # a NamedTuple's own __new__ costs twice as much, and this runs for every score


class StartedScores(NamedTuple):
    """The results of a subject so far, in the order of the config."""

    subject: Subject
    results: list[ScoreResult | None]
    """Results so far; None if this scorer needs to wait."""
    waiting: list[tuple[int, str, RegisteredScorer]]
    """Index in results, name and scorer of each that needs to wait."""

    def done(self) -> list[ScoreResult]:
        return [r for r in self.results if r is not None]


async def score_all(
    scorers: Mapping[str, RegisteredScorer],
    subject: Subject,
    draw: Callable[[str], float],
    threads: ScoringThreads,
    *,
    patient: bool = False,
) -> list[ScoreResult]:
    """Returns a result for each scorer that sees the subject, in the order of the config. No exception of one escapes.

    draw: maps a domain to this subject's draw from [0, 1). A scorer with a share below 1 sees the subject when
    draw("score:" + name) is below its share, and otherwise has no result. patient: time in a scorer's queue does not
    count towards its deadline. For work that does not delay live traffic.
    """
    return await score_later(score_now(scorers, subject, draw), threads, patient=patient)


def score_now(scorers: Mapping[str, RegisteredScorer], subject: Subject, draw: Callable[[str], float]) -> StartedScores:
    """The results of all scorers that need not wait."""
    started = StartedScores(subject, [], [])
    score_started(scorers, [started], lambda domain, _: draw(domain))
    return started


def score_started(
    scorers: Mapping[str, RegisteredScorer], started: Sequence[StartedScores], draw: Callable[[str, str], float]
) -> None:
    """Adds the results as of score_now to those of each subject. Works scorer by scorer, so that work that does not
    depend on the subject is done once.

    draw: from a domain and the subject's unit.
    """
    for name, registered in scorers.items():
        _score_each(name, registered, started, draw)


def _score_each(
    name: str, registered: RegisteredScorer, started: Sequence[StartedScores], draw: Callable[[str, str], float]
) -> None:
    share, bounds, call = registered.share, registered.scorer.bounds, _immediate_call(registered)
    identity, pi = (name, registered.scorer.version, registered.config_hash), min(share, 1.0)
    drawn = registered.drawn_as or name
    known: dict[int, tuple[object, _Outcome]] = {}  # by id() of an output; holding it keeps its id from reuse
    ended = time.perf_counter()
    for subject, results, waiting in started:
        if share < 1 and draw(f"score:{drawn}", subject.exchange.unit) >= share:
            continue
        began = ended
        try:
            output = call(subject)
            if output is None:
                waiting.append((len(results), name, registered))
                results.append(None)
                continue
            same = known.get(id(output))  # rules return the same output often, which is then checked once
            if same is None:
                same = known[id(output)] = output, _checked(output, bounds)
            status, score, explanation, spent = same[1]
        except Exception as error:  # one scorer's failure on one subject is its result; the other scorers continue
            status, score, explanation, spent = _failed(error)
        ended = time.perf_counter()
        results.append(_new_tuple(ScoreResult, (*identity, status, score, explanation, ended - began, pi, spent)))


async def score_later(started: StartedScores, threads: ScoringThreads, *, patient: bool = False) -> list[ScoreResult]:
    """Completes the results. A task costs more than a rule does, so tasks exist only for scorers that wait."""
    if started.waiting:
        subject = started.subject
        results = await asyncio.gather(
            *(
                run_scorer_twice(name, of, partial(of.scorer.score, subject), threads, patient=patient)
                for _, name, of in started.waiting
            )
        )
        for (index, _, _), result in zip(started.waiting, results, strict=True):
            started.results[index] = result
    return started.done()


def _immediate_call(registered: RegisteredScorer) -> Callable[[Subject], Score | Skipped | None]:
    """Calls a scorer without a task. A call that returns None needs one."""
    scorer = registered.scorer
    if registered.foreign or registered.waits:
        return _needs_task
    if registered.immediate is not None:
        return registered.immediate.score_immediately
    return _needs_task if scorer.heavy or scorer.kind != "code" else partial(_stepped, scorer)


def _needs_task(_: Subject) -> None:
    return None


def _stepped(scorer: Scorer, subject: Subject) -> Score | Skipped | None:
    """The output of a scorer that awaits nothing."""
    scoring = scorer.score(subject)
    try:
        scoring.send(None)
    except StopIteration as stop:
        output: Score | Skipped = stop.value
        return output
    scoring.close()  # it awaits something, which only a task of its own may do
    return None


async def run_scorer(
    name: str,
    registered: Registered,
    call: Call,
    threads: ScoringThreads,
    *,
    patient: bool = False,
) -> ScoreResult:
    """The result of one call of a scorer, within its concurrency, deadline and budget. No exception of it escapes.

    patient: see score_all. A rule's queue never counts: a backlog in the stream is harmless, a lost score is not.
    """
    began = time.perf_counter()
    outcome, _ = await _attempt(name, registered, call, threads, patient or _is_local(registered))
    return _result(name, registered, began, outcome)


async def run_scorer_twice(
    name: str,
    registered: Registered,
    call: Call,
    threads: ScoringThreads,
    *,
    patient: bool = False,
) -> ScoreResult:
    """The result of `run_scorer`, with a second call where a scorer that asks others failed in the first.

    Verdicts take failures that remain as the scorer's own (verdict/metrics.py, WORST). The second call has a turn, a
    deadline and a reservation of the budget as the first, and both count in the cost. There is none where a rule
    failed, the scorer is blocked, its budget is used up, or the first call got no turn in time.
    """
    began, local = time.perf_counter(), _is_local(registered)
    outcome, again = await _attempt(name, registered, call, threads, patient or local)
    if again and not local:
        first = outcome[3]
        outcome, _ = await _attempt(name, registered, call, threads, patient)
        outcome = *outcome[:3], total_spent([spent for spent in (first, outcome[3]) if spent is not None])
    return _result(name, registered, began, outcome)


async def _attempt(
    name: str, registered: Registered, call: Call, threads: ScoringThreads, patient: bool
) -> tuple[_Outcome, bool]:
    """(the outcome of one call, whether it failed in a way that another call may not)."""
    try:
        outcome = await _through_gate(name, registered, call, threads, patient)
    except ScoringTimeout as late:
        return ("timeout", None, str(late), late.spent), late.called
    except OverBudget as over:
        return ("budget", None, str(over), None), False
    except Exception as error:  # one scorer's failure on one subject is its result; the other scorers continue
        return _failed(error), not isinstance(error, GateClosed | Denied | ScorerBlocked)
    return outcome, outcome[0] == "error"


def _is_local(registered: Registered) -> bool:
    """Tells whether the scorer works on this machine alone, so that its queue ends as fast as it can work."""
    scorer = registered.scorer
    return scorer.kind != "llm" and (not getattr(scorer, "waits", False) or getattr(scorer, "isolated", False))


async def _through_gate(
    name: str, registered: Registered, call: Call, threads: ScoringThreads, patient: bool
) -> _Outcome:
    gate, deadline_s = registered.gate, registered.deadline_s
    if gate is None:
        output = await _in_time(name, registered, call, threads, deadline_s, patient)
        return _checked(output, registered.scorer.bounds)
    async with gate.turn(deadline_s, patient=patient) as left_s:
        try:
            output = await _in_time(name, registered, call, threads, left_s, patient)
        except ScoringTimeout:
            gate.record_timeout()
            raise
        except DeadlinePassed as error:  # the scorer's own request has the same deadline, and missed it just before
            gate.record_timeout()
            late = ScoringTimeout(str(error))
            late.spent = getattr(error, "spent", None)
            raise late from error
        except Denied as error:
            gate.record_denied(str(error))
            raise
        except OverBudget:
            raise
        except Exception:
            gate.record_reply()
            raise
        gate.record_reply()
    return _checked(output, registered.scorer.bounds)


async def _in_time(
    name: str,
    registered: Registered,
    call: Call,
    threads: ScoringThreads,
    deadline_s: float,
    patient: bool,
) -> Score | Skipped:
    if registered.foreign or registered.scorer.heavy:
        return await threads.run(name, call, deadline_s, heavy=registered.scorer.heavy, patient=patient)
    try:
        async with asyncio.timeout(deadline_s) as timeout:
            return await call()
    except TimeoutError:
        if timeout.expired():
            raise ScoringTimeout(f"not done after {registered.deadline_s:g} s") from None
        raise


def _checked(output: object, bounds: Bounds) -> _Outcome:
    """The outcome of a scorer's output; an error for a value that is not finite or outside the bounds."""
    if isinstance(output, Skipped):
        return "not_applicable", None, output.need[:MAX_EXPLANATION], output.spent
    if not isinstance(output, Score):
        return "error", None, f"returned {type(output).__name__}, expected Score or Skipped", None
    low, high = bounds
    value, spent = output.value, output.spent
    if not isinstance(value, _NUMBERS) or not math.isfinite(value):
        return "error", None, f"value {value!r} is not a finite number", spent
    if (low is not None and value < low) or (high is not None and value > high):
        return "error", None, f"value {value!r} is outside its bounds, {low} to {high}", spent
    return "scored", output, output.explanation[:MAX_EXPLANATION] if output.explanation else None, spent


def _failed(error: Exception) -> _Outcome:
    message = str(error) if isinstance(error, GateClosed) else f"{type(error).__name__}: {error}"
    spent = getattr(error, "spent", None)
    return "error", None, message[:MAX_EXPLANATION], spent if isinstance(spent, Spent) else None


def _result(name: str, registered: Registered, began: float, outcome: _Outcome) -> ScoreResult:
    status, score, explanation, spent = outcome
    pi = registered.share if registered.share < 1 else 1.0
    of = registered.scorer.version, registered.config_hash
    return _new_tuple(ScoreResult, (name, *of, status, score, explanation, time.perf_counter() - began, pi, spent))
