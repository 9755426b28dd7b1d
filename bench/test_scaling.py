"""The figures of docs/contributing/scaling.md are replaced by those of a run, and with them what its program prints."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # as in test_simulator.py
import scaling

PAGE = Path(__file__).resolve().parents[1] / "docs" / "contributing" / "scaling.md"
FOUND = {"plain": 50.0, "stream": 1000.0, "idle": 60.0, "open": 76.0, "consumer": 10_000.0}


def test_the_page_has_the_figures_of_the_run() -> None:
    page = scaling.renewed(PAGE.read_text(), FOUND, "2026-12-01", "a machine")
    assert "PLAIN_US, STREAM_US = 50, 1000  #" in page
    assert "SCORED = 10000  # exchanges" in page
    assert "run of 2026-12-01 in [bench.md]" in page
    assert "an experiment; a machine)." in page
    assert "plain requests a second     12,000\n" in page
    assert "  consumers' cores               1.2  for rules alone\n" in page
    assert scaling.renewed(page, FOUND, "2026-12-01", "a machine") == page


def test_a_page_without_the_figures_is_refused() -> None:
    with pytest.raises(ValueError, match="assigns nothing to PLAIN_US"):
        scaling.renewed("# Scaling\n", FOUND, "2026-12-01", "a machine")
