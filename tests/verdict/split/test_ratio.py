"""The arms' shares of a split are shown to be near the planned ones as soon as the counts allow, and rarely wrongly."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gateway.core.plan import CONTROL, Plan
from gateway.verdict.split.ratio import RatioPeaks, peaks_at, ratio_gate, units_for_ratio

LOOK = 25  # units between looks
RUNS = 400


@pytest.fixture
def halves(plan: Plan) -> Plan:
    """A split of halves with rules 3."""
    return replace(plan, mode="split", split=0.5, rules=3)


def green(plan: Plan, share: float, units: int) -> float:
    """The share of splits whose gate was green at any look. share: of units that the candidate truly gets."""
    rng, shown = np.random.default_rng([47, round(1000 * share)]), 0
    for _ in range(RUNS):
        candidate, peaks = np.cumsum(rng.random(units) < share), RatioPeaks()
        for n in range(LOOK, units + 1, LOOK):
            served = int(candidate[n - 1])
            counts = {CONTROL: n - served, "candidate": served}
            peaks = peaks_at(plan, counts, peaks)
            state = ratio_gate(plan, counts, peaks).state
            if state:
                shown += state > 0
                break
    return shown / RUNS


def test_planned_halves_are_shown_with_1500_units(halves: Plan) -> None:
    assert green(halves, 0.5, 1500) >= 0.75, "0.82"
    assert units_for_ratio(halves) == 750


def test_shares_that_are_off_by_five_points_are_rarely_shown(halves: Plan) -> None:
    bound = 0.025 + 3 * (0.025 * 0.975 / RUNS) ** 0.5
    assert max(green(halves, share, 3000) for share in (0.45, 0.55)) <= bound


def test_a_small_share_has_no_share_five_points_below_it(halves: Plan) -> None:
    tenth = replace(halves, split=0.05)
    assert ratio_gate(tenth, {CONTROL: 950, "candidate": 50}, RatioPeaks()).state == 1


def test_shares_that_were_shown_remain_shown(halves: Plan) -> None:
    counts = {CONTROL: 500, "candidate": 500}
    peaks, later = peaks_at(halves, counts, RatioPeaks()), {CONTROL: 540, "candidate": 460}
    assert ratio_gate(halves, later, RatioPeaks()).state == 0
    assert ratio_gate(halves, later, peaks).state == 1
    assert peaks_at(halves, later, peaks).near == peaks.near


def test_older_rules_ask_for_an_interval_around_each_share(halves: Plan) -> None:
    older, counts = replace(halves, rules=2), {CONTROL: 500, "candidate": 500}
    assert ratio_gate(older, counts, RatioPeaks()).state == 0
    assert peaks_at(older, counts, RatioPeaks()).state() == {"log_peak": 0.0}
    assert units_for_ratio(older) == 1300
