"""The gates of a plan: which there are, and their tolerance."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.reports.model import Comparison, Estimate
from gateway.verdict.plan_gates import FALLBACK, delta_of, gates_of

PRIMARY = Comparison("q", "", "primary", *[Estimate(None)] * 3, None, 0, 0.0, 0.1, "unclear", "unclear")


@pytest.mark.parametrize(
    ("margin", "primary", "delta"),
    [
        (0.1, None, 0.1),
        (0.1, PRIMARY, 0.1),
        (0.0, PRIMARY, FALLBACK),
        (0.1, replace(PRIMARY, unit="s"), FALLBACK),
    ],
)
def test_the_tolerance_is_the_margin_where_that_is_a_share(
    simulation: Any, margin: float, primary: Comparison | None, delta: float
) -> None:
    assert delta_of(simulation.a_plan(margin=margin), primary) == delta


def test_a_plan_without_a_primary_has_no_gate_on_pairs(begin_experiment: Any, simulation: Any) -> None:
    experiment = begin_experiment(primary=None, guardrails=())
    with experiment.engine.connect() as connection:
        looked = simulation.looked(connection, experiment.plan)
        assert gates_of(looked, "candidate", None, None) == ()
        names = [gate.name for gate in gates_of(looked, "candidate", PRIMARY, None)]
    assert names == ["aa", "losses"]
