"""Whole ramps in worlds that change with the time of day, or only once the candidate serves: by each version of the
rules, through the product's own evidence and decision. The table is printed.

6000 calls an hour, each a unit of its own; quality with a standard deviation of 0.2 and a margin of 0.05; the default
steps and soak time; one look each quarter of an hour. The shadows show nothing: their verdict is `ship` from the start.
A promoted candidate is followed for another day. Nothing is served twice, so the units' sums are drawn as such.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from gateway.config.experiments import RampConfig
from gateway.core.exchange import Target
from gateway.core.plan import Guardrail, Plan
from gateway.core.ramp import RampChange, RampPace, RampRecord, started
from gateway.features.ramp.alarms.quarter_hours import HISTORY_BLOCKS, MOST_BLOCKS, control_p95
from gateway.ramps.alarms import AlarmTerms
from gateway.ramps.block_alarm import WITHIN_QUARTERS
from gateway.ramps.block_callers import (
    BLOCK_RULES,
    BlockAlarmTerms,
    QuarterHour,
    QuarterHours,
    blind_by_blocks,
    block_alarms,
)
from gateway.ramps.blocks import BLOCK_S, ServedBlock, ServedBlocks
from gateway.ramps.callers import blind_to_callers, caller_alarms
from gateway.ramps.decision import decide_ramp, follow
from gateway.ramps.evidence import RampEvidence, ServedFinding
from gateway.ramps.plan_proofs import served_proofs_of
from gateway.ramps.served_hours import served_hours
from gateway.ramps.step_values import CallerSums, ServedSums, StepValues
from gateway.reports.model import Estimate, margin_finding
from gateway.statistics.domains import Floats
from gateway.verdict.sequences.latency import ArmSeconds, slow_share

FEW, MANY, MANY_BEFORE = 2, 2_000, 200
PER_HOUR, DEVIATION, MARGIN, HOUR_S = 6_000, 0.2, 0.05, 3_600.0
CALLS = int(PER_HOUR * BLOCK_S / HOUR_S)
LOOKS = int(48 * HOUR_S / BLOCK_S)
WATCHED = int(24 * HOUR_S / BLOCK_S)
PACE = RampPace("auto", stale_s=math.inf)
THIRDS = WITHIN_QUARTERS.in_a_quarter
P95_S = 2.0  # of the control's latency
HOURS = tuple(range(24))  # of the day in which there are calls


@dataclass(frozen=True)
class World:
    """The truth about the arms. hour: of the day."""

    quality: float = 0.0  # of the candidate's served answers, less the control's
    deviation: float = DEVIATION
    errors: Callable[[float], float] = lambda hour: 0.01
    more_errors: float = 0.0  # of the candidate's served calls
    daily: float = 0.0  # amplitude of the quality over the day, of both arms
    slower: float = 1.0  # factor of the candidate's latency; other than 1: the p95 is a guardrail
    bad_from: float | None = None  # hour of the day from which the candidate is worse by 4 margins for 6 hours
    busy: float = 0.0  # amplitude of the calls over the day; they are most in the middle of the bad hours

    def served_quality(self, hour: float) -> float:
        """The quality of the candidate's answers at this hour, less the control's."""
        bad = self.bad_from is not None and (hour - self.bad_from) % 24.0 < 6.0
        return self.quality - 4 * MARGIN * bad

    def calls(self, hour: float) -> int:
        """The calls of a quarter-hour."""
        return round(CALLS * (1.0 + self.busy * math.cos(2 * math.pi * (hour - (self.bad_from or 0.0) - 3.0) / 24.0)))


def peak(hour: float) -> float:
    """0.5 % at night, 6 % in the afternoon."""
    return 0.005 + 0.055 * max(0.0, math.sin(2 * math.pi * (hour - 8.0) / 24.0))


WORLDS = {
    "equal": World(),
    "worse by one margin once it serves": World(-MARGIN),
    "worse by 1.3 margins once it serves": World(-1.3 * MARGIN),
    "errors 1 % → 2.9 % once it serves": World(more_errors=0.019),
    "errors 1 % → 1.5 % once it serves": World(more_errors=0.005),
    "−8 margins in a twentieth, +0.42 elsewhere": World(0.0, math.hypot(DEVIATION, 0.092)),
    "equal; quality ± 0.06 over the day": World(daily=0.06),
    "equal; errors 0.5 % at night, 6 % at the peak": World(errors=peak),
    "latency p95 + 20 %": World(slower=1.2),
    "equal; the p95 is a guardrail": World(slower=1.0 + 1e-9),
    "worse by 4 margins for 6 h a day once it serves": World(bad_from=9.0),
    "worse by 3.4 margins at the peak once it serves": World(0.63 * MARGIN, bad_from=9.0, busy=0.7),  # mean: −1 margin
}
EQUAL = tuple(name for name in WORLDS if name.startswith("equal"))
WORSE = tuple(name for name in WORLDS if "once it serves" in name or "latency" in name)


def plan_of(world: World, rules: int) -> Plan:
    design = RampConfig().design
    rails = (Guardrail("latency_p95", 0.1 * P95_S),) if world.slower != 1.0 else ()
    return Plan(
        "swap", "chat", Target("a", "old"), (("candidate", Target("b", "new")),), mode="both", primary="quality",
        margin=MARGIN, guardrails=rails, method="anytime", aa="alarm", rules=rules,
        ramp=design if rules >= 2 else design.with_first_rules(),
    )  # fmt: skip


@dataclass
class Seconds:
    """Latencies of one arm: each conversation has three calls."""

    parts: list[Floats] = field(default_factory=list)
    served: int = 0

    def add(self, seconds: Floats) -> None:
        self.parts.append(seconds)
        self.served += seconds.size

    def arm(self) -> ArmSeconds:
        return ArmSeconds(np.concatenate(self.parts), np.arange(self.served) // 3)


@dataclass
class Served:
    """Sums of what both arms served at one step."""

    a: dict[str, ServedSums] = field(default_factory=dict)
    b: dict[str, ServedSums] = field(default_factory=dict)
    seconds: tuple[Seconds, Seconds] = field(default_factory=lambda: (Seconds(), Seconds()))


class Ramp:
    """One simulated ramp."""

    def __init__(self, world: World, rules: int, seed: int) -> None:
        self.world, self.plan = world, plan_of(world, rules)
        self.rng = np.random.default_rng(seed)
        self.begins = float(self.rng.random() * 24.0)  # hour of the day
        self.terms = AlarmTerms.of(self.plan)
        self.steps: dict[int, Served] = {}
        self.blocks: dict[str, list[ServedBlock]] = {"error_rate": [], "quality": []}
        self.quarters: dict[str, list[QuarterHour]] = {"error_rate": [], "quality": [], "latency_p95": []}
        self.thirds: list[QuarterHour] = []  # failures within quarter-hours
        self.control_s: list[Floats] = []  # durations of the control's answers, by block

    @property
    def design(self):  # type: ignore[no-untyped-def]
        return self.plan.ramp

    @property
    def by_blocks(self) -> bool:
        return self.plan.rules >= BLOCK_RULES

    def time(self, now: float) -> float:
        """Unix seconds of a day that begins at 0."""
        return self.begins * HOUR_S + now

    def run(self) -> tuple[RampRecord, float]:
        """The last record, and the hours until the promotion or the end."""
        record, left, ended = started("swap", "p", RampChange(0.0, "t", "t")), WATCHED, 0.0
        for look in range(1, LOOKS + WATCHED + 1):
            now = look * BLOCK_S
            self.serve(record, now)
            decision = decide_ramp(record, self.design, self.evidence(record, now), now, PACE)
            if decision.action != "hold":
                record, ended = follow(record, self.design, decision, now, PACE), now / HOUR_S
            left -= record.state == "promoted"
            if record.state in ("rolled_back", "stopped") or not left or (look >= LOOKS and record.state == "ramp"):
                break
        return record, ended

    def serve(self, record: RampRecord, now: float) -> None:
        share, w, hour = record.share(self.design), self.world, (self.begins + now / HOUR_S) % 24.0
        if record.state == "shadow":
            return
        calls = w.calls(hour)
        n = int(self.rng.binomial(calls, share))
        sizes, rate, mean = (calls - n, n), w.errors(hour), 0.7 + w.daily * math.sin(2 * math.pi * hour / 24.0)
        here = self.steps.setdefault(record.step, Served())
        new = {
            "error_rate": self.failures(record, now, sizes, (rate, rate + w.more_errors)),
            "quality": [
                self.scored(k, mean + more) for k, more in zip(sizes, (0.0, w.served_quality(hour)), strict=True)
            ],
        }
        for metric, (a, b) in new.items():
            here.a[metric] = here.a.get(metric, ServedSums()).plus(a)
            here.b[metric] = here.b.get(metric, ServedSums()).plus(b)
            self.add_quarter(metric, record, now, (a, b))
            if self.design.steps[record.step] < 1.0:
                self.blocks[metric].append(ServedBlock(record.step, a, b, at=self.time(now - BLOCK_S)))
        if w.slower != 1.0:
            durations = [
                f * P95_S / 2.276 * self.rng.lognormal(0.0, 0.5, k) for k, f in zip(sizes, (1.0, w.slower), strict=True)
            ]
            for arm, seconds in zip(here.seconds, durations, strict=True):
                arm.add(seconds)
            self.add_slow(record, now, durations)

    def add_quarter(self, metric: str, record: RampRecord, now: float, arms: tuple[ServedSums, ServedSums]) -> None:
        everybody = CallerSums("all", round(arms[0].n + arms[1].n), *arms)
        self.quarters[metric].append(QuarterHour(record.step, self.time(now - BLOCK_S), (everybody,)))

    def add_slow(self, record: RampRecord, now: float, durations: Sequence[Floats]) -> None:
        """Each answer is a unit here."""
        limit, margin = control_p95(self.control_s[-8:]), self.terms.margins["latency_p95"]
        self.control_s.append(durations[0])
        if limit is not None:
            shares = [float((s > m).sum()) for s, m in zip(durations, (limit, limit + margin), strict=True)]
            a, b = (ServedSums(s.size, x, x) for s, x in zip(durations, shares, strict=True))
            self.add_quarter("latency_p95", record, now, (a, b))

    def failures(
        self, record: RampRecord, now: float, sizes: tuple[int, int], rates: tuple[float, float]
    ) -> list[ServedSums]:
        """The failures of a quarter-hour in both arms, drawn by thirds."""
        whole = [ServedSums(), ServedSums()]
        for i in range(THIRDS):
            parts = [n // THIRDS + (i < n % THIRDS) for n in sizes]
            found = [self.failed(arm, n, rate) for arm, (n, rate) in enumerate(zip(parts, rates, strict=True))]
            sums = [ServedSums(n, float(x), float(x)) for n, x in zip(parts, found, strict=True)]
            at = self.time(now - BLOCK_S + i * BLOCK_S / THIRDS)
            self.thirds.append(QuarterHour(record.step, at, (CallerSums("all", sum(parts), *sums),)))
            whole = [total.plus(part) for total, part in zip(whole, sums, strict=True)]
        return whole

    def failed(self, arm: int, n: int, rate: float) -> int:
        """Failed calls of n, in a third of a quarter-hour. arm: 0 for the control."""
        return int(self.rng.binomial(n, rate))

    def scored(self, n: int, mean: float) -> ServedSums:
        if n == 0:
            return ServedSums()
        own, deviation = mean + self.world.deviation * self.rng.normal() / math.sqrt(n), self.world.deviation
        apart = deviation**2 * self.rng.chisquare(n - 1) if n > 1 else 0.0
        return ServedSums(n, n * own, n * own**2 + apart)

    def evidence(self, record: RampRecord, now: float) -> RampEvidence:
        served = [ServedBlocks(m, s, True, tuple(self.blocks[m])) for m, s in (("error_rate", -1.0), ("quality", 1.0))]
        partial = record.state == "ramp" and self.design.steps[record.step] < 1.0
        proofs = served_proofs_of(served, self.plan, HOURS) if partial else ()
        alarms, blind = self.alarms_by_blocks(record, now) if self.by_blocks else self.alarms_by_step(record, now)
        alarms += tuple(each for each in proofs if each.raised)
        if partial and self.world.slower != 1.0 and self.plan.rules >= 2:
            proofs = (*proofs, *self.p95_proof(record, now))
        here = self.steps.get(record.step)
        return RampEvidence(
            at=now, verdict="ship", decided=True, served=alarms, proofs=proofs, newest=now, requests=1,
            units=here.b["quality"].n if here and record.state == "ramp" else 0,
            hours=served_hours(HOURS, self.blocks["quality"]) if self.plan.rules >= 3 else None,
            blind=record.state == "ramp" and blind,
        )  # fmt: skip

    def alarms_by_step(self, record: RampRecord, now: float) -> tuple[tuple[ServedFinding, ...], bool]:
        """The alarms, and whether none could ring yet."""
        values = self.values(record)
        alarms = (*caller_alarms(values, self.terms), *self.slower(record, now, 2 * self.terms.alpha))
        return alarms, blind_to_callers(values, self.terms, record.step)

    def alarms_by_blocks(self, record: RampRecord, now: float) -> tuple[tuple[ServedFinding, ...], bool]:
        terms, signs = BlockAlarmTerms.of(self.plan), {"quality": 1.0}
        history_s = HISTORY_BLOCKS * BLOCK_S if len(self.quarters["quality"]) > MOST_BLOCKS else 0.0
        found = [
            QuarterHours(
                name,
                signs.get(name, -1.0),
                True,
                tuple(blocks[-MOST_BLOCKS:]),
                control_of(blocks[:-MOST_BLOCKS]),
                history_s=history_s,
            )
            for name, blocks in self.quarters.items()
            if blocks
        ]
        if self.thirds:
            most, before = THIRDS * MOST_BLOCKS, control_of(self.quarters["error_rate"][:-MOST_BLOCKS])
            thirds = tuple(self.thirds[-most:])
            found.append(QuarterHours("error_rate", -1.0, True, thirds, before, WITHIN_QUARTERS, history_s))
        soaked = record.state == "ramp" and now - record.since >= self.design.soak_s  # before that, it does not matter
        return block_alarms(found, terms), not soaked or blind_by_blocks(found, terms, record.step)

    def values(self, record: RampRecord) -> list[StepValues]:
        """Values of the present step; where nobody has the control, that of the step before stands in."""
        here = self.steps.get(record.step)
        if here is None:
            return []
        paired = here.a["quality"].n > 0
        control = here if paired else self.steps[record.step - 1]
        made = [
            StepValues(m, record.step, sign, True, control.a[m], here.b[m], paired=paired or self.plan.rules < 2)
            for m, sign in (("error_rate", -1.0), ("quality", 1.0))
        ]  # fmt: skip
        if paired and self.design.steps[record.step] == 1.0:
            made.append(replace(made[0], a=self.steps[record.step - 1].a["error_rate"], paired=False))
        return made

    def p95_proof(self, record: RampRecord, now: float) -> tuple[ServedFinding, ...]:
        """The proof of this step alone; between two looks it is not known."""
        found = self.slower(record, now, self.plan.verdict_alpha)
        unknown = ServedFinding("latency_p95", None, Estimate(None), 0.0, "unclear", (0, 0))
        return tuple(replace(each, step=None) for each in found) or (unknown,)

    def slower(self, record: RampRecord, now: float, alpha: float) -> tuple[ServedFinding, ...]:
        """The p95, for which the first rules have no finding, as a conversation is one unit."""
        here = self.steps.get(record.step)
        if here is None or self.plan.rules < 2 or not all(s.served for s in here.seconds) or now % HOUR_S:
            return ()
        a, b = (s.arm() for s in here.seconds)
        margin = self.terms.margins["latency_p95"]
        found = slow_share(a, b, alpha)
        raised = margin_finding(found.difference, margin)
        return (ServedFinding("latency_p95", record.step, found.difference, margin, raised, found.units),)


def control_of(blocks: Sequence[QuarterHour]) -> ServedSums:
    """The control's units before the first block, as a store sums them."""
    n, total, squares = np.array(
        [(a.n, a.total, a.squares) for b in blocks for a in (b.callers[0].a,)] or [(0, 0, 0)]
    ).sum(0)
    return ServedSums(float(n), float(total), float(squares))


