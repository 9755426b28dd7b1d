"""What one scorer does stays its own result: it raises, hangs, blocks, lies or is slow, and the others have scored."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest

from gateway.config.scorers import ScorerConfig as Section
from gateway.core.completion import Completion
from gateway.core.score import Score, Skipped
from gateway.evals.scoring.registry import DEFAULTS, RegisteredScorer, build
from gateway.evals.scoring.run import score_all
from gateway.evals.scoring.threads import ScoringThreads
from gateway.evals.scoring.types import Golden, Rule, Subject


@dataclass(frozen=True)
class Does(Rule):
    """Scores with whatever `how` does."""

    heavy: ClassVar[bool] = False
    how: Any = None

    async def score(self, subject: Subject) -> Score | Skipped:
        said = self.how(subject)
        if hasattr(said, "__await__"):
            said = await said
        return said

    def golden(self) -> tuple[Golden, ...]:
        return ()


class Heavy(Does):
    heavy: ClassVar[bool] = True


class Judge(Does):
    kind = "llm"


def ours(how, kind=Does, **fields):
    return RegisteredScorer(kind("x", how), **{"share": 1.0, "deadline_s": 5.0, "config_hash": "c0ffee", **fields})


FINE = ours(lambda _: Score(0.5, explanation="half"))


def never(domain):
    raise AssertionError(f"nothing to draw for {domain}")


def fail(_):
    raise ValueError("no such thing")


async def forever(_):
    await asyncio.Event().wait()


async def run(scorers, subject, threads, draw=never):
    return {r.scorer: r for r in await score_all(scorers, subject, draw, threads)}


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
    ("how", "said"),
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
async def test_one_that_fails_is_an_error_and_the_others_score(subject, threads, how, said, kind, foreign):
    results = await run({"bad": ours(how, kind, foreign=foreign), "fine": FINE}, subject(), threads)
    assert (results["bad"].status, results["bad"].score, results["bad"].explanation) == ("error", None, said)
    assert results["fine"].status == "scored"


@pytest.mark.parametrize("kind", [Does, Heavy, Judge])
@pytest.mark.parametrize("foreign", [False, True])
async def test_one_that_hangs_times_out_and_the_others_score(subject, threads, kind, foreign):
    results = await run(
        {"bad": ours(forever, kind, foreign=foreign, deadline_s=0.01), "fine": FINE}, subject(), threads
    )
    assert (results["bad"].status, results["bad"].explanation) == ("timeout", "not done after 0.01 s")
    assert results["fine"].status == "scored"


async def test_its_own_timeout_is_an_error_not_our_deadline(subject, threads):
    async def times_out(_):
        raise TimeoutError("the judge's own")

    for kind in (Does, Judge, Heavy):
        result = (await run({"j": ours(times_out, kind)}, subject(), threads))["j"]
        assert (result.status, result.explanation) == ("error", "TimeoutError: the judge's own")


@pytest.mark.parametrize(("kind", "foreign"), [(Heavy, False), (Does, True)])
async def test_one_that_blocks_its_thread_is_replaced_and_in_the_end_blocked(subject, kind, foreign):
    threads, free = ScoringThreads(max_lost=2, grace_s=0.01), threading.Event()

    def block(_):
        free.wait()
        return Score(1.0)

    scorers = {"bad": ours(block, kind, foreign=foreign, deadline_s=0.01), "fine": FINE}
    said = [await run(scorers, subject(), threads)]
    while said[-1]["bad"].status == "timeout":
        said.append(await run(scorers, subject(), threads))
    assert len(said) > 2
    assert said[-1]["bad"].status == "error"
    assert said[-1]["bad"].explanation == "ScorerBlocked: 2 of its threads did not return; repair or remove the scorer"
    assert all(r["fine"].status == "scored" for r in said)
    free.set()
    threads.close()


async def test_the_event_loop_turns_while_a_scorer_blocks_its_thread(subject, threads):
    """The blocked scorer is let go by what runs on the loop meanwhile."""
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


async def test_slow_ones_run_side_by_side(subject, threads):
    """Each waits for the other; one after the other would never end."""
    both = asyncio.Barrier(2)

    async def meet(_):
        await both.wait()
        return Score(1.0)

    results = await run({"a": ours(meet, Judge), "b": ours(meet, Judge)}, subject(), threads)
    assert [r.status for r in results.values()] == ["scored", "scored"]


async def test_a_rule_that_waits_after_all_is_asked_in_a_task_of_its_own(subject, threads):
    asked = []

    async def waits(_):
        asked.append(asyncio.current_task())
        await asyncio.sleep(0)
        return Score(1.0)

    assert (await run({"w": ours(waits)}, subject(), threads))["w"].status == "scored"
    assert len(asked) == 2
    assert asked[1] is not asyncio.current_task()


async def test_a_share_lets_a_scorer_see_that_part_and_says_so(subject, threads):
    drawn = []

    def draw(domain):
        drawn.append(domain)
        return 0.3

    scorers = {"in": ours(lambda _: Score(1.0), share=0.31), "out": ours(lambda _: Score(1.0), share=0.3), "all": FINE}
    results = await run(scorers, subject(), threads, draw)
    assert drawn == ["score:in", "score:out"]
    assert {n: r.pi for n, r in results.items()} == {"in": 0.31, "all": 1.0}


async def test_a_heavy_rule_that_knows_at_once_costs_no_thread(subject, threads):
    """Called on this very thread when the request asks for no schema."""
    scorers = build({"json_schema": Section(), "tool_calls": Section(), "f1": Section()})
    results = await run(scorers, subject("hello"), threads)
    assert {r.status for r in results.values()} == {"not_applicable"}
    assert not any(threads.started(name) for name in scorers)


async def test_an_explanation_is_cut_to_a_length_one_can_keep(subject, threads):
    result = (await run({"x": ours(lambda _: Score(1.0, explanation="x" * 9999))}, subject(), threads))["x"]
    assert len(result.explanation) == 2000


async def test_the_default_rules_together_cost_little(subject, threads):
    """A tenth of a millisecond at rest; the limit leaves room for a busy machine. CPU time of this thread only."""
    scorers = build({name: Section(**options) for name, options in DEFAULTS.items()})
    words = " ".join(f"word{i} of a plain answer" for i in range(45))[:1024]
    of = subject(Completion(words, finish_reason="stop"), {"messages": [{"role": "user", "content": "hi"}]})
    await run(scorers, of, threads)
    best = min([await _cpu_seconds(scorers, of, threads) for _ in range(30)])
    assert best < 0.0005, f"{best * 1e6:.0f} µs"


async def _cpu_seconds(scorers, of, threads, times=20):
    began = time.thread_time()
    for _ in range(times):
        await score_all(scorers, of, never, threads)
    return (time.thread_time() - began) / times
