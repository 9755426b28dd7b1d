"""`--more`: the sequences of a closed plan go on, once for each start."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fixtures.simulated import Simulated, a_pair, seen

from gateway.core.plan import Plan, PlanState, StoredPlan
from gateway.core.sequence import SequenceChanges, SequenceName
from gateway.features.experiments.start.more import go_on
from gateway.store import engine
from gateway.store import sequences as kept
from gateway.store.plan_evidence import StoredEvidence
from gateway.verdict.continuation import continuation_refusal, more_price
from gateway.verdict.ending import is_closed
from gateway.verdict.sequences.difference import DifferenceSequence

FEW = 100


@pytest.fixture
def closed(begin_experiment: Callable[..., Simulated]) -> Simulated:
    """A plan that has taken its last look without a verdict."""
    design: dict[str, Any] = {"rules": 3, "method": "hybrid", "max_pairs": FEW, "aa": "alarm", "repeat_control": 0.2}
    run = begin_experiment(**design, guardrails=(), margin=0.1, min_hours=0.0, population="these")
    run.add(scored(FEW, 0.0, 1))
    return run


def scored(n: int, mean: float, seed: int) -> Iterator[Any]:
    """Pairs whose differences have a deviation of 0.5."""
    for i, x in enumerate(np.random.default_rng(seed).normal(mean, 0.5, n).clip(-1, 1).tolist()):
        repeats = {"repeat": seen((1 - x) / 2)} if i % 5 == 0 else {}
        yield a_pair(seed * 10_000 + i, seen((1 - x) / 2), candidate=seen((1 + x) / 2), **repeats)


def primary(run: Simulated) -> DifferenceSequence:
    with run.engine.connect() as connection:
        texts = kept.state_texts(connection, run.hash)
    return DifferenceSequence.from_state(orjson.loads(texts[SequenceName(run.hash, "candidate", "quality", "1 c1")]))


def evidence(run: Simulated, connection: Any) -> StoredEvidence:
    return StoredEvidence(connection, StoredPlan(run.plan, run.hash, "stopped", 1.0))


def start_more(run: Simulated, since: float, more: int) -> None:
    with run.engine.begin() as connection:
        go_on(connection, PlanState(run.plan, "running", since, more=more), since)


def test_a_closed_plan_takes_pairs_again(closed: Simulated) -> None:
    """The plan pauses after them, and its verdict rests on the early sequence; its hash and its evidence stay."""
    with closed.engine.connect() as connection:
        assert is_closed(evidence(closed, connection))
        assert continuation_refusal(evidence(closed, connection)) is None
        assert more_price(evidence(closed, connection)) is not None
    last = primary(closed).interval()
    start_more(closed, 2.0, 700)
    assert (primary(closed).n, primary(closed).closed) == (FEW, False)
    assert primary(closed).interval()[0] < last[0], "a fifth of the error is left"
    with closed.engine.connect() as connection:
        assert not is_closed(evidence(closed, connection))
    start_more(closed, 2.0, 700)
    closed.add(scored(750, 0.0, 2))
    assert (primary(closed).n, primary(closed).closed) == (FEW + 700, True), "the same start lets it go on once"
    found = closed.found()
    assert found.decision.verdict == "ship", found.decision
    assert found.primary is not None
    assert found.primary.difference.low == pytest.approx(primary(closed).interval()[0])


def test_another_start_goes_on_again(closed: Simulated) -> None:
    start_more(closed, 2.0, 50)
    closed.add(scored(50, 0.0, 2))
    assert primary(closed).closed
    start_more(closed, 3.0, 25)
    closed.add(scored(50, 0.0, 3))
    assert (primary(closed).n, primary(closed).last_look) == (FEW + 75, False)


def test_a_report_of_a_plan_that_went_on_can_be_made(closed: Simulated, tmp_path: Path) -> None:
    start_more(closed, 2.0, 50)
    closed.add(scored(20, 0.0, 2))
    found = closed.found()
    assert found.primary is not None
    assert (found.primary.horizon, found.primary.chance) == (None, None)
    assert found.primary.pairs_needed is not None


async def test_a_continuation_that_fails_delays_no_other_plan(room: Any, plan: Plan, paired: Any) -> None:
    """The state of one plan cannot be read; the pairs of the other one are taken all the same."""
    bad = replace(plan, name="bad", model="other", rules=3, method="hybrid", max_pairs=50)
    broken = SequenceChanges({SequenceName(bad.hash, "candidate", "stated", "1 c1"): (1, {})}, [], {}, [])
    await room.begin(plan)
    async with room.consuming():
        await room.send(*paired(plan, "0.5", {"candidate": "0.5"}))
        await room.until_settled(1)
        writer = engine.connect_writer(room.store_url)
        with writer.begin() as connection:
            kept.save(connection, broken, 1.0)
        writer.dispose()
        assert await room.corridor.state.set_plan(PlanState(bad, "running", 2.0, more=10))
        await room.until(lambda: len(room.sql("SELECT plan FROM plans")) == 2)
        await room.send(*paired(plan, "0.5", {"candidate": "0.5"}))
        await room.until_settled(2)


async def test_the_consumer_lets_a_plan_go_on(room: Any, plan: Plan, paired: Any) -> None:
    """A plan closes at 50 pairs without a verdict, and takes 20 more once somebody has started it again."""
    plan = replace(plan, rules=3, method="hybrid", max_pairs=50, aa="alarm", margin=0.02, population="these")
    arms = (("0.2", {"candidate": "0.8"}), ("0.8", {"candidate": "0.2"}))

    def pairs(n: int) -> list[Any]:
        return [entry for i in range(n) for entry in paired(plan, arms[i % 2][0], arms[i % 2][1])]

    await room.begin(plan)
    async with room.consuming():
        await room.send(*pairs(50))
        await room.until_settled(50)
        async with asyncio.timeout(60):
            while (known := (await room.corridor.state.plans())[plan.name]).running:
                await asyncio.sleep(0.01)
        assert await room.corridor.state.set_plan(
            replace(known, state="running", since=known.since + 1, more=20), known
        )
        await room.send(*pairs(20))
        await room.until_settled(70)
        query = "SELECT n FROM sequences WHERE metric = 'stated' AND candidate = 'candidate'"
        await room.until(lambda: room.sql(query) == [(70,)])
