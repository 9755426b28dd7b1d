"""The table of docs/evidence.md gets the rows that a run measured, and keeps the others."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
import figures

PAGE = Path(__file__).resolve().parents[1] / "docs" / "evidence.md"


def test_rows_of_a_run_replace_those_of_the_page() -> None:
    page = figures.renewed(PAGE.read_text(), {"p50": {"gateway": 0.15, "nginx": 0.05}}, "2026-12-09, a machine")
    missing = " | ".join([figures.MISSING] * 4)
    assert f"| added latency, p50, ms | 0.15 | 0.05 | {missing} | 2026-12-09, a machine |\n" in page
    changed = [line for line in page.splitlines() if line not in PAGE.read_text().splitlines()]
    assert len(changed) == 1


def test_the_page_has_a_row_for_every_figure() -> None:
    page = PAGE.read_text()
    whole = figures.renewed(page, {key: {"gateway": 1.0} for key in figures.LABELS}, "run")
    assert whole.count("| run |\n") == len(figures.LABELS) + 1, "those, and the head"


def test_a_page_without_the_table_is_refused() -> None:
    with pytest.raises(ValueError, match="no table of systems"):
        figures.renewed("# Evidence\n", {"p50": {"gateway": 1.0}}, "run")
