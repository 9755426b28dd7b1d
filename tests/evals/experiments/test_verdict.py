"""From comparisons and gates to one verdict in one sentence, and what a hold still needs."""

from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.evals.experiments.metrics import Metric
from gateway.evals.experiments.report import Comparison, Estimate, GateResult
from gateway.evals.experiments.sequences import rule_of
from gateway.evals.experiments.verdict import (
    SwapDescription,
    cheaper,
    decide,
    faster,
    half_width_of,
    pairs_needed,
    with_findings,
)

SWAP = SwapDescription("chat", "openai/gpt-x", "local/llama-y")
GREEN = GateResult("aa", 1, "fine")
RULE = rule_of(Metric("helpfulness", "score"), 0.05, 0.02, stationary=False)


def comparison(metric: str, low: float | None, value: float, high: float | None, margin: float = 0.02) -> Comparison:
    e = Estimate(value, low, high)
    made = Comparison(
        metric, "", "primary", Estimate(0.7), Estimate(0.7), e, None, 1240, 1240.0, margin, "unclear", "unclear"
    )
    return with_findings(made, RULE, 0.02)


GOOD = comparison("helpfulness", -0.011, 0.004, 0.019)
RAIL = comparison("error_rate", -0.004, 0.002, 0.008, 0.01)


def test_ship_states_its_numbers_in_one_sentence() -> None:
    decision = decide(SWAP, GOOD, [RAIL], [GREEN], ["71 % cheaper", "p95 0.4 s lower"])
    assert decision.verdict == "ship"
    assert decision.sentence == (
        "Switching `chat` from openai/gpt-x to local/llama-y: the same within 0.02 on *helpfulness* "
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


@pytest.mark.parametrize("state", [0, -1])
def test_a_gate_that_is_not_green_withholds_the_verdict(state: int) -> None:
    gate = GateResult("aa", state, "the pipeline alone makes a difference")  # type: ignore[arg-type]
    decision = decide(SWAP, comparison("helpfulness", -0.09, -0.07, -0.05), [RAIL], [GREEN, gate], ["71 % cheaper"])
    assert decision.verdict == "hold"
    assert "verdict withheld" in decision.sentence
    assert "the pipeline alone makes a difference" in decision.sentence
    assert "cheaper" not in decision.sentence


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
    cost = replace(comparison("cost_per_1k", 1.5, 1.7, 1.9), a=Estimate(2.4), b=Estimate(0.7))
    assert cheaper(cost) == "71 % cheaper"
    assert cheaper(replace(cost, direction_found="worse", b=Estimate(4.8))) == "100 % more expensive"
    assert cheaper(replace(cost, direction_found="unclear")) is None
    assert cheaper(None) is None
    p95 = comparison("latency_p95", 0.1, 0.4, 0.7)
    assert faster(p95) == "p95 0.4 s lower"
    assert faster(replace(p95, direction_found="worse")) == "p95 0.4 s higher"
    assert faster(replace(p95, direction_found="unclear")) is None
