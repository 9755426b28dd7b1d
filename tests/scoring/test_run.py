"""The failure of one scorer (raise, hang, block, return nonsense) is its own result, and the others score."""

from __future__ import annotations

import asyncio
import sys
import threading
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped, Spent
from gateway.scoring.gate import ScorerGate
from gateway.scoring.registry import DEFAULTS, RegisteredScorer, build
from gateway.scoring.run import score_all
from gateway.scoring.threads import ScoringThreads
from gateway.scoring.types import Denied, Golden, OverBudget, Rule, Subject


@dataclass(frozen=True)
class Does(Rule):
    """Calls `how`."""

    heavy: ClassVar[bool] = False
    how: Any = None

    async def score(self, subject: Subject) -> Score | Skipped:
        result = self.how(subject)
        return await result if hasattr(result, "__await__") else result

    def golden(self) -> tuple[Golden, ...]:
        return ()


class Heavy(Does):
    heavy: ClassVar[bool] = True


class Judge(Does):
    kind = "llm"


class HeavyJudge(Heavy):
    kind = "llm"


def ours(how, kind=Does, **fields):
    return RegisteredScorer(kind("x", how), **{"share": 1.0, "deadline_s": 5.0, "config_hash": "c0ffee", **fields})


MAX_CALLS = 620  # measured: 493 with CPython 3.11
FINE = ours(lambda _: Score(0.5, explanation="half"))


def never(domain):
    raise AssertionError(f"nothing to draw for {domain}")


def fail(_):
    raise ValueError("no such thing")


async def forever(_):
    await asyncio.Event().wait()


async def run(scorers, subject, threads, draw=never):
    return {r.scorer: r for r in await score_all(scorers, subject, draw, threads)}


@pytest.mark.parametrize(("kind", "status"), [(Heavy, "scored"), (HeavyJudge, "timeout")])
async def test_the_queue_of_a_rule_has_no_deadline(subject, threads, kind, status):
    """A rule of which many calls wait is late and right; a judge that is asked too late answers nobody."""
    free = threading.Event()

    async def hold() -> Score:
        while not free.is_set():
            await asyncio.sleep(0.01)
        return Score(1.0)

    first = asyncio.ensure_future(threads.run("rule", hold, 60, heavy=True))  # noqa: TID251 - awaited below
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_later(1.5, free.set)
    found = await run({"rule": ours(lambda _: Score(0.5), kind, deadline_s=1.0)}, subject, threads)
    free.set()
    await first
    assert found["rule"].status == status


async def test_results_come_in_the_order_of_the_config(subject, threads):
    scorers = {"a": ours(lambda _: Score(0.1), Heavy), "b": FINE, "c": ours(lambda _: Skipped("more"), foreign=True)}
    results = await score_all(scorers, subject(), never, threads)
    assert [(r.scorer, r.status, r.explanation) for r in results] == [
        ("a", "scored", None),
        ("b", "scored", "half"),
        ("c", "not_applicable", "more"),
    ]
    assert results[1].score == Score(0.5, explanation="half")
    assert (results[1].version, results[1].config_hash, results[1].pi) == ("1", "c0ffee", 1.0)
    assert all(0 <= r.seconds < 5 for r in results)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (fail, "ValueError: no such thing"),
        (lambda _: None, "returned NoneType, expected Score or Skipped"),
        (lambda _: Score(1.5), "value 1.5 is outside its bounds, 0.0 to 1.0"),
        (lambda _: Score(-0.1), "value -0.1 is outside its bounds, 0.0 to 1.0"),
        (lambda _: Score(float("nan")), "value nan is not a finite number"),
        (lambda _: Score("1"), "value '1' is not a finite number"),
        (lambda _: [].pop(), "IndexError: pop from empty list"),
    ],
)
@pytest.mark.parametrize("kind", [Does, Heavy, Judge])
@pytest.mark.parametrize("foreign", [False, True])
async def test_a_failing_scorer_is_an_error_and_others_score(subject, threads, how, message, kind, foreign):
    results = await run({"bad": ours(how, kind, foreign=foreign), "fine": FINE}, subject(), threads)
    assert (results["bad"].status, results["bad"].score, results["bad"].explanation) == ("error", None, message)
    assert results["fine"].status == "scored"


@pytest.mark.parametrize("kind", [Does, Heavy, Judge])
@pytest.mark.parametrize("foreign", [False, True])
async def test_a_hanging_scorer_times_out_and_others_score(subject, threads, kind, foreign):
    results = await run(
        {"bad": ours(forever, kind, foreign=foreign, deadline_s=0.01), "fine": FINE}, subject(), threads
    )
    assert (results["bad"].status, results["bad"].explanation) == ("timeout", "not done after 0.01 s")
    assert results["fine"].status == "scored"


async def test_a_scorers_own_timeout_error_is_not_our_deadline(subject, threads):
    async def times_out(_):
        raise TimeoutError("the judge's own")

    for kind in (Does, Judge, Heavy):
        result = (await run({"j": ours(times_out, kind)}, subject(), threads))["j"]
        assert (result.status, result.explanation) == ("error", "TimeoutError: the judge's own")


@pytest.mark.parametrize(("kind", "foreign"), [(Heavy, False), (Does, True)])
async def test_a_blocked_thread_is_replaced_until_too_many(subject, kind, foreign):
    threads, free = ScoringThreads(max_lost=2, grace_s=0.01), threading.Event()

    def block(_):
        free.wait()
        return Score(1.0)

    scorers = {"bad": ours(block, kind, foreign=foreign, deadline_s=0.01), "fine": FINE}
    runs = [await run(scorers, subject(), threads)]
    while runs[-1]["bad"].status == "timeout":
        runs.append(await run(scorers, subject(), threads))
    assert len(runs) > 2
    assert runs[-1]["bad"].status == "error"
    assert runs[-1]["bad"].explanation == "ScorerBlocked: 2 of its threads did not return; repair or remove the scorer"
    assert all(r["fine"].status == "scored" for r in runs)
    free.set()
    threads.close()


