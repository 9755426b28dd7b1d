"""Rules 2: a horizon that follows the variance, hours of traffic before `ship`, and users whose calls are alike."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.simulated import Simulated, a_pair, a_plan, looked, seen

from gateway.core.horizon import AT_MOST, FOLLOWED, MOST_INFLATED, guarded, precision
from gateway.core.plan import REPEAT, Plan
from gateway.features.experiments.start.price import earlier_variance
from gateway.verdict.metrics import JoinedPair, Metric, PairOrigin, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of
from gateway.verdict.traffic_facts import (
    ASSUMED,
    DEPENDENT,
    NO_HOURS,
    dependence_line,
    facts_of,
    hours_gate,
    sentences,
    slope_caution,
)

QUALITY = Metric("quality", "score")
HOUR_S, DAY_S = 3600.0, 86_400.0
START = 1_790_000_000.0


def plan_2(**changes: Any) -> Plan:
    usual = {"rules": 2, "method": "hybrid", "aa": "alarm", "auto_horizon": True, "max_pairs": 200, "min_hours": 24.0}
    return a_plan(**{**usual, **changes})


def sequence_of(plan: Plan, arm: str = "candidate") -> DifferenceSequence:
    return DifferenceSequence(rule_of(plan, QUALITY, plan.margin, arm), bounded=True)


def taken(difference: float) -> PairValue:
    d = min(max(float(difference), -1.0), 1.0)
    return PairValue(0.5 - d / 2, 0.5 + d / 2, d)


def run(sequence: DifferenceSequence, values: Any, apart_s: float = 1200.0, users: int | None = None) -> None:
    """Feeds it until it closes or the values end."""
    for i, value in enumerate(values):
        if sequence.closed:
            return
        user = None if users is None else f"u{i % users}"
        origin = PairOrigin(START + i * apart_s, "key", user)
        sequence.add(taken(value), None, origin)


@pytest.mark.parametrize("deviation", [0.1, 0.3, 0.5])
def test_the_horizon_follows_the_variance(deviation: float) -> None:
    values = np.clip(np.random.default_rng(1).normal(0, deviation, 2000), -1, 1)
    sequence = sequence_of(plan_2(margin=0.05))
    run(sequence, values)
    n = sequence.n

    def error(k: int) -> float:
        return math.sqrt(guarded(float(((values[:k] - values[:k].mean()) ** 2).sum()), 1.0)) / k

    wanted = precision(0.05, 0.05)
    if n == AT_MOST * 200:
        assert error(n - 1) > wanted
    else:
        assert n == FOLLOWED or error(n - 1) > wanted >= error(n)
    assert sequence.horizon == n


def test_the_horizon_is_never_chosen_by_the_mean() -> None:
    values = np.random.default_rng(2).normal(0, 0.2, 2000).clip(-0.7, 0.7)
    found = []
    for shift in (-0.2, 0.0, 0.3):
        sequence = sequence_of(plan_2(margin=0.05))
        run(sequence, values + shift)
        found.append(sequence.n)
    assert len(set(found)) == 1


def test_a_following_horizon_ends_at_four_times_the_plan() -> None:
    sequence = sequence_of(plan_2(max_pairs=60, margin=0.02))
    run(sequence, np.random.default_rng(3).normal(0, 0.5, 1000))
    assert sequence.n == AT_MOST * 60


@pytest.mark.parametrize(("spread", "least"), [(0.0, AT_MOST), (0.25, 2 * AT_MOST), (0.5, AT_MOST * MOST_INFLATED)])
def test_a_following_horizon_waits_for_alike_calls(spread: float, least: float) -> None:
    """Each of 2 000 users has ten calls, which differ by chance and by this much from user to user."""
    rng = np.random.default_rng(5)
    values = np.repeat(rng.normal(0, spread, 2000), 10) + rng.normal(0, 0.3, 20_000)
    ends = []
    for shift in (-0.1, 0.0):
        sequence = sequence_of(plan_2(rules=3, max_pairs=50, margin=0.02))
        for i, value in enumerate(np.clip(values, -0.9, 0.9) + shift):
            if sequence.closed:
                break
            sequence.add(taken(float(value)), None, PairOrigin(START + 1200.0 * i, "key", f"u{i // 10}"))
        ends.append(sequence.n)
    assert ends[0] == pytest.approx(ends[1], rel=0.02), "the mean decides nothing"
    assert least * 50 * 0.9 <= ends[1] <= AT_MOST * MOST_INFLATED * 50


@pytest.mark.parametrize("changes", [{"auto_horizon": False}, {"rules": 1, "min_hours": 0.0}])
def test_a_chosen_horizon_and_the_first_rules_stay_fixed(changes: dict[str, Any]) -> None:
    sequence = sequence_of(plan_2(max_pairs=80, **changes))
    run(sequence, np.random.default_rng(4).normal(0, 0.5, 1000))
    assert sequence.n == 80


def test_the_last_look_waits_for_the_hours() -> None:
    sequence = sequence_of(plan_2(min_hours=24.0))
    run(sequence, np.zeros(1000), apart_s=300.0)
    assert sequence.n == 24 * 12 + 1
    quick = sequence_of(plan_2(min_hours=0.0))
    run(quick, np.zeros(1000), apart_s=300.0)
    assert quick.n < sequence.n


def test_the_repeat_has_a_horizon_of_its_own() -> None:
    """The control's repeats are a quarter of the pairs, so their last look has twice the standard error."""
    plan = plan_2(repeat_control=0.25, max_pairs=400, margin=0.05)
    rule, repeat = (rule_of(plan, QUALITY, 0.05, arm) for arm in ("candidate", REPEAT))
    assert repeat.close_at == pytest.approx(2.1 * precision(0.05, 0.01), rel=0.05)
    assert (rule.min_s, repeat.min_s) == (DAY_S, 0.0), "the alarm waits for no hour"
    assert (rule.by_units, repeat.by_units) == (True, False)


