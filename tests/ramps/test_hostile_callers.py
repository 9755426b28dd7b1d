"""Ramps of rules 3 with one hostile caller, simulated with fixed seeds through the product's own alarm by
quarter-hours, proofs and decisions.

As in test_hostile_worlds.py: twenty callers by a Zipf law, conversations of five calls, and one more caller with 1, 10
or 50 % of the calls, each a conversation of its own, who knows its arm. It acts by

- *failing* every call of one arm on purpose,
- *lying*: its prompts make the scorer give one arm 0,
- *leaving* before the answers of one arm have ended,
- *flooding*: its calls never fail and always have the best score, on both arms.

Against a good candidate it acts on the candidate (*back*), for a bad one on the control (*blind*). A bad candidate
fails 30 % of the others' calls, has a quality 4 margins lower, or makes clients leave in 30 %. The shadows say `ship`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.ramp import RampChange, RampDesign, RampPace, RampRecord, started
from gateway.ramps.block_alarm import BY_QUARTERS, WITHIN_QUARTERS, AlarmPace
from gateway.ramps.block_callers import BlockAlarmTerms, QuarterHour, QuarterHours, blind_by_blocks, block_alarms
from gateway.ramps.blocks import BLOCK_S, ServedBlock, ServedBlocks
from gateway.ramps.callers import foe_of, friend_of, majority_of
from gateway.ramps.decision import decide_ramp, follow
from gateway.ramps.evidence import RampEvidence, ServedFinding
from gateway.ramps.plan_proofs import served_proofs_of
from gateway.ramps.step_values import CallerSums, ServedSums, StepValues, of_callers
from gateway.statistics.domains import Floats
from gateway.verdict.gates.client_left import LEFT
from gateway.verdict.price.terms import ERRORS
from tests.ramps.test_hostile_worlds import CALLS, HONEST, HOSTILE, SHARES, at_most

FEW, MANY = 2, 400
LOOKS = 48  # quarter-hours
UNITS = 100  # the others' conversations in a third of a quarter-hour
MARGIN, QUALITY, DEVIATION, RATE, BREAKS = 0.05, 0.7, 0.2, 0.01, 0.3
DESIGN = RampDesign((0.05, 0.25, 0.5, 1.0), 3600.0, 50, holdout=0.02, holdout_days=28.0)
PLAN = Plan(
    "swap", "chat", Target("a", "old"), (("candidate", Target("b", "new")),), mode="both", primary="quality",
    margin=MARGIN, guardrails=(Guardrail(ERRORS, 0.02),), method="hybrid", aa="alarm", ramp=DESIGN, rules=3,
    min_hours=0.0,
)  # fmt: skip
PACE = RampPace("auto", stale_s=math.inf)
SIGNS = {ERRORS: -1.0, "quality": 1.0, LEFT: -1.0}
Fault = Literal["fails", "lies", "leaves"]
OF_FAULT: Mapping[Fault, str] = {"fails": ERRORS, "lies": "quality", "leaves": LEFT}


@dataclass(frozen=True)
class Attack:
    """The acts of the hostile caller, and the truth about the candidate."""

    share: float = 0.0  # of all calls
    fault: Fault = "fails"  # of its calls of one arm, and of the candidate if that is bad
    bad: bool = False
    floods: bool = False  # its calls are faultless instead

    def of_hostile(self, candidate: bool, n: int, metric: str) -> Floats:
        """The values of the hostile caller's calls of one arm."""
        spoilt = not self.floods and OF_FAULT[self.fault] == metric and candidate != self.bad
        good = QUALITY if metric == "quality" and not self.floods else float(SIGNS[metric] > 0)
        return np.full(n, float(SIGNS[metric] < 0) if spoilt else good)


ATTACKS = {
    **{
        f"{'blind' if bad else 'back'}: {fault}, {share:.0%}": Attack(share, fault, bad)
        for bad in (False, True) for fault in OF_FAULT for share in (0.01, 0.1, 0.5)
    },
    **{f"blind: floods what {fault}, 50%": Attack(0.5, fault, True, floods=True) for fault in OF_FAULT},
    **{f"nobody hostile, {fault}": Attack(0.0, fault, True) for fault in OF_FAULT},
    "nobody hostile, good": Attack(),
}  # fmt: skip
QUICK = (
    "nobody hostile, good", "nobody hostile, leaves", "back: fails, 10%", "back: leaves, 10%", "blind: fails, 10%",
    "blind: lies, 10%", "blind: leaves, 50%",
    "blind: floods what fails, 50%",
)  # fmt: skip