def at_most(runs: int, rate: float) -> float:
    """Number of `runs` that a rate may give, with three standard errors."""
    return runs * rate + 3 * math.sqrt(runs * rate * (1 - rate))


QUICK = (
    "equal",
    "equal; errors 0.5 % at night, 6 % at the peak",
    "errors 1 % → 2.9 % once it serves",
    "worse by 4 margins for 6 h a day once it serves",
)
RUNS = [
    *(pytest.param(name, FEW, id=f"few: {name}") for name in QUICK),
    *(
        pytest.param(name, MANY, id=f"many: {name}", marks=[pytest.mark.long, pytest.mark.timeout(36_000)])
        for name in WORLDS
    ),
]


def ended(name: str, rules: int, runs: int) -> Counter[str]:
    found = [Ramp(WORLDS[name], rules, seed).run() for seed in range(runs)]
    states = Counter(record.state for record, _ in found)
    hours = sorted(hours for record, hours in found if record.state == "promoted")
    shown = {s: f"{states[s] / runs:.3f}" for s in ("promoted", "rolled_back", "ramp")}
    print(f"rules {rules}, {runs} ramps, {name}: {shown}; "  # noqa: T201
          f"promoted after {hours[len(hours) // 2] if hours else math.nan:.1f} h")  # fmt: skip
    return Counter({str(state): n for state, n in states.items()})