@pytest.mark.parametrize("cut", [30, 90, 150])
def test_a_sequence_continues_from_its_state(cut: int) -> None:
    plan = plan_2(margin=0.05, min_hours=30.0)
    values = np.random.default_rng(5).normal(0, 0.2, 200)
    whole, part = sequence_of(plan), sequence_of(plan)
    run(whole, values, users=31)
    for i, value in enumerate(values):
        if i == cut:
            part = DifferenceSequence.from_state(json.loads(json.dumps(part.state())))
        if not part.closed:
            origin = PairOrigin(START + i * 1200.0, "key", f"u{i % 31}")
            part.add(taken(value), None, origin)
    assert part.state() == whole.state()


def test_an_alarm_widens_the_interval_and_stays() -> None:
    rng = np.random.default_rng(6)
    shared = rng.normal(0, 0.3, 40)
    units = rng.permutation(np.repeat(np.arange(40), 15))
    alike = sequence_of(plan_2(margin=0.01, max_pairs=5000))
    for i, unit in enumerate(units):
        value = float(shared[unit] + rng.normal(0, 0.1))
        alike.add(taken(value), None, PairOrigin(START + i, "key", f"u{unit}"))
    assert alike.independence.finding(declared=True) == "alarm", "what is found counts more than what is declared"
    assert alike.variance > 5 * alike.moments.variance()
    low, high = alike.interval()
    base_low, base_high = alike.difference.interval()
    assert low < base_low - 0.05
    assert high > base_high + 0.05
    assert alike.log_evalue() < alike.difference.log_e_value() or alike.log_evalue() <= 0.0
    for i in range(2000):
        if not alike.closed:
            alike.add(taken(0.0), None, PairOrigin(START + 600 + i, "key", f"v{i}"))
    assert alike.independence.finding(declared=False) == "alarm"


