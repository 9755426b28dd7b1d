"""Rows of splits: each answer is served by one arm, and the product compares the arms' answers.

An answer goes through `finding`, as a report takes it. A look reads all answers again, so it is taken after every
LOOK answers and at the end; a rate of false ships by a look after every answer is a little higher.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import orjson

from gateway.core.exchange import Target
from gateway.core.plan import CANDIDATE, CONTROL, Guardrail, Plan, StoredPlan
from gateway.core.plan_evidence import PairCounts
from gateway.core.served_answer import AnswerScores, ScoredRow, ServedAnswer, SplitEvidence
from gateway.reports.model import Verdict
from gateway.verdict.decision import SHIPS
from gateway.verdict.findings import finding
from gateway.verdict.split.ratio import RatioPeaks, peaks_at, ratio_name
from worlds import traffic
from worlds.rows import Row, Run, Side
from worlds.traffic import DEVIATION, RAIL, START, Values, evenly, independent
from worlds.verdict_play import Experiment, MemoryEvidence, plan_of

MARGIN, LOOK, COUNTED = 0.1, 100, 20
CALLS = 1_500
HOURS = 25.0
IDENTITY = "1 c1"


class Served(NamedTuple):
    """Answers of one split, in order. arm: 1 is the candidate's."""

    unit: list[str]
    arm: Values
    score: Values
    failed: Values
    cost: Values
    stratum: list[str]
    caller: list[str] | None = None


Draw = Callable[[np.random.Generator, float, int], Served]
"""(rng, mean difference in margins, answers) → the answers."""


def split_plan(rules: int, **changes: Any) -> Plan:
    usual: dict[str, Any] = {
        "name": "swap", "model": "chat", "control": Target("a", "old"),
        "candidates": ((CANDIDATE, Target("b", "new")),), "mode": "split", "split": 0.5, "shadow": 0.0,
        "repeat_control": 0.0, "primary": "quality", "margin": MARGIN, "method": "anytime", "aa": "alarm",
        "rules": rules, "min_hours": 24.0, "empty": "failed", "headers": "target", "independent": True,
    }  # fmt: skip
    return Plan(**{**usual, **changes})


def read_of(served: Served, answers: int, hours: float) -> SplitEvidence:
    """The first answers, spread evenly over the hours of all of them."""
    apart = 3600.0 * hours / len(served.arm)
    rows = [_answer(served, i, START + apart * i) for i in range(answers)]
    scores: dict[str, ScoredRow] = {row.id: _score(served, i) for i, row in enumerate(rows)}
    units = {arm: len({row.unit for row in rows if row.arm == arm}) for arm in (CONTROL, CANDIDATE)}
    return SplitEvidence(rows, [], units, {}, {}, AnswerScores({"quality": scores}, {}), {})


def _answer(served: Served, i: int, at: float) -> ServedAnswer:
    arm = CANDIDATE if served.arm[i] else CONTROL
    target = "b/new" if served.arm[i] else "a/old"
    outcome, status = ("upstream_error", 502) if served.failed[i] else ("ok", 200)
    cell = (arm, "chat", target, served.stratum[i])
    return ServedAnswer(
        f"e{i}", arm, served.unit[i], cell, outcome, status, 1.0, None, 5, float(served.cost[i]), 1.0, 100, at,
        caller=served.caller[i] if served.caller else "",
    )  # fmt: skip


def _score(served: Served, i: int) -> ScoredRow:
    return "scored", float(served.score[i]), IDENTITY


def evidence_of(plan: Plan, read: SplitEvidence, peaks: RatioPeaks) -> MemoryEvidence:
    first, last = read.answers[0].received, read.answers[-1].received
    stored = StoredPlan(plan, plan.hash, "running", START)
    states = {ratio_name(stored): orjson.dumps(peaks.state()).decode()}
    return MemoryEvidence(stored, states, {}, PairCounts(joined=0, first=first, last=last), last, read=read)


@dataclass(slots=True)
class Ratio:
    """The evidence on the arms' shares of units, kept after every COUNTED answers as the consumer keeps it."""

    plan: Plan
    served: Served
    answers: int = 0
    units: dict[str, set[str]] = field(default_factory=lambda: {CONTROL: set(), CANDIDATE: set()})
    peaks: RatioPeaks = field(default_factory=RatioPeaks)

    def until(self, answers: int) -> RatioPeaks:
        while self.answers < answers:
            self.units[CANDIDATE if self.served.arm[self.answers] else CONTROL].add(self.served.unit[self.answers])
            self.answers += 1
            if self.answers % COUNTED == 0:
                counts = {arm: len(units) for arm, units in self.units.items()}
                self.peaks = peaks_at(self.plan, counts, self.peaks)
        return self.peaks


