"""The alarm by quarter-hours: what makes it ring, what does not, and that no caller decides it alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.ramp import RampDesign
from gateway.ramps.block_alarm import (
    BY_QUARTERS,
    WITHIN_QUARTERS,
    AlarmPace,
    BlockSums,
    BlockTerms,
    excursion,
    standardised,
)
from gateway.ramps.block_callers import (
    RUN_LENGTH,
    BlockAlarmTerms,
    QuarterHour,
    QuarterHours,
    blind_by_blocks,
    block_alarms,
    block_finding,
    block_seconds,
    watched_hours_s,
)
from gateway.ramps.evidence import ServedFinding
from gateway.ramps.step_values import CallerSums, ServedSums
from gateway.statistics.e_detector import log_limit
from gateway.verdict.price.terms import ERRORS

PLAN = Plan(
    "swap", "chat", Target("a", "old"), (("candidate", Target("b", "new")),), mode="both", primary="quality",
    margin=0.05, guardrails=(Guardrail("latency_p95", 1.0), Guardrail("cost_per_1k", 0.2)), rules=3, min_hours=24.0,
    ramp=RampDesign((0.1, 0.5, 1.0), 3600.0, 1, holdout=0.02, holdout_days=28.0),
)  # fmt: skip
TERMS = BlockAlarmTerms.of(PLAN)
BLOCK_S = 900.0
Failed = Callable[[str, int], tuple[float, float]]
"""The shares of the control and the candidate that fail, of a caller and a block."""
TEAMS = tuple(f"team{i}" for i in range(6))


def sums(n: float, rate: float) -> ServedSums:
    x = float(round(n * rate))
    return ServedSums(n, x, x)


def errors(
    failed: Failed,
    blocks: int = 40,
    callers: Sequence[str] = TEAMS,
    units: int = 100,
    pace: AlarmPace = BY_QUARTERS,
) -> QuarterHours:
    """units: of each caller and arm in a block."""

    def block(i: int) -> QuarterHour:
        rates = {name: failed(name, i) for name in callers}
        arms = {name: [sums(units, rate) for rate in of] for name, of in rates.items()}
        made = (CallerSums(name, 2 * units, a, b) for name, (a, b) in arms.items())
        return QuarterHour(i // 20, i * BLOCK_S / pace.in_a_quarter, tuple(made))

    return QuarterHours(ERRORS, -1.0, True, tuple(block(i) for i in range(blocks)), pace=pace)


def found(failed: Failed, **more: int) -> ServedFinding:
    finding = block_finding(errors(failed, **more), TERMS)  # type: ignore[arg-type]
    assert finding is not None
    return finding


def test_equal_arms_do_not_ring_and_a_break_does() -> None:
    equal = found(lambda name, i: (0.01, 0.01))
    assert (equal.raised, equal.found, equal.callers) == (False, "unclear", 6)
    broken = found(lambda name, i: (0.01, 0.1 if i >= 32 else 0.01))
    assert broken.raised
    assert broken.step == 1
    assert broken.says().startswith(
        "error_rate at step 2: worse by more than 0.005 on served answers since 08:00 UTC (difference −0.09; "
    )
    assert broken.fields()["since"] == 32 * BLOCK_S
    assert "since" not in replace(broken, since=None).fields()


def test_single_incidents_do_not_ring_and_an_outage_does() -> None:
    """All calls of an arm fail for 3 minutes, once or in each fifth hour; for an hour and a half, that is an outage."""
    assert not found(lambda name, i: (0.01, 0.2 if i == 30 else 0.01)).raised
    assert not found(lambda name, i: (0.01, 0.2 if i % 20 == 9 else 0.01), blocks=400).raised
    assert found(lambda name, i: (0.01, 0.2 if i >= 34 else 0.01)).raised


def thirds(failed: Failed, blocks: int = 120) -> QuarterHours:
    """Thirds of the calls of `errors`."""
    return errors(failed, blocks, units=33, pace=WITHIN_QUARTERS)


def test_gross_failures_ring_within_half_an_hour() -> None:
    """Once 30 % of the candidate's calls fail, six thirds ring, and five quarter-hours."""

    def rung(pace: AlarmPace) -> int:
        """Blocks until the alarm."""
        first = 30 * pace.in_a_quarter
        of = (errors(lambda name, i: (0.01, 0.3 if i >= first else 0.01), first + n, pace=pace) for n in range(1, 9))
        findings = [block_finding(values, TERMS) for values in of]
        return 1 + next(i for i, finding in enumerate(findings) if finding is not None and finding.raised)

    assert (rung(WITHIN_QUARTERS), rung(BY_QUARTERS)) == (6, 5)