class HostileRamp:
    """One ramp."""

    def __init__(self, attack: Attack, seed: int) -> None:
        self.attack, self.rng = attack, np.random.default_rng(seed)
        self.terms = BlockAlarmTerms.of(PLAN)
        self.thirds: dict[str, list[QuarterHour]] = {name: [] for name in SIGNS}
        self.quarters: dict[str, list[QuarterHour]] = {name: [] for name in SIGNS}

    def run(self) -> RampRecord:
        record = started("swap", "p", RampChange(0.0, "t", "t"))
        for look in range(1, LOOKS + 1):
            now = look * BLOCK_S
            if record.state != "shadow":
                self.serve(record, now)
            decision = decide_ramp(record, DESIGN, self.evidence(record, now), now, PACE)
            if decision.action != "hold":
                record = follow(record, DESIGN, decision, now, PACE)
            if record.state not in ("shadow", "ramp"):
                break
        return record

    def serve(self, record: RampRecord, now: float) -> None:
        """Serves one quarter-hour, by thirds."""
        n = WITHIN_QUARTERS.in_a_quarter
        for i in range(n):
            callers = dict(self.served(record.share(DESIGN)))
            for metric in SIGNS:
                sums = tuple(_sums(name, arms, metric) for name, arms in sorted(callers.items()))
                self.thirds[metric].append(QuarterHour(record.step, now - BLOCK_S + i * BLOCK_S / n, sums))
        for metric, thirds in self.thirds.items():
            self.quarters[metric].append(QuarterHour(record.step, now - BLOCK_S, _together(thirds[-n:])))

    def served(self, share: float) -> Iterator[tuple[str, list[dict[str, Floats]]]]:
        """Yields each caller with the values of its units in both arms, by metric."""
        for i, n in enumerate(self.rng.multinomial(UNITS, SHARES)):
            b = int(self.rng.binomial(n, share))
            yield f"team{i}", [self.honest(int(n) - b, False), self.honest(b, True)]
        if self.attack.share:
            n = round(UNITS * CALLS * self.attack.share / (1 - self.attack.share))
            b = int(self.rng.binomial(n, share))
            sizes = ((False, n - b), (True, b))
            yield HOSTILE, [{m: self.attack.of_hostile(arm, k, m) for m in SIGNS} for arm, k in sizes]

    def honest(self, n: int, candidate: bool) -> dict[str, Floats]:
        fault = self.attack.fault if self.attack.bad and candidate else None
        rates = {"fails": RATE, "leaves": RATE} | ({fault: BREAKS} if fault is not None else {})
        mean = QUALITY - 4 * MARGIN * (fault == "lies")
        return {
            ERRORS: self.rng.binomial(CALLS, rates["fails"], n) / CALLS,
            "quality": mean + DEVIATION / math.sqrt(CALLS) * self.rng.normal(size=n),
            LEFT: self.rng.binomial(CALLS, rates["leaves"], n) / CALLS,
        }

    def evidence(self, record: RampRecord, now: float) -> RampEvidence:
        proofs = self.proofs() if record.state == "ramp" else ()
        watched = [self.values(name, BY_QUARTERS) for name in (ERRORS, "quality") if self.quarters[name]]
        watched += [self.values(ERRORS, WITHIN_QUARTERS)] if watched else []
        soaked = now - record.since >= DESIGN.soak_s  # before that, it makes no difference who is blind
        here = [block for block in self.quarters[ERRORS] if block.step == record.step]
        return RampEvidence(
            at=now, verdict="ship", decided=True, proofs=proofs, newest=now,
            served=(*block_alarms(watched, self.terms), *(proof for proof in proofs if proof.raised)),
            units=round(sum(c.b.n for block in here for c in block.callers)),
            blind=record.state == "ramp" and soaked and blind_by_blocks(watched, self.terms, record.step),
        )  # fmt: skip

    def values(self, metric: str, pace: AlarmPace) -> QuarterHours:
        blocks = self.quarters if pace is BY_QUARTERS else self.thirds
        return QuarterHours(metric, SIGNS[metric], True, tuple(blocks[metric]), pace=pace)

    def proofs(self) -> tuple[ServedFinding, ...]:
        return served_proofs_of([self.served_blocks(metric) for metric in SIGNS], PLAN)

    def served_blocks(self, metric: str) -> ServedBlocks:
        blocks = self.quarters[metric]
        nothing = (ServedSums(), ServedSums())
        values = [
            of_callers(StepValues(metric, step, SIGNS[metric], True, *nothing, _together(here)))
            for step in sorted({block.step for block in blocks})
            for here in [[block for block in blocks if block.step == step]]
        ]
        friend, foe, most = friend_of(values), foe_of(values), majority_of(values)
        without = [self.without(metric, name) if name is not None else None for name in (friend, foe, most)]
        everybody = self.without(metric, "").blocks
        return ServedBlocks(
            metric, SIGNS[metric], True, everybody, friend=friend or "", without=without[0], foe=foe or "",
            without_foe=without[1], majority=most or "", others=without[2],
        )  # fmt: skip

    def without(self, metric: str, name: str) -> ServedBlocks:
        made = []
        for block in self.quarters[metric]:
            nothing, kept = (
                CallerSums("", 0, ServedSums(), ServedSums()),
                [c for c in block.callers if c.caller != name],
            )
            a, b = (_added([getattr(c, arm) for c in (nothing, *kept)]) for arm in ("a", "b"))
            made.append(ServedBlock(block.step, a, b, at=block.at))
        return ServedBlocks(metric, SIGNS[metric], True, tuple(made))


