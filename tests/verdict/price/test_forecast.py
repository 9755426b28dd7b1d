"""The number of pairs for a verdict: from an assumed variance, and from the control against its repeat."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.likelihoods import likelihood_plan

from gateway.core.plan import Plan, StoredPlan
from gateway.core.served_answer import ServedAnswer
from gateway.features.experiments.start.price import price_evidence
from gateway.reports.model import ArmResponse, Comparison, Estimate, Responses
from gateway.verdict.metrics import ArmObservation, PairOrigin, StoredScore
from gateway.verdict.price.forecast import PowerForecast, Terms, forecast
from gateway.verdict.price.powers import EFFECTS, Power, needed
from gateway.verdict.price.units import SplitVariance, units_needed, variance_of
from gateway.verdict.sequences.difference import SequenceRule
from gateway.verdict.split.comparison import SplitTerms, compare_arms
from gateway.verdict.split.outcomes import ArmOutcomes


def priced(connection: Any, plan: StoredPlan, terms: Terms | None = None) -> PowerForecast:
    return forecast(plan, terms or Terms(), price_evidence(connection, plan))


def stored(plan: Plan) -> StoredPlan:
    return StoredPlan(plan, plan.hash, "running", 1.0)


def test_the_variance_is_assumed_and_labelled_without_a_store(simulation: Any) -> None:
    quality, errors, gate = forecast(stored(simulation.a_plan())).metrics

    assert (quality.metric, quality.variance, quality.have) == ("quality", 0.1, 0)
    assert "is assumed" in quality.basis
    assert (errors.metric, errors.variance) == ("error_rate", 0.0)
    assert "nothing fails" in errors.basis
    assert (gate.metric, gate.role) == ("aa", "gate")


def test_an_unbounded_metric_has_no_assumed_variance(simulation: Any) -> None:
    latency = forecast(stored(simulation.a_plan(primary="total_s", margin=0.5))).metrics[0]

    assert (latency.variance, latency.needed) == (None, None)
    assert "no guess" in latency.basis


def test_the_variance_is_the_candidates_own_once_it_has_pairs(begin_experiment: Any, simulation: Any) -> None:
    """Noisier answers need more pairs; a wider margin needs fewer."""
    rng, experiment = random.Random(1), begin_experiment()
    noisy = [
        simulation.a_pair(
            i,
            simulation.seen(rng.choice([0.4, 0.6])),
            candidate=simulation.seen(0.5),
            repeat=simulation.seen(rng.choice([0.4, 0.6])),
        )
        for i in range(200)
    ]
    experiment.add(noisy)
    with experiment.engine.connect() as connection:
        quality = priced(connection, stored(experiment.plan)).metrics[0]
        wider = priced(connection, stored(experiment.plan), Terms(margin=0.2)).metrics[0]

    assert quality.variance == pytest.approx(0.01, rel=0.2)
    assert quality.basis == "the candidate so far, 200 pairs"
    assert quality.have == 200
    assert wider.needed < quality.needed < 2000


def test_the_slowest_metric_decides_and_unknown_stays_unknown() -> None:
    quick, slow, unknown = (Power(name, 0.1, 0.1, "", 0, n) for name, n in (("a", 50), ("b", 900), ("c", None)))

    assert PowerForecast((quick, slow), None).needed == 900
    assert PowerForecast((quick, unknown), None).needed is None
    assert PowerForecast((), None).needed is None


def test_a_margin_of_zero_never_has_enough_pairs() -> None:
    assert needed(SequenceRule("bernstein", 0.05), 0.1, 0.0) is None


def test_a_variance_of_zero_is_not_believed(begin_experiment: Any, simulation: Any) -> None:
    """The control repeats itself at temperature 0, and 30 equal pairs prove little."""
    experiment = begin_experiment()
    same = [simulation.a_pair(i, simulation.seen(0.5), candidate=simulation.seen(0.5), repeat=simulation.seen(0.5))
            for i in range(30)]  # fmt: skip
    experiment.add(same)
    with experiment.engine.connect() as connection:
        found = priced(connection, stored(experiment.plan)).metrics

    assert [each.variance for each in found] == [0.1, 0.0, 0.1]
    assert found[0].basis.endswith("with a floor for rare differences")


def test_a_repeat_share_and_a_scorer_share_cost_pairs(simulation: Any) -> None:
    plan = stored(simulation.a_plan(repeat_control=0.25, shadow=0.5))
    quality, errors, gate = forecast(plan, Terms(scorer_shares={"quality": 0.1})).metrics

    assert quality.pairs[0] == pytest.approx(10 * quality.needed, abs=10)
    assert errors.pairs[0] == 4 * errors.needed
    assert gate.pairs == (40 * gate.needed,) * len(EFFECTS)


def test_the_price_is_in_requests_paid_calls_and_days(simulation: Any) -> None:
    plan = stored(simulation.a_plan(repeat_control=0.25, shadow=0.5))
    found = forecast(plan, Terms(requests_a_day=1000.0))
    price = found.prices[0]

    assert price.pairs == found.needed == max(each.pairs[0] for each in found.metrics)
    assert (price.requests, price.paid_calls) == (2 * price.pairs, -(-price.pairs * 5 // 4))
    assert price.days == pytest.approx(price.pairs / 500)
    rejects = [each.reject_pairs for each in found.prices]
    assert rejects == sorted(rejects, reverse=True), "a larger effect is seen earlier"


def test_every_candidate_is_counted(simulation: Any) -> None:
    targets = simulation.a_plan().candidates[0][1]
    plan = stored(simulation.a_plan(candidates=(("x", targets), ("y", targets)), repeat_control=0.5))
    found = forecast(plan)

    assert {each.candidate for each in found.metrics} == {"x", "y"}
    assert found.prices[0].paid_calls == -(-found.prices[0].pairs * 5 // 2)


def test_gates_on_losses_and_judges_are_priced_after_a_loss(begin_experiment: Any, simulation: Any) -> None:
    """A twentieth of the judgements fails on each arm; below a share that cannot matter, nothing is asked for."""
    rng, quiet, failing = random.Random(4), begin_experiment(), begin_experiment()

    def judged(failed: bool) -> Any:
        scores = {simulation.JUDGE: StoredScore("error" if failed else "scored", None if failed else 0.5, 0.5)}
        return ArmObservation("ok", "x", scores=scores)

    for experiment, share in ((quiet, 0.0), (failing, 0.05)):
        pairs = []
        for i in range(200):
            control, candidate = (judged(i > 5 and rng.random() < share) for _ in range(2))
            pairs.append(simulation.a_pair(i, control, candidate=candidate, repeat=judged(False)))
        experiment.add(pairs)
    found = []
    for experiment in (quiet, failing):
        with experiment.engine.connect() as connection:
            found.append({p.metric: p for p in priced(connection, stored(experiment.plan)).metrics})
    assert "judge" not in found[0]
    judge = found[1]["judge"]
    assert (judge.role, judge.margin, judge.have) == ("gate", 0.1, 200)
    assert "lost on each arm so far, 200 pairs" in judge.basis
    assert judge.needed is not None
    assert 20 < judge.needed < 1000
    assert judge.pairs == (judge.needed,) * 3


def test_a_likelihood_experiment_has_a_price_before_its_first_pair() -> None:
    [primary] = forecast(stored(likelihood_plan())).metrics
    assert (primary.metric, primary.role, primary.per_pair) == ("nats_per_token", "primary", 1.0)
    assert primary.needed is not None
    assert 50 < primary.needed < 200
    assert "is assumed" in primary.basis
    price = forecast(stored(likelihood_plan())).prices[0]
    assert price.paid_calls == math.ceil(2.5 * primary.needed)


def test_the_price_counts_values_that_depend_on_each_other(begin_experiment: Any, simulation: Any) -> None:
    """Forty users whose own differences are alike, then the same differences from a user each."""
    together, apart = begin_experiment(rules=2), begin_experiment(rules=2)
    pairs = [simulation.a_pair(i, simulation.seen(0.5), candidate=simulation.seen(0.3 if i % 2 else 0.7),
                               repeat=simulation.seen(0.5)) for i in range(400)]  # fmt: skip
    together.add(replace(each, origin=PairOrigin(1.0 + i, "key", f"u{i % 40}")) for i, each in enumerate(pairs))
    apart.add(replace(each, origin=PairOrigin(1.0 + i, "key", f"u{i}")) for i, each in enumerate(pairs))
    found = []
    for experiment in (together, apart):
        with experiment.engine.connect() as connection:
            found.append(priced(connection, stored(experiment.plan)).metrics[0])
    alike, alone = found
    assert alone.variance == pytest.approx(0.04, rel=0.05)
    assert alike.variance is not None
    assert alike.variance > 8 * alone.variance, "ten calls of a user say about as much as one"
    assert "times the variance since they depend on each other" in alike.basis
    assert "depend" not in alone.basis
    assert alike.needed is not None
    assert alone.needed is not None
    assert alike.needed > 4 * alone.needed


HALVES = {"control": 0.5, "candidate": 0.5}


def a_split(simulation: Any, **changes: Any) -> Any:
    fields = {"mode": "split", "split": 0.5, "repeat_control": 0.0, "shadow": 0.0, "guardrails": (), "margin": 0.1}
    return simulation.a_plan(**{**fields, **changes})


def compared(a: float, b: float, units: int, responses: Any = None) -> Comparison:
    none = Estimate(None)
    return Comparison("m", "", "primary", Estimate(a), Estimate(b), none, None, units, 0.0, 0.1, "unclear", "unclear",
                      responses=responses)  # fmt: skip


def test_the_units_are_those_that_the_interval_of_a_split_takes(simulation: Any) -> None:
    """Equal arms of 0.7: with the forecast's units the margin is decided, with a third fewer it is not."""
    plan, rng = a_split(simulation, primary="quality"), random.Random(3)
    n = units_needed(SplitVariance(0.21, 0.21, 1.0, ""), HALVES, "candidate", 0.1, plan.alpha)
    assert n is not None
    rows, values = [], []
    for i in range(n):
        arm = "candidate" if i % 2 else "control"
        rows.append(ServedAnswer(f"e{i}", arm, f"u{i}", (arm, "c", "t", "s"), "ok", 200, 1.0, None, 5, None, 1.0, 100))
        values.append(float(rng.random() < 0.7))

    def half(units: int) -> float:
        made = compare_arms(rows[:units], ArmOutcomes("quality", np.array(values[:units]), 1.0, True), SplitTerms(plan))
        assert made is not None
        return float(made.difference.high - made.difference.low) / 2  # type: ignore[operator]

    assert half(n) == pytest.approx(0.1, rel=0.05)
    assert half(2 * n // 3) > 0.11


def test_units_fall_with_the_margin_and_rise_with_an_uneven_split() -> None:
    spread = SplitVariance(0.2, 0.2, 1.0, "")
    even, wide = (units_needed(spread, HALVES, "candidate", gap, 0.05) for gap in (0.1, 0.2))
    uneven = units_needed(spread, {"control": 0.9, "candidate": 0.1}, "candidate", 0.1, 0.05)
    assert wide is not None
    assert even is not None
    assert uneven is not None
    assert wide < even < uneven
    assert units_needed(spread, HALVES, "candidate", 1e-6, 0.05) is None


def test_the_variance_is_assumed_and_then_measured(simulation: Any) -> None:
    plan = a_split(simulation, primary="feedback:thumb", feedback_window_s=60.0)
    assumed = variance_of(plan, "feedback:thumb", None)
    assert assumed is not None
    assert (assumed.a, assumed.answered) == (0.2, 0.1)
    assert "assumed to be rated" in assumed.basis
    rated = Responses(ArmResponse(100, 30, 0.3), ArmResponse(100, 10, 0.1), 0, Estimate(None), "omit")
    measured = variance_of(plan, "feedback:thumb", compared(0.5, 0.9, 40, rated))
    assert measured is not None
    assert (measured.a, measured.b, measured.answered) == (0.25, pytest.approx(0.09), 0.2)
    zero = variance_of(a_split(simulation, primary="feedback:thumb", feedback_missing="zero"), "feedback:thumb", None)
    assert zero is not None
    assert zero.answered == 1.0
    assert variance_of(plan, "total_s", None) is None


def test_a_split_forecast_has_its_gate_and_unrated_answers(simulation: Any) -> None:
    plan = a_split(simulation, primary="feedback:thumb", feedback_window_s=60.0)
    thumb, gate = forecast(StoredPlan(plan, plan.hash, "running", 1.0)).metrics
    assert (gate.metric, gate.role, gate.needed) == ("srm", "gate", 1300)
    assert thumb.needed is not None
    assert thumb.pairs[0] == pytest.approx(10 * thumb.needed, abs=10)
    assert 500 < thumb.needed < 1500
