"""What has a score on one arm only: which pairs count, and what the gate makes of them."""

from __future__ import annotations

from typing import Any

import pytest
from fixtures.simulated import JUDGE, a_pair, a_plan, seen

from gateway.features.experiments.completeness import (
    NoPreference,
    OneSided,
    completeness_gate,
    preference_completeness_gate,
)
from gateway.features.experiments.metrics import (
    MISSING,
    WORST,
    ArmObservation,
    PairValue,
    StoredScore,
    WithheldPair,
    metrics_of,
    pair_value,
)
from gateway.reports.model import Estimate, GateResult


def without(status: str = "not_applicable", **more: Any) -> ArmObservation:
    """An answer to which the primary does not apply."""
    return ArmObservation("ok", "x", scores={JUDGE: StoredScore(status)}, **more)


def value(name: str, control: ArmObservation, candidate: ArmObservation, rules: int = 2) -> Any:
    plan = a_plan(rules=rules, repeat_control=0.0)
    joined = a_pair(1, control, candidate=candidate)
    metric = next((m for m in metrics_of(plan, joined) if m.name == name), None)
    return None if metric is None else pair_value(plan, metric, joined, "candidate")


@pytest.mark.parametrize(
    ("control", "candidate", "missing", "worst"),
    [
        (seen(0.8), seen(0.6), PairValue(0, 0, 0), PairValue(0.8, 0.6, 0.6 - 0.8)),
        (seen(0.8), without(), PairValue(0, 1, -1), PairValue(0.8, 0, -0.8)),
        (without(), seen(0.6), PairValue(1, 0, 1), PairValue(1, 0.6, 0.6 - 1)),
        (without(), without(), None, None),
        (seen(0.8), without("failed"), None, None),
        (seen(0.8), ArmObservation("failed", "x", scores={JUDGE: StoredScore("not_applicable")}),
         PairValue(0, 0, 0), PairValue(0.8, 0, -0.8)),
        (seen(0.8), seen(0.6, truncated=True), PairValue(0, 1, -1), PairValue(0.8, 0, -0.8)),
        (seen(0.8, truncated=True), seen(0.6, truncated=True), None, None),
        (seen(0.8), ArmObservation("ok", "x"), None, None),
    ],
)  # fmt: skip
def test_a_score_of_one_arm_alone_counts(
    control: ArmObservation, candidate: ArmObservation, missing: PairValue | None, worst: PairValue | None
) -> None:
    assert value(MISSING, control, candidate) == missing
    assert value(WORST, control, candidate) == worst


def test_a_score_of_a_cut_answer_is_no_score() -> None:
    cut = seen(0.6, truncated=True)
    assert value("quality", seen(0.8), cut) == WithheldPair("cut", "candidate")
    assert value("quality", seen(0.8), cut, rules=1) == PairValue(0.8, 0.6, 0.6 - 0.8)


def test_plans_with_the_first_rules_have_no_such_metrics() -> None:
    names = {m.name for m in metrics_of(a_plan(rules=1), a_pair(1, seen(0.8), candidate=without()))}
    assert not names & {MISSING, WORST}


WORSE, FAIR = Estimate(-0.06, -0.11, -0.01), Estimate(-0.01, -0.04, 0.02)


@pytest.mark.parametrize(
    ("found", "worst", "state", "says"),
    [
        (OneSided(400, 2, 2, Estimate(0.0, -0.02, 0.02)), WORSE, 1, "too few to change the verdict"),
        (OneSided(400, 0, 40, Estimate(-0.1, -0.14, -0.07)), FAIR, -1, "candidate lacks more, by more than 0.0125"),
        (OneSided(400, 40, 0, Estimate(0.1, 0.07, 0.14)), FAIR, -1, "control lacks more"),
        (OneSided(9000, 300, 300, Estimate(0.0, -0.01, 0.01)), WORSE, 1, "alike within ±0.0125"),
        (
            OneSided(400, 4, 8, Estimate(-0.01, -0.03, 0.02)),
            FAIR,
            1,
            "−0.010, interval −0.040 … +0.020: still not wors",
        ),
        (OneSided(400, 4, 8, Estimate(-0.01, -0.03, 0.02)), WORSE, 0, "which may be worse by more than 0.05"),
        (OneSided(400, 4, 8, Estimate(-0.01, -0.03, 0.02)), None, 0, "not known yet whether the arms are alike"),
        (OneSided(30, 0, 3, Estimate(-0.1, None, None)), WORSE, 0, "candidate 3 of 30"),
    ],
)
def test_the_gate_is_green_for_few_alike_or_harmless_ones(
    found: OneSided, worst: Estimate | None, state: int, says: str
) -> None:
    gate = completeness_gate("quality", "candidate", found, worst, 0.05)
    assert isinstance(gate, GateResult)
    assert (gate.name, gate.state) == ("completeness", state)
    assert says.replace("−", "-") in gate.says.replace("−", "-"), gate.says


