"""Measures what the learned predictor saves on real records: SmolLM2's answers to 2 000 tasks. It takes half an hour of
one core.

The records stay in .real/learned, so that a second run only measures.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.real, pytest.mark.timeout(7200)]


def test_judged_answers_that_are_needed(stages: Any) -> None:
    pytest.importorskip("sklearn", reason="training needs the extra learn")
    sys.path.insert(0, str(Path(__file__).parent))
    from learned_measure import DESIGNS, measured, read, report
    from learned_records import COUNT, answered, ask

    folder = stages.REAL / "learned"
    ask(folder, COUNT)
    assert len(answered(folder)) >= COUNT
    (stages.REAL / "learned.md").write_text(report(folder))
    widths, _ = measured(read(folder))
    plain, *_, both = (widths[title] for title in DESIGNS)
    assert (both.fixed <= plain.fixed * 1.02).all(), "the predictor makes no interval wider"
