"""The pairs that count in no mean, by reason."""

from __future__ import annotations

from typing import Any

from gateway.verdict.withheld import withheld_of


def test_withheld_pairs_are_counted_by_reason(begin_experiment: Any, simulation: Any) -> None:
    experiment = begin_experiment()
    experiment.add(
        simulation.a_pair(
            i,
            simulation.seen(0.5),
            f"conversation {i // 2}",
            candidate=simulation.seen(None if i == 0 else 0.5),
        )
        for i in range(6)
    )
    with experiment.engine.connect() as connection:
        rows = withheld_of(experiment.found(), simulation.looked(connection, experiment.plan))

    assert rows == (("lost: candidate", 1), ("same conversation", 2))
