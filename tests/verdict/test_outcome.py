"""The outcome that a sentence is made of: as the metric measures it, from the store."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.store.tables import scores
from gateway.verdict.outcome import as_measured, outcome_of
from gateway.verdict.sentence import verdict_sentence


def scored(experiment: Any, values: tuple[float, ...], value01: tuple[float, ...], direction: str = "maximise") -> None:
    """Stores 20 scores of `quality` in the experiment's plan."""
    rows = [
        {
            "score_id": f"s{i}", "exchange_id": f"e{i}", "subject": "exchange", "plan": experiment.plan.hash,
            "scorer": "quality", "version": "1", "config_hash": "c1", "repeat": 0, "kind": "code",
            "direction": direction, "data_type": "number", "status": "scored", "value": values[i % len(values)],
            "value01": value01[i % len(value01)], "pi": 1.0, "stratum": "", "seconds": 0.1, "answered": 1.0,
            "created": 1.0,
        }
        for i in range(20)
    ]  # fmt: skip
    with experiment.engine.begin() as connection:
        connection.execute(scores.insert(), rows)


@pytest.fixture
def compared(begin_experiment: Any, simulation: Any) -> Any:
    """40 pairs: the control is right in half of them, the candidate in all."""
    experiment = begin_experiment()
    experiment.add(
        simulation.a_pair(i, simulation.seen(float(i % 2)), candidate=simulation.seen(1.0)) for i in range(40)
    )
    return experiment


@pytest.mark.parametrize(
    ("values", "value01", "direction", "text"),
    [
        ((0.0, 1.0), (0.0, 1.0), "maximise", "quality in 100\u202f% instead of 50\u202f%"),
        ((1.0, 0.0), (0.0, 1.0), "minimise", "quality in 0\u202f% instead of 50\u202f%"),
        ((0.2, 0.8), (0.2, 0.8), "maximise", "quality 1.00 instead of 0.50"),
    ],
)
def test_a_scorer_that_says_yes_or_no_has_shares(
    compared: Any, simulation: Any, values: Any, value01: Any, direction: str, text: str
) -> None:
    scored(compared, values, value01, direction)
    with compared.engine.connect() as connection:
        found, look = compared.found(), simulation.looked(connection, compared.plan)
        made = outcome_of(found, look)
    assert (made.verdict, made.pairs) == (found.decision.verdict, found.pairs.joined)
    assert text in verdict_sentence(made).text


def test_a_metric_of_a_split_is_shown_as_measured(compared: Any, simulation: Any) -> None:
    """A split has no sequence from which the scorer's version could be read."""
    scored(compared, (0.3, 0.1), (0.7, 0.9), "minimise")
    with compared.engine.connect() as connection:
        found = compared.found()
        nameless = replace(found, names={})
        c = as_measured(nameless, simulation.looked(connection, compared.plan), found.primary)
    assert (c.better, c.a.value) == ("lower", pytest.approx(0.5))
