"""Losses are green where they are few, or shown to be alike."""

from __future__ import annotations

import pytest

from gateway.reports.model import Estimate
from gateway.verdict.gates.losses import PairLosses, losses_gate


@pytest.mark.parametrize(
    ("arms", "difference", "state"),
    [
        ({}, Estimate(None), 0),
        ({"control": (1000, 0), "candidate": (1000, 4)}, Estimate(-0.004, -0.05, 0.04), 1),
        ({"control": (1000, 10), "candidate": (1000, 200)}, Estimate(-0.19, -0.25, -0.13), -1),
        ({"control": (1000, 100), "candidate": (1000, 100)}, Estimate(0.0, -0.015, 0.015), 1),
        ({"control": (50, 5), "candidate": (50, 5)}, Estimate(0.0, -0.3, 0.3), 0),
        ({"control": (50, 5), "candidate": (50, 5)}, Estimate(0.0), 0),
    ],
    ids=["nothing settled", "too few to matter", "one arm", "alike", "too few to tell", "no interval"],
)
def test_losses_must_be_few_or_alike(arms: dict[str, tuple[int, int]], difference: Estimate, state: int) -> None:
    assert losses_gate("losses", "records", PairLosses(arms, difference), 0.02).state == state
