"""Quarter-hours of a ramp by rules 3, from a store: complete ones, by caller, and the same whenever they are read."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from gateway.core.exchange import Exchange
from gateway.core.plan import Guardrail, Plan, StoredPlan
from gateway.core.ramp import RampDesign
from gateway.features.ramp.alarms.quarter_hours import MOST_BLOCKS, QuarterHourSums, control_p95, whole_week
from gateway.ramps.block_alarm import WITHIN_QUARTERS
from gateway.ramps.block_callers import QuarterHours
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.periods import StepPeriod
from gateway.store.query import reading

BLOCK_S, BEGUN = 900.0, 9_000_000.0  # a quarter-hour begins then
DESIGN = RampDesign((0.5, 1.0), 3600.0, 1, holdout=0.1, holdout_days=28.0)
Records = list[Exchange]


@pytest.fixture
def ramped(plan: Plan) -> Plan:
    """The plan with a ramp by rules 3, of half of the calls and then all but a tenth."""
    rails = (Guardrail("error_rate", 0.02), Guardrail("latency_p95", 1.0))
    return replace(plan, mode="both", unit="request", guardrails=rails, ramp=DESIGN, rules=3, min_hours=24.0)


@pytest.fixture
def block(ramped: Plan, exchange: Callable[..., Exchange]) -> Callable[..., Records]:
    """Makes the answers of one block: n of each arm, of three callers. bad: share of the candidate's that fail."""

    def make(i: int, text: str = "0.8", n: int = 12, bad: float = 0.0, **more: Any) -> Records:
        rng = random.Random(i)
        return [
            exchange(
                text, arm=arm, received=BEGUN + (i + (j + 0.5) / n) * BLOCK_S, experiment=ramped.name, plan=ramped.hash,
                target=ramped.target(arm), stratum=f"split:{ramped.name}", caller=f"team{j % 3}",
                status=500 if arm == "candidate" and rng.random() < bad else 200, **more,
            )
            for arm in ("control", "candidate") for j in range(n)
        ]  # fmt: skip

    return make


@pytest.fixture
def look(ramped: Plan, keep: Callable[..., str]) -> Callable[..., Any]:
    """Stores records, and reads them at a time: blocks after the beginning."""
    stored = StoredPlan(ramped, ramped.hash, "running", 0.0)
    periods = [StepPeriod(0, BEGUN, BEGUN + 40 * BLOCK_S), StepPeriod(1, BEGUN + 40 * BLOCK_S, math.inf)]

    def read(records: Records, blocks: float, sums: QuarterHourSums | None = None) -> tuple[QuarterHours, ...]:
        with reading(keep(records)) as connection:
            now = BEGUN + blocks * BLOCK_S
            return (sums or whole_week()).read(connection, stored, periods[: 2 if blocks > 40 else 1], now)

    return read


def of(found: tuple[QuarterHours, ...], metric: str) -> QuarterHours:
    return next(values for values in found if values.metric == metric)


def totals(found: tuple[QuarterHours, ...], metric: str) -> list[tuple[float, ...]]:
    """Block, step, units and sum of each arm."""
    return [
        (
            (b.at - BEGUN) / BLOCK_S, b.step,
            sum(c.a.n for c in b.callers), sum(c.a.total for c in b.callers),
            sum(c.b.n for c in b.callers), sum(c.b.total for c in b.callers),
        )
        for b in of(found, metric).blocks
    ]  # fmt: skip


def test_complete_blocks_are_read_by_caller(block, look) -> None:
    records = [*block(0), *block(1, bad=1.0), *block(3, "0.5"), *block(4)]
    found = look(records, 5.0)
    assert totals(found, "error_rate") == [(0, 0, 12, 0, 12, 0), (1, 0, 12, 0, 12, 12), (3, 0, 12, 0, 12, 0)]
    assert [caller.caller for caller in of(found, "error_rate").blocks[0].callers] == ["team0", "team1", "team2"]
    quality = of(found, "stated")
    assert (quality.sign, quality.bounded) == (1.0, True)
    assert totals(found, "stated")[2][2:] == pytest.approx((12, 6.0, 12, 6.0))
    assert len(of(look([], 5.1), "error_rate").blocks) == 4, "a block is over a minute after its end"


def test_restarts_duplicates_and_order_change_nothing(block, look) -> None:
    """One reader follows block by block; another one starts at the end, after everything has been stored again."""
    sums, by_block = QuarterHourSums(), [block(i, bad=0.2) for i in range(20)]
    steps = [look(of_block, i + 1.1, sums) for i, of_block in enumerate(by_block)]
    records = [record for of_block in by_block for record in of_block]
    random.Random(1).shuffle(records)
    fresh = look(records, 20.1)
    assert totals(steps[-1], "error_rate") == totals(fresh, "error_rate")
    assert steps[-1] == fresh


