"""The hours of the day that a ramp has to serve before all traffic: which they are, their sentences, and the proof."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from gateway.core.ramp import RampChange, RampDesign, RampPace, advanced, started
from gateway.ramps.blocks import BLOCK_S, ServedBlock
from gateway.ramps.decision import decide_ramp
from gateway.ramps.evidence import RampEvidence, ServedFinding
from gateway.ramps.served_hours import ServedHours, hours_with_calls, named_hours, served_hours
from gateway.ramps.served_proof import ProofTerms, prove
from gateway.ramps.step_values import ServedSums
from gateway.reports.model import Estimate

DESIGN = RampDesign((0.5, 1.0), 60.0, 100)
BEGUN = RampChange(0.0, "t", "t")
STEP = advanced(started("swap", "p", BEGUN), DESIGN, BEGUN)
FINE = RampEvidence(1000.0, "ship", "Ship.", 300, True, units=100, requests=100, newest=999.0)
NEEDED = ServedHours((2, 3, 9, 14), (9,))
QUALITY = ProofTerms(1.0, 0.05, 0.04, True, hours=())


def decided(evidence: RampEvidence, mode: str = "auto"):  # type: ignore[no-untyped-def]
    return decide_ramp(STEP, DESIGN, evidence, 1000.0, RampPace(mode))  # type: ignore[arg-type]


def block(hour: int, shift: float, units: tuple[int, int] = (100, 100)) -> ServedBlock:
    a, b = (np.full(n, 0.5 + s) + 0.2 * np.tile([1.0, -1.0], n // 2) for n, s in zip(units, (0.0, shift), strict=True))
    return ServedBlock(0, ServedSums.of(a), ServedSums.of(b), at=3600.0 * hour)


def test_an_hour_counts_from_four_quarters_with_calls_on() -> None:
    """Quarter-hours of all seven days count together."""
    days = [4 * 24 * day for day in range(7)]
    assert hours_with_calls([day + 8 for day in days[:4]]) == (2,)
    assert hours_with_calls([day + 8 for day in days[:3]]) == ()
    assert hours_with_calls([8, 8, 8, 8]) == (), "the same quarter-hour is one"
    assert hours_with_calls(range(92, 96)) == (23,)


def test_an_hour_is_served_once_both_arms_were() -> None:
    blocks = [block(2, 0.0), replace(block(3, 0.0), b=ServedSums()), block(2 + 24, 0.0), block(5, 0.0)]
    assert served_hours((2, 3), blocks) == ServedHours((2, 3), (2,))


@pytest.mark.parametrize(
    ("hours", "words"),
    [((7,), "hour 7"), ((2, 3, 14), "hours 2, 3 and 14"), ((0, 1, 2, 3, 4, 9), "hours 0 to 4 and 9")],
)
def test_hours_are_named_in_order_and_rows_as_ranges(hours: tuple[int, ...], words: str) -> None:
    assert named_hours(hours) == words


def test_the_step_to_all_traffic_waits_for_hours_with_calls() -> None:
    waits = decided(replace(FINE, hours=NEEDED))
    assert (waits.action, waits.reason) == ("hold", "waits for served hours 2, 3 and 14 UTC (1 of 4 h seen)")
    assert replace(FINE, hours=NEEDED).fields()["hours"]["missing"] == [2, 3, 14]
    assert "hours" not in FINE.fields(), "older evidence stays as it was"


def test_hours_without_calls_are_named_and_do_not_block() -> None:
    busy = tuple(hour for hour in range(24) if hour not in (3, 4))
    seen = decided(replace(FINE, hours=ServedHours(busy, busy)))
    assert seen.action == "advance"
    assert "no traffic in hours 3 and 4 UTC" in seen.reason
    everywhere = tuple(range(24))
    assert "traffic in" not in decided(replace(FINE, hours=ServedHours(everywhere, everywhere))).reason


def test_earlier_steps_do_not_wait_for_hours() -> None:
    design = replace(DESIGN, steps=(0.1, 0.5, 1.0))
    assert decide_ramp(STEP, design, replace(FINE, hours=NEEDED), 1000.0, RampPace("auto")).action == "advance"


def test_a_proof_without_its_hours_is_said_once() -> None:
    """The line on hours stands for proofs that wait for nothing else; a metric with hours of its own says so."""
    open_ = ServedFinding("quality", None, Estimate(0.0), 0.05, "unclear", (9, 9), hours=(2, 14), so_far=True)
    waits = decided(replace(FINE, hours=NEEDED, proofs=(open_,)))
    assert (waits.reason, waits.also) == (NEEDED.waits(), ())
    all_seen = replace(NEEDED, seen=NEEDED.wanted)
    alone = decided(replace(FINE, hours=all_seen, proofs=(open_,)))
    assert alone.reason.endswith("yet: no values of both arms in hours 2 and 14 UTC")
    short = decided(replace(FINE, hours=NEEDED, proofs=(replace(open_, so_far=False),)))
    assert len(short.also) == 1, "units are missing as well"


def test_nothing_is_proved_before_its_hours() -> None:
    blocks = [block(hour, 0.0) for hour in (0, 1, 2) for _ in range(8)]
    found = prove(blocks, replace(QUALITY, hours=(0, 1, 2, 7)))
    assert (found.found, found.hours, found.so_far) == ("unclear", (7,), True)
    assert prove([*blocks, block(7, 0.0)], replace(QUALITY, hours=(0, 1, 2, 7))).found == "non_inferior"
    assert prove([], replace(QUALITY, hours=(3,))).hours == (3,)


def test_each_hour_weighs_as_its_traffic() -> None:
    """An hour served at 1 % of the units has its share: the candidate is worse by 0.2 in one of four hours."""
    worse = [block(0, -0.2, (396, 4)) for _ in range(4)]
    good = [block(hour, 0.0, (200, 200)) for hour in (1, 2, 3) for _ in range(4)]
    by_hour = prove([*worse, *good], QUALITY)
    assert by_hour.difference.value == pytest.approx(-0.05, abs=0.002)
    pooled = prove([*worse, *good], replace(QUALITY, hours=None))
    assert pooled.difference.value == pytest.approx(-0.002, abs=0.002)


def test_incidents_widen_the_proof() -> None:
    """Failures in incidents of one arm: the units of a block depend on each other."""
    rng, terms, wrong = np.random.default_rng(5), ProofTerms(-1.0, 0.005, 0.04, True, hours=()), [0, 0]
    for _ in range(100):
        hit = rng.random((96, 2)) < 0.05
        blocks = [
            ServedBlock(0, *(ServedSums(750, 150.0 * x, 150.0 * x) for x in row), at=i * BLOCK_S)
            for i, row in enumerate(hit)
        ]
        for rule, hours in enumerate((None, ())):
            wrong[rule] += prove(blocks, replace(terms, hours=hours)).found == "inferior"
    assert wrong[1] == 0
    assert wrong[0] > 5, "which units alone do not see"


def test_a_metric_without_spread_is_proved_by_its_difference() -> None:
    """The cost of every call is the same in both arms, so that nothing is left to chance."""
    alike = [ServedBlock(0, ServedSums(50, 50.0, 50.0), ServedSums(50, 50.0, 50.0), at=i * BLOCK_S) for i in range(8)]
    assert prove(alike, ProofTerms(-1.0, 0.1, 0.04, False, hours=())).found == "non_inferior"
