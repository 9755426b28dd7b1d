"""Whole ramps by run with a candidate that loops in some of the runs, which no shadow shows: through the product's own
evidence and decision. The table is printed.

2 000 runs an hour, each a unit; `run_loops` is a guardrail with a margin of 0.05, and the control loops in 1 % of its
runs; 1 % of the runs of both arms have a failed call; default steps and soak time; a look each quarter of an hour. The
shadows say `ship` from the start. A run is scored half an hour after its block of time. A promoted candidate is
followed for another day.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest

from gateway.config.experiments import RampConfig
from gateway.core.exchange import Target
from gateway.core.plan import CONVERSATION_QUIET_S, Guardrail, Plan
from gateway.core.ramp import RampChange, RampPace, RampRecord, started
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.blocks import BLOCK_S, ServedBlock, ServedBlocks
from gateway.ramps.callers import blind_to_callers, caller_alarms
from gateway.ramps.decision import decide_ramp, follow
from gateway.ramps.evidence import RampEvidence
from gateway.ramps.plan_proofs import served_proofs_of
from gateway.ramps.step_values import ServedSums, StepValues

FEW, MANY = 2, 2_000
PER_HOUR, HOUR_S, MARGIN, CONTROL_LOOPS, FAILS = 2_000, 3_600.0, 0.05, 0.01, 0.01
RUNS = int(PER_HOUR * BLOCK_S / HOUR_S)
LATE = round(CONVERSATION_QUIET_S / BLOCK_S)  # looks until a block's runs are scored
LOOKS, WATCHED = int(48 * HOUR_S / BLOCK_S), int(24 * HOUR_S / BLOCK_S)
PACE = RampPace("auto", stale_s=math.inf)
ERRORS, LOOPS = "error_rate", "run_loops"
SIGNS = {ERRORS: -1.0, LOOPS: 1.0}
WORLDS = {
    "loops no more often": 0.0,
    "loops more often by its margin": MARGIN,
    "loops more often by 1.5 margins": 1.5 * MARGIN,
    "loops in a fifth of the runs": 0.2,
}


def plan_of(of_runs: tuple[str, ...] = (LOOPS,)) -> Plan:
    """of_runs: (): the guardrail is left out, as shadows alone would have it."""
    return Plan(
        "swap", "chat", Target("a", "old"), (("candidate", Target("b", "new")),), mode="both", unit="run",
        primary="quality", margin=0.05, guardrails=tuple(Guardrail(name, MARGIN) for name in of_runs), method="anytime",
        aa="alarm", rules=2, ramp=RampConfig().design, of_runs=of_runs,
    )  # fmt: skip


@dataclass
class Step:
    """Results of both arms at one step, as far as they are known."""

    a: dict[str, ServedSums] = field(default_factory=lambda: dict.fromkeys(SIGNS, ServedSums()))
    b: dict[str, ServedSums] = field(default_factory=lambda: dict.fromkeys(SIGNS, ServedSums()))

    def add(self, metric: str, a: ServedSums, b: ServedSums) -> None:
        self.a[metric], self.b[metric] = self.a[metric].plus(a), self.b[metric].plus(b)


class RunRamp:
    """One simulated ramp."""

    def __init__(self, plan: Plan, more_loops: float, seed: int) -> None:
        self.plan, self.more_loops, self.rng = plan, more_loops, np.random.default_rng([33, seed])
        self.terms = AlarmTerms.of(plan)
        self.steps: dict[int, Step] = {}
        self.blocks: dict[str, list[ServedBlock]] = {name: [] for name in SIGNS}
        self.unscored: list[tuple[int, int, ServedSums, ServedSums]] = []  # (look from which it is known, step, a, b)
        self.exposed = 0  # runs that the candidate looped in

    @property
    def design(self):  # type: ignore[no-untyped-def]
        return self.plan.ramp

    def run(self) -> RampRecord:
        record, left = started("swap", "p", RampChange(0.0, "t", "t")), WATCHED
        for look in range(1, LOOKS + WATCHED + 1):
            now = look * BLOCK_S
            self.serve(record, look)
            decision = decide_ramp(record, self.design, self.evidence(record, now), now, PACE)
            if decision.action != "hold":
                record = follow(record, self.design, decision, now, PACE)
            left -= record.state == "promoted"
            if record.state in ("rolled_back", "stopped") or not left or (look >= LOOKS and record.state == "ramp"):
                break
        return record

    def serve(self, record: RampRecord, look: int) -> None:
        self.score(look)
        if record.state == "shadow":
            return
        n = int(self.rng.binomial(RUNS, record.share(self.design)))
        sizes = (RUNS - n, n)
        failed = [self.drawn(k, FAILS) for k in sizes]
        loops = [self.drawn(k, CONTROL_LOOPS + more) for k, more in zip(sizes, (0.0, self.more_loops), strict=True)]
        self.exposed += round(loops[1].total)
        finished = [ServedSums(s.n, s.n - s.total, s.n - s.total) for s in loops]  # 1: it did not loop
        self.known(record.step, ERRORS, failed[0], failed[1])
        self.unscored.append((look + LATE, record.step, finished[0], finished[1]))

    def score(self, look: int) -> None:
        while self.unscored and self.unscored[0][0] <= look:
            _, step, a, b = self.unscored.pop(0)
            self.known(step, LOOPS, a, b)

    def known(self, step: int, metric: str, a: ServedSums, b: ServedSums) -> None:
        self.steps.setdefault(step, Step()).add(metric, a, b)
        if self.design.steps[min(step, len(self.design.steps) - 1)] < 1.0:
            self.blocks[metric].append(ServedBlock(step, a, b))

    def drawn(self, n: int, rate: float) -> ServedSums:
        x = float(self.rng.binomial(n, rate))
        return ServedSums(n, x, x)

    def evidence(self, record: RampRecord, now: float) -> RampEvidence:
        values = self.values(record)
        partial = record.state == "ramp" and self.design.steps[record.step] < 1.0
        served = [ServedBlocks(name, sign, True, tuple(self.blocks[name])) for name, sign in SIGNS.items()]
        proofs = served_proofs_of(served, self.plan) if partial else ()
        alarms = (*caller_alarms(values, self.terms), *(each for each in proofs if each.raised))
        here = self.steps.get(record.step)
        return RampEvidence(
            at=now, verdict="ship", decided=True, served=alarms, proofs=proofs, newest=now, requests=1,
            units=round(here.b[ERRORS].n) if here and record.state == "ramp" else 0,
            blind=record.state == "ramp" and blind_to_callers(values, self.terms, record.step),
        )  # fmt: skip

    def values(self, record: RampRecord) -> list[StepValues]:
        """Values of the present step; where nobody has the control, that of the step before stands in."""
        here = self.steps.get(record.step)
        if here is None:
            return []
        watched = [name for name in SIGNS if name in self.terms.margins and here.b[name].n]
        return [
            StepValues(
                name, record.step, SIGNS[name], True,
                here.a[name] if here.a[name].n else self.steps[record.step - 1].a[name], here.b[name],
                paired=here.a[ERRORS].n > 0,
            )
            for name in watched
        ]  # fmt: skip


def played(name: str, runs: int, plan: Plan) -> Counter[str]:
    found = [(ramp.run(), ramp.exposed) for ramp in (RunRamp(plan, WORLDS[name], seed) for seed in range(runs))]
    states = Counter(str(record.state) for record, _ in found)
    shown = {s: f"{states[s] / runs:.4f}" for s in ("promoted", "rolled_back", "ramp")}
    median = sorted(exposed for _, exposed in found)[runs // 2]
    watched = "watched" if plan.of_runs else "not watched"
    print(f"{runs} ramps, {name}, {watched}: {shown}; runs in which it looped: {median}")  # noqa: T201
    return states


def at_most(runs: int, rate: float) -> float:
    """Number of `runs` that a rate may give, with three standard errors."""
    return runs * rate + 3 * math.sqrt(runs * rate * (1 - rate))


PLAYED = [
    *(pytest.param(name, FEW, id=f"few: {name}") for name in ("loops no more often", "loops in a fifth of the runs")),
    *(
        pytest.param(name, MANY, id=f"many: {name}", marks=[pytest.mark.long, pytest.mark.timeout(36_000)])
        for name in WORLDS
    ),
]


@pytest.mark.parametrize(("name", "runs"), PLAYED)
def test_a_ramp_by_run_ends_as_its_runs_ask(name: str, runs: int) -> None:
    """Bounds: nominal and three standard errors."""
    states = played(name, runs, plan_of())
    if WORLDS[name] == 0.0:
        assert states["promoted"] >= 0.9 * runs - 3 * math.sqrt(runs * 0.09)
        assert states["rolled_back"] <= at_most(runs, 0.02)
    else:
        assert states["promoted"] <= at_most(runs, 0.05)


def test_shadows_alone_promote_a_candidate_that_loops() -> None:
    """The guardrail is therefore what keeps it back."""
    assert played("loops in a fifth of the runs", FEW, plan_of(()))["promoted"] == FEW


def test_without_a_score_of_any_run_the_ramp_waits() -> None:
    """Shadows say nothing of runs, so a missing score proves nothing."""
    served = [ServedBlocks(ERRORS, -1.0, True, (ServedBlock(0, ServedSums(5_000), ServedSums(5_000)),))]
    open_ = [each for each in served_proofs_of(served, plan_of()) if each.found != "non_inferior"]
    assert [(each.metric, each.found, each.units) for each in open_] == [(LOOPS, "unclear", (0, 0))]
