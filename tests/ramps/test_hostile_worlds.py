"""Ramps with one hostile caller, simulated with fixed seeds through the product's own evidence and decisions.

Twenty callers send conversations of five calls, as many as a Zipf law gives each. One more caller has 1, 10 or 50 % of
all calls, sends each as a conversation of its own, knows its arm, and fails on purpose: with every conversation of the
candidate (*back*: a good candidate is to be rolled back), or with every one of the control (*blind*: a candidate that
fails 30 % of the others' calls is to look no worse). "Before" weighs units without their callers, as plans of rules 1
do. The shadow path shows nothing of all this: its verdict is `ship`.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.ramp import RampChange, RampDesign, RampPace, RampRecord, started
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.callers import blind_to_callers, caller_alarms
from gateway.ramps.decision import decide_ramp, follow
from gateway.ramps.evidence import RampEvidence
from gateway.ramps.step_values import CallerSums, ServedSums, StepValues, of_callers
from gateway.verdict.price.terms import ERRORS

FEW, MANY = 4, 2_000
LOOK_S, LOOKS, UNITS = 60.0, 60, 400  # the others' conversations until each look
CALLS = 5  # of each of the others' conversations
HONEST, HOSTILE = 20, "mallory"
DESIGN = RampDesign((0.05, 0.25, 0.5, 1.0), 300.0, 50)
PLAN = Plan(
    "swap", "chat", Target("a", "old"), (("candidate", Target("b", "new")),), mode="both", primary="quality",
    margin=0.1, guardrails=(Guardrail(ERRORS, 0.02),), method="anytime", aa="alarm", ramp=DESIGN, rules=2,
)  # fmt: skip
PACE = RampPace("auto")
SHARES = np.array([1.0 / rank for rank in range(1, HONEST + 1)])
SHARES /= SHARES.sum()


@dataclass(frozen=True)
class Attack:
    """The acts of the hostile caller, and the truth about the candidate."""

    share: float  # of all calls that are the hostile caller's
    on: str  # candidate or control: the arm whose conversations it spoils
    breaks: float = 0.01  # share of the others' calls that the candidate fails; the control fails 0.01


ATTACKS = {
    f"{name}, {share:.0%} of the calls": Attack(share, on, breaks)
    for name, on, breaks in (("back", "candidate", 0.01), ("blind", "control", 0.3))
    for share in (0.01, 0.1, 0.5)
}
NONE = {"nobody hostile, good": Attack(0.0, "control"), "nobody hostile, fails 30 %": Attack(0.0, "control", 0.3)}


@dataclass
class Counts:
    """One caller's units at one step, by arm: number, sum and squares of their shares of failed calls."""

    calls: int = 0
    arms: dict[bool, ServedSums] = field(default_factory=lambda: {False: ServedSums(), True: ServedSums()})

    def add(self, candidate: bool, shares: np.ndarray, calls: int) -> None:
        before, new = self.arms[candidate], ServedSums.of(shares)
        self.arms[candidate] = ServedSums(before.n + new.n, before.total + new.total, before.squares + new.squares)
        self.calls += calls