@pytest.mark.parametrize(
    ("users", "declared", "expected"),
    [(60, False, "checked"), (5, False, "assumed"), (5, True, "declared"), (None, False, "assumed")],
)
def test_independence_is_checked_from_fifty_users_on(users: int | None, declared: bool, expected: str) -> None:
    plan = plan_2(independent=declared, margin=0.01, max_pairs=5000)
    sequence = sequence_of(plan)
    run(sequence, np.random.default_rng(7).normal(0, 0.3, 300), users=users)
    facts = facts_of(plan, {"quality": sequence})
    assert facts is not None
    assert facts.independence == expected
    said = dependence_line(facts) or ""
    assert ("and that is checked" in said) == (expected == "assumed")
    assert ("x-gateway-user" in said) == (users is None and expected == "assumed"), "who sends it is not asked to"


def timed_pairs(n: int, apart_s: float, users: int | None = None) -> list[JoinedPair]:
    made = []
    for i in range(n):
        score = 0.5 + 0.05 * (i % 3)
        pair = a_pair(i, seen(score), candidate=seen(score + 0.02 * (i % 2)), repeat=seen(score))
        user = None if users is None else f"u{i % users}"
        made.append(replace(pair, origin=PairOrigin(START + i * apart_s, "key", user)))
    return made


def found_after(template: Path, path: Path, plan: Plan, pairs: list[JoinedPair]) -> Any:
    world = Simulated.at(template, path, plan)
    world.add(pairs)
    try:
        return world.found()
    finally:
        world.close()


def test_ship_waits_for_the_hours_and_says_so(empty_store: Path, tmp_path: Path) -> None:
    plan = plan_2(guardrails=(), max_pairs=60)
    early = found_after(empty_store, tmp_path / "a.db", plan, timed_pairs(150, 60.0))
    assert early.decision.verdict == "hold"
    assert "needs 24 hours of traffic; 2.5 so far" in early.decision.sentence
    late = found_after(empty_store, tmp_path / "b.db", plan, timed_pairs(150, 600.0))
    assert late.decision.verdict == "ship"
    assert late.independence == "assumed"
    assert late.decision.sentence.endswith(f"Ship. {ASSUMED}")


def worse_pairs(apart_s: float) -> list[JoinedPair]:
    """Sixty pairs in which the candidate is worse by 0.7."""
    return [
        replace(
            a_pair(i, seen(0.9), candidate=seen(0.2), repeat=seen(0.9)), origin=PairOrigin(START + apart_s * i, "key")
        )
        for i in range(60)
    ]


@pytest.mark.parametrize(("min_hours", "apart_s"), [(24.0, 720.0), (0.0, 1.0), (0.01, 1.0)])
def test_reject_comes_before_the_hours_for_a_large_harm(
    empty_store: Path, tmp_path: Path, min_hours: float, apart_s: float
) -> None:
    plan = plan_2(guardrails=(), max_pairs=60, min_hours=min_hours)
    found = found_after(empty_store, tmp_path / "a.db", plan, worse_pairs(apart_s))
    assert found.decision.verdict == "reject"
    assert found.primary is not None
    assert found.primary.hours_share == pytest.approx(min(1.0, 59 * apart_s / 3600 / min_hours) if min_hours else 1.0)


def test_reject_waits_while_hours_could_make_up_for_it(empty_store: Path, tmp_path: Path) -> None:
    found = found_after(empty_store, tmp_path / "a.db", plan_2(guardrails=(), max_pairs=60), worse_pairs(1.0))
    assert found.decision.verdict == "hold"
    assert "quality: worse by more than 0.1 so far" in found.decision.sentence
    assert "its values cover 0% of the hours" in found.decision.sentence
    before = found_after(
        empty_store, tmp_path / "b.db", plan_2(guardrails=(), max_pairs=60, rules=1, min_hours=0.0), worse_pairs(1.0)
    )
    assert before.decision.verdict == "reject"


