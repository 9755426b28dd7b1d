"""What the switch did, in one line a metric; test_controller.py has its figures from a store."""

from __future__ import annotations

from gateway.features.ramp.switch import switch_line


def test_a_metric_is_shown_with_both_arms_and_its_interval() -> None:
    found = {"metric": "quality", "control": 0.8, "candidate": 0.75, "difference": -0.05, "low": -0.06, "high": -0.04,
             "units": [200, 9800]}  # fmt: skip
    assert switch_line(found) == (
        "quality: 0.8 with the control, 0.75 with the candidate, difference -0.05 (-0.06 to -0.04; 200 and 9800 units)"
    )
    assert "too few units for an interval" in switch_line({**found, "low": None, "high": None})
