"""Groups of failures: a planted one is found and described, intervals cover, and none is found where there is none."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses

from gateway.features.groups.features import telling_words, words_of
from gateway.features.groups.finding import ALPHA, FailureGroup, GroupsFound, find_groups
from gateway.features.groups.report import section_of, to_dict
from gateway.features.groups.rows import CallChoice, ScoredCall

CHOICE = CallChoice("helpful", 0.0)
REASONS = {
    False: ("clear and correct", "covers the topic", "polite, brief"),
    True: ("wrong: misses the point", "wrong: too short", "wrong: rude"),
}


def call(i: int, rng: np.random.Generator, p: float, **fields: Any) -> ScoredCall:
    """A call of some kind, which fails with probability p."""
    failed = bool(rng.random() < p)
    words = "Translate this sentence." if rng.random() < 0.3 else "What is the capital of France?"
    request = {"messages": [{"role": "user", "content": words}]}
    if fields.pop("as_json", False):
        request["response_format"] = {"type": "json_object"}  # type: ignore[assignment]
    reasons = REASONS[failed]
    plain: dict[str, Any] = {
        "id": f"call-{i:05}", "received": 1e9 + 60.0 * i, "cluster": f"c{i}", "alias": "chat",
        "target": str(rng.choice(["local/small", "local/large"])), "caller": str(rng.choice(["web", "app", "batch"])),
        "api": "chat", "stream": bool(rng.random() < 0.5), "client_bytes": None,
        "request": json.dumps(request).encode(),
        "finish_reason": "stop", "answer_characters": int(rng.integers(20, 2_000)), "tool_calls": "[]",
        "value": 0.0 if failed else 1.0, "reason": reasons[int(rng.integers(len(reasons)))], "pi": 1.0,
    }  # fmt: skip
    return ScoredCall(**{**plain, **fields})


def planted(rng: np.random.Generator, n: int = 1_000, since: int = 0) -> list[ScoredCall]:
    """Requests for JSON, a quarter, fail in 45 % of the calls from `since` on; all others in 5 %."""
    found = []
    for i in range(n):
        as_json = i % 4 == 0
        found.append(call(i, rng, 0.45 if as_json and i >= since else 0.05, as_json=as_json))
    return found


def of_calls(found: GroupsFound) -> list[FailureGroup]:
    return [group for group in found.groups if group.kind == "calls"]


def test_a_planted_group_is_found_with_its_share_and_examples() -> None:
    found = find_groups(CHOICE, planted(np.random.default_rng(1)))
    [group] = of_calls(found)
    assert group.rule == "JSON asked for"
    of = group.estimate
    assert of.rate.low < 0.45 < of.rate.high
    assert of.beside.low < 0.05 < of.beside.high
    assert of.share.low < 0.75 < of.share.high
    assert of.rate.n + of.beside.n == found.rate.n < 600  # type: ignore[union-attr]
    assert [example.value for example in group.examples] == [0.0] * 3
    assert group.since is None


def test_the_time_since_which_a_group_fails_is_found() -> None:
    found = find_groups(CHOICE, planted(np.random.default_rng(2), 2_000, since=1_000))
    [group] = of_calls(found)
    assert group.since == pytest.approx(1e9 + 60 * 1_000, abs=60 * 120)


def test_a_word_of_the_reasons_names_a_group() -> None:
    """The word "wrong" does not, which says of every failure that it is one."""
    rng = np.random.default_rng(3)
    calls = [call(i, rng, 0.1) for i in range(1_000)]
    calls += [
        call(1_000 + i, rng, 1.0, value=0.0, reason=f"wrong: the citation is invented{' again' if i % 2 else ''}")
        for i in range(80)
    ]
    found = find_groups(CHOICE, calls)
    rules = [group.rule for group in found.groups if group.kind == "reasons"]
    assert any("citation" in rule or "invented" in rule for rule in rules)
    assert of_calls(found) == []
    assert not any("wrong" in rule for rule in rules)
    assert words_of("The citation is wrong") == {"citation", "wrong"}
    assert telling_words(calls, [each.value < 0.5 for each in calls])[:2] == ["citation", "invented"]


def test_the_same_calls_in_any_order_give_the_same_groups() -> None:
    calls = planted(np.random.default_rng(4))
    mixed = [calls[i] for i in np.random.default_rng(5).permutation(len(calls))]
    assert to_dict([find_groups(CHOICE, calls)]) == to_dict([find_groups(CHOICE, mixed)])


def test_a_conversation_is_in_one_half_and_few_of_them_are_named() -> None:
    rng = np.random.default_rng(6)
    calls = [
        call(
            i,
            rng,
            0.6 if i % 4 == 0 else 0.03,
            as_json=i % 4 == 0,
            cluster=f"user-{i % 60 // 4}" if i % 4 == 0 else f"c{i}",
        )
        for i in range(2_000)
    ]
    found = find_groups(CHOICE, calls)
    [group] = of_calls(found)
    assert group.estimate.rate.few
    assert group.estimate.rate.clusters <= 15
    assert any("independent conversations" in note for note in section_of(found).items)


def test_too_few_calls_say_so() -> None:
    found = find_groups(CHOICE, planted(np.random.default_rng(7), 90))
    assert (found.groups, found.rate) == ((), None)
    assert "from 100 calls and 20 failures" in found.too_few
    assert find_groups(CHOICE, []).calls == 0


def test_weights_of_sampling_count() -> None:
    """Calls for JSON are recorded four times as often: 83 % of the recorded failures are 56 % of all."""
    rng = np.random.default_rng(8)
    calls = [call(i, rng, 0.5 if i % 2 else 0.1, as_json=bool(i % 2), pi=0.8 if i % 2 else 0.2) for i in range(2_000)]
    [group] = of_calls(find_groups(CHOICE, calls))
    share = group.estimate.share
    assert share.low < (0.5 / 0.8) / (0.5 / 0.8 + 0.1 / 0.2) < share.high < 0.83


def false_group(rng: np.random.Generator, n: int) -> bool:
    """A world in which nothing tells failures apart."""
    reasons = [*REASONS[False], *REASONS[True]]
    calls = [call(i, rng, 0.2, as_json=i % 4 == 0, reason=str(rng.choice(reasons))) for i in range(n)]
    return bool(find_groups(CHOICE, calls).groups)


def outcome(rng: np.random.Generator) -> tuple[bool, bool, bool]:
    """The result in a world with a planted group: (it is found, its rate's interval covers, its share's does)."""
    groups = [g for g in of_calls(find_groups(CHOICE, planted(rng, 600))) if g.rule == "JSON asked for"]
    if not groups:
        return False, True, True
    of = groups[0].estimate
    share = 0.25 * 0.45 / (0.25 * 0.45 + 0.75 * 0.05)
    return True, of.rate.low <= 0.45 <= of.rate.high, of.share.low <= share <= of.share.high


def test_no_group_is_found_where_there_is_none() -> None:
    rng = np.random.default_rng(41)
    assert sum(false_group(rng, 300) for _ in range(25)) / 25 <= most_misses(ALPHA, 25)


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_groups_in_many_worlds() -> None:
    """500 worlds without a group, and 500 with one."""
    rng = np.random.default_rng(42)
    wrong = sum(false_group(rng, 400) for _ in range(500)) / 500
    found, rate, share = np.array([outcome(rng) for _ in range(500)]).mean(axis=0)
    assert wrong <= most_misses(ALPHA, 500)
    assert found >= 0.9
    assert min(rate, share) >= 0.92
