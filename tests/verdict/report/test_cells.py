"""Numbers in a report's tables, with their intervals below them."""

from __future__ import annotations

from gateway.reports.model import Estimate
from gateway.reports.section import Cell
from gateway.verdict.report.cells import dollars_cell, estimate_cell


def test_a_number_has_its_interval_below_it() -> None:
    assert estimate_cell(Estimate(0.1, -0.02, 0.22), 2, signed=True) == Cell("+0.10", "−0.02 … +0.22")
    assert estimate_cell(Estimate(0.1, 0.02, 0.22), 2) == Cell("0.10", "0.02 … 0.22")
    assert estimate_cell(Estimate(0.1), 2) == Cell("0.10")
    assert dollars_cell(Estimate(2.5, 2.0, 3.0)) == Cell("$2.50", "$2.00 … $3.00")
    assert dollars_cell(Estimate(0.25)) == Cell("$0.25")
    assert dollars_cell(None) == estimate_cell(None, 2) == Cell()
