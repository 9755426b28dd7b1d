"""Rules 3: prompts that come again are a unit that crosses users; blocks of time count where a plan declares them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from fixtures.simulated import a_plan

from gateway.core.plan import Plan
from gateway.core.plan_horizon import horizon_of
from gateway.statistics.special import student_quantile
from gateway.verdict.decision import Decision
from gateway.verdict.metrics import Metric, PairOrigin, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of
from gateway.verdict.traffic_facts import drift_caution, facts_of, with_first_lines

QUALITY, FAILED = Metric("quality", "score"), Metric("error_rate", "failed", against="repeat")
START = 1_790_000_000.0
MARGIN, DEVIATION = 0.05, 0.3


def plan_3(**changes: Any) -> Plan:
    usual = {"rules": 3, "method": "hybrid", "aa": "alarm", "auto_horizon": True, "margin": MARGIN, "min_hours": 24.0}
    plan = a_plan(**{"guardrails": (), **usual, **changes})
    return replace(plan, max_pairs=horizon_of(plan, DEVIATION**2))


def sequence_of(plan: Plan, metric: Metric = QUALITY) -> DifferenceSequence:
    return DifferenceSequence(rule_of(plan, metric, plan.margin), bounded=True)


def taken(difference: float) -> PairValue:
    d = min(max(difference, -1.0), 1.0)
    return PairValue((1 - d) / 2, (1 + d) / 2, d)


@dataclass(frozen=True)
class World:
    """Pairs of made-up traffic at a steady pace. prompts, users: their number; 0: each call has its own. icc: of both.
    drift: share of the variance that moves, with this memory."""

    prompts: int | None = None
    users: int | None = None
    icc: float = 0.3
    drift: float = 0.0
    memory_h: float = 1.0
    hours: float = 25.0
    mean: float = -1.0

    def pairs(self, rng: np.random.Generator, plan: Plan) -> Iterator[tuple[PairValue, PairOrigin]]:
        n = plan.max_pairs or 300
        apart_s = 3600 * self.hours / n
        keep, moves = math.exp(-apart_s / (3600 * self.memory_h)), DEVIATION * math.sqrt(self.drift)
        effects = rng.normal(0, DEVIATION * math.sqrt(self.icc), (2, 100))
        named = bool(self.prompts) + bool(self.users)
        own, level = DEVIATION * math.sqrt(1 - self.drift - named * self.icc), rng.normal(0, moves)
        for i in range(4 * n + 1):
            prompt, user = (rng.integers(of) if of else i for of in (self.prompts, self.users))
            level = keep * level + rng.normal(0, moves * math.sqrt(1 - keep**2))
            shared = effects[0][prompt] if self.prompts else 0.0
            shared += effects[1][user] if self.users else 0.0
            origin = PairOrigin(
                START + apart_s * i, "web", None if self.users is None else f"u{user}",
                prompt=None if self.prompts is None else f"p{prompt}",
            )  # fmt: skip
            yield taken(self.mean * MARGIN + level + shared + rng.normal(0, own)), origin


def played(plan: Plan, world: World, seed: int) -> tuple[bool, DifferenceSequence]:
    """Whether the candidate ships at any look, with a look after each pair, and the sequence at its end."""
    sequence = sequence_of(plan)
    for value, origin in world.pairs(np.random.default_rng([seed, 47]), plan):
        sequence.add(value, None, origin)
        timely = sequence.time.covered_s >= 3600 * plan.min_hours
        if timely and could_ship(sequence) and sequence.interval()[0] > -MARGIN:
            return True, sequence
        if sequence.closed:
            break
    return False, sequence


def could_ship(sequence: DifferenceSequence) -> bool:
    """Whether the narrowest interval that any look may have, of independent pairs, lies above the margin."""
    return sequence.moments.mean - 1.9 * math.sqrt(sequence.moments.m2) / sequence.n > -MARGIN


def shipped(world: World, runs: int, **changes: Any) -> tuple[float, float]:
    """(share of runs that ship, mean number of pairs)."""
    plan = plan_3(**changes)
    outcomes = [played(plan, world, seed) for seed in range(runs)]
    return sum(ships for ships, _ in outcomes) / runs, sum(sequence.n for _, sequence in outcomes) / runs


def bound(rate: float, runs: int) -> float:
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


@pytest.mark.parametrize("users", [None, 0])
def test_few_prompts_of_many_users_do_not_ship_falsely(users: int | None) -> None:
    """400 runs of 40 prompts at an ICC of 0.3 shipped falsely in 0.17 before prompts counted."""
    plan = plan_3()
    world = World(prompts=40, users=users)
    for seed in range(3):
        _, sequence = played(plan, world, seed)
        assert sequence.inflation > 2
    rate, _ = shipped(world, 40)
    assert rate <= bound(0.05, 40)


def test_distinct_prompts_cost_nothing() -> None:
    for users in (None, 60):
        rates = [shipped(World(prompts=prompts, users=users, icc=0.0, mean=0.0), 60) for prompts in (None, 0)]
        (without, pairs), (distinct, as_many) = rates
        assert as_many <= 1.05 * pairs
        assert distinct >= without - 0.05


@pytest.mark.parametrize(("memory_h", "minutes", "hours"), [(1.0, 120.0, 24.0), (3.0, 360.0, 60.0)])
def test_declared_blocks_bound_a_drift(memory_h: float, minutes: float, hours: float) -> None:
    world = World(drift=0.05, memory_h=memory_h, hours=hours + 1)
    rate, _ = shipped(world, 60, blocks_min=minutes, min_hours=hours)
    assert rate <= bound(0.05, 60)


def test_a_drift_is_noticed_and_its_absence_is_not() -> None:
    """The bound on no drift is 0.05 with three standard errors."""

    def noticed(world: World, runs: int) -> float:
        plan = plan_3()
        found = (facts_of(plan, {"quality": played(plan, world, seed)[1]}) for seed in range(runs))
        return sum(bool(list(drift_caution(facts))) for facts in found) / runs

    assert noticed(World(), 100) <= bound(0.05, 100)
    assert noticed(World(users=60), 30) <= bound(0.05, 30), "alike users do not drift"
    assert noticed(World(drift=0.15), 40) >= 0.6


def fed(plan: Plan, prompts: int | None, n: int = 300, metric: Metric = QUALITY, **of: Any) -> DifferenceSequence:
    sequence, rng = sequence_of(plan, metric), np.random.default_rng(3)
    for i in range(n):
        if sequence.closed:
            break
        prompt = None if prompts is None else f"p{i % prompts}"
        origin = replace(PairOrigin(START + 300.0 * i, "web", f"u{i}", prompt=prompt), **of)
        d = float(rng.integers(-1, 2)) if metric is FAILED else float(rng.normal(0.01, DEVIATION))
        sequence.add(taken(d), None, origin)
    return sequence


@pytest.mark.parametrize(
    ("changes", "prompts", "always", "these"),
    [
        ({}, 40, ["user", "prompt", "crossed"], 0),
        ({}, 6, ["user"], 6),
        ({}, 1000, ["user"], 0),
        ({}, None, ["user"], 0),
        ({"population": "these"}, 40, [], 0),
        ({"population": "these"}, 6, [], 0),
        ({"population": "others"}, 40, ["user", "prompt", "crossed"], 0),
        ({"independent": True}, 40, [], 0),
        ({"rules": 2}, 40, [], 0),
        ({"blocks_min": 120.0}, 40, ["user", "prompt", "block", "crossed"], 0),
        ({"blocks_min": 120.0, "population": "these"}, None, ["block"], 0),
        ({"blocks_min": 120.0, "independent": True}, None, ["block"], 0),
        ({"blocks_min": 120.0, "rules": 2}, None, [], 0),
    ],
)
def test_prompts_count_where_they_come_again(changes: Any, prompts: Any, always: list[str], these: int) -> None:
    sequence = fed(plan_3(**changes), prompts)
    check = sequence.independence
    assert [each.group for each in check.applied() if each.always] == always
    assert check.these_prompts == these
    restored = DifferenceSequence.from_state(json.loads(json.dumps(sequence.state())))
    assert restored.state() == sequence.state()
    assert restored.interval() == sequence.interval()


def test_keys_alone_leave_prompts_a_unit() -> None:
    """Nobody has declared that the prompts seen are all there are."""
    check = fed(plan_3(), 40, user=None).independence
    assert check.population == "these"
    assert [each.group for each in check.applied() if each.always] == ["prompt"]


def test_the_variances_by_user_and_prompt_are_added() -> None:
    sequence = fed(plan_3(), 40)
    mean = sequence.moments.mean
    users, prompts, crossed = (each.sums for each in sequence.independence.applied() if each.always)
    both = users.spread(mean) + prompts.spread(mean) - sequence.moments.m2
    assert crossed.spread(mean) == pytest.approx(max(users.spread(mean), prompts.spread(mean), both))
    assert crossed.groups == pytest.approx(40, rel=0.01)
    low, high = sequence.interval()
    t = student_quantile(1 - 0.05 * 0.8 / 2, crossed.groups - 1) if sequence.closed else 0.0
    assert (high - low) / 2 >= t * math.sqrt(crossed.spread(mean)) / sequence.n * (1 - 1e-9)


@pytest.mark.parametrize("metric", [QUALITY, FAILED])
def test_prompts_never_narrow_an_interval(metric: Metric) -> None:
    for prompts in (2, 12, 40, 300):
        plain, by_prompt = (fed(plan_3(), of, 150, metric).interval() for of in (None, prompts))
        assert by_prompt[0] <= plain[0]
        assert by_prompt[1] >= plain[1]


def test_few_prompts_are_named_in_the_first_line() -> None:
    plan = plan_3()
    decision = Decision("ship", "Ship it.", ())
    for prompts, said in ((6, "these 6 prompts"), (40, ""), (None, "")):
        facts = facts_of(plan, {"quality": fed(plan, prompts)})
        assert facts is not None
        sentence = with_first_lines(decision, facts).sentence
        assert said in sentence
        assert ("prompt" in sentence) == bool(said)
        assert math.isfinite(fed(plan, prompts).interval()[0]), "few prompts never mean no verdict"


def test_too_few_blocks_have_no_interval() -> None:
    for blocks, finite in ((2, False), (11, True)):
        sequence = fed(plan_3(blocks_min=120.0), None, 24 * blocks)
        assert math.isfinite(sequence.interval()[0]) == finite
