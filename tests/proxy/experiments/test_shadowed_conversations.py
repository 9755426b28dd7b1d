"""Shadows that a gateway does not send for complete conversations are those that the consumer would not count."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from fixtures.simulated import a_pair, a_plan, seen
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.plan import CONVERSATION_PAIRS, CONVERSATION_QUIET_S
from gateway.features.experiments.metrics import JoinedPair, PairOrigin
from gateway.features.experiments.progress import PlanProgress
from gateway.proxy.experiments.shadowed_conversations import MOST_CONVERSATIONS, ShadowedConversations

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
def test_what_counts_is_asked_for_and_nothing_else(calls: list[tuple[str, float]]) -> None:
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
