"""Units of recent calls are counted once each, of the plan's model and keys alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from fixtures.simulated import a_plan

from gateway.features.experiments.rows.unit_counts import UnitCounts, unit_counts


def test_units_of_recent_calls_are_counted(store: Any, exchange: Any) -> None:
    plan = a_plan()
    usual = {"alias": plan.model, "received": 1000.0}
    store.write(*(exchange("1", caller=f"k{i % 3}", user_digest=f"u{i % 4}", **usual) for i in range(12)))
    store.write(
        exchange("1", caller="early", **{**usual, "received": 1.0}),
        exchange("1", caller="elsewhere", **{**usual, "alias": "other"}),
        exchange("1", caller="shadow", role="shadow", **usual),
    )
    assert store.run(lambda c: unit_counts(c, plan, 500.0)) == UnitCounts(12, 3, 4)
    few = replace(plan, keys=("k0",))
    assert store.run(lambda c: unit_counts(c, few, 500.0)).callers == 1
