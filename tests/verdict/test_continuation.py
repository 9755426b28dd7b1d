"""The price of going on after the last look, and who may not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.simulated import Simulated, a_pair, a_plan, seen

from gateway.core.plan import HarmStop, StoredPlan
from gateway.store.harm_stops import keep_harm
from gateway.store.plan_evidence import StoredEvidence
from gateway.verdict.continuation import MorePrice, continuation_refusal, more_price
from gateway.verdict.findings import finding
from gateway.verdict.metrics import Metric, PairOrigin, PairValue
from gateway.verdict.next_step import progress_with_step
from gateway.verdict.price.forecast import PriceEvidence, Terms, forecast
from gateway.verdict.price.held_by_units import held_by_units
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of
from gateway.verdict.states import SequenceStates

DESIGN: dict[str, Any] = {
    "rules": 3, "method": "hybrid", "max_pairs": 100, "aa": "alarm", "repeat_control": 0.2, "guardrails": (),
    "margin": 0.1, "min_hours": 0.0, "population": "these",
}  # fmt: skip


def played(
    begin_experiment: Callable[..., Simulated], mean: float, n: int = 100, users: int = 0, **changes: Any
) -> Simulated:
    """Pairs with exactly this mean difference and a deviation of 0.5."""
    run = begin_experiment(**{**DESIGN, **changes})
    pairs = []
    rng = np.random.default_rng(3)
    for i, x in enumerate((mean + rng.permutation(np.resize([0.5, -0.5], n))).tolist()):
        control, repeat = seen((1 - x) / 2, cost_usd=0.004), {"repeat": seen((1 - x) / 2)} if i % 5 == 0 else {}
        made = a_pair(i, control, candidate=seen((1 + x) / 2, cost_usd=0.002), **repeat)
        pairs.append(replace(made, origin=PairOrigin(None, "web", f"user{i % users}")) if users else made)
    run.add(pairs)
    return run


@pytest.mark.parametrize(("users", "may"), [(6, False), (12, True)])
def test_few_users_cannot_go_on(begin_experiment: Callable[..., Simulated], users: int, may: bool) -> None:
    """After the last look ten effective users are needed: more pairs of the same six decide nothing."""
    run = played(begin_experiment, 0.0, 96, users=users, max_pairs=96, population="others")
    refusal = asked(run, continuation_refusal)
    assert (refusal is None) == may, refusal
    if not may:
        assert "6 effective users" in refusal
        assert "10 are needed" in refusal
        assert "`population: these`" in refusal
    step = asked(run, lambda e: progress_with_step(finding(e, "candidate"), SequenceStates(e)).next_step)
    assert ("--more" in (step or "")) == may, step
    assert ("more users, not more pairs, decide it: the pairs are of 6 effective users" in step) == (not may), step
    terms = asked(run, lambda e: forecast(e.plan, Terms(), PriceEvidence(SequenceStates(e)))).terms
    assert any("more users, not more pairs, decide it" in term.says for term in terms) == (not may)


def test_alike_users_hold_a_plan_however_many_pairs_come() -> None:
    """Ten users with very different means: their variance stays. Users who are alike do not hold it."""
    assert "more users, not more pairs" in (held_by_units(_of_users(0.3), 0.05) or "")
    assert held_by_units(_of_users(0.3), 0.5) is None, "a margin that these users can show"
    assert held_by_units(_of_users(0.0), 0.05) is None
    assert held_by_units(None, 0.05) is None


def _of_users(apart: float) -> DifferenceSequence:
    plan = a_plan(rules=3, method="hybrid", population="others", max_pairs=400)
    sequence, rng = DifferenceSequence(rule_of(plan, Metric("quality", "score"), 0.05), True), np.random.default_rng(5)
    for i in range(400):
        value = float(np.clip((1.0 if i % 20 < 10 else -1.0) * apart + rng.normal(0.0, 0.1), -1, 1))
        sequence.add(PairValue((1 - value) / 2, (1 + value) / 2, value), None, PairOrigin(None, "web", f"u{i % 20}"))
    return sequence


def test_while_stopped_for_harm_more_pairs_take_twenty_times_as_long(
    begin_experiment: Callable[..., Simulated],
) -> None:
    run = played(begin_experiment, 0.0)
    usual = asked(run, more_price)
    stop = HarmStop(51.0, 50, -0.3, 0.0)
    with run.engine.begin() as connection:
        keep_harm(connection, run.hash, stop, 60.0)
    slow = asked(run, more_price)
    assert (slow.pairs, slow.usd, slow.requests) == (usual.pairs, usual.usd, 20 * usual.requests)
    assert slow.hours > 15 * usual.hours
    with run.engine.begin() as connection:
        keep_harm(connection, run.hash, replace(stop, cleared=70.0), 70.0)
    assert asked(run, more_price) == usual, "somebody has resumed it"


def asked(run: Simulated, about: Callable[[StoredEvidence], Any], state: str = "stopped") -> Any:
    with run.engine.connect() as connection:
        return about(StoredEvidence(connection, StoredPlan(run.plan, run.hash, state, 1.0)))


def test_the_price_grows_as_the_difference_nears_the_margin(begin_experiment: Callable[..., Simulated]) -> None:
    far, near = (asked(played(begin_experiment, mean), more_price) for mean in (0.0, -0.07))
    assert isinstance(far, MorePrice)
    assert far.enough
    assert 100 < far.pairs <= 400
    assert (near.pairs, near.enough) == (400, False), "four times the planned pairs at most"
    assert far.usd == pytest.approx(far.pairs * (0.002 + 0.2 * 0.004), rel=0.01)
    assert far.requests == far.pairs


@pytest.mark.parametrize(
    ("changes", "mean", "n", "state", "says"),
    [
        ({"rules": 2}, -0.02, 100, "stopped", "has rules 2"),
        ({}, -0.02, 100, "running", "is still running"),
        ({}, -0.02, 99, "stopped", "has not taken its last look"),
        ({}, 0.1, 100, "stopped", "has its verdict: candidate ship"),
        ({"method": "anytime"}, -0.02, 100, "stopped", "has no last look"),
    ],
)
def test_plans_that_cannot_go_on_are_refused(
    begin_experiment: Callable[..., Simulated], changes: dict[str, Any], mean: float, n: int, state: str, says: str
) -> None:
    found = asked(played(begin_experiment, mean, n, **changes), continuation_refusal, state)
    assert says in (found or ""), found
