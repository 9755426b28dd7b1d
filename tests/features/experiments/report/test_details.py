"""The parts of a report that do not affect the verdict, from the records of a settled experiment."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.features.experiments.report.details import arms_of, examples_of, latency_of, what_went_wrong
from gateway.features.experiments.rows.queries import RecordedAnswer
from gateway.store.plan_evidence import StoredEvidence
from gateway.store.plans import stored_plans
from gateway.store.query import reading
from gateway.verdict.findings import finding


@pytest.fixture
async def settled(room: Any, plan: Any, paired: Any) -> Any:
    """Twelve pairs with a repeat; the candidate fails in one and is better in the last."""
    candidates = ["0.5"] * 10 + ["failed", "0.9"]
    await room.begin(plan)
    async with room.consuming():
        for text in candidates:
            await room.send(*paired(plan, "0.5", {"candidate": text, "repeat": "0.5"}))
        await room.until_settled(12)
    return room


async def test_arms_count_requests_and_failures(settled: Any) -> None:
    with reading(settled.store_url) as connection:
        arms = {arm.arm: arm for arm in arms_of(connection, stored_plans(connection)[0])}

    assert {name: (arm.asked, arm.failed) for name, arm in arms.items()} == {
        "control": (12, 0),
        "candidate": (12, 1),
        "repeat": (12, 0),
    }
    assert (arms["control"].served, arms["candidate"].served) == (12, 0)
    assert (arms["candidate"].target, arms["repeat"].target) == ("local/new", "local/small")


async def test_shadow_latency_is_compared_with_the_repeat_only(settled: Any) -> None:
    with reading(settled.store_url) as connection:
        latency = {each.arm: each for each in latency_of(connection, stored_plans(connection)[0])}

    assert {arm: each.comparable for arm, each in latency.items()} == {
        "control": False,
        "candidate": True,
        "repeat": True,
    }
    assert latency["candidate"].n == 11
    assert latency["candidate"].p50.value == 0.5
    assert latency["candidate"].curve[-1] == (0.5, 1.0)


async def test_regressions_are_the_first_examples(settled: Any) -> None:
    with reading(settled.store_url) as connection:
        plan = stored_plans(connection)[0]
        found = examples_of(connection, finding(StoredEvidence(connection, plan), "candidate"), 2)

    assert [(each.why, each.group, each.candidate) for each in found.pairs] == [
        ("the candidate is worse by 0.5 on stated", "failed (upstream_error)", "[upstream_error] 0"),
        ("the candidate is better by 0.4 on stated", "", "0.9"),
    ]
    assert found.pairs[0].question == "a number?"
    assert found.regressions == (("failed (upstream_error)", 1),)


async def test_an_example_has_the_right_answer_next_to_it(room: Any, plan: Any, paired: Any) -> None:
    served, shadow = paired(plan, "0.5", {"candidate": "0.1"})
    await room.begin(plan)
    async with room.consuming():
        await room.send(replace(served, reference="42"), shadow)
        await room.until_settled(1)
    with reading(room.store_url) as connection:
        found = examples_of(connection, finding(StoredEvidence(connection, stored_plans(connection)[0]), "candidate"))
    assert [each.reference for each in found.pairs] == ["42"]


@pytest.mark.parametrize(
    ("answer", "ours", "theirs", "judged", "group"),
    [
        ({"outcome": "timeout"}, {}, {"refusal": 1.0}, False, "failed (timeout)"),
        ({"refusal": "no"}, {}, {}, False, "refusal"),
        ({}, {"refusal": 0.0}, {"refusal": 1.0}, False, "refusal"),
        ({}, {"refusal": 1.0}, {"refusal": 1.0}, True, "judged worse"),
        ({"finish_reason": "length"}, {}, {}, False, "cut off"),
        ({}, {"valid_json": 1.0}, {"valid_json": 0.0}, False, "invalid JSON"),
        ({}, {"valid_json": 0.0}, {"valid_json": 0.0}, False, "another answer"),
    ],
)
def test_a_regression_has_the_group_of_its_cause(
    answer: dict[str, str], ours: dict[str, float], theirs: dict[str, float], judged: bool, group: str
) -> None:
    recorded = RecordedAnswer(**{"id": "x", "text": "", "outcome": "ok", "tool_calls": "[]",
                                 **answer}, request=b"")  # fmt: skip
    assert what_went_wrong(recorded, ours, theirs, judged) == group
