"""Rounds of probes as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

from rich.console import Group, RenderableType

from gateway.features.models.probes.model import ProbeRound, Result
from gateway.reports import number_format as say
from gateway.reports.section import Cell, Column, ReportSection, Row, table
from gateway.reports.terminal import rendered

RESULTS = {
    "baseline": "baseline",
    "same": "as before",
    "suspected": "differs, asked again",
    "changed": "changed",
    "gap": "not asked",
}


class ProbeOutput(TypedDict):
    """The newest round of probes of a target."""

    alias: str
    target: str
    asked: float
    """Unix seconds."""
    result: Result
    measures: list[str]
    text: str
    calls: int
    usd: float


def to_dict(of: ProbeRound) -> ProbeOutput:
    return {
        "alias": of.alias,
        "target": of.target,
        "asked": of.asked,
        "result": of.result,
        "measures": list(of.measures),
        "text": of.text,
        "calls": of.calls,
        "usd": of.usd,
    }


def to_dicts(rounds: Sequence[ProbeRound]) -> list[ProbeOutput]:
    return [to_dict(of) for of in rounds]


def probe_cell(of: ProbeRound | None) -> Cell:
    return Cell(say.NONE) if of is None else Cell(f"{RESULTS[of.result]}, {say.when(of.asked)}", note=of.text)


def rounds_table(rounds: Sequence[ProbeRound]) -> RenderableType:
    columns = (Column("Model", "text"), Column("Probes", "text"), Column("Calls"), Column("Cost"))
    lines = [
        Row(Cell(of.alias, note=of.target), (probe_cell(of), Cell(say.count(of.calls)), Cell(say.dollars(of.usd))))
        for of in rounds
    ]
    section = ReportSection("probes", "Probes", rows=table("Probes", columns, [("", lines)]))
    return Group(*rendered([section]))
