"""Heartbeats' reports on a candidate's circuit breaker, and outcomes that come too late for a step."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.ramp import RampDesign
from gateway.ramps.breakers import FRESH_S, BreakerReport, breakers_of, late
from gateway.stream.types import Lag

NOW = 1000.0


def beat(at: float = NOW, plan: str = "p", **report: Any) -> dict[str, Any]:
    said = {"plan": plan, "open": True, "openings": 1, "failing_s": 5.0, "callers": ["a"], **report}
    return {"at": at, "candidates": {"swap": said}}


def test_reports_of_several_processes_are_put_together() -> None:
    found = breakers_of([beat(), beat(failing_s=12.0, callers=["b"]), {"at": NOW}], "swap", "p", NOW)
    assert found == BreakerReport(2, 2, False, 12.0, 2)


def test_old_beats_other_plans_and_what_cannot_be_read_are_left_out() -> None:
    beats = [beat(at=NOW - FRESH_S - 1), beat(plan="other"), {"at": NOW, "candidates": []}, {"candidates": None}]
    assert breakers_of(beats, "swap", "p", NOW) == BreakerReport()
    assert breakers_of([beat(failing_s="x", callers=7)], "swap", "p", NOW) == BreakerReport(1, 1)


@pytest.mark.parametrize(
    ("report", "broken"),
    [
        (BreakerReport(1, 1, False, 29.0, 1), False),
        (BreakerReport(1, 1, False, 30.0, 1), True),
        (BreakerReport(1, 1, False, 9.0, 2), False),
        (BreakerReport(1, 1, False, 10.0, 2), True),
        (BreakerReport(1, 0, False, 40.0, 2), False),
        (BreakerReport(1, 0, True, 40.0, 1), True),
    ],
)
def test_failing_probes_or_callers_roll_back(report: BreakerReport, broken: bool) -> None:
    assert (report.broken is not None) == broken
    assert report.holds is not None, "no step is taken meanwhile"
    assert BreakerReport().holds is None


def test_late_outcomes_and_scores_are_counted_as_late() -> None:
    hour, short = RampDesign((1.0,), 3600.0, 1), RampDesign((1.0,), 4.0, 1)
    assert late(Lag(), hour) is None
    assert "10 s" in (late(Lag(1, 1, 0, 11.0, 11.0), hour) or "")
    assert late(Lag(1, 0, 1, 899.0, 0.0), hour) is None
    assert "a quarter of the soak" in (late(Lag(1, 0, 1, 901.0, 0.0), hour) or "")
    assert late(Lag(1, 0, 1, 9.0, 0.0), short) is None
