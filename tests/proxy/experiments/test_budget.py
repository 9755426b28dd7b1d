"""Bounds of shadows: the spending of a UTC day over all gateways, and conversations that are complete."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest
from fixtures.simulated import a_pair, a_plan, seen
from hypothesis import given
from hypothesis import strategies as st

from gateway.config.experiments import ExperimentBudget
from gateway.core.errors import StreamDown
from gateway.core.exchange import Usage
from gateway.core.plan import CONVERSATION_PAIRS, CONVERSATION_QUIET_S
from gateway.proxy.experiments.budget import MOST_CONVERSATIONS, ShadowedConversations, ShadowSpending, usage_or_guess
from gateway.stream.shared_state import SHADOW_COUNTS, SPENDING_DAY_S
from gateway.verdict.metrics import JoinedPair, PairOrigin
from gateway.verdict.sequences.progress import PlanProgress

NOON = 20_000.5 * SPENDING_DAY_S


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Server:
    """The sums of a stream server, without one. down: answers nothing."""

    def __init__(self) -> None:
        self.sums: dict[str, dict[str, float]] = {}
        self.down = False

    async def add(self, name: str, amounts: Mapping[str, float], keep_s: int | None = None) -> dict[str, float]:
        if self.down:
            raise StreamDown("away")
        there = self.sums.setdefault(name, {})
        for field, amount in amounts.items():
            there[field] = there.get(field, 0.0) + amount
        return {field: there[field] for field in amounts}


def test_a_budget_is_of_one_experiment_and_of_one_utc_day() -> None:
    clock = Clock()
    spending, budget = ShadowSpending(clock), ExperimentBudget(tokens_per_day=100)
    spending.took("swap", Usage(60, 39), None)
    assert not spending.over("swap", budget)
    spending.took("swap", Usage(1, 0), None)
    assert spending.over("swap", budget)
    assert not spending.over("other", budget)
    assert not spending.over("swap", ExperimentBudget())
    clock.now = 20_001 * SPENDING_DAY_S - 1
    assert spending.over("swap", budget)
    clock.now += 1
    assert not spending.over("swap", budget)


def test_dollars_are_a_budget_of_their_own() -> None:
    spending, budget = ShadowSpending(Clock()), ExperimentBudget(usd_per_day=0.5, tokens_per_day=10_000)
    spending.took("swap", Usage(10, 10), 0.3)
    assert not spending.over("swap", budget)
    spending.took("swap", Usage(10, 10), 0.2)
    assert spending.over("swap", budget)


async def test_gateways_share_what_they_used() -> None:
    server, clock = Server(), Clock()
    one, other = ShadowSpending(clock), ShadowSpending(clock)
    one.took("swap", Usage(60, 0), None)
    other.took("swap", Usage(50, 0), None)
    for each in (one, other, one):
        await each.share(server, ["swap"])
    assert one.spent("swap", "tokens") == other.spent("swap", "tokens") == 110
    await one.share(server, ["swap"])
    assert one.spent("swap", "tokens") == 110, "what was added is not added again"


async def test_without_the_server_each_process_keeps_its_own_sums() -> None:
    server, spending = Server(), ShadowSpending(Clock())
    spending.took("swap", Usage(60, 0), None)
    spending.counted("hash", "candidate:asked")
    server.down = True
    with pytest.raises(StreamDown):
        await spending.share(server, ["swap"])
    assert spending.spent("swap", "tokens") == 60
    server.down = False
    await spending.share(server, ["swap"])
    assert server.sums[f"spent:{int(NOON // SPENDING_DAY_S)}"]["swap:tokens"] == 60
    assert server.sums[SHADOW_COUNTS] == {"hash:candidate:asked": 1}
    await spending.share(server, ["swap"])
    assert server.sums[SHADOW_COUNTS] == {"hash:candidate:asked": 1}


def test_an_upstream_that_counts_nothing_is_not_free() -> None:
    assert usage_or_guess(None, b"x" * 300, b"y" * 30) == Usage(100, 10)
    assert usage_or_guess(Usage(1, 2), b"x" * 300, b"y" * 30) == Usage(1, 2)


PLAN = a_plan(rules=2, method="hybrid", aa="alarm", auto_horizon=True, max_pairs=5000, repeat_control=0.0)
START = 1_790_000_000.0


def withheld(pairs: Sequence[JoinedPair]) -> int:
    """Pairs of a score that do not count, since their conversation is complete."""
    progress = PlanProgress(PLAN, PLAN.hash, {})
    for place, each in enumerate(pairs, 1):
        progress.take(place, each)
    found = progress.changes().withheld
    return sum(n for (name, why, _), n in found.items() if (name.metric, why) == ("quality", "same_cluster"))


def pair(i: int, conversation: str, at: float) -> JoinedPair:
    made = a_pair(i, seen(0.5), conversation, candidate=seen(0.6))
    return replace(made, origin=PairOrigin(at, "key", None, conversation))


GAPS = st.sampled_from([0.0, 60.0, CONVERSATION_QUIET_S / 2, CONVERSATION_QUIET_S, CONVERSATION_QUIET_S + 1])
CALLS = st.lists(st.tuples(st.sampled_from("aab"), GAPS), max_size=80)


@given(CALLS)
def test_only_pairs_that_count_are_asked_for(calls: list[tuple[str, float]]) -> None:
    known, at = ShadowedConversations(), START
    asked, all_pairs = [], []
    for i, (conversation, gap) in enumerate(calls):
        at += gap
        all_pairs.append(pair(i, conversation, at))
        if not known.complete(PLAN.hash, conversation, at):
            known.add(PLAN.hash, conversation, at)
            asked.append(all_pairs[-1])
    assert withheld(asked) == 0, "each pair that is paid for counts"
    assert len(asked) == len(all_pairs) - withheld(all_pairs), "each pair that would count is asked for"


@pytest.mark.parametrize("sent", [CONVERSATION_PAIRS - 1, CONVERSATION_PAIRS])
def test_a_conversation_has_a_most_number_of_shadows(sent: int) -> None:
    known = ShadowedConversations()
    for n in range(sent):
        known.add("p", "c", START + n)
    assert known.complete("p", "c", START + sent) == (sent == CONVERSATION_PAIRS)


def test_another_plan_begins_with_no_conversation() -> None:
    known = ShadowedConversations()
    known.add("p", "c", START)
    late = START + CONVERSATION_QUIET_S + 1
    assert known.complete("p", "c", late)
    assert not known.complete("q", "c", late)
    known.add("q", "d", late)
    assert not known.complete("p", "c", late)
    assert len(known) == 1


def test_the_conversation_whose_last_shadow_is_oldest_is_forgotten() -> None:
    known = ShadowedConversations(most=3)
    for n, name in enumerate("abcad"):
        known.add("p", name, START + n)
    late = START + CONVERSATION_QUIET_S + 10
    assert [known.complete("p", name, late) for name in "abcd"] == [True, False, True, True]
    full = ShadowedConversations()
    for n in range(MOST_CONVERSATIONS + 100):
        full.add("p", str(n), START + n)
    assert len(full) == MOST_CONVERSATIONS