def thirds(found: tuple[QuarterHours, ...]) -> list[tuple[float, ...]]:
    """Third and failures of each arm, of every caller."""
    (values,) = (values for values in found if values.pace is WITHIN_QUARTERS)
    return [
        (round(3 * (b.at - BEGUN) / BLOCK_S), sum(c.a.n for c in b.callers), sum(c.b.total for c in b.callers))
        for b in values.blocks
    ]


def test_failures_are_read_by_thirds_of_quarter_hours(block, look) -> None:
    sums, records = QuarterHourSums(), [*block(0), *block(1, bad=1.0)]
    before = look(records, 1.1, sums)
    assert thirds(before) == [(0, 4, 0), (1, 4, 0), (2, 4, 0)]
    within = look([], 1.8, sums)
    assert thirds(within)[3:] == [(3, 4, 4), (4, 4, 4)]
    assert totals(within, "error_rate") == totals(before, "error_rate"), "all else waits for the quarter-hour"
    assert thirds(look([], 1.8)) == thirds(within)
    assert thirds(look([], 2.1, sums)) == thirds(look([], 2.1)) == [*thirds(within), (5, 4, 4)]


def test_gross_failures_ring_within_a_quarter_hour(ramped: Plan, block, keep) -> None:
    """The third quarter-hour after the break is not over."""
    good = [r for i in range(24) for r in block(i, n=60)]
    failing = [r for i in range(24, 27) for r in block(i, n=60, bad=0.9)]
    assert not alarms(ramped, keep, [*good, *failing], 25.8)["error_rate"].raised
    assert alarms(ramped, keep, [], 26.8)["error_rate"].raised


def test_scores_that_come_late_are_read_again(block, look) -> None:
    """Two hours later they are not."""
    sums = QuarterHourSums()
    look([*block(0), *block(9)], 10.1, sums)
    again = look([*block(0), *block(1), *block(9), *block(10, n=6)], 11.1, sums)
    assert [row[0] for row in totals(again, "error_rate")] == [0, 9, 10]
    late = look(block(7), 12.1, sums)
    assert [row[0] for row in totals(late, "error_rate")] == [0, 7, 9, 10]


def test_a_look_reads_a_bounded_number_of_blocks(block, look) -> None:
    """After a restart the alarm catches up, six hours at a look; a week is kept."""
    sums = QuarterHourSums()
    records = [r for i in (0, 30, 60) for r in block(i)]
    found = [[row[0] for row in totals(look(records if not n else [], 70.1, sums), "error_rate")] for n in range(3)]
    assert found == [[0], [0, 30], [0, 30, 60]]
    later = look([*block(120), *block(MOST_BLOCKS + 150)], MOST_BLOCKS + 151.1)
    assert [row[0] for row in totals(later, "error_rate")] == [120, MOST_BLOCKS + 150]
    assert of(later, "error_rate").before.n == 36, "of the control nothing is forgotten"


def test_the_p95_is_compared_with_the_controls_of_two_hours(block, look) -> None:
    assert control_p95([]) is None
    quick = [r for i in range(8) for r in block(i, n=20, total_s=1.0)]
    slow = [replace(r, total_s=2.5) if r.arm == "candidate" else r for r in block(8, n=20, total_s=1.0)]
    found = totals(look([*quick, *slow], 9.1), "latency_p95")
    assert found[-1] == (8, 0, 20, 0, 20, 20), "slower than the p95 and the margin of a second"
    assert found[-2][3:] == (0, 20, 0)
    assert found[0][0] == 5, "before, the control has too few answers"


def alarms(ramped: Plan, keep: Callable[..., str], records: Records, blocks: float) -> dict[str, ServedFinding]:
    stored = StoredPlan(ramped, ramped.hash, "running", 0.0)
    periods = [StepPeriod(0, BEGUN, BEGUN + 12 * BLOCK_S), StepPeriod(1, BEGUN + 12 * BLOCK_S, math.inf)]
    with reading(keep(records)) as connection:
        found = whole_week().alarms(connection, stored, periods, BEGUN + blocks * BLOCK_S)
    return {finding.metric: finding for finding in found.found}


def test_a_break_of_errors_or_quality_in_the_holdout_rings(ramped: Plan, block, keep) -> None:
    """Rules 1 and 2 watched quality for a day after the promotion."""
    good = [r for i in range(24) for r in block(i)]
    assert not any(finding.raised for finding in alarms(ramped, keep, good, 24.1).values())
    worse = [replace(r, response=e.response) if r.arm == "candidate" else r for i in range(24, 36)
             for r, e in zip(block(i), block(i, "0.2"), strict=True)]  # fmt: skip
    failing = [r for i in range(24, 36) for r in block(i + 100, bad=0.7)]
    failing = [replace(r, received=r.received - 100 * BLOCK_S) for r in failing]
    found = alarms(ramped, keep, worse, 36.1)
    assert (found["stated"].raised, found["error_rate"].raised) == (True, False)
    assert found["stated"].step == 1
    found = alarms(ramped, keep, failing, 36.1)
    assert found["error_rate"].raised
    assert found["error_rate"].callers == 3
