"""From comparisons and gates to one verdict in one sentence, and what a hold still needs."""

from __future__ import annotations

from dataclasses import replace

import pytest
from fixtures.simulated import a_plan

from gateway.features.experiments.metrics import Metric
from gateway.features.experiments.sequences import SequenceRule, rule_of
from gateway.features.experiments.verdict import (
    SwapDescription,
    cheaper,
    decide,
    faster,
    half_width_of,
    pairs_needed,
    with_findings,
)
from gateway.reports.model import Comparison, Estimate, GateResult

SWAP = SwapDescription("chat", "openai/gpt-x", "local/llama-y")
GREEN = GateResult("aa", 1, "fine")
RULE = rule_of(a_plan(), Metric("helpfulness", "score"), 0.02)


def comparison(metric: str, low: float | None, value: float, high: float | None, margin: float = 0.02) -> Comparison:
    e = Estimate(value, low, high)
    made = Comparison(
        metric, "", "primary", Estimate(0.7), Estimate(0.7), e, None, 1240, 1240.0, margin, "unclear", "unclear"
    )
    return with_findings(made, RULE, 0.02)


GOOD = comparison("helpfulness", -0.011, 0.004, 0.019)
WORSE = comparison("helpfulness", -0.09, -0.07, -0.05)
RAIL = comparison("error_rate", -0.004, 0.002, 0.008, 0.01)


def test_ship_states_its_numbers_in_one_sentence() -> None:
    decision = decide(SWAP, GOOD, [RAIL], [GREEN], ["71 % cheaper", "p95 0.4 s lower"])
    assert decision.verdict == "ship"
    assert decision.sentence == (
        "Switching chat from openai/gpt-x to local/llama-y: the same within 0.02 on helpfulness "
        "(difference +0.004, interval \u22120.011 … +0.019, 1\u202f240 pairs), 71 % cheaper, p95 0.4 s lower. "
        "Guardrails hold. Ship."
    )


def test_hold_names_undecided_metrics_and_the_pairs_needed() -> None:
    rail = comparison("refusal", -0.05, -0.002, 0.04)
    decision = decide(SWAP, GOOD, [RAIL, rail], [GREEN], [])
    assert decision.verdict == "hold"
    (reason,) = decision.reasons
    assert reason.startswith("refusal (difference")
    assert "pairs more" in reason
    assert decision.sentence.endswith("Hold.")


def test_a_red_gate_withholds_every_verdict() -> None:
    gate = GateResult("aa", -1, "the pipeline alone makes a difference")
    for primary in (GOOD, WORSE):
        decision = decide(SWAP, primary, [RAIL], [GREEN, gate], ["71 % cheaper"])
        assert decision.verdict == "hold"
        assert "verdict withheld" in decision.sentence
        assert "the pipeline alone makes a difference" in decision.sentence
        assert "cheaper" not in decision.sentence


def test_an_open_gate_withholds_ship_and_not_reject() -> None:
    gate = GateResult("losses", 0, "nothing is known yet")
    held = decide(SWAP, GOOD, [RAIL], [GREEN, gate], [])
    assert (held.verdict, held.reasons) == ("hold", ("open: nothing is known yet",))
    assert decide(SWAP, WORSE, [RAIL], [GREEN, gate], []).verdict == "reject"
    assert decide(SWAP, WORSE, [RAIL], [GREEN, gate], [], early_reject=False).verdict == "hold"


def test_a_doubt_withholds_a_reject_by_the_primary_alone() -> None:
    gate = GateResult("aa", 0, "the control itself looks worse", doubts_reject=True)
    held = decide(SWAP, WORSE, [RAIL], [gate], [])
    assert held.verdict == "hold"
    assert "verdict withheld; open: the control itself looks worse" in held.sentence
    broken = comparison("error_rate", -0.2, -0.15, -0.1, 0.01)
    assert decide(SWAP, WORSE, [broken], [gate], []).verdict == "reject"


def test_a_hold_lists_open_gates_and_undecided_metrics() -> None:
    rail = comparison("refusal", -0.05, -0.002, 0.04)
    decision = decide(SWAP, GOOD, [rail], [GateResult("aa", 0, "3 of at least 10 repeats")], [])
    assert [reason.partition(" (")[0] for reason in decision.reasons] == ["open: 3 of at least 10 repeats", "refusal"]


def hybrid(value: float, half: float, pairs: int, horizon: int = 311, variance: float = 0.09) -> Comparison:
    open_ = replace(comparison("helpfulness", value - half, value, value + half, 0.05), pairs=pairs)
    return with_findings(open_, SequenceRule("hybrid", 0.05, horizon=horizon), variance)