async def test_the_loop_runs_while_a_scorer_blocks_its_thread(subject, threads):
    """A callback on the loop releases the blocked scorer."""
    free = threading.Event()

    def block(_):
        free.wait()
        return Score(1.0)

    async with asyncio.TaskGroup() as group:
        scoring = group.create_task(run({"slow": ours(block, Heavy)}, subject(), threads))
        await asyncio.sleep(0)
        assert not scoring.done()
        free.set()
    assert scoring.result()["slow"].status == "scored"


async def test_waiting_scorers_run_concurrently(subject, threads):
    """Each waits for the other; one after the other would deadlock."""
    both = asyncio.Barrier(2)

    async def meet(_):
        await both.wait()
        return Score(1.0)

    results = await run({"a": ours(meet, Judge), "b": ours(meet, Judge)}, subject(), threads)
    assert [r.status for r in results.values()] == ["scored", "scored"]


async def test_a_rule_that_awaits_is_called_again_in_a_task(subject, threads):
    asked = []

    async def waits(_):
        asked.append(asyncio.current_task())
        await asyncio.sleep(0)
        return Score(1.0)

    assert (await run({"w": ours(waits)}, subject(), threads))["w"].status == "scored"
    assert len(asked) == 2
    assert asked[1] is not asyncio.current_task()


async def test_a_share_samples_subjects_and_sets_pi(subject, threads):
    drawn = []

    def draw(domain):
        drawn.append(domain)
        return 0.3

    scorers = {"in": ours(lambda _: Score(1.0), share=0.31), "out": ours(lambda _: Score(1.0), share=0.3), "all": FINE}
    results = await run(scorers, subject(), threads, draw)
    assert drawn == ["score:in", "score:out"]
    assert {n: r.pi for n, r in results.items()} == {"in": 0.31, "all": 1.0}


async def test_an_immediate_result_of_a_heavy_rule_needs_no_thread(subject, threads):
    """Called on the event loop when the request has no schema."""
    scorers = build({"json_schema": Section(), "tool_calls": Section(), "f1": Section()})
    before = set(threading.enumerate())
    results = await run(scorers, subject("hello"), threads)
    assert {r.status for r in results.values()} == {"not_applicable"}
    assert set(threading.enumerate()) <= before


async def test_a_long_explanation_is_truncated(subject, threads):
    result = (await run({"x": ours(lambda _: Score(1.0, explanation="x" * 9999))}, subject(), threads))["x"]
    assert len(result.explanation) == 2000


async def test_the_default_rules_together_make_few_calls(subject, threads):
    """Counted, not timed: about 0.1 ms of CPU time. Function calls, those into C included."""
    scorers = build({name: Section() for name in DEFAULTS})
    words = " ".join(f"word{i} of a plain answer" for i in range(45))[:1024]
    of = subject(Completion(words, finish_reason="stop"), {"messages": [{"role": "user", "content": "hi"}]})
    await run(scorers, of, threads)
    of = subject(of.completion, of.request)  # without the words that the first run computed
    calls = 0

    def count(frame, event, argument):
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        await score_all(scorers, of, never, threads)
    finally:
        sys.setprofile(None)
    assert calls <= MAX_CALLS


def failing_first(times: int, how=fail):
    """(a scorer's function that fails as often, the calls of it)."""
    calls = []

    def score(subject):
        calls.append(subject)
        return how(subject) if len(calls) <= times else Score(0.5, spent=Spent(0.01, "judge/m", 10))

    return score, calls


@pytest.mark.parametrize(
    ("kind", "times", "how", "calls", "status"),
    [
        (Judge, 1, fail, 2, "scored"),
        (Judge, 1, forever, 2, "scored"),
        (Judge, 2, fail, 2, "error"),
        (Judge, 2, forever, 2, "timeout"),
        (Does, 1, fail, 1, "error"),
        (Judge, 1, lambda _: Skipped("more"), 1, "not_applicable"),
    ],
)
async def test_a_scorer_that_asks_others_is_called_twice(subject, threads, kind, times, how, calls, status):
    """A rule would fail again, and what does not apply is an answer."""
    score, seen = failing_first(times, how)
    found = await run({"judge": ours(score, kind, deadline_s=0.05 if how is forever else 5.0)}, subject(), threads)
    assert (found["judge"].status, len(seen)) == (status, calls)


async def test_a_blocked_scorer_or_an_empty_budget_is_not_asked_again(subject, threads):
    def denied(_):
        raise Denied("HTTP 401")

    def empty(_):
        raise OverBudget("budget_usd: all spent")

    for how in (denied, empty):
        score, seen = failing_first(1, how)
        await run({"judge": ours(score, Judge, gate=ScorerGate("judge"))}, subject(), threads)
        assert len(seen) == 1


async def test_both_calls_count_in_the_cost(subject, threads):
    class Refused(Exception):
        spent = Spent(0.02, "judge/m", 20)

    def refuse(_):
        raise Refused("no verdict in it")

    score, _ = failing_first(1, refuse)
    found = await run({"judge": ours(score, Judge)}, subject(), threads)
    assert found["judge"].spent == Spent(0.03, "judge/m", 30)
