"""Whole ramps by simulation, with fixed seeds: who is promoted, who is rolled back, and what it cost until then.

The pairs go through the sequence that the primary really has, the served answers through the alarms, and the record
through decide_ramp. One look for each 500 calls; each call is a unit of its own.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.ramp import RampChange, RampDesign, RampPace, RampRecord, started
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.callers import caller_alarms
from gateway.ramps.decision import decide_ramp, follow
from gateway.ramps.evidence import RampEvidence, ServedFinding
from gateway.ramps.plan_proofs import proofs_of
from gateway.ramps.step_values import ServedSums, StepValues
from gateway.reports.model import Verdict, margin_finding
from gateway.statistics.domains import Floats
from gateway.verdict.metrics import Metric, PairValue
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of

FEW, MANY = 5, 500
CALLS, SHADOWED, LOOK_S, LOOKS = 500, 0.06, 60.0, 150
QUALITY, THUMB, ERRORS = "quality", "feedback:thumb", "error_rate"
MARGIN, THUMB_MARGIN, ALPHA = 0.1, 0.1, 0.05
PACE = RampPace("auto")
DESIGN = RampDesign((0.01, 0.05, 0.25, 0.5, 1.0), 300.0, 50, 2_000)
OF_FEEDBACK = RampDesign((0.1, 0.5, 1.0), 300.0, 50, 5_000)


@dataclass(frozen=True)
class World:
    """The truth about the candidate. Functions take the share that it serves."""

    quality: float = 0.0  # its answers' mean, less the control's
    errors: Callable[[float], float] = lambda share: 0.01
    thumbs: float = 0.7  # share of thumbs up; the control has 0.7
    silent_from: float = 2.0  # from this share on, nothing comes back
    primary: str = QUALITY
    pairs: bool = True

    @property
    def design(self) -> RampDesign:
        return OF_FEEDBACK if self.primary == THUMB else DESIGN


WORLDS = {
    "same": World(),
    "better": World(quality=0.1, thumbs=0.8),
    "worse by one margin": World(quality=-MARGIN),
    "breaks at 25 % load": World(errors=lambda share: 0.4 if share >= 0.25 else 0.01),
    "fails every served call": World(errors=lambda share: 1.0),
    "silent upstream": World(silent_from=0.0, pairs=False),
    "falls silent at 5 %": World(silent_from=0.05),
    "feedback worse by one margin": World(thumbs=0.7 - THUMB_MARGIN),
    "feedback decides, and is the same": World(primary=THUMB),
    "feedback decides, and is worse by one margin": World(primary=THUMB, thumbs=0.7 - THUMB_MARGIN),
}


def plan_of(world: World) -> Plan:
    rails = (Guardrail(ERRORS, 0.02), *([] if world.primary == THUMB else [Guardrail(THUMB, THUMB_MARGIN)]))
    return Plan(
        "swap", "chat", Target("a", "old"), (("candidate", Target("b", "new")),), mode="both", shadow=SHADOWED,
        primary=world.primary, margin=MARGIN, alpha=ALPHA, guardrails=rails, method="anytime", aa="alarm",
        ramp=world.design,
    )  # fmt: skip


@dataclass
class Ended:
    """The end of one ramp."""

    record: RampRecord
    served: int  # calls that the candidate served
    served_broken: int  # of these, those at a share at which it failed often
    served_undecided: int  # of these, those before the first verdict
    steps: int  # transitions to a higher share


@dataclass
class Arms:
    """The sums of one metric at each step, for both arms."""

    steps: dict[int, list[ServedSums]] = field(default_factory=dict)

    def add(self, step: int, control: Floats, candidate: Floats) -> None:
        before = self.steps.get(step, [ServedSums(), ServedSums()])
        new = (ServedSums.of(control), ServedSums.of(candidate))
        self.steps[step] = [
            ServedSums(b.n + n.n, b.total + n.total, b.squares + n.squares) for b, n in zip(before, new, strict=True)
        ]


class Ramp:
    """One simulated ramp."""

    def __init__(self, world: World, seed: int) -> None:
        self.world, self.plan = world, plan_of(world)
        self.rng = np.random.default_rng(seed)
        self.terms = AlarmTerms.of(self.plan)
        metric = Metric(QUALITY, "score", "1 c1") if world.primary == QUALITY else None
        self.pairs = DifferenceSequence(rule_of(self.plan, metric, MARGIN), True) if metric else None
        self.signs = {ERRORS: -1.0, QUALITY: 1.0, THUMB: 1.0}
        self.arms = {name: Arms() for name in self.signs}
        self.newest: float | None = None
        self.decided = False

    def run(self) -> Ended:
        record, end = started("swap", "p", RampChange(0.0, "t", "t")), Ended(None, 0, 0, 0, 0)  # type: ignore[arg-type]
        for look in range(1, LOOKS + 1):
            now = look * LOOK_S
            served = self.serve(record, now)
            share = record.share(self.world.design)
            end.served += served
            end.served_broken += served if self.world.errors(share) > 0.1 else 0
            evidence = self.evidence(record, now, end.served)
            end.served_undecided += 0 if self.decided else served
            decision = decide_ramp(record, self.world.design, evidence, now, PACE)
            if decision.action != "hold":
                record = follow(record, self.world.design, decision, now, PACE)
                end.steps += decision.action == "advance"
            if record.state not in ("shadow", "ramp"):
                break
        end.record = record
        return end

    def serve(self, record: RampRecord, now: float) -> int:
        """The calls until the next look. Returns how many the candidate served."""
        share, w, rng = record.share(self.world.design), self.world, self.rng
        b = int(rng.binomial(CALLS, share))
        a = CALLS - b
        heard = share < w.silent_from and (share > 0 or w.pairs)
        shadowed = int(rng.binomial(a, SHADOWED)) if heard else 0
        if self.pairs is not None:
            for x, y in zip(self.scores(shadowed, 0.0), self.scores(shadowed, w.quality), strict=True):
                self.pairs.add(PairValue(float(x), float(y), float(y - x)))
        if shadowed or (b and heard):
            self.newest = now
        if record.state == "ramp":
            seen = b if heard else 0
            self.arms[ERRORS].add(record.step, self.ones(a, 0.01), self.ones(seen, w.errors(share)))
            self.arms[QUALITY].add(record.step, self.scores(a, 0.0), self.scores(seen, w.quality))
            rated = (int(rng.binomial(n, 0.2)) for n in (a, seen))
            control, candidate = (self.ones(n, p) for n, p in zip(rated, (0.7, w.thumbs), strict=True))
            self.arms[THUMB].add(record.step, control, candidate)
        return b

    def scores(self, n: int, shift: float) -> Floats:
        return np.clip(self.rng.beta(4, 4, n) * 0.8 + 0.1 + shift, 0.0, 1.0)

    def ones(self, n: int, p: float) -> Floats:
        return (self.rng.random(n) < p).astype(np.float64)

    def evidence(self, record: RampRecord, now: float, served: int) -> RampEvidence:
        values = [
            StepValues(name, step, self.signs[name], True, a, b)
            for name, arms in self.arms.items()
            for step, (a, b) in arms.steps.items()
        ]
        proofs = proofs_of(values, self.plan)
        verdict = self.verdict(proofs)
        self.decided = self.decided or verdict == "ship"
        here = self.arms[ERRORS].steps.get(record.step)
        return RampEvidence(
            at=now, verdict=verdict, sentence="so far", decided=self.decided,
            served_primary=self.world.primary == THUMB,
            served=caller_alarms([v for v in values if v.step == record.step], self.terms), proofs=proofs,
            units=here[1].n if here and record.state == "ramp" else 0, requests=served, newest=self.newest,
        )  # fmt: skip

    def verdict(self, proofs: tuple[ServedFinding, ...]) -> Verdict:
        """The verdict of the primary alone: gates and guardrails on pairs could only withhold it."""
        if self.pairs is None:
            found = proofs[0].found
        else:
            found = margin_finding(self.pairs.estimate(), MARGIN) if self.pairs.n else "unclear"
        return "reject" if found == "inferior" else "hold" if found == "unclear" else "ship"


def ended(name: str, runs: int) -> list[Ended]:
    return [Ramp(WORLDS[name], seed).run() for seed in range(runs)]


def at_most(runs: int, rate: float = ALPHA) -> float:
    """Number of `runs` that a rate may give, with three standard errors."""
    return runs * rate + 3 * math.sqrt(runs * rate * (1 - rate))


RUNS = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=[pytest.mark.long, pytest.mark.timeout(3600)])]


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize("name", WORLDS)
def test_a_ramp_ends_as_its_world_asks(name: str, runs: int) -> None:
    found = ended(name, runs)
    states = Counter(each.record.state for each in found)
    undecided = max(each.served_undecided for each in found)
    broken = sorted(each.served_broken for each in found)
    print(f"{name}: {dict(states)}; served until the verdict at most {undecided}, while broken: "  # noqa: T201
          f"median {broken[len(broken) // 2]}, 99 % {broken[int(0.99 * len(broken))]}, most {broken[-1]}; "
          f"steps {sum(e.steps for e in found) / runs:.1f}")  # fmt: skip
    if name in ("same", "better", "feedback decides, and is the same"):
        assert states["promoted"] >= 0.8 * runs
        assert states["rolled_back"] <= at_most(runs)
    if "worse" in name:
        assert states["promoted"] <= at_most(runs)
    if name == "breaks at 25 % load":
        assert states["rolled_back"] == runs
        assert broken[-1] <= 2 * CALLS * 0.25, "within two looks of breaking"
    if name == "fails every served call":
        assert states["rolled_back"] == runs
        assert broken[-1] <= 40
    if name == "silent upstream":
        assert all((each.steps, each.served) == (0, 0) for each in found), "no data never advances"
    if name == "falls silent at 5 %":
        assert all(each.record.step <= 1 and each.record.state == "ramp" for each in found)
    if "decides" in name:
        assert undecided <= 5_000 + CALLS, "the largest exposure, and what was served until the next look"
    elif name != "silent upstream":
        assert undecided == 0


def test_the_simulation_notices_a_ramp_that_is_not_careful() -> None:
    """The candidate that is worse would nearly always be promoted without the verdict."""
    ramp = Ramp(WORLDS["worse by one margin"], 1)
    evidence = replace(
        ramp.evidence(started("swap", "p", RampChange(0.0, "t", "t")), 1.0, 0), verdict="ship", newest=1.0
    )
    record = started("swap", "p", RampChange(0.0, "t", "t"))
    assert decide_ramp(record, DESIGN, evidence, 1.0, PACE).action == "advance"