def test_an_incident_of_ten_minutes_does_not_ring_by_thirds() -> None:
    """All calls of an arm fail for up to three thirds, at times not in a whole one."""
    for parts in ((0.01, 1.0, 1.0, 0.01), (0.5, 1.0, 0.5, 0.01), (0.9, 1.0, 0.1, 0.01)):
        finding = block_finding(thirds(lambda name, i: (0.01, parts[i - 60] if 60 <= i < 64 else 0.01)), TERMS)  # noqa: B023
        assert finding is not None
        assert not finding.raised


def test_the_alarm_that_rings_of_two_is_kept() -> None:
    def failed(name: str, i: int) -> tuple[float, float]:
        return 0.01, 1.0 if i >= 30 else 0.01

    quiet = errors(lambda name, i: (0.01, 0.01))
    (finding,) = block_alarms([quiet, thirds(failed, 40)], TERMS)
    assert finding.raised
    assert finding.since == 30 * BLOCK_S / 3
    (finding,) = block_alarms([errors(failed), thirds(lambda name, i: (0.01, 0.01))], TERMS)
    assert finding.since == 28 * BLOCK_S, "the hour before"
    (finding,) = block_alarms([quiet, thirds(lambda name, i: (0.01, 1.0 if name == "team1" and i > 30 else 0))], TERMS)
    assert (finding.raised, finding.rests_on) == (False, "team1")


def test_the_alarms_of_failures_share_the_error() -> None:
    assert BY_QUARTERS.share + WITHIN_QUARTERS.share == 1.0
    assert TERMS.limit(BY_QUARTERS, 1.0) == log_limit(TERMS.run_length, len(TERMS.alarms.margins) / 0.8)
    assert TERMS.limit(WITHIN_QUARTERS, 0.5) == log_limit(4 * TERMS.run_length, 1 / 0.1)


def test_failures_of_both_arms_do_not_ring() -> None:
    assert not found(lambda name, i: (0.3, 0.3) if 10 <= i < 30 else (0.01, 0.01)).raised


def test_a_better_candidate_does_not_ring() -> None:
    assert not found(lambda name, i: (0.3, 0.01)).raised


def test_one_caller_rings_nothing_and_is_named() -> None:
    alarm = found(lambda name, i: (0.01, 1.0 if name == "team3" and i >= 20 else 0.01))
    assert (alarm.raised, alarm.rests_on) == (False, "team3")
    assert found(lambda name, i: (0.01, 1.0 if name in ("team3", "team4") and i >= 20 else 0.01)).raised


def test_one_caller_hides_nothing() -> None:
    """The hider fails every call of the control."""
    hides = "team5"
    alarm = found(lambda name, i: (1.0 if name == hides else 0.01, 0.01 if name == hides or i < 20 else 0.3), blocks=60)
    assert alarm.raised


def test_a_single_caller_is_the_traffic() -> None:
    alone = errors(lambda name, i: (0.01, 0.3 if i >= 20 else 0.01), callers=["web"])
    finding = block_finding(alone, TERMS)
    assert finding is not None
    assert finding.raised
    assert "all from one caller" in finding.says()


def test_quality_and_cost_have_the_same_alarm() -> None:
    rng = np.random.default_rng(3)

    def of(metric: str, sign: float, bounded: bool, mean: float, shift: float) -> QuarterHours:
        def arm(i: int, more: float) -> ServedSums:
            return ServedSums.of(rng.normal(mean + more * (i >= 40), 0.2, 50))

        callers = [tuple(CallerSums(n, 100, arm(i, 0.0), arm(i, shift)) for n in TEAMS) for i in range(60)]
        blocks = tuple(QuarterHour(0, i * BLOCK_S, each) for i, each in enumerate(callers))
        return QuarterHours(metric, sign, bounded, blocks)

    def rung(shift: float) -> list[bool]:
        metrics = [("quality", 1.0, True, -shift), ("cost_per_1k", -1.0, False, 2 * shift), ("other", 1.0, True, -1.0)]
        made = [of(name, sign, bounded, 0.7, more) for name, sign, bounded, more in metrics]
        return [finding.raised for finding in block_alarms(made, TERMS)]

    assert rung(0.0) == [False, False], "what has no margin has no alarm"
    assert rung(0.2) == [True, True]


