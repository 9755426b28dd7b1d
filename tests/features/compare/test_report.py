"""Drawings of intervals in characters."""

from __future__ import annotations

import pytest

from gateway.features.compare.report import drawn
from gateway.reports.charts import IntervalScale
from gateway.reports.model import Estimate


@pytest.mark.parametrize(
    ("estimate", "expected"),
    [
        (Estimate(0.0, -0.5, 0.5), "     ╎    ├─────────●─────────┤          "),
        (Estimate(0.5, 0.25, 0.75), "     ╎              │    ├────●────┤     "),
        (Estimate(-0.5, -2.0, 0.5), "◂────╎────●─────────│─────────┤          "),
        (Estimate(0.0), "     ╎              ●                    "),
        (Estimate(None), ""),
    ],
)
def test_an_interval_is_drawn_to_scale(estimate: Estimate, expected: str) -> None:
    assert drawn(estimate, IntervalScale(1.0, 0.75)) == expected