def test_a_closed_plan_is_undecided_for_good() -> None:
    decision = decide(SWAP, hybrid(-0.04, 0.035, 311), [], [GREEN], [])
    assert decision.verdict == "hold"
    assert "Closed at 311 pairs; undecided: helpfulness" in decision.sentence
    assert "more than its 311 pairs" in decision.sentence


def test_a_plan_that_cannot_end_in_a_verdict_says_so() -> None:
    """Almost on the margin, shortly before the horizon."""
    open_ = hybrid(-0.05, 0.06, 305)
    assert open_.chance is not None
    assert open_.chance < 0.05
    decision = decide(SWAP, open_, [], [GREEN], [])
    assert "decides it only with a probability of" in decision.sentence
    assert "stop paying for it. Undecided" in decision.sentence


def test_the_chance_of_a_verdict_follows_what_is_known() -> None:
    early, good, decided = hybrid(-0.05, 0.2, 30), hybrid(0.0, 0.06, 250), hybrid(0.0, 0.03, 300)
    assert early.chance is not None
    assert early.chance > 0.3, "little is known yet"
    assert good.chance is not None
    assert good.chance > 0.8
    assert (decided.chance, decided.margin_found) == (None, "equivalent")


@pytest.mark.parametrize(
    "rule",
    [SequenceRule("hybrid", 0.05, horizon=2000), SequenceRule("guarded", 0.05), SequenceRule("rare", 0.05)],
    ids=lambda rule: rule.method,
)
def test_the_pairs_needed_follow_the_method(rule: SequenceRule) -> None:
    more = pairs_needed(Estimate(0.0, -0.1, 0.1), 100, 0.02, 0.05, rule)
    assert more is not None
    width = half_width_of(rule, 0.02)
    assert width(100 + more) < 0.05 <= width(99 + more)


def test_a_horizon_that_is_too_near_needs_more_pairs_than_it_has() -> None:
    rule = SequenceRule("hybrid", 0.05, horizon=100)
    assert pairs_needed(Estimate(0.0, -0.1, 0.1), 50, 0.3, 0.05, rule) is None


def test_a_guardrail_alone_rejects() -> None:
    bad = comparison("error_rate", -0.07, -0.05, -0.03, 0.01)
    decision = decide(SWAP, GOOD, [bad], [GREEN], [])
    assert decision.verdict == "reject"
    assert decision.sentence.endswith("Guardrails broken: error_rate. Reject.")
    assert decision.reasons[0].startswith("error_rate: worse by more than 0.01")


def test_a_better_primary_does_not_excuse_an_open_guardrail() -> None:
    better = comparison("helpfulness", 0.05, 0.1, 0.15)
    assert decide(SWAP, better, [replace(RAIL, margin_found="unclear")], [GREEN], []).verdict == "hold"


def test_without_a_primary_nothing_is_decided() -> None:
    decision = decide(SWAP, None, [RAIL], [GREEN], [])
    assert (decision.verdict, "no primary metric" in decision.sentence) == ("hold", True)


def test_the_predicted_number_of_pairs_decides() -> None:
    """After that many more pairs the interval around the same mean ends on one side of the margin; not before."""
    e, variance, n = Estimate(0.003, -0.04, 0.046), 0.05, 300
    more = pairs_needed(e, n, variance, 0.02, RULE)
    assert more is not None
    width = half_width_of(RULE, variance)
    assert width(n + more) < 0.003 + 0.02 <= width(n + more - 1)
    assert pairs_needed(Estimate(-0.02, -0.1, 0.1), n, variance, 0.02, RULE) is None, "on the margin"
    assert pairs_needed(Estimate(0.0, -0.01, 0.01), n, variance, 0.02, RULE) is None, "decided"
    assert pairs_needed(Estimate(None), 0, 0.0, 0.02, RULE) is None


def test_cost_and_latency_are_claimed_only_where_shown() -> None:
    cost = replace(comparison("cost_per_1k", 1.5, 1.7, 1.9), a=Estimate(2.4), b=Estimate(0.7), unit="USD per 1k")
    assert cheaper(cost) == "71 % cheaper (1.5 … 1.9 USD per 1k)"
    dearer = replace(cost, direction_found="worse", b=Estimate(4.8), difference=Estimate(-2.4, -2.6, -2.2))
    assert cheaper(dearer) == "100 % more expensive (2.2 … 2.6 USD per 1k)"
    assert cheaper(replace(cost, direction_found="unclear")) is None
    assert cheaper(None) is None
    p95 = comparison("latency_p95", 0.1, 0.4, 0.7)
    assert faster(p95) == "p95 0.4 s lower (0.1 … 0.7)"
    assert faster(replace(p95, direction_found="worse", unit="s")) == "p95 0.4 s higher (0.1 … 0.7 s)"
    assert faster(replace(p95, direction_found="unclear")) is None
