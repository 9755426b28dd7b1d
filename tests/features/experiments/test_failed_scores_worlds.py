"""Worlds in which the scorer itself fails: how often a plan ships an equal candidate, and one that is worse by exactly
one margin.

Pairs go through the plan's own metrics, rules, sequences and the values at worst. All seeds are fixed. The short form
takes some seconds; bench/worlds has the same worlds with 2 000 runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from fixtures.simulated import JUDGE, a_pair, a_plan, seen

from gateway.core.plan import Plan
from gateway.core.plan_horizon import horizon_of
from gateway.reports.model import Estimate
from gateway.verdict.gates.completeness import judge_gate
from gateway.verdict.gates.losses import PairLosses
from gateway.verdict.metrics import JUDGED, ArmObservation, JoinedPair, StoredScore
from gateway.verdict.sequences.difference import DifferenceSequence
from gateway.verdict.sequences.progress import PlanProgress
from gateway.verdict.states import at_worst, is_open_at_worst

MARGIN, DEVIATION, FIXED_N = 0.05, 0.3, 282
Pair = Callable[[np.random.Generator, int], JoinedPair]
Sequences = dict[tuple[str, str], DifferenceSequence]


def lacking(status: str) -> ArmObservation:
    return ArmObservation("ok", "x", scores={JUDGE: StoredScore(status)})


def drawn(
    rng: np.random.Generator, i: int, mean: float, lacks: tuple[bool, bool], status: str = "timeout"
) -> JoinedPair:
    """lacks: of the control and the candidate. status: of the candidate's missing score."""
    difference = float(np.clip(rng.normal(mean, DEVIATION), -1, 1))
    control = lacking("timeout") if lacks[0] else seen((1 - difference) / 2)
    return a_pair(i, control, candidate=lacking(status) if lacks[1] else seen((1 + difference) / 2))


def fails(mean: float) -> Pair:
    """The scorer fails in 5 % of the answers of each arm, whatever they are like."""
    return lambda rng, i: drawn(rng, i, mean, tuple(rng.random(2) < 0.05))


def hides(rng: np.random.Generator, i: int) -> JoinedPair:
    """A twentieth of the candidate's answers is worthless, where the control's are at 0.5: half a margin worse, and
    the others are as much worse. The score does not apply to the worthless ones, while it fails as often on the
    control's."""
    bad = bool(rng.random() < MARGIN)
    return drawn(rng, i, -MARGIN / 2, (bool(rng.random() < MARGIN), bad), "not_applicable")


def ships(pair: Pair, seed: int) -> tuple[bool, int]:
    """(whether the plan ships at its end, its pairs)."""
    plan = a_plan(rules=3, method="hybrid", repeat_control=0.0, margin=MARGIN, guardrails=(), auto_horizon=True)
    plan = replace(plan, max_pairs=horizon_of(plan, DEVIATION**2), population="these")
    progress, rng = PlanProgress(plan, plan.hash, {}), np.random.default_rng((11, seed))
    for i in range(4 * FIXED_N):
        progress.take(i, pair(rng, i))
        found = {(name.candidate, name.metric): s for name, s in progress.sequences.items()}
        primary = found.get(("candidate", "quality"))
        if primary is not None and primary.closed and not is_open_at_worst(found, "candidate"):
            return _ships(plan, found, primary), i
    return False, 4 * FIXED_N


def _ships(plan: Plan, found: Sequences, primary: DifferenceSequence) -> bool:
    judged = found["candidate", JUDGED]
    arms = {"control": (judged.n, round(judged.n * (judged.a.mean or 0.0)))}
    arms["candidate"] = (judged.n, round(judged.n * (judged.b.mean or 0.0)))
    worst = at_worst(found, "candidate")
    gate = judge_gate(PairLosses(arms, Estimate(None)), worst, plan.margin)
    held = worst is not None and worst.low is not None and worst.low > -plan.margin
    return primary.interval()[0] > -plan.margin and gate.state == 1 and held


def test_failures_alike_on_both_arms_do_not_hold_a_verdict() -> None:
    runs = [ships(fails(0.0), seed) for seed in range(40)]
    assert sum(shipped for shipped, _ in runs) / 40 >= 0.8 - 3 * math.sqrt(0.8 * 0.2 / 40)
    assert max(pairs for _, pairs in runs) < 4 * FIXED_N


@pytest.mark.parametrize("pair", [fails(-MARGIN), hides], ids=["at random", "not applicable"])
def test_failures_alike_on_both_arms_hide_no_loss(pair: Pair) -> None:
    assert sum(ships(pair, seed)[0] for seed in range(40)) / 40 <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / 40)
