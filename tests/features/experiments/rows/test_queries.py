"""Counts and durations of an experiment's arms, for its report."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.features.experiments.rows.queries import arm_counts, durations


@pytest.fixture
def recorded(store: Any, plan: Any, exchange: Any) -> Any:
    """The control served two calls, one of which failed; a shadow of the first is twice as slow."""
    ours = {"experiment": "swap", "plan": plan.hash, "total_s": 1.0}
    served = exchange("0.5", **ours, arm="control")
    store.write(
        served,
        exchange("0.5", **ours, arm="control", status=502, outcome="upstream_error"),
        exchange("0.5", **{**ours, "total_s": 2.0}, arm="candidate", role="shadow", pair=served.id),
    )
    return store


def test_answers_that_failed_are_no_whole_ones(recorded: Any, plan: Any) -> None:
    found = recorded.run(lambda c: arm_counts(c, plan.hash, paired=False))
    assert {arm: (counts.n, counts.whole, counts.served) for arm, counts in found.items()} == {
        "control": (2, 1, 2), "candidate": (1, 1, 0),
    }  # fmt: skip


def test_durations_are_those_of_whole_answers(recorded: Any, plan: Any) -> None:
    found = recorded.run(lambda c: durations(c, plan.hash, "total_s", paired=False))
    assert found == {"control": [1.0], "candidate": [2.0]}
    paired = recorded.run(lambda c: durations(c, plan.hash, "total_s", paired=True))
    assert paired == {"candidate": [2.0]}, "no pair of the control has been settled"
