"""The pairs of a guardrail on failures, against the sequence that decides it."""

from __future__ import annotations

import math
import random

import pytest
from fixtures.simulated import a_plan

from gateway.core.horizon import AT_MOST
from gateway.core.plan import Guardrail, Plan
from gateway.statistics.rare import RareDifference
from gateway.verdict.price.failures import failure_pairs, planned_with, unreachable_rails

MARGIN = 0.02
RAIL = Guardrail("error_rate", MARGIN)
RUNS = 300


def plan(**changes: object) -> Plan:
    return a_plan(rules=3, method="hybrid", aa="alarm", repeat_control=0.25, guardrails=(RAIL,), **changes)


def shown(seed: int, pairs: int, rate: float) -> bool:
    """Whether a candidate that fails at this rate is shown to keep the margin, by its own rate alone."""
    rng = random.Random(seed)
    failed = sum(rng.random() < rate for _ in range(pairs))
    return RareDifference(0.8 * 0.05, pairs, failed, 0).log_evidence_below(MARGIN) >= math.log(2 / (0.8 * 0.05))


@pytest.mark.parametrize("share", [0.2, 0.5])
def test_the_planned_pairs_decide_with_the_power(share: float) -> None:
    """0.8, less three standard errors of 300 runs."""
    pairs = failure_pairs(plan(), RAIL, share * MARGIN)
    assert pairs is not None
    decided = sum(shown(seed, pairs, share * MARGIN) for seed in range(RUNS)) / RUNS
    assert decided >= 0.8 - 3 * math.sqrt(0.8 * 0.2 / RUNS)


def test_a_higher_rate_takes_more_pairs() -> None:
    found = [failure_pairs(plan(), RAIL, share * MARGIN) or 0 for share in (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)]
    assert found == sorted(found)
    assert found[0] < 300 < found[-1]


def test_a_rate_above_the_margin_is_decided_by_repeats_alone() -> None:
    assert failure_pairs(plan(), RAIL, 2 * MARGIN) is not None
    assert failure_pairs(a_plan(rules=3, guardrails=(RAIL,), repeat_control=0.0), RAIL, 2 * MARGIN) is None


def test_a_rail_that_takes_too_many_pairs_is_named() -> None:
    short = plan(max_pairs=500)
    assert unreachable_rails(short, 0.2 * MARGIN) == ()
    assert unreachable_rails(short, 0.9 * MARGIN) == (RAIL,)
    assert (failure_pairs(short, RAIL, 0.9 * MARGIN) or 0) > AT_MOST * 500


def test_an_unknown_rate_plans_nothing() -> None:
    assert planned_with(plan(), None) is None
    assert planned_with(plan(), 0.5 * MARGIN) == failure_pairs(plan(), RAIL, 0.5 * MARGIN)
