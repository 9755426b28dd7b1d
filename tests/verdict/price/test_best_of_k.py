"""`gateway ab power` of several candidates: paid calls if all are alike, and if one is better."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fixtures.simulated import a_pair, a_plan, seen

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan, StoredPlan
from gateway.core.plan_horizon import horizon_of
from gateway.features.experiments.start.price import price_evidence
from gateway.verdict.price.best_of_k import best_price, best_term
from gateway.verdict.price.forecast import EACH_OTHER, forecast
from gateway.verdict.report.price import lines, to_dict


def several(n: int = 4, **changes: Any) -> Plan:
    arms = tuple((f"c{i}", Target("b", f"c{i}")) for i in range(n))
    design = {"family": "best", "method": "anytime", "aa": "alarm", "auto_horizon": True, "margin": 0.05, "rules": 2}
    plan = a_plan(candidates=arms, guardrails=(), repeat_control=0.25, **{**design, **changes})
    return replace(plan, max_pairs=horizon_of(plan))


def stored(plan: Plan) -> StoredPlan:
    return StoredPlan(plan, plan.hash, "stopped", 1.0)


def test_the_price_counts_the_drops() -> None:
    """Computed by hand: 400 pairs decide alike candidates, 100 a gap of one margin, 50 of two; a guardrail takes 200.
    The one that leads alike candidates is ahead by chance, by 1.05 deviations of one mean, and by 0.74 of a
    difference."""
    until = {0.5: None, 1.0: 500, 1.5: 300, 2.0: 100, 3.0: 50, 4.0: 30}
    asked = []

    def pairs(margins: float, deviations: float) -> int | None:
        asked.append((margins, round(deviations, 2)))
        return 400 if deviations else until[margins]

    price = best_price(several(), 0.09, pairs, 200)
    assert asked[0] == (1.0, 0.74)
    assert not any(deviations for _, deviations in asked[1:])
    assert price is not None
    assert (price.arms, price.alpha) == (5, pytest.approx(0.05 / 8))
    assert [(c.gap, c.dropped_pairs, c.pairs, c.paid_calls) for c in price.cases] == [
        (0.0, None, 400, 4 * 400 + 100),
        (0.5, None, 300, 4 * 300 + 75),
        (1.0, None, 200, 4 * 200 + 50),
        (2.0, 100, 200, 200 + 3 * 100 + 50),
        (3.0, 50, 200, 200 + 3 * 50 + 50),
    ]
    assert price.separate_paid_calls == 4 * 354, "283 pairs of a fixed test, with a quarter of repeats"
    assert best_term(price).says == (
        "each comparison, with the control and between candidates, has a one-sided error of 0.0063; 1\u202f700 paid "
        "calls if all candidates are alike, 850 if one is better by 1 × the margin, 550 if one is better by 2 × the "
        "margin, 400 if one is better by 3 × the margin; 4 experiments with one look each: 1\u202f416"
    )
    assert [price.at(effect) for effect in (1.0, 1.5, 2.0)] == list(price.cases[:3])
    assert best_price(several(), 0.09, lambda *_: None, 0) is None, "too many to predict"
    assert best_price(replace(several(), margin=0.0), 0.09, lambda *_: 10, 0) is None


def test_the_forecast_has_a_duel_and_the_best() -> None:
    found = forecast(stored(several()))
    duel = found.metrics[-1]
    assert (duel.role, duel.candidate, duel.metric) == ("duel", EACH_OTHER, "quality")
    assert duel.variance == 0.1
    assert duel.pairs == found.metrics[0].pairs, "at the same error as against the control"
    assert found.best is not None
    paid = [case.paid_calls for case in found.best.cases]
    assert paid == sorted(paid, reverse=True)
    alike = found.best.cases[0]
    assert [(p.pairs, p.paid_calls) for p in found.prices] == [(c.pairs, c.paid_calls) for c in found.best.cases[:3]]
    text = lines("swap", found)
    assert any(line.startswith("best of 4: each comparison, with the control and between candidates") for line in text)
    assert to_dict(found)["best"]["cases"][0]["paid_calls"] == alike.paid_calls
    other = forecast(stored(several(family="holm")))
    assert other.best is None
    assert "best" not in to_dict(other), "other forecasts stay as they were"
    assert {each.role for each in other.metrics} == {"primary", "gate"}


def test_a_guardrail_is_paid_by_the_best_alone() -> None:
    """Failures take longer than scores, and the others are dropped before."""
    plan = replace(several(margin=0.1), guardrails=(Guardrail("error_rate", 0.01),))
    found = forecast(stored(plan))
    assert found.best is not None
    alike, *_, thrice = found.best.cases
    assert thrice.pairs == alike.pairs
    assert thrice.dropped_pairs is not None
    assert thrice.paid_calls < alike.paid_calls / 2


def test_the_variance_between_candidates_is_measured(begin_experiment: Any) -> None:
    """The candidates answer alike, and not like the control: between them little is to be paid for."""
    plan = several(2, rules=1)
    experiment = begin_experiment(**{f: getattr(plan, f) for f in ("candidates", "family", "method", "aa", "max_pairs",
                                     "auto_horizon", "margin", "guardrails", "repeat_control")})  # fmt: skip
    experiment.add(a_pair(i, seen(0.5), c0=seen(i % 2 / 1.0), c1=seen(i % 2 / 1.0)) for i in range(40))
    with experiment.engine.connect() as connection:
        plan = StoredPlan(experiment.plan, experiment.hash, "running", 1.0)
        found = forecast(plan, evidence=price_evidence(connection, plan))
    duel = found.metrics[-1]
    assert (duel.role, duel.have) == ("duel", 40)
    assert duel.variance < found.metrics[0].variance
    assert duel.needed < found.metrics[0].needed