def test_the_first_line_states_missing_hours(empty_store: Path, tmp_path: Path) -> None:
    plan = plan_2(guardrails=(), max_pairs=60, min_hours=0.0)
    found = found_after(empty_store, tmp_path / "a.db", plan, timed_pairs(150, 1.0, users=60))
    assert found.independence == "checked"
    assert found.decision.sentence.endswith(f"Ship. {NO_HOURS}")
    assert not any(gate.name == "hours" for gate in found.gates)


def test_the_first_rules_ask_for_none_of_it(empty_store: Path, tmp_path: Path) -> None:
    found = found_after(
        empty_store, tmp_path / "a.db", plan_2(rules=1, min_hours=0.0, guardrails=()), timed_pairs(150, 1.0)
    )
    assert (found.independence, found.traffic) == (None, None)
    assert found.decision.sentence.endswith("Ship.")


def test_a_gate_counts_hours_of_a_fixed_horizon() -> None:
    plan = plan_2(auto_horizon=False, max_pairs=60)
    sequence = sequence_of(plan)
    run(sequence, np.zeros(60), apart_s=60.0)
    gate = hours_gate(plan, sequence)
    assert gate is not None
    assert gate.says == "needs 24 hours of traffic; its 60 pairs cover 0.98: lower `shadow`"


def test_a_difference_that_fades_is_a_caution() -> None:
    plan, rng = plan_2(margin=0.01, max_pairs=5000), np.random.default_rng(8)
    sequence = sequence_of(plan)
    run(sequence, np.repeat([0.3, 0.2, 0.1, 0.0], 72) + rng.normal(0, 0.1, 288), users=72)
    facts = facts_of(plan, {"quality": sequence})
    assert facts is not None
    assert facts.slope == pytest.approx(-0.1, abs=0.03)
    assert "changes by −0." in next(slope_caution(facts))
    flat = sequence_of(plan)
    run(flat, rng.normal(0, 0.1, 288), users=72)
    assert list(slope_caution(facts_of(plan, {"quality": flat}))) == []


def test_dependence_is_said_in_sentences() -> None:
    plan, rng = plan_2(margin=0.01, max_pairs=5000), np.random.default_rng(9)
    shared, sequence = rng.normal(0, 0.3, 60), sequence_of(plan)
    for i in range(600):
        value = float(shared[i % 60] + rng.normal(0, 0.1))
        sequence.add(taken(value), None, PairOrigin(START + 600.0 * i, "key", f"u{i % 60}"))
    facts = facts_of(plan, {"quality": sequence})
    assert facts is not None
    text = " ".join(sentences(facts))
    assert DEPENDENT in text
    assert "quality, by user: the variance of the mean is" in text
    assert "which counts (60 with several pairs)" in text
    assert "The pairs cover 99.8 hours of traffic; 24 are needed for ship." in text


def test_the_next_plan_pays_for_users_whose_calls_are_alike(empty_store: Path, tmp_path: Path) -> None:
    plan, rng = plan_2(margin=0.05, max_pairs=300, repeat_control=0.0, guardrails=()), np.random.default_rng(10)
    shared = rng.normal(0, 0.2, 30)
    pairs = [
        replace(
            a_pair(i, seen(0.5), candidate=seen(float(np.clip(0.5 + shared[i % 30] + rng.normal(0, 0.1), 0, 1)))),
            origin=PairOrigin(START + i, "key", f"u{i % 30}"),
        )
        for i in range(300)
    ]
    world = Simulated.at(empty_store, tmp_path / "a.db", plan)
    world.add(pairs)
    with world.engine.connect() as connection:
        variance = earlier_variance(connection, plan)
        sequence = looked(connection, plan).sequences["candidate", "quality"]
    world.close()
    assert variance is not None
    assert variance > 5 * sequence.moments.variance()
    assert variance == pytest.approx(sequence.variance)
