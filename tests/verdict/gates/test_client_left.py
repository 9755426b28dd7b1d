"""Clients that leave count for the arm that keeps them waiting; few of them, or as many on both arms, do not matter."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.reports.model import Comparison, Estimate
from gateway.verdict.gates.client_left import LEAST_LEFT, left_gate, left_margin


@pytest.mark.parametrize(
    ("control", "candidate", "margin_found", "state", "says"),
    [
        (0.01, 0.2, "inferior", -1, "more by 2.00% or more, and these are in no other metric"),
        (0.1, 0.1, "equivalent", 1, "10.00% of the answers of control, 10.00% of candidate"),
        (0.1, 0.05, "non_inferior", 1, "did not wait"),
        (0.001, 0.002, "unclear", 1, "did not wait"),
        (0.05, 0.06, "unclear", 0, "not known yet whether that is less than 2.00% more"),
    ],
    ids=["leave more", "alike", "leave less", "few", "too few to tell"],
)
def test_clients_must_wait_as_they_do_for_the_control(
    control: float, candidate: float, margin_found: Any, state: int, says: str
) -> None:
    found = Comparison(
        "client_left", "", "other", Estimate(control), Estimate(candidate), Estimate(control - candidate), None, 400,
        400.0, 0.02, "unclear", margin_found,
    )  # fmt: skip
    gate = left_gate(found, "candidate", 0.02)
    assert (gate.name, gate.state, gate.value) == ("client_left", state, candidate)
    assert says in gate.says


@pytest.mark.parametrize(
    ("control", "failures", "margin"), [(0.0, None, LEAST_LEFT), (0.2, None, 0.1), (0.01, 0.03, 0.03), (0.2, 0.03, 0.1)]
)
def test_the_margin_is_that_of_failures_or_half_of_the_controls_rate(
    control: float, failures: float | None, margin: float
) -> None:
    assert left_margin(control, failures) == margin