@dataclass(frozen=True, slots=True)
class SplitWorld:
    """One split in a world. calls: answers of both arms together."""

    draw: Draw
    mean: float
    event: str
    calls: int = CALLS
    look: int = LOOK
    hours: float = HOURS
    plan: tuple[tuple[str, Any], ...] = ()

    def __call__(self, seed: int, rules: int) -> Run:
        served = self.draw(np.random.default_rng([seed, 48]), self.mean, self.calls)
        plan = split_plan(rules, **dict(self.plan))
        ratio = Ratio(plan, served)
        for answers in (*range(4 * self.look, self.calls, self.look), self.calls):
            evidence = evidence_of(plan, read_of(served, answers, self.hours), ratio.until(answers))
            verdict = finding(evidence, CANDIDATE).decision.verdict
            if verdict != "hold":
                return Run(verdict in SHIPS, answers)
        return Run(False, self.calls)


@dataclass(frozen=True, slots=True)
class BothWorld:
    """A split whose control's answers are shadowed, too: the pairs decide the primary, once the shares are shown."""

    mean: float
    event: str

    def __call__(self, seed: int, rules: int) -> Run:
        rng = np.random.default_rng([seed, 56])
        plan = plan_of(rules, mode="both", split=0.5, margin=MARGIN)
        served, experiment = plain(rng, self.mean, CALLS), Experiment(plan)
        ratio, pairs = Ratio(plan, served), round(CALLS * (1 - plan.split) * plan.shadow)
        at = evenly(pairs, 3600 * HOURS / pairs)
        calls = independent()(rng, self.mean * MARGIN / traffic.MARGIN, at)
        for answers in (*range(4 * LOOK, CALLS, LOOK), CALLS):
            for call in itertools.islice(calls, pairs * answers // CALLS - experiment.pairs):
                experiment.take(call, repeat=experiment.pairs % 4 == 0)
            verdict = self._verdict(experiment, read_of(served, answers, HOURS), ratio.until(answers))
            if verdict != "hold":
                return Run(verdict in SHIPS, answers)
        return Run(False, CALLS)

    def _verdict(self, experiment: Experiment, read: SplitEvidence, peaks: RatioPeaks) -> Verdict:
        evidence = experiment.evidence()
        evidence.read = read
        evidence.states = {**evidence.states, ratio_name(evidence.plan): orjson.dumps(peaks.state()).decode()}
        return finding(evidence, CANDIDATE).decision.verdict


def plain(rng: np.random.Generator, mean: float, calls: int) -> Served:
    """Each call is a unit, and its score is yes or no. With these numbers a t-test ships an equal candidate in 0.99."""
    arm = (rng.random(calls) < 0.5).astype(float)
    score = (rng.random(calls) < 0.7 + arm * mean * MARGIN).astype(float)
    return _served([f"u{i}" for i in range(calls)], arm, score)


def by_user(calls_each: float, icc: float) -> Draw:
    """Users keep their arm. calls_each: the mean of a geometric number, so that a few users are heavy."""

    def draw(rng: np.random.Generator, mean: float, calls: int) -> Served:
        sizes = rng.geometric(1.0 / calls_each, calls)
        owner = np.repeat(np.arange(calls), sizes)[:calls]
        rng.shuffle(owner)
        arm = (rng.random(calls) < 0.5).astype(float)[owner]
        spread = DEVIATION / math.sqrt(2)
        level = rng.normal(0.0, spread * math.sqrt(icc), calls)[owner]
        score = np.clip(
            0.5 + level + rng.normal(0.0, spread * math.sqrt(1 - icc), calls) + arm * mean * MARGIN, 0.0, 1.0
        )
        return _served([f"u{i}" for i in owner.tolist()], arm, score)

    return draw


def mix_shifts(rng: np.random.Generator, mean: float, calls: int) -> Served:
    """Two aliases of unlike difficulty: the hard one comes ever more often, and both arms score 0.4 less on it."""
    hard = rng.random(calls) < np.linspace(0.1, 0.9, calls)
    arm = (rng.random(calls) < 0.5).astype(float)
    score = np.clip(rng.normal(0.7, 0.15, calls) - 0.4 * hard + arm * mean * MARGIN, 0.0, 1.0)
    stratum = ["hard" if is_hard else "easy" for is_hard in hard.tolist()]
    return _served([f"u{i}" for i in range(calls)], arm, score)._replace(stratum=stratum)


def heavy_runs(rng: np.random.Generator, mean: float, calls: int) -> Served:
    """Runs as units: their number of calls and their cost have heavy tails (Pareto, 1.5). The candidate's cost more.

    mean: −1: its runs cost more by the margin of the guardrail on cost.
    """
    sizes = np.minimum(1 + rng.pareto(1.5, calls).astype(int), 200)
    owner = np.repeat(np.arange(calls), sizes)[:calls]
    arm = (rng.random(calls) < 0.5).astype(float)[owner]
    level = np.exp(rng.normal(0.0, 0.7, calls))[owner]
    cost = level * np.exp(rng.normal(0.0, 0.7, calls)) * 0.001
    cost = cost * (1.0 - mean * COST_MARGIN * arm)
    score = np.clip(rng.normal(0.5, DEVIATION / math.sqrt(2), calls), 0.0, 1.0)
    return Served([f"r{i}" for i in owner.tolist()], arm, score, np.zeros(calls), cost, ["split:swap"] * calls)


def hostile(share: float) -> Draw:
    """Twenty callers, and one more with this share of the calls. Each of its calls is a unit of its own; it knows its
    arm, and fails on purpose with the control, so that a candidate that fails more seems no worse.

    mean: −1: the candidate fails the others' calls more often than the control by the margin of the guardrail.
    """

    def draw(rng: np.random.Generator, mean: float, calls: int) -> Served:
        arm = (rng.random(calls) < 0.5).astype(float)
        spoils = rng.random(calls) < share
        fails = rng.random(calls) < 0.01 - mean * RAIL * arm
        failed = np.where(spoils, 1.0 - arm, fails.astype(float))
        score = np.where(failed > 0, 0.0, np.clip(rng.normal(0.5, DEVIATION / math.sqrt(2), calls), 0.0, 1.0))
        caller = np.where(spoils, "mallory", rng.choice([f"k{i}" for i in range(20)], calls))
        return _served([f"u{i}" for i in range(calls)], arm, score)._replace(failed=failed, caller=caller.tolist())

    return draw


def _served(unit: list[str], arm: Values, score: Values) -> Served:
    n = len(arm)
    return Served(unit, arm, score, np.zeros(n), np.full(n, 0.001), ["split:swap"] * n)


COST_MARGIN = 0.3  # of the cost of a run, relative
MEAN_COST = math.exp(0.49)  # dollars per 1 000 calls of a run: the mean of the product of two log-normals
OF_COST = (("guardrails", (Guardrail("cost_per_1k", COST_MARGIN * MEAN_COST),)), ("unit", "user"),
           ("independent", False))  # fmt: skip
RAILED = (("guardrails", (Guardrail("error_rate", RAIL),)),)
BY_USER = (("unit", "user"), ("independent", False))


def _both(name: str, draw: Draw, ships: float | None = None, **changes: Any) -> list[Row]:
    side: Side = "measured" if ships is None else "at least"
    return [
        Row(name, "split", "ships falsely", SplitWorld(draw, -1.0, "ships falsely", **changes), "at most", 0.025,
            "answers"),
        Row(name, "split", "ships", SplitWorld(draw, 0.0, "ships", **changes), side, ships or 0.0, "answers"),
    ]  # fmt: skip


ROWS: list[Row] = [
    *_both("split of 1 500 calls", plain, 0.7),
    *_both("split by user, 5 calls each, ICC 0.3", by_user(5, 0.3), calls=4_000, look=250, plan=BY_USER),
    Row("both: 1 500 calls, a tenth shadowed", "split", "ships falsely", BothWorld(-1.0, "ships falsely"), "at most",
        0.025, "answers"),
    Row("both: 1 500 calls, a tenth shadowed", "split", "ships", BothWorld(0.0, "ships"), "at least", 0.7, "answers"),
    *_both("split, one caller of 21 has a tenth, spoils the control", hostile(0.1), calls=6_000, look=500, plan=RAILED),
    *_both("split, hard requests come to prevail", mix_shifts),
    *_both("split by run, heavy tails, cost", heavy_runs, calls=12_000, look=1_500, plan=OF_COST),
]  # fmt: skip