def test_the_run_length_follows_ramp_and_holdout() -> None:
    """A day of steps and 28 days, in hours."""
    assert watched_hours_s(PLAN) == (24.0 + 28 * 24.0) * 3600.0
    assert TERMS.run_length == RUN_LENGTH * 29 * 24.0
    quick = replace(PLAN, ramp=RampDesign((0.5, 1.0), 60.0, 1), min_hours=0.0)
    assert block_seconds(quick) == 15.0
    assert BlockAlarmTerms.of(quick).run_length == pytest.approx(RUN_LENGTH * (120 + 86_400) / 60.0)


def test_a_step_is_blind_until_an_alarm_could_ring() -> None:
    """A single block raises no alarm, whatever happens in it; a few do."""
    one, few = (errors(lambda name, i: (0.01, 0.01), blocks=n) for n in (1, 6))
    assert blind_by_blocks([one], TERMS, 0)
    assert not blind_by_blocks([few], TERMS, 0)
    assert blind_by_blocks([few], TERMS, 1), "nothing has been served there"
    assert blind_by_blocks([], TERMS, 0)


def test_a_block_is_judged_by_those_before_it() -> None:
    """The evidence up to a block is therefore the same whenever it is read."""
    rng = np.random.default_rng(5)
    n = rng.integers(5, 50, (60, 2)).astype(np.float64)
    total = rng.binomial(n.astype(np.int64), 0.1).astype(np.float64)
    whole, terms = BlockSums(n, total, total, np.arange(60) // 4), BlockTerms(-1.0, 0.005, True, True, 0.5)
    z, _ = standardised(whole, terms)
    for k in (1, 7, 30):
        part = BlockSums(n[:k], total[:k], total[:k], whole.starts[:k])
        assert standardised(part, terms)[0] == pytest.approx(z[:k])


def test_nothing_of_both_arms_is_no_evidence() -> None:
    nothing = BlockSums(*(np.zeros((3, 2)) for _ in range(3)), np.zeros(3, dtype=np.int64))
    assert excursion(nothing, BlockTerms(-1.0, 0.005, True)) is None
    one_arm = QuarterHours(
        ERRORS, -1.0, True, (QuarterHour(0, 0.0, (CallerSums("a", 1, ServedSums(), sums(9, 0.0)),)),)
    )
    assert block_alarms([one_arm], TERMS) == ()


def test_quarter_hours_that_differ_widen_the_standard_error() -> None:
    """The quality of each arm shifts between blocks, by a deviation of two margins: units explain a hundredth of it."""

    def evidence(seed: int) -> float:
        rng, n = np.random.default_rng(seed), np.full((672, 2), 750.0)
        means = 0.7 + 0.1 * rng.normal(size=n.shape) + 0.2 * rng.normal(size=n.shape) / np.sqrt(n)
        blocks = BlockSums(n, n * means, n * (means**2 + 0.04), np.arange(672) // 4)
        strongest = excursion(blocks, BlockTerms(1.0, 0.05, True))
        assert strongest is not None
        return strongest.log_evidence

    assert np.median([evidence(seed) for seed in range(10)]) < 6.0 < log_limit(TERMS.run_length)


def test_blocks_without_history_are_no_evidence() -> None:
    """Incidents in four quarter-hours in a row do not ring where earlier ones are known, and must not do so once these
    have been dropped."""

    def failed(name: str, i: int) -> tuple[float, float]:
        return 0.01, 0.2 if i % 19 == 0 or 160 <= i < 164 else 0.01

    whole = errors(failed, 300)
    window = replace(whole, blocks=whole.blocks[153:])
    with_history = replace(window, history_s=70 * BLOCK_S)
    raised = [getattr(block_finding(v, TERMS), "raised", None) for v in (whole, window, with_history)]
    assert raised == [False, True, False]
    assert with_history.history == 70
    later = replace(
        with_history, blocks=errors(lambda name, i: failed(name, i) if i < 240 else (0.01, 0.3), 300).blocks
    )
    finding = block_finding(later, TERMS)
    assert finding is not None
    assert finding.raised


def test_a_control_without_failures_by_chance_rings_nothing() -> None:
    """Bursts of failures: the control of a holdout has none for two days, and the candidate fails as it always did."""
    n = np.tile([30.0, 1_470.0], (200, 1))
    failed = np.tile([0.0, 15.0], (200, 1))
    terms, hours = BlockTerms(-1.0, 0.005, True, True, 0.5), np.arange(200) // 4
    alone = excursion(BlockSums(n, failed, failed, hours), terms)
    known = excursion(BlockSums(n, failed, failed, hours, (50_000.0, 500.0, 500.0)), terms)
    assert alone is not None
    assert known is not None
    assert alone.log_evidence > log_limit(TERMS.run_length) > 5.0 > known.log_evidence