def test_there_is_no_gate_where_every_score_has_its_pair() -> None:
    assert completeness_gate("quality", "candidate", OneSided(400, 0, 0, Estimate(0.0)), None, 0.05) is None


def test_both_lines_are_in_the_finding(begin_experiment: Any) -> None:
    """The primary as it is, and with what is missing on one arm counted as the worst for the candidate."""
    run = begin_experiment(rules=2, method="anytime", aa="alarm", repeat_control=0.2)
    pairs = [a_pair(i, seen(0.8), candidate=seen(0.8) if i % 25 else without()) for i in range(200)]
    run.add(pairs)
    found = run.found()
    assert found.primary is not None
    assert found.primary.difference.value == 0
    assert found.primary.at_worst is not None
    assert found.primary.at_worst.value == pytest.approx(-0.032)
    assert "completeness" in {gate.name for gate in found.gates}
    assert not {c.metric for c in found.metrics} & {MISSING, WORST}


def compared(wins: float | None, status: str | None = None, **more: Any) -> ArmObservation:
    """A candidate's answer that a pairwise judge compared with the control's."""
    given = StoredScore(status or ("not_applicable" if wins is None else "scored"), None, wins)
    return ArmObservation("ok", "x", pair_scores={JUDGE: given}, **more)


@pytest.mark.parametrize(
    ("control", "candidate", "missing", "worst"),
    [
        (ArmObservation("ok"), compared(1.0), PairValue(0, 0, 0), PairValue(0, 1, 1)),
        (ArmObservation("ok"), compared(0.5), PairValue(0, 0, 0), PairValue(0.5, 0.5, 0)),
        (ArmObservation("ok"), compared(None), PairValue(0, 1, -1), PairValue(1, 0, -1)),
        (ArmObservation("ok"), compared(1.0, truncated=True), PairValue(0, 1, -1), PairValue(1, 0, -1)),
        (ArmObservation("ok", truncated=True), compared(1.0), PairValue(0, 1, -1), PairValue(1, 0, -1)),
        (ArmObservation("ok"), compared(None, "failed"), None, None),
        (ArmObservation("ok"), ArmObservation("ok"), None, None),
    ],
)
def test_a_missing_preference_counts_for_the_control(
    control: ArmObservation, candidate: ArmObservation, missing: PairValue | None, worst: PairValue | None
) -> None:
    plan, joined = a_plan(rules=2, repeat_control=0.0), a_pair(1, control, candidate=candidate)
    of = {m.name: pair_value(plan, m, joined, "candidate") for m in metrics_of(plan, joined)}
    assert (of.get(MISSING), of.get(WORST)) == (missing, worst)


@pytest.mark.parametrize(
    ("without", "worst", "state", "says"),
    [
        (0, FAIR, None, ""),
        (4, WORSE, 1, "no preference in 4 of 400 pairs; too few"),
        (12, FAIR, 1, "still not worse by more than 0.05"),
        (12, WORSE, 0, "which may be worse by more than 0.05"),
        (200, WORSE, 0, "which may be worse by more than 0.05"),
    ],
)
def test_a_missing_preference_never_shows_which_arm_lacks(
    without: int, worst: Estimate, state: int | None, says: str
) -> None:
    gate = preference_completeness_gate("prefers", NoPreference(400, without), worst, 0.05)
    assert (None if gate is None else gate.state) == state
    assert gate is None or says in gate.says


def test_a_judge_that_skips_bad_answers_does_not_ship(begin_experiment: Any) -> None:
    """A fifth of the pairs has no preference, all others prefer the candidate a little: without the gate it ships."""
    run = begin_experiment(rules=2, method="anytime", aa="alarm", min_hours=0.0, margin=0.1, guardrails=())
    run.add(a_pair(i, seen(0.8), candidate=compared(None if i % 5 == 0 else 0.5 + i % 2 / 10), repeat=seen(0.8))
            for i in range(1500))  # fmt: skip
    found = run.found()
    assert found.primary is not None
    assert found.primary.margin_found in ("equivalent", "non_inferior")
    assert found.primary.at_worst is not None
    assert found.primary.at_worst.value == pytest.approx(-0.2 + 0.4 * 0.2)
    gates = {gate.name: gate for gate in found.gates}
    assert (gates["completeness"].state, found.decision.verdict) == (0, "hold"), gates
    assert "no preference in 300 of 1500 pairs" in gates["completeness"].says
