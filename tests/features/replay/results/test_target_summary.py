"""Each target of a replay on its own: its scores, cost and times."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.features.replay.results.sheet import ScoreSheet, sheet, summarize
from gateway.features.replay.rows import ReplayAnswer, ReplayScore
from gateway.reports.model import Estimate
from gateway.verdict.items.pairs import ItemMetric

EXACT = ItemMetric("exact", "maximise", (0.0, 1.0))
ANSWERED = ReplayAnswer(item=1, target="a", repeat=1, answer_id="x", cluster="c", outcome="ok", seconds=1.0, asked=1.0)


@pytest.fixture
def made() -> ScoreSheet:
    """100 items: a answers all but the last, in 0.01 to 0.99 s; b fails in all."""
    items = range(1, 101)
    a = [replace(ANSWERED, item=i, cluster=f"c{i}", seconds=i / 100, cost_usd=0.002, input_tokens=10, output_tokens=i,
                 outcome="ok" if i < 100 else "timeout") for i in items]  # fmt: skip
    b = [replace(ANSWERED, item=i, target="b", cluster=f"c{i}", outcome="failed") for i in items]
    scores = [ReplayScore(i, "a", 1, "exact", "1", "h", "scored", float(i % 2), None) for i in items if i < 100]
    return sheet((100, 1), ("a", "b"), {"exact": ("1", "h")}, [*a, *b], scores)


def test_scores_cost_and_times_of_a_target_have_intervals(made: ScoreSheet) -> None:
    found = summarize(made, "a", [EXACT], 0.05)
    assert (found.asked, found.failed, found.input_tokens, found.output_tokens) == (100, 1, 10.0, 50.0)
    exact = found.means["exact"]
    assert exact.value == pytest.approx(50 / 99)
    assert exact.low is not None
    assert exact.low < 0.5 < exact.high  # type: ignore[operator]
    assert found.cost_per_1k is not None
    assert found.cost_per_1k.value == pytest.approx(2.0)
    assert (found.p50.value, found.p95.value) == pytest.approx((0.5, 0.941))
    assert found.p95.low < 0.941 < found.p95.high  # type: ignore[operator]
    assert found.curve[0] == (0.01, pytest.approx(1 / 99))
    assert found.curve[-1] == (0.99, 1.0)


def test_a_target_that_never_answered_is_worst_without_latency(made: ScoreSheet) -> None:
    found = summarize(made, "b", [EXACT], 0.05)
    assert (found.asked, found.failed, found.cost_per_1k, found.curve) == (100, 100, None, ())
    assert found.p50 == Estimate(None)
    assert found.means["exact"].value == 0.0
    arm, latency = found.arm(), found.latency()
    assert (arm.asked, arm.failed, arm.served, arm.output_tokens) == (100, 100, 0, None)
    assert (latency.n, latency.comparable) == (0, True)
