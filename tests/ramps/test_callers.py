"""Alarms and proofs of a ramp hold without any one caller, or name the caller that they rest on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import pytest

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.ramp import RampChange, RampDesign, RampPace, RampRecord, advanced, started
from gateway.ramps.alarms import AlarmTerms, step_finding
from gateway.ramps.blocks import ServedBlock, ServedBlocks
from gateway.ramps.callers import blind_to_callers, caller_alarms, caller_finding, proved_without_any
from gateway.ramps.decision import decide_ramp
from gateway.ramps.evidence import RampEvidence, ServedFinding
from gateway.ramps.plan_proofs import served_proofs_of
from gateway.ramps.step_values import CallerSums, ServedSums, StepValues, of_callers
from gateway.reports.model import Estimate
from gateway.verdict.price.terms import ERRORS

DESIGN = RampDesign((0.1, 1.0), 0.0, 1)
PLAN = Plan(
    "swap", "chat", Target("a", "old"), (("candidate", Target("b", "new")),), mode="both", primary="quality",
    guardrails=(Guardrail(ERRORS, 0.02),), ramp=DESIGN, rules=2,
)  # fmt: skip
TERMS = AlarmTerms.of(PLAN)
Arm = tuple[int, int]
"""(units, failed ones)."""
GOOD: Arm = (500, 5)


def of(callers: Mapping[str, tuple[Arm, Arm]], calls: Mapping[str, int] | None = None) -> StepValues:
    """calls: of a caller, where it has more or fewer than units."""

    def sums(arm: Arm) -> ServedSums:
        return ServedSums(arm[0], float(arm[1]), float(arm[1]))

    known = calls or {}
    made = tuple(CallerSums(name, known.get(name, a[0] + b[0]), sums(a), sums(b)) for name, (a, b) in callers.items())
    return of_callers(StepValues(ERRORS, 0, -1.0, True, ServedSums(), ServedSums(), made))


def found(callers: Mapping[str, tuple[Arm, Arm]], calls: Mapping[str, int] | None = None) -> ServedFinding:
    return caller_finding(of(callers, calls), 0.02, TERMS.alpha)


TEAMS: dict[str, tuple[Arm, Arm]] = {f"team{i}": (GOOD, GOOD) for i in range(6)}
ALL_FAIL: dict[str, tuple[Arm, Arm]] = {name: (GOOD, (500, 150)) for name in TEAMS}


def test_one_caller_raises_no_alarm_and_is_named() -> None:
    plain = of(TEAMS | {"mallory": (GOOD, (500, 500))})
    assert step_finding(replace(plain, callers=()), 0.02, TERMS.alpha).raised, "units alone would raise it"
    alarm = found(TEAMS | {"mallory": (GOOD, (500, 500))})
    assert (alarm.raised, alarm.found, alarm.rests_on, alarm.callers) == (False, "unclear", "mallory", 7)


def test_two_callers_raise_an_alarm() -> None:
    alarm = found(TEAMS | {"a": (GOOD, (500, 500)), "b": (GOOD, (500, 400))})
    assert (alarm.raised, alarm.rests_on) == (True, "")
    assert "from 8 callers" in alarm.says()


def test_a_caller_cannot_hide_what_the_others_see() -> None:
    blind = ALL_FAIL | {"mallory": ((5000, 5000), (500, 0))}
    assert not step_finding(replace(of(blind), callers=()), 0.02, TERMS.alpha).raised, "units alone would not raise it"
    assert found(blind, {"mallory": 500}).raised


def test_the_alarm_of_a_single_caller_names_it() -> None:
    alarm = found({"only": (GOOD, (500, 150))})
    assert alarm.raised
    assert "all from one caller" in alarm.says()


@pytest.mark.parametrize("others", [1, 2, 3])
def test_a_small_caller_among_few_decides_nothing(others: int) -> None:
    teams = dict(list(TEAMS.items())[:others])
    small: tuple[Arm, Arm] = ((100, 1), (100, 100))
    alarm = found(teams | {"mallory": small})
    assert (alarm.raised, alarm.rests_on) == (False, "mallory")
    both = found({name: (GOOD, (500, 150)) for name in teams} | {"mallory": small})
    assert both.raised


def test_a_caller_with_half_of_the_calls_raises_alone() -> None:
    alarm = found(TEAMS | {"main": ((3000, 30), (3000, 900))})
    assert alarm.raised


def test_limits_on_callers_hardly_delay_an_alarm() -> None:
    """Every call fails: the units of the candidate that an alarm takes, each of its own caller and in one heap."""

    def units(by_caller: bool) -> int:
        for n in range(1, 200):
            v = of({f"c{i}": ((20, 0), (1 if i < n else 0, 1 if i < n else 0)) for i in range(200)})
            if caller_alarms([v if by_caller else replace(v, callers=())], TERMS)[0].raised:
                return n
        raise AssertionError("never")

    assert units(False) <= units(True) <= units(False) + 3


def test_a_step_is_blind_until_two_callers_could_be_heard() -> None:
    one = of({"a": ((400, 0), (400, 0)), "b": ((600, 0), (0, 0)), "c": ((600, 0), (0, 0))})
    assert blind_to_callers([one], TERMS, 0)
    two = of({"a": ((400, 0), (400, 0)), "b": ((400, 0), (400, 0)), "c": ((600, 0), (0, 0))})
    assert not blind_to_callers([two], TERMS, 0)
    assert blind_to_callers([two], TERMS, 1)


def test_a_proof_holds_without_its_best_witness() -> None:
    """A caller that fails on purpose with the control makes the candidate look no worse; without it, the candidate does
    not."""

    def prove(values: Sequence[StepValues], _: Plan) -> tuple[ServedFinding, ...]:
        (v,) = values
        harmless = v.a.mean >= v.b.mean - 0.02
        return (ServedFinding(ERRORS, None, Estimate(0.0), 0.02, "non_inferior" if harmless else "unclear", (1, 1)),)

    (shown,) = proved_without_any([of(TEAMS)], PLAN, prove)
    assert (shown.found, shown.rests_on) == ("non_inferior", "")
    (hidden,) = proved_without_any([of(ALL_FAIL | {"mallory": ((3000, 3000), (10, 0))}, {"mallory": 9})], PLAN, prove)
    assert (hidden.found, hidden.rests_on) == ("unclear", "mallory")


def test_evidence_of_one_caller_holds_the_ramp() -> None:
    first = started("swap", "p", RampChange(0.0, "t", "t"))
    record: RampRecord = advanced(first, DESIGN, RampChange(1.0, "t", "t"))
    alarms = caller_alarms([of(TEAMS | {"mallory": (GOOD, (500, 500))})], TERMS)
    evidence = RampEvidence(10.0, "ship", served=alarms, units=500, newest=10.0)
    decision = decide_ramp(record, DESIGN, evidence, 10.0, RampPace("auto"))
    assert decision.action == "hold"
    assert "error_rate is worse in the calls of mallory alone" in decision.reason


def test_a_proof_of_harm_holds_without_its_best_witness() -> None:
    def prove(values: Sequence[StepValues], _: Plan) -> tuple[ServedFinding, ...]:
        (v,) = values
        found = "inferior" if v.b.mean > v.a.mean + 0.02 else "non_inferior"
        return (ServedFinding(ERRORS, None, Estimate(0.0), 0.02, found, (1, 1)),)  # type: ignore[arg-type]

    (alone,) = proved_without_any([of(TEAMS | {"mallory": (GOOD, (500, 500))})], PLAN, prove)
    assert (alone.found, alone.rests_on) == ("unclear", "mallory")
    (shown,) = proved_without_any([of(ALL_FAIL)], PLAN, prove)
    assert (shown.found, shown.rests_on) == ("inferior", "")


def test_served_proofs_do_not_rest_on_one_caller() -> None:
    """Errors of one caller with the candidate hold the ramp, by blocks of time; those of all callers roll it back."""

    def blocks(a: float, b: float) -> tuple[ServedBlock, ...]:
        return tuple(
            ServedBlock(0, ServedSums(500, 500 * a, 500 * a), ServedSums(500, 500 * b, 500 * b)) for _ in "12345678"
        )

    fair = ServedBlocks(ERRORS, -1.0, True, blocks(0.01, 0.01))
    worse = ServedBlocks(ERRORS, -1.0, True, blocks(0.01, 0.3))
    (alone,) = served_proofs_of([replace(worse, foe="mallory", without_foe=fair)], PLAN)
    assert (alone.found, alone.rests_on) == ("unclear", "mallory")
    (shown,) = served_proofs_of([replace(worse, foe="mallory", without_foe=worse)], PLAN)
    assert shown.raised
