"""How many pairs a verdict needs: from an assumed variance, and from the control against its repeat."""

from __future__ import annotations

import random
from typing import Any

import pytest

from gateway.core.plan import Plan
from gateway.evals.experiments.power import Power, PowerForecast, forecast, needed
from gateway.evals.experiments.sequences import SequenceRule
from gateway.evals.store.experiments.plans import StoredPlan


def stored(plan: Plan) -> StoredPlan:
    return StoredPlan(plan, plan.hash, "running", 1.0)


def test_without_a_store_the_variance_is_assumed_and_labelled(simulation: Any) -> None:
    quality, errors = forecast(None, stored(simulation.a_plan())).metrics

    assert (quality.metric, quality.variance, quality.have) == ("quality", 0.1, 0)
    assert "is assumed" in quality.basis
    assert (errors.metric, errors.variance) == ("error_rate", 0.03)


def test_an_unbounded_metric_has_no_assumed_variance(simulation: Any) -> None:
    (latency, _) = forecast(None, stored(simulation.a_plan(primary="total_s", margin=0.5))).metrics

    assert (latency.variance, latency.needed) == (None, None)
    assert "no guess" in latency.basis


def test_the_variance_comes_from_the_control_against_its_repeat(begin_experiment: Any, simulation: Any) -> None:
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
        quality = forecast(connection, stored(experiment.plan)).metrics[0]
        wider = forecast(connection, stored(experiment.plan), margin=0.2).metrics[0]

    assert quality.variance == pytest.approx(0.02, rel=0.2)
    assert quality.basis == "the control against itself, 200 pairs"
    assert quality.have == 200
    assert wider.needed < quality.needed < 2000


def test_the_slowest_metric_decides_and_unknown_stays_unknown() -> None:
    quick, slow, unknown = (Power(name, 0.1, 0.1, "", 0, n) for name, n in (("a", 50), ("b", 900), ("c", None)))

    assert PowerForecast((quick, slow), None).needed == 900
    assert PowerForecast((quick, unknown), None).needed is None
    assert PowerForecast((), None).needed is None


def test_a_margin_of_zero_never_has_enough_pairs() -> None:
    assert needed(SequenceRule("bernstein", 0.05), 0.1, 0.0) is None