@pytest.mark.parametrize(("name", "runs"), RUNS)
def test_a_ramp_ends_as_served_answers_ask(name: str, runs: int) -> None:
    """Ramps end like this by the present rules. Bounds: nominal and three standard errors. Fewer ramps are played by
    earlier rules.
    """
    if runs == MANY:
        ended(name, 1, MANY_BEFORE)
        ended(name, 2, MANY_BEFORE)
    states = ended(name, 3, runs)
    if name in EQUAL:
        assert states["promoted"] >= 0.9 * runs - 3 * math.sqrt(runs * 0.09)
        assert states["rolled_back"] <= at_most(runs, 0.02)
    if name in WORSE:
        assert states["promoted"] <= at_most(runs, 0.05)


def test_the_first_rules_promote_what_is_worse_once_it_serves() -> None:
    """The table therefore distinguishes the rules."""
    for name in ("worse by one margin once it serves", "errors 1 % → 2.9 % once it serves"):
        assert ended(name, 1, 2)["promoted"] == 2


def test_rules_2_promote_before_the_bad_hours() -> None:
    """Some of 20 ramps reach all traffic before the hours in which the candidate is worse."""
    assert ended("worse by 4 margins for 6 h a day once it serves", 2, 20)["promoted"] > 0


def test_a_margin_of_errors_stated_in_the_plan_stays() -> None:
    plan = replace(plan_of(World(), 2), guardrails=(Guardrail("error_rate", 0.02),))
    assert AlarmTerms.of(plan).plan is None
