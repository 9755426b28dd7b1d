"""The groups that a sequence checks, and the resulting findings."""

from __future__ import annotations

import json
import random
from dataclasses import replace
from typing import Any

import orjson
import pytest
from fixtures.simulated import a_pair, a_plan, seen
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.plan import CONVERSATION_PAIRS as MOST_PAIRS
from gateway.core.plan import CONVERSATION_QUIET_S as QUIET_S
from gateway.core.plan import Guardrail
from gateway.core.sequence import SequenceName
from gateway.statistics.dependence import BLOCK_S
from gateway.verdict.metrics import ALONE, NOWHERE, JoinedPair, PairOrigin, PairValue
from gateway.verdict.sequences.independence import MOST_OPEN, ConversationMeans, IndependenceCheck
from gateway.verdict.sequences.progress import PlanProgress
from gateway.verdict.traffic_facts import calls_gate, facts_of


def test_a_user_is_one_of_its_key() -> None:
    """Two keys may give their users the same names."""
    check, rng = IndependenceCheck.of(True, False), random.Random(1)
    for i in range(120):
        check.add(rng.random(), PairOrigin(float(i), f"key {i % 2}", f"user {i % 60 // 2}"), 0.5)
    assert check.users is not None
    assert check.keys is not None
    assert (check.users.repeated, check.keys.repeated) == (60, 2)
    assert check.finding(declared=False) == "checked"


def test_pairs_from_nowhere_are_taken_as_independent() -> None:
    check = IndependenceCheck.of(True, True)
    for i in range(120):
        check.add(0.1 * (i % 3), NOWHERE, 0.1)
    assert (check.finding(declared=False), check.finding(declared=True)) == ("assumed", "declared")
    assert check.applied() == []


@pytest.mark.parametrize("blocks", [True, False])
def test_bursts_need_a_floor_of_a_whole_block(blocks: bool) -> None:
    check = IndependenceCheck.of(False, blocks)
    for i in range(600):
        failed = float(200 <= i < 220)
        check.add(-failed, PairOrigin(i * BLOCK_S / 20, "key"), -0.03)
    found = [(each.group, round(each.floor, 1)) for each in check.applied()]
    assert found == ([("block", 20.0)] if blocks else [])
    assert check.finding(declared=False) == "assumed", "blocks say nothing about users"


@pytest.mark.parametrize("rules", [2, 3])
def test_one_burst_a_day_bounds_no_rate(rules: int) -> None:
    """Failures in a row are one event, or at the turn of a block two; those that come by themselves are twenty. Rules 2
    wait for an alarm, which the few pairs with a repeat do not raise."""
    in_a_row, single = range(1_196, 1_212), range(60, 2_400, 119)
    assert _shown_not_worse(rules, in_a_row) == (rules == 2)
    assert _shown_not_worse(rules, single)


def _shown_not_worse(rules: int, fails: range) -> bool:
    """Whether a candidate that fails in these pairs of a day is shown to fail in at most 0.02 more than the control,
    which fails in 0.01."""
    plan = a_plan(rules=rules, method="hybrid", repeat_control=0.25, guardrails=(Guardrail("error_rate", 0.02),))
    progress = PlanProgress(plan, "hash", {})
    for i in range(2_400):
        repeat = {"repeat": seen(0.5, failed=i % 400 == 8)} if i % 4 == 0 else {}
        arms = {"candidate": seen(0.5, failed=i in fails)} | repeat
        origin = PairOrigin(24 * BLOCK_S / 600 * i, "key")
        progress.take(i + 1, replace(a_pair(i, seen(0.5), **arms), origin=origin))
    found = {name.metric: s for name, s in progress.sequences.items() if name.candidate == "candidate"}
    against, alone = found["error_rate"], found[ALONE]
    return max(alone.interval()[0], against.interval(1.0, against.events_by(alone))[0]) > -0.02


def test_only_what_is_checked_has_a_state() -> None:
    for of in ((True, True), (True, False), (False, True), (False, False)):
        check = IndependenceCheck.of(*of)
        check.add(0.5, PairOrigin(1e9, "key", "user"), 0.0)
        assert IndependenceCheck.from_state(json.loads(json.dumps(check.state()))).state() == check.state()
        assert bool(check.state()) is any(of)


def test_the_state_of_a_plan_with_many_users_stays_small() -> None:
    """100 000 users and conversations: the sums of a plan that decides by four metrics take less than 1 MB."""
    rng, check = random.Random(2), IndependenceCheck.of(True, True)
    for i in range(100_000):
        check.add(rng.random() - 0.5, PairOrigin(60.0 * i, f"key {i % 40}", f"u{i}", f"c{i}"), 0.0)
    assert 4 * len(orjson.dumps(check.state())) < 1_000_000
    assert check.finding(declared=False) == "checked", "nearly every user has one pair"


PLAN = a_plan(rules=2, method="hybrid", aa="alarm", auto_horizon=True, max_pairs=200, repeat_control=1.0)
START = 1_790_000_000.0


def pair(i: int, at: float, conversation: str | None, difference: float, failed: bool = False) -> JoinedPair:
    made = a_pair(i, seen(0.5), conversation, candidate=seen(0.5 + difference, failed=failed), repeat=seen(0.5))
    return replace(made, origin=PairOrigin(START + at, "key", None, conversation))


