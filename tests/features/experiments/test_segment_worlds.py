"""Verdicts with declared segments in planted worlds: the error, the price, and which segments are excepted.

The product's own sequences, cells and decision take the pairs, with a look after every 25. quality has a deviation of
0.3 and a margin of 0.05; segments have a margin of 0.1. The table goes to the terminal; seeds are fixed.

wrong: shares of runs that ship where the candidate is worse by exactly the margin (of the average, or of a segment), or
that leave out no segment though one is. 0.025 is allowed for each. plain: the same pairs by a plan without segments.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from statistics import median

import numpy as np
import pytest
from fixtures.simulated import a_pair, a_plan, seen
from fixtures.simulation_bounds import most_misses

from gateway.core.horizon import AT_MOST
from gateway.core.plan import Plan
from gateway.core.plan_horizon import horizon_of
from gateway.core.segments import SegmentDesign, segment_name
from gateway.reports.model import margin_finding
from gateway.verdict.decision import Decision, SwapDescription, decide
from gateway.verdict.metrics import SEGMENT, Metric, PairValue
from gateway.verdict.segments.declared import (
    CandidateEvidence,
    SegmentsFound,
    decide_by_segment,
    segments_found,
)
from gateway.verdict.sequences.difference import DifferenceSequence, rule_of, segment_rule
from gateway.verdict.sequences.progress import PlanProgress, empty_comparison
from gateway.verdict.sequences.segment_cells import CELLS, SegmentCells

DEVIATION, MARGIN, OWN, LOOK = 0.3, 0.05, 0.1, 25
QUALITY = Metric("quality", "score", "1 c1")
SWAP = SwapDescription("chat", "a/large", "b/small")


@dataclass(frozen=True)
class SegmentWorld:
    """effects: (share, mean difference) of each value of one property."""

    name: str
    effects: tuple[tuple[float, float], ...]
    wrong: tuple[str, ...] = ()  # verdicts that must be rare; "ship_except 0": one that keeps segment 0 of the control
    expected: str = ""  # the verdict of most runs
    most_pairs: float | None = None  # the largest median of pairs, in those of the plain plan

    @property
    def values(self) -> tuple[str, ...]:
        return tuple("abcdefgh"[: len(self.effects)])


WORLDS = (
    SegmentWorld("equal, 2 segments (80 %, 20 %)", ((0.8, 0.0), (0.2, 0.0)), expected="ship", most_pairs=1.5),
    SegmentWorld("equal, 5 segments of 20 %", ((0.2, 0.0),) * 5, expected="ship", most_pairs=1.5),
    SegmentWorld(
        "worse by 0.3 on code (20 %), equal elsewhere", ((0.8, 0.0), (0.2, -0.3)),
        wrong=("ship", "ship_except a"), expected="ship_except b", most_pairs=1.5,
    ),
    SegmentWorld(
        "worse by exactly its margin in one of 5", ((0.2, 0.025),) * 4 + ((0.2, -OWN),),
        wrong=("ship", *(f"ship_except {v}" for v in "abcd")),
    ),
    SegmentWorld(
        "worse by exactly the margin everywhere", ((0.2, -MARGIN),) * 5, wrong=("ship", "ship_except"), expected="hold",
    ),
    SegmentWorld(
        "one of 5 worse by 0.3, the rest worse by exactly the margin", ((0.2, -MARGIN),) * 4 + ((0.2, -0.3),),
        wrong=("ship", "ship_except"),
    ),
    SegmentWorld("worse by 0.2 everywhere", ((0.5, -0.2),) * 2, wrong=("ship", "ship_except"), expected="reject"),
)  # fmt: skip


def plan_of(world: SegmentWorld, more: float = 1.0) -> Plan:
    more = (("caller", "other", 2.0),)
    design = SegmentDesign(("caller",), OWN, 0.05, 0.0, (("caller", world.values[:-1]),), more=more)
    plan = a_plan(
        method="hybrid", aa="alarm", margin=MARGIN, auto_horizon=True, rules=2, guardrails=(), segments=design,
    )  # fmt: skip
    return replace(plan, max_pairs=horizon_of(plan, DEVIATION**2))


@dataclass
class Run:
    """One experiment. value: the name of a value in the plan."""

    plan: Plan
    n: int = 0
    primary: DifferenceSequence = field(init=False)
    segments: dict[str, DifferenceSequence] = field(default_factory=dict)
    cells: SegmentCells = field(init=False)

    def __post_init__(self) -> None:
        self.primary = DifferenceSequence(rule_of(self.plan, QUALITY, MARGIN), True)
        self.cells = SegmentCells(("caller",), "quality")

    def add(self, value: str, difference: float, extra: bool) -> None:
        """The next pair of one property. extra: drawn for its segment alone."""
        self.take({"caller": value}, difference, extra)

    def take(self, values: dict[str, str], difference: float, extra: bool = False) -> None:
        """The next pair, as PlanProgress takes it (test_a_run_takes_pairs_as_the_product_does)."""
        taken = PairValue(0.5, 0.5, difference)
        for segment in values.items():
            name = f"{SEGMENT}{segment_name(*segment)}"
            if name not in self.segments:
                self.segments[name] = DifferenceSequence(segment_rule(self.plan, QUALITY, OWN), True)
            if not self.segments[name].closed:
                self.segments[name].add(taken)
                self.cells.add_to(segment_name(*segment), values, difference)
        if extra:
            return
        self.n += 1
        if not self.primary.closed:
            self.primary.add(taken)
        self.cells.add(values, {"quality": taken}, None)
        self.cells.close(self.primary.rule, self.primary.inflation)

    def look(self) -> tuple[Decision, SegmentsFound, Decision]:
        """(the verdict, its segments, the verdict without segments)."""
        estimate = self.primary.estimate()
        c = replace(
            empty_comparison(self.plan, "quality"), difference=estimate, pairs=self.primary.n,
            margin_found=margin_finding(estimate, MARGIN),
        )  # fmt: skip
        base = decide(SWAP, c, (), (), ())
        of = CandidateEvidence(self.plan, "candidate", {"quality": self.primary, **self.segments}, self.cells)
        found = segments_found(of, {})
        return decide_by_segment(base, SWAP, found, ()), found, base


@dataclass(frozen=True)
class Outcome:
    verdict: str  # with the excepted segments
    pairs: int  # drawn from all calls
    paid: int
    plain: str
    plain_pairs: int


def play(world: SegmentWorld, seed: int, factor: Mapping[str, float]) -> Outcome:
    rng, run = np.random.default_rng([11, seed]), Run(plan_of(world))
    shares = np.array([share for share, _ in world.effects])
    names = [*world.values[:-1], "other"]
    rates = np.array([factor.get(v, 1.0) for v in world.values])
    most = AT_MOST * (run.plan.max_pairs or 0)
    paid, plain, plain_at = 0, "hold", most
    while run.n < most:
        drawn = rng.choice(len(shares), LOOK * 4, p=shares * rates / (shares * rates).sum())
        extra = rng.random(drawn.size) >= 1.0 / rates[drawn]
        means = np.array([world.effects[i][1] for i in drawn])
        differences = np.clip(rng.normal(means, DEVIATION), -1, 1)
        for i, d, e in zip(drawn.tolist(), differences.tolist(), extra.tolist(), strict=True):
            run.add(names[i], float(d), bool(e))
            paid += 1
            if e or run.n % LOOK:
                continue
            decision, found, base = run.look()
            if plain == "hold" and base.verdict != "hold":
                plain, plain_at = base.verdict, run.n
            ended = run.primary.closed and found.closed
            if decision.verdict != "hold" or ended:
                kept = ",".join(world.values[names.index(x.partition("=")[2])] for x in found.kept.excepted) if (
                    decision.verdict == "ship_except" and found.kept
                ) else ""  # fmt: skip
                plain_at = min(plain_at, run.n) if plain != "hold" else run.n
                return Outcome(f"{decision.verdict} {kept}".strip(), run.n, paid, plain, plain_at)
    return Outcome("hold", run.n, paid, plain, plain_at)


def factors(world: SegmentWorld) -> dict[str, float]:
    """Factors as the product plans them: so often that each segment has its pairs when the primary has."""
    from gateway.verdict.sequences.difference import segment_pairs

    plan = plan_of(world)
    wanted = segment_pairs(plan, DEVIATION, OWN)
    return {
        value: max(1.0, wanted / (share * (plan.max_pairs or 1)))
        for value, (share, _) in zip(world.values, world.effects, strict=True)
    }


def check(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [
        "| the candidate | verdicts | without segments | pairs | of the plain plan | with those of small segments |",
        "|---|---|---|---|---|---|",
    ]
    for world in WORLDS:
        plain = horizon_of(replace(plan_of(world), segments=None), DEVIATION**2) or 1
        found = [play(world, seed, factors(world)) for seed in range(runs)]
        verdicts, before = Counter(o.verdict for o in found), Counter(o.plain for o in found)
        pairs, paid = median(o.pairs for o in found), median(o.paid for o in found)
        said = ", ".join(f"{v} {n / runs:.3f}" for v, n in verdicts.most_common(4))
        was = ", ".join(f"{v} {n / runs:.2f}" for v, n in before.most_common())
        rows.append(f"| {world.name} | {said} | {was} | {pairs:.0f} | {pairs / plain:.2f} | {paid / plain:.2f} |")
        for wrong in world.wrong:
            n = sum(count for v, count in verdicts.items() if v == wrong or v.startswith(f"{wrong} "))
            assert n / runs <= most_misses(0.025, runs), f"{world.name}: {wrong} in {n} of {runs}"
        if world.expected:
            assert verdicts.most_common(1)[0][0] == world.expected, f"{world.name}: {verdicts}"
        if world.most_pairs is not None:
            assert pairs / plain <= world.most_pairs, f"{world.name}: {pairs / plain:.2f}"
    with capsys.disabled():
        print("\n" + "\n".join(rows))  # noqa: T201 - the table of docs/evidence.md


def test_a_run_takes_pairs_as_the_product_does() -> None:
    """The sums of a run are those of PlanProgress, pair by pair."""
    rng, plan = random.Random(3), plan_of(WORLDS[2])
    run, progress = Run(plan), PlanProgress(plan, plan.hash, {})
    for i in range(1, 401):
        value, b = rng.choice(("a", "other")), 0.5 + rng.choice((-0.25, -0.125, 0.0, 0.125, 0.25))
        extra = value == "other" and rng.random() < 0.3
        pair = a_pair(i, seen(0.5), candidate=seen(b), repeat=seen(0.5))
        factor = plan.segments.factor({"caller": value}) if plan.segments else 1.0
        progress.take(i, replace(pair, segments={"caller": value}, draw=1.0 + 0.5 * (factor - 1.0) if extra else 0.0))
        run.add(value, b - 0.5, extra)
    found = {name.metric: s for name, s in progress.sequences.items() if name.candidate == "candidate"}
    for name, sequence in run.segments.items():
        assert found[name].moments == sequence.moments, name
    assert (found["quality"].n, found["quality"].moments) == (run.primary.n, run.primary.moments)
    state = next(s for name, (_, s) in progress.changes().states.items() if name.metric.startswith(CELLS))
    ours = SegmentCells.from_state(state)
    assert (ours.pairs, ours.closed, ours.segments) == (run.cells.pairs, run.cells.closed, run.cells.segments)
    assert ours.sums("quality").differences == run.cells.sums("quality").differences


def test_segments_decide_in_planted_worlds(capsys: pytest.CaptureFixture[str]) -> None:
    check(4, capsys)


def overlapping(seed: int, tools_mean: float) -> Outcome:
    """Code loses 0.3 and mostly has tools; requests with tools and without code differ by this mean."""
    rng, plan = np.random.default_rng([12, seed]), plan_of(WORLDS[2])
    design = SegmentDesign(("product", "tools"), OWN, 0.05, 0.0, (("product", ("code",)),))
    run = Run(replace(plan, segments=design))
    run.cells = SegmentCells(design.by, "quality")
    while run.n < AT_MOST * (plan.max_pairs or 0):
        code = rng.random() < 0.2
        tools = rng.random() < (0.8 if code else 0.25)
        mean = -0.3 if code else tools_mean if tools else -tools_mean / 3
        values = {"product": "code" if code else "other", "tools": "yes" if tools else "no"}
        run.take(values, float(np.clip(rng.normal(mean, DEVIATION), -1, 1)))
        if run.n % LOOK:
            continue
        decision, found, base = run.look()
        if decision.verdict != "hold" or (run.primary.closed and found.closed):
            names = sorted(found.kept.excepted) if decision.verdict == "ship_except" and found.kept else []
            return Outcome(" ".join([decision.verdict, *names]), run.n, run.n, base.verdict, run.n)
    return Outcome("hold", run.n, run.n, "hold", run.n)


def check_overlap(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    """A segment that overlaps with a bad one goes without its requests, unless it is bad itself."""
    good, bad = (Counter(overlapping(seed, mean).verdict for seed in range(runs)) for mean in (0.0, -OWN))
    with capsys.disabled():
        print(f"\ntools as good without code: {dict(good)}\nworse by exactly their margin: {dict(bad)}")  # noqa: T201
    assert good.most_common(1)[0][0] == "ship_except product=code"
    assert bad["ship_except product=code"] + bad["ship"] <= runs * most_misses(0.025, runs)


def test_a_segment_that_overlaps_with_a_bad_one_is_judged_without_it(capsys: pytest.CaptureFixture[str]) -> None:
    check_overlap(6, capsys)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_overlapping_segments_in_many_runs(capsys: pytest.CaptureFixture[str]) -> None:
    check_overlap(400, capsys)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_segments_decide_in_many_planted_worlds(capsys: pytest.CaptureFixture[str]) -> None:
    check(2000, capsys)
