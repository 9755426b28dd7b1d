"""The sample ratio of a ramp's step: silent where the draw holds, red with a place where units get lost."""

from __future__ import annotations

import numpy as np

from gateway.features.ramp.sample_ratio import RATIO_ALPHA, UnitCount, ratio_alarm

WEB, BATCH = ("chat", "web", "plain", "chat"), ("chat", "batch", "stream", "chat")


def test_units_as_drawn_raise_nothing_at_any_look() -> None:
    """300 steps with 10 looks each; nominal 0.001, so more than 3 would come in fewer than 1 of 10 000 runs."""
    rng, alarms = np.random.default_rng(1), 0
    for _ in range(300):
        n = b = 0
        for _ in range(10):
            n, b = n + 200, b + int(rng.binomial(200, 0.25))
            if ratio_alarm({"control": n - b, "candidate": b}, (), 0.25) is not None:
                alarms += 1
                break
    assert alarms <= 3
    assert RATIO_ALPHA == 0.001


def test_an_alarm_says_where_the_units_are_missing() -> None:
    counts = [
        UnitCount("control", WEB, 750), UnitCount("candidate", WEB, 250),
        UnitCount("control", BATCH, 750), UnitCount("candidate", BATCH, 90),
    ]  # fmt: skip
    said = ratio_alarm({"control": 1500, "candidate": 340}, counts, 0.25)
    assert said is not None
    assert said.startswith("sample ratio: 340 of 1840 units had the candidate, where 0.25 was planned")
    assert "key batch" in said
    assert "stream stream" in said
    assert "key web" not in said
    assert ratio_alarm({}, (), 0.25) is None
