"""Cells of a report's tables for numbers with their intervals."""

from __future__ import annotations

from gateway.reports import number_format as say
from gateway.reports.model import Estimate
from gateway.reports.section import Cell


def estimate_cell(e: Estimate | None, places: int, *, signed: bool = False) -> Cell:
    """The value with its interval below it."""
    if e is None:
        return Cell()
    bounds = "" if e.low is None and e.high is None else say.interval(e, places, signed=signed)
    return Cell(say.number(e.value, places, signed=signed), bounds)


def dollars_cell(e: Estimate | None) -> Cell:
    if e is None:
        return Cell()
    bounds = "" if e.low is None and e.high is None else f"{say.dollars(e.low)} … {say.dollars(e.high)}"
    return Cell(say.dollars(e.value), bounds)
