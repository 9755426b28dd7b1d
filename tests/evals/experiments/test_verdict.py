"""From comparisons and gates to one verdict in one sentence, and what a hold still waits for."""

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
    direction_finding,
    faster,
    half_width_of,
    margin_finding,
    pairs_needed,
    with_findings,
)

SWAP = SwapDescription("chat", "openai/gpt-x", "local/llama-y")
GREEN = GateResult("aa", 1, "fine")
RULE = rule_of(Metric("helpfulness", "score"), 0.05, 0.02, stationary=False)


def comparison(metric: str, low: float | None, value: float, high: float | None, margin: float = 0.02) -> Comparison:
    e = Estimate(value, low, high)
    made = Comparison(metric, "", "primary", Estimate(0.7), Estimate(0.7), e, None, 1240, 1240.0, margin, "unclear",
                      "unclear")  # fmt: skip
    return with_findings(made, RULE, 0.02)


GOOD = comparison("helpfulness", -0.011, 0.004, 0.019)
RAIL = comparison("error_rate", -0.004, 0.002, 0.008, 0.01)


@pytest.mark.parametrize(
    ("low", "high", "direction", "margin"),
    [
        (0.01, 0.03, "better", "non_inferior"),
        (-0.01, 0.01, "unclear", "equivalent"),
        (0.001, 0.015, "better", "equivalent"),
        (-0.01, 0.05, "unclear", "non_inferior"),
        (-0.03, 0.01, "unclear", "unclear"),
        (-0.019, -0.001, "worse", "equivalent"),
        (-0.05, -0.01, "worse", "unclear"),
        (-0.05, -0.021, "worse", "inferior"),
        (None, None, "unclear", "unclear"),
        (None, -0.03, "worse", "inferior"),
        (-0.01, None, "unclear", "non_inferior"),
    ],
)
def test_direction_and_margin(low: float | None, high: float | None, direction: str, margin: str) -> None:
    e = Estimate(0.0, low, high)
    assert (direction_finding(e), margin_finding(e, 0.02)) == (direction, margin)


def test_a_margin_of_nothing_asks_for_not_worse_at_all() -> None:
    assert margin_finding(Estimate(1.0, 0.0, 2.0), 0.0) == "non_inferior"
    assert margin_finding(Estimate(1.0, -0.001, 2.0), 0.0) == "unclear"


def test_ship_says_its_numbers_in_one_sentence() -> None:
    said = decide(SWAP, GOOD, [RAIL], [GREEN], ["71 % cheaper", "p95 0.4 s lower"])
    assert said.verdict == "ship"
    assert said.sentence == (
        "Switching `chat` from openai/gpt-x to local/llama-y: the same within 0.02 on *helpfulness* "
        "(difference +0.004, interval \u22120.011 … +0.019, 1\u202f240 pairs), 71 % cheaper, p95 0.4 s lower. "
        "Guardrails hold. Ship."
    )


def test_hold_names_what_is_undecided_and_how_much_is_needed() -> None:
    rail = comparison("refusal", -0.05, -0.002, 0.04)
    said = decide(SWAP, GOOD, [RAIL, rail], [GREEN], [])
    assert said.verdict == "hold"
    (reason,) = said.reasons
    assert reason.startswith("refusal (difference")
    assert "pairs more" in reason
    assert said.sentence.endswith("Hold.")


@pytest.mark.parametrize("state", [0, -1])
def test_nothing_is_said_while_a_gate_is_not_green(state: int) -> None:
    gate = GateResult("aa", state, "the pipeline alone makes a difference")  # type: ignore[arg-type]
    said = decide(SWAP, comparison("helpfulness", -0.09, -0.07, -0.05), [RAIL], [GREEN, gate], ["71 % cheaper"])
    assert said.verdict == "hold"
    assert "verdict withheld" in said.sentence
    assert "the pipeline alone makes a difference" in said.sentence
    assert "cheaper" not in said.sentence


def test_a_guardrail_alone_rejects() -> None:
    bad = comparison("error_rate", -0.07, -0.05, -0.03, 0.01)
    said = decide(SWAP, GOOD, [bad], [GREEN], [])
    assert said.verdict == "reject"
    assert said.sentence.endswith("Guardrails broken: error_rate. Reject.")
    assert said.reasons[0].startswith("error_rate: worse by more than 0.01")


def test_not_worse_on_the_primary_does_not_make_up_for_an_open_guardrail() -> None:
    better = comparison("helpfulness", 0.05, 0.1, 0.15)
    assert decide(SWAP, better, [replace(RAIL, margin_found="unclear")], [GREEN], []).verdict == "hold"


def test_without_a_primary_nothing_is_decided() -> None:
    said = decide(SWAP, None, [RAIL], [GREEN], [])
    assert (said.verdict, "no primary metric" in said.sentence) == ("hold", True)


def test_so_many_pairs_more_do_decide() -> None:
    """The interval around the same mean, after as many pairs more, ends on one side of the margin; before, not."""
    e, variance, n = Estimate(0.003, -0.04, 0.046), 0.05, 300
    more = pairs_needed(e, n, variance, 0.02, RULE)
    assert more is not None
    width = half_width_of(RULE, variance)
    assert width(n + more) < 0.003 + 0.02 <= width(n + more - 1)
    assert pairs_needed(Estimate(-0.02, -0.1, 0.1), n, variance, 0.02, RULE) is None, "on the margin: out of sight"
    assert pairs_needed(Estimate(0.0, -0.01, 0.01), n, variance, 0.02, RULE) is None, "decided"
    assert pairs_needed(Estimate(None), 0, 0.0, 0.02, RULE) is None


def test_cost_and_latency_are_said_only_where_the_interval_shows_which_way() -> None:
    cost = replace(comparison("cost_per_1k", 1.5, 1.7, 1.9), a=Estimate(2.4), b=Estimate(0.7))
    assert cheaper(cost) == "71 % cheaper"
    assert cheaper(replace(cost, direction_found="worse", b=Estimate(4.8))) == "100 % dearer"
    assert cheaper(replace(cost, direction_found="unclear")) is None
    assert cheaper(None) is None
    p95 = comparison("latency_p95", 0.1, 0.4, 0.7)
    assert faster(p95) == "p95 0.4 s lower"
    assert faster(replace(p95, direction_found="worse")) == "p95 0.4 s higher"
    assert faster(replace(p95, direction_found="unclear")) is None
