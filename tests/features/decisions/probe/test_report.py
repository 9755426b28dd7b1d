"""The table of a probe, and the lines for gateway.yaml."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from io import StringIO

from rich.console import Console

from gateway.features.decisions.probe.model import ProbeResult, ReadingFigures
from gateway.features.decisions.probe.report import config_lines, to_terminal

DAY = date(2026, 12, 3)
SLOT = ReadingFigures("slot", 24, 24, {}, 0.0, 0.01, 0.25, 0.76, 24, 24, 0.5, {"letters": 0.67})
LETTERS = ReadingFigures("letters", 24, 24, {}, 0.92, 0.1, 0.01, 0.09, refused="92% of its answers change")
RESULT = ProbeResult("triage", 1, (SLOT, LETTERS), {"native": "HTTP 400: [red]no[/red]"}, "slot")


def shown(result: ProbeResult) -> str:
    written = StringIO()
    Console(width=200, file=written).print(to_terminal(result, DAY))
    return written.getvalue()


def test_a_table_has_the_figures_and_the_verdict() -> None:
    text = shown(RESULT)
    assert "slot 24 0% 0.01 0.25 0.76 100% (86%–100%) letters 67% recommended" in " ".join(text.split())
    assert "refused: 92% of its answers change" in text
    assert "not available: HTTP 400: [red]no[/red]" in text
    assert "decisions: {reading: slot, probed: 2026-12-03, min_label_mass: 0.076}" in text


def test_a_label_mass_is_proposed_where_it_is_above_the_default() -> None:
    faint = replace(SLOT, label_mass=0.05)
    assert config_lines(replace(RESULT, figures=(faint,)), DAY) == (
        "  triage:\n    decisions: {reading: slot, probed: 2026-12-03}"
    )
    assert config_lines(replace(RESULT, recommended=None), DAY) == ""


def test_nothing_is_recommended_without_cases() -> None:
    few = replace(RESULT, figures=(replace(SLOT, answered=7),), recommended=None)
    assert "fewer than 8 cases were answered" in shown(few)
    assert "is more than noise: ask another model" in shown(replace(RESULT, recommended=None))
