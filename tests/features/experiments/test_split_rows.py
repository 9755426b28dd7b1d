"""What the comparisons of a split share, computed once."""

from __future__ import annotations

from typing import Any

from gateway.features.experiments.rows.queries import ServedAnswer
from gateway.features.experiments.split_rows import SplitRows


def row(i: int, arm: str, unit: str, pi: float = 1.0, size: int | None = 10) -> ServedAnswer:
    return ServedAnswer(f"e{i}", arm, unit, (arm, "c", "t", "s"), "ok", 200, 1.0, None, 5, None, pi, size)


ROWS = [row(0, "control", "u", 0.5), row(1, "candidate", "v"), row(2, "control", "u"), row(3, "control", "w", 0.25)]


def test_each_arm_has_its_units_in_order_of_arrival() -> None:
    control, candidate = SplitRows(ROWS).arms
    assert (control.at.tolist(), control.unit.tolist(), control.names) == ([0, 2, 3], [0, 0, 1], ["u", "w"])
    assert control.weights.tolist() == [2.0, 4.0], "of the first answer of each unit"
    assert (candidate.at.tolist(), candidate.names) == ([1], ["v"])


def test_it_is_the_sequence_of_its_rows() -> None:
    rows = SplitRows(ROWS)
    assert (len(rows), rows[1], list(rows), rows[1:3]) == (4, ROWS[1], ROWS, ROWS[1:3])


def test_covariates_differ_by_what_was_known(simulation: Any) -> None:
    plan = simulation.a_plan(mode="split", split=0.5, shadow=0.0, repeat_control=0.0, adjust=True, rules=2, unit="user")
    rows = SplitRows([row(0, "control", "u"), row(1, "candidate", "v"), row(2, "candidate", "w")])
    past = {"u": (1.0, 0.5), "v": (3.0, 0.1)}
    assert rows.covariates("quality", {}, plan) is None, "all bodies are of one length"
    by_failures, by_time = rows.covariates("quality", past, plan), rows.covariates("total_s", past, plan)
    assert by_failures is not None
    assert by_time is not None
    assert (by_failures[0].mean.tolist(), by_time[0].mean.tolist()) == ([0.5], [1.0])
    assert rows.covariates("refusal", past, plan) is by_failures
