"""The lowest state counts."""

from __future__ import annotations

from gateway.reports.model import Estimate
from gateway.verdict.gates.control_repeat import aa_gate
from gateway.verdict.gates.gates import worst


def test_one_that_is_not_green_is_enough() -> None:
    green, open_, red = (aa_gate("m", e, 9, 0.1, True) for e in (
        Estimate(0, -0.01, 0.01), Estimate(0, -0.5, 0.5), Estimate(1, 0.5, 1)))  # fmt: skip
    assert (worst([]), worst([green]), worst([green, open_]), worst([green, open_, red])) == (1, 1, 0, -1)