def quality_of(progress: PlanProgress) -> Any:
    return next(s for n, s in progress.sequences.items() if (n.candidate, n.metric) == ("candidate", "quality"))


def taken(pairs: list[JoinedPair]) -> PlanProgress:
    progress = PlanProgress(PLAN, PLAN.hash, {})
    for place, each in enumerate(pairs, 1):
        progress.take(place, each)
    return progress


def test_a_quiet_conversation_counts_as_its_mean() -> None:
    pairs = [pair(0, 0, "c", 0.1), pair(1, QUIET_S, "c", 0.3), pair(2, 2 * QUIET_S, None, 0.0)]
    assert quality_of(taken(pairs)).n == 1, "the call without an id; the conversation may go on"
    sequence = quality_of(taken([*pairs, pair(3, 2 * QUIET_S + 1, None, 0.0)]))
    assert (sequence.n, sequence.conversations.calls) == (3, 4)
    assert sequence.moments.mean == pytest.approx(0.2 / 3)
    assert sequence.conversations.by_calls == pytest.approx(0.1)


def test_a_conversation_has_a_most_number_of_pairs() -> None:
    progress = taken([pair(i, i, "c", 0.1) for i in range(MOST_PAIRS + 3)])
    assert quality_of(progress).n == 1
    withheld = {reason: n for (name, reason, _), n in progress.changes().withheld.items() if name.metric == "quality"}
    assert withheld == {"same_cluster": 3}


def test_a_conversation_that_was_quiet_does_not_count_again() -> None:
    progress = taken([pair(0, 0, "c", 0.1), pair(1, 2 * QUIET_S, "c", -0.4)])
    assert (quality_of(progress).n, quality_of(progress).moments.mean) == (1, pytest.approx(0.1))
    increments = [e for e in progress.changes().increments if e.name.metric == "quality"]
    assert [(e.pair, round(e.difference, 6)) for e in increments if e.name.candidate == "candidate"] == [("p0", 0.1)]


def test_every_failure_of_a_conversation_counts() -> None:
    progress = taken([pair(i, i, "c", 0.0, failed=i < 5) for i in range(12)])
    errors = next(s for n, s in progress.sequences.items() if (n.candidate, n.metric) == ("candidate", "error_rate"))
    assert (errors.n, errors.moments.mean) == (12, pytest.approx(-5 / 12))
    assert errors.independence.conversations is not None
    assert errors.independence.conversations.sums.terms == 11


@settings(max_examples=15, deadline=None)
@given(cuts=st.lists(st.integers(0, 60), max_size=4))
def test_one_run_or_many_give_the_same_bits(cuts: list[int]) -> None:
    rng = random.Random(3)
    pairs = [
        pair(i, 300.0 * i, f"c{rng.randrange(i // 6 + 1)}" if i % 4 else None, rng.uniform(-0.5, 0.5))
        for i in range(60)
    ]

    def run(at: list[int]) -> tuple[Any, Any]:
        states: dict[SequenceName, Any] = {}
        clusters: set[tuple[SequenceName, str]] = set()
        increments: list[Any] = []
        for start, end in zip([0, *at], [*at, len(pairs)], strict=True):
            progress = PlanProgress(PLAN, PLAN.hash, json_of(states), clusters)
            for place, each in enumerate(pairs[start:end], start + 1):
                progress.take(place, each)
            changes = progress.changes()
            states |= {name: state for name, (_, state) in changes.states.items()}
            increments += changes.increments
            clusters |= {(each.name, each.cluster) for each in changes.increments if each.cluster}
        return states, increments

    assert run(sorted(cuts)) == run([])


def json_of(states: dict[SequenceName, Any]) -> dict[SequenceName, Any]:
    return {name: json.loads(json.dumps(state)) for name, state in states.items()}


def test_too_many_open_conversations_end_the_oldest() -> None:
    means = ConversationMeans()
    whole = [
        each
        for i in range(MOST_OPEN + 2)
        for each in means.add(f"c{i}", PairValue(0.5, 0.5, float(i)), PairOrigin(START + i))
    ]
    assert [each.mean.difference for each in whole] == [0.0, 1.0]
    assert len(json.dumps(means.state())) < 60_000


def test_ship_needs_the_calls_as_well() -> None:
    """Short conversations gain a little, long ones lose much: most calls lose."""
    pairs = []
    for c in range(60):
        long = c % 3 == 0
        pairs += [pair(40 * c + i, 4000.0 * c + i, f"c{c}", -0.3 if long else 0.2) for i in range(15 if long else 1)]
    sequence = quality_of(taken(pairs))
    assert sequence.moments.mean > 0
    gate = calls_gate(PLAN, sequence)
    assert gate is not None
    assert (gate.state, gate.name) == (0, "calls")
    assert gate.says.startswith("counting every call alike, the difference is −0.2")
    facts = facts_of(PLAN, {"quality": sequence})
    assert facts is not None
    assert facts.by_calls == gate.value
    assert facts.estimand.startswith("the mean over conversations")
    single = quality_of(taken([pair(i, i, None, 0.1) for i in range(30)]))
    assert calls_gate(PLAN, single) is None