def _sums(name: str, arms: list[dict[str, Floats]], metric: str) -> CallerSums:
    a, b = (ServedSums.of(arm[metric]) for arm in arms)
    calls = (a.n + b.n) * (1 if name == HOSTILE else CALLS)
    return CallerSums(name, round(calls), a, b)


def _together(blocks: list[QuarterHour]) -> tuple[CallerSums, ...]:
    """The sums of each caller over some blocks."""
    names = sorted({c.caller for block in blocks for c in block.callers})
    by_name = {name: [c for block in blocks for c in block.callers if c.caller == name] for name in names}
    return tuple(
        CallerSums(name, sum(c.calls for c in of), _added([c.a for c in of]), _added([c.b for c in of]))
        for name, of in by_name.items()
    )


def _added(sums: list[ServedSums]) -> ServedSums:
    return ServedSums(sum(s.n for s in sums), math.fsum(s.total for s in sums), math.fsum(s.squares for s in sums))


RUNS = [
    *(pytest.param(name, FEW, id=f"few: {name}") for name in QUICK),
    *(
        pytest.param(name, MANY, id=f"many: {name}", marks=[pytest.mark.long, pytest.mark.timeout(7200)])
        for name in ATTACKS
    ),
]


@pytest.mark.parametrize(("name", "runs"), RUNS)
def test_one_caller_decides_no_ramp_of_rules_3(name: str, runs: int) -> None:
    """A bad candidate is promoted in 0.05 at most, a good one taken back in 0.02, unless half of the calls are against
    it."""
    attack = ATTACKS[name]
    records = [HostileRamp(attack, seed).run() for seed in range(runs)]
    states = Counter(str(record.state) for record in records)
    print(f"{runs} ramps, {name}: {dict(states)}; {records[0].reason[:150]}")  # noqa: T201
    if attack.bad:
        assert states["promoted"] <= at_most(runs, 0.05)
        if attack.share < 0.5 and attack.fault != "leaves":
            assert states["rolled_back"] == runs, "a broken candidate is rolled back"
    elif attack.share < 0.5:
        assert states["rolled_back"] <= at_most(runs, 0.02)
    if not attack.share and not attack.bad:
        assert states["promoted"] >= 0.9 * runs
    assert HONEST + 1 >= 5, "there are enough callers to leave one out"