class HostileRamp:
    """One ramp. by_caller: the evidence is weighed by caller."""

    def __init__(self, attack: Attack, seed: int, by_caller: bool) -> None:
        self.attack, self.by_caller = attack, by_caller
        self.rng = np.random.default_rng(seed)
        self.terms = AlarmTerms.of(PLAN if by_caller else replace(PLAN, rules=1))
        self.steps: dict[int, dict[str, Counts]] = {}
        self.failed = 0  # the others' calls that the candidate failed

    def run(self) -> RampRecord:
        record = started("swap", "p", RampChange(0.0, "t", "t"))
        for look in range(1, LOOKS + 1):
            now = look * LOOK_S
            if record.state == "ramp":
                self.serve(record)
            decision = decide_ramp(record, DESIGN, self.evidence(record, now), now, PACE)
            if decision.action != "hold":
                record = follow(record, DESIGN, decision, now, PACE)
            if record.state not in ("shadow", "ramp"):
                break
        return record

    def serve(self, record: RampRecord) -> None:
        share, here = record.share(DESIGN), self.steps.setdefault(record.step, {})
        for i, n in enumerate(self.rng.multinomial(UNITS, SHARES)):
            counts = here.setdefault(f"team{i}", Counts())
            b = int(self.rng.binomial(n, share))
            for candidate, units in ((False, int(n) - b), (True, b)):
                failures = self.rng.binomial(CALLS, self.attack.breaks if candidate else 0.01, units)
                self.failed += int(failures.sum()) if candidate else 0
                counts.add(candidate, failures / CALLS, units * CALLS)
        if self.attack.share:
            n = round(UNITS * CALLS * self.attack.share / (1 - self.attack.share))
            b = int(self.rng.binomial(n, share))
            for candidate, units in ((False, n - b), (True, b)):
                spoilt = (self.attack.on == "candidate") == candidate
                here.setdefault(HOSTILE, Counts()).add(candidate, np.full(units, float(spoilt)), units)

    def evidence(self, record: RampRecord, now: float) -> RampEvidence:
        values = [self.values(record.step)] if record.state == "ramp" else []  # earlier steps were seen before
        soaked = now - record.since >= DESIGN.soak_s  # before that, it makes no difference who is blind
        here = self.steps.get(record.step, {})
        return RampEvidence(
            at=now, verdict="ship", decided=True, served=caller_alarms(values, self.terms), newest=now,
            units=round(sum(c.arms[True].n for c in here.values())),
            blind=record.state == "ramp" and soaked and blind_to_callers(values, self.terms, record.step),
        )  # fmt: skip

    def values(self, step: int) -> StepValues:
        here, nobody = self.steps[step], Counts()
        control = self.steps[step - 1] if DESIGN.steps[step] == 1.0 else here  # at the last step nobody has the control
        callers = tuple(
            CallerSums(name, here.get(name, nobody).calls, control.get(name, nobody).arms[False],
                       here.get(name, nobody).arms[True])
            for name in sorted({*here, *control})
        )  # fmt: skip
        found = of_callers(StepValues(ERRORS, step, -1.0, True, ServedSums(), ServedSums(), callers))
        return found if self.by_caller else replace(found, callers=())


def ended(attack: Attack, runs: int, by_caller: bool) -> tuple[Counter[str], list[int]]:
    """Counts how many ramps ended how, and lists how many of the others' calls failed in each."""
    ramps = [HostileRamp(attack, seed, by_caller) for seed in range(runs)]
    states = Counter(ramp.run().state for ramp in ramps)
    return states, sorted(ramp.failed for ramp in ramps)


def at_most(runs: int, rate: float) -> float:
    """Number of `runs` that a rate may give, with three standard errors."""
    return runs * rate + 3 * math.sqrt(runs * rate * (1 - rate))


RUNS = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=[pytest.mark.long, pytest.mark.timeout(7200)])]


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("name", [*NONE, *ATTACKS])
def test_one_caller_decides_nobody_elses_ramp(name: str, runs: int) -> None:
    attack = (NONE | ATTACKS)[name]
    (before, _), (after, failed) = (ended(attack, runs, by_caller) for by_caller in (False, True))
    print(f"{name}: before {dict(before)}, after {dict(after)}; others' failed calls until the end: "  # noqa: T201
          f"median {failed[len(failed) // 2]}, most {failed[-1]}")  # fmt: skip
    alarms = 0.2 * PLAN.alpha
    if attack.breaks == 0.01:
        if attack.share < 0.5:
            assert after["rolled_back"] <= at_most(runs, alarms), "a good candidate is not rolled back"
    else:
        assert after["promoted"] == 0
        if attack.share < 0.5:
            assert after["rolled_back"] == runs, "a broken candidate is rolled back"
    if not attack.share and attack.breaks == 0.01:
        assert after["promoted"] >= 0.9 * runs


def test_the_attacks_succeed_without_callers() -> None:
    """The simulation shows it: a tenth of the calls decides for everybody where units are weighed alike."""
    back, _ = ended(ATTACKS["back, 10% of the calls"], FEW, False)
    assert back["rolled_back"] == FEW
    blind, _ = ended(ATTACKS["blind, 10% of the calls"], FEW, False)
    assert blind["promoted"] == FEW
