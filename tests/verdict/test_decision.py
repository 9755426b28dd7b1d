"""Comparisons and gates become one verdict in one sentence, with the remaining conditions of a hold."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from fixtures.simulated import a_pair, a_plan, seen
from numpy.typing import NDArray

from gateway.core.exchange import Target
from gateway.core.horizon import BURN_IN, planned_pairs
from gateway.core.plan import StoredPlan
from gateway.reports.model import Comparison, Estimate, GateResult, Verdict, margin_finding
from gateway.statistics.hybrid import half_width
from gateway.store.plan_evidence import StoredEvidence
from gateway.verdict.decision import (
    SwapDescription,
    cheaper,
    decide,
    faster,
    half_width_of,
    holm,
    pairs_needed,
    pairs_until_reject,
    rejects,
    share_of_hours,
    share_of_pairs,
    too_early,
    with_findings,
)
from gateway.verdict.findings import finding
from gateway.verdict.metrics import Metric
from gateway.verdict.report.presentation import sharing
from gateway.verdict.sequences.difference import EVEN, AlphaShare, SequenceRule, rule_of

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


def test_a_closed_plan_is_undecided_permanently() -> None:
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


def test_a_plan_without_a_primary_decides_nothing() -> None:
    decision = decide(SWAP, None, [RAIL], [GREEN], [])
    assert (decision.verdict, "no primary metric" in decision.sentence) == ("hold", True)


def test_the_predicted_number_of_pairs_decides() -> None:
    """The interval around the same mean ends on one side of the margin after that many more pairs, and not before."""
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


Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
THREE = ("fast", "slow", "tiny")


def by_share(needs: Mapping[str, tuple[Verdict, float]]) -> Any:
    """Each candidate has its verdict once its share is at least the number."""

    def verdict(arm: str, share: AlphaShare) -> Verdict:
        kind, least = needs[arm]
        there = share.ship if kind == "ship" else share.reject
        return kind if there >= least else "hold"

    return verdict


def test_each_that_ships_leaves_its_part_to_the_others() -> None:
    found = holm(THREE, by_share({"fast": ("ship", 1.0), "slow": ("ship", 1.5), "tiny": ("ship", 9.0)}))
    assert {arm: share.ship for arm, share in found.items()} == {"fast": 1.0, "slow": 1.5, "tiny": 3.0}
    assert {share.reject for share in found.values()} == {1.0}


def test_a_rejected_candidate_leaves_no_error_for_ship() -> None:
    found = holm(THREE, by_share({"fast": ("reject", 1.0), "slow": ("reject", 1.2), "tiny": ("ship", 1.1)}))
    assert found["tiny"] == AlphaShare(1.0, 3.0)


def test_all_keep_even_shares_until_one_is_decided() -> None:
    found = holm(THREE, by_share(dict.fromkeys(THREE, ("ship", 1.5))))
    assert set(found.values()) == {EVEN}
    assert holm(("only",), by_share({"only": ("ship", 1.0)})) == {"only": EVEN}


@cache
def per_root(horizon: int, alpha: float) -> Values:
    """Half-widths after each pair, for a sum of squares of n²."""
    return np.array(
        [half_width(alpha, horizon, n, float(n) ** 2, 0.0) if n >= BURN_IN else math.inf for n in range(1, horizon + 1)]
    )


def bounds(x: Values, horizon: int, alpha: float) -> Values:
    """Lower bounds after every pair."""
    n = np.arange(1, horizon + 1)
    mean = np.cumsum(x, axis=-1) / n
    m2 = np.maximum(np.cumsum(x * x, axis=-1) - n * mean**2, 0.0)
    return mean - per_root(horizon, alpha) * np.sqrt((m2 + 3.4 * np.minimum(1.0, 7.0 / np.maximum(m2, 1e-12))) / n**2)


def shipped(means: tuple[float, ...], runs: int) -> tuple[Flags, Flags]:
    """Whether each candidate ships, by even shares of the error and in Holm's steps; shape (candidates, runs). Margin
    0.05, sd 0.3."""
    k, rng = len(means), np.random.default_rng(8)
    horizon = planned_pairs(0.3, 0.05, 0.05 / k)
    served = rng.normal(0, 0.3 / math.sqrt(2), (runs, horizon))  # all candidates are compared with the same answers
    x = np.array([np.clip(rng.normal(m, 0.3 / math.sqrt(2), served.shape) - served, -1, 1) for m in means])
    passes = {m: bounds(x, horizon, 0.05 / m) > -0.05 for m in range(1, k + 1)}
    out = passes[k]
    for left in range(k - 1, 0, -1):
        out = out | (passes[left] & (out.sum(axis=0) >= k - left))
    return passes[k].any(axis=2), out.any(axis=2)


def test_holm_ships_more_right_and_no_more_wrong_candidates(capsys: pytest.CaptureFixture[str]) -> None:
    """Any of the worse ones is shipped in at most alpha; five standard errors are allowed."""
    runs, rows = 800, []
    for means in ((-0.05,) * 3, (0.05, -0.05, -0.05), (0.05, 0.05, -0.05), (0.0,) * 3):
        worse = [i for i, m in enumerate(means) if m < 0]
        found = shipped(means, runs)
        wrong, right = (
            [f[worse].any(axis=0).mean() if worse else 0.0 for f in found],
            [f.all(axis=0).mean() if not worse else 0.0 for f in found],
        )
        rows.append((means, *wrong, *right))
        assert wrong[1] <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / runs)
    with capsys.disabled():
        print("\nThree candidates, alpha 0.05: any wrong ship (even, Holm), all three ship (even, Holm)")  # noqa: T201
        for means, *numbers in rows:
            print(f"{means!s:22}", *(f"{n:7.4f}" for n in numbers))  # noqa: T201
    assert rows[-1][4] > rows[-1][3] + 0.03, "equal candidates"


def score(rng: random.Random, mean: float) -> Any:
    return seen(min(1.0, max(0.0, rng.gauss(mean, 0.15))))


def found_by(experiment: Any, family: str) -> dict[str, Any]:
    """The same pairs, as a plan with this procedure sees them."""
    plan = replace(experiment.plan, family=family)
    stored = StoredPlan(plan, experiment.plan.hash, "running", 1.0)
    with experiment.engine.connect() as connection:
        return {arm: finding(StoredEvidence(connection, stored), arm) for arm in THREE}


def test_a_candidate_ships_earlier_once_another_has(begin_experiment: Any) -> None:
    """One is much better, one is as good as the control, one much worse. At the same pairs the one that is as good is
    undecided with its own part of the error, and ships with that of the better one."""
    arms = tuple((arm, Target("b", arm)) for arm in THREE)
    design = {"method": "hybrid", "max_pairs": 200, "aa": "alarm", "guardrails": (), "family": "holm", "margin": 0.1}
    experiment, rng = begin_experiment(candidates=arms, **design), random.Random(3)
    means, holm_ = {"fast": 0.8, "slow": 0.5, "tiny": 0.1, "repeat": 0.5}, {}
    while not holm_ or holm_["slow"].decision.verdict == "hold":
        experiment.add(
            a_pair(i, score(rng, 0.5), **{arm: score(rng, mean) for arm, mean in means.items()})
            for i in range(experiment.n, experiment.n + 1 if experiment.n else 170)
        )
        holm_ = found_by(experiment, "holm")
    even = found_by(experiment, "even")
    assert [f.decision.verdict for f in holm_.values()] == ["ship", "ship", "reject"]
    assert [f.decision.verdict for f in even.values()] == ["ship", "hold", "reject"]
    assert holm_["slow"].family.ship == pytest.approx(0.05 / 2)
    assert holm_["slow"].family.reject == pytest.approx(0.05 / 2)
    assert holm_["tiny"].family.reject == pytest.approx(0.05 / 3)
    assert holm_["slow"].primary.difference.low > even["slow"].primary.difference.low
    assert sharing(holm_["slow"].family) == (
        "3 candidates share an error of 0.05 by Holm's procedure: 0.025 to ship and 0.025 to reject this one "
        "(fast ship, slow ship, tiny reject)."
    )
    assert even["slow"].family.ship == pytest.approx(0.05 / 3)


MARGIN = 0.05


def metric_so_far(high: float, share: float, metric: str = "quality") -> Comparison:
    """Worse by 0.1 below this upper end."""
    difference, none = Estimate(high - 0.1, high - 0.2, high), Estimate(0.5)
    found = margin_finding(difference, MARGIN)
    return Comparison(
        metric, "", "primary", none, none, difference, None, 100, 100.0, MARGIN, "unclear", found, hours_share=share
    )


@pytest.mark.parametrize(
    ("high", "share", "verdict"),
    [
        (-0.06, 1.0, True),
        (-0.06, 0.9, True),  # 0.9 × 0.06 is more than the margin
        (-0.06, 0.8, False),
        (-0.21, 0.25, True),
        (-0.19, 0.25, False),
        (-0.9, 0.0, False),
        (-0.04, 1.0, False),  # not shown to be worse by the margin at all
    ],
)
def test_the_share_of_the_harm_must_exceed_the_margin(high: float, share: float, verdict: bool) -> None:
    c = metric_so_far(high, share)
    assert rejects(c) == verdict
    assert too_early(c) == (high < -MARGIN and not verdict)


def test_a_guardrail_that_waits_is_named_first() -> None:
    swap, gate = SwapDescription("chat", "a/m", "b/m"), GateResult("hours", 0, "needs 24 hours of traffic; 1.2 so far")
    good = replace(metric_so_far(-0.06, 1.0), difference=Estimate(0.0, -0.01, 0.01), margin_found="equivalent")
    held = decide(swap, good, [metric_so_far(-0.19, 0.25, "error_rate")], [gate], [])
    assert held.verdict == "hold"
    assert held.reasons[0].startswith("error_rate: worse by more than 0.05 so far")
    assert "cover 25% of the hours; a reject now takes an interval below −0.200" in held.reasons[0]
    assert held.reasons[1] == "open: needs 24 hours of traffic; 1.2 so far"
    assert decide(swap, good, [metric_so_far(-0.21, 0.25, "error_rate")], [gate], []).verdict == "reject"


def test_the_pairs_until_it_rejects_keep_the_pace() -> None:
    """62.5 % of the hours are needed at a share of 0.5 and an upper end of −0.08: 25 pairs more than 100."""
    assert pairs_until_reject(metric_so_far(-0.08, 0.5)) == 25
    assert pairs_until_reject(metric_so_far(-0.08, 1.0)) is None


def test_plans_without_hours_have_all_of_them() -> None:
    plan = a_plan(rules=2, min_hours=24.0)
    assert [share_of_hours(plan, hours) for hours in (0.0, 6.0, 30.0)] == [0.0, 0.25, 1.0]
    assert share_of_hours(replace(plan, min_hours=0.0), 0.0) == 1.0
    assert share_of_hours(replace(plan, rules=1), 0.0) == 1.0
    assert share_of_pairs(plan, None) == 1.0
