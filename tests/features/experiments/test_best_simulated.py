"""Measures what the best of several candidates costs, and how often it is wrong: many experiments on arrays, a look
after every pair, by the rules and the functions of the product.

Each comparison is that of the primary; guardrails and gates are left out. Paid calls are requests to candidates; they
are compared with one experiment for each candidate, with one look at a fixed number of pairs (alpha 0.05, power 0.8).
All seeds are fixed; the tables go to the terminal. `make test` plays a few experiments, `make test-long` all.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
import pytest
from fixtures.simulated import a_pair, seen

from gateway.core.exchange import Target
from gateway.core.horizon import BURN_IN
from gateway.core.plan import Plan
from gateway.core.plan_horizon import horizon_of
from gateway.reports.model import BestOfK, Comparison, Estimate, Verdict, margin_finding
from gateway.verdict.best_of_k.dropped import DroppedCandidate
from gateway.verdict.best_of_k.ranking import CandidateLook, Lead, dropped_at, ranking
from gateway.verdict.decision import Decision
from gateway.verdict.sequences.difference import rule_of
from gateway.verdict.sequences.duels import Duel
from gateway.verdict.sequences.progress import PlanProgress
from tests.features.experiments.test_price import QUALITY, Flags, Values, bounds, fixed_n

DEVIATION, MARGIN, ALPHA = 0.3, 0.05, 0.05
NONE = Estimate(None)


def plan_of(n: int, margin: float = MARGIN, deviation: float = DEVIATION) -> Plan:
    """A plan with n candidates, and the horizon for this deviation of one difference."""
    arms = tuple((f"c{i}", Target("b", f"c{i}")) for i in range(n))
    plan = Plan("swap", "chat", Target("a", "old"), arms, primary="quality", margin=margin, family="best",
                method="anytime", alpha=ALPHA, auto_horizon=True)  # fmt: skip
    return replace(plan, max_pairs=horizon_of(plan, deviation**2))


@dataclass(frozen=True)
class Intervals:
    """Intervals of every comparison, after every pair. Positive is better for the first arm; None stands for the
    control."""

    mean: dict[tuple[int, int | None], Values]
    low: dict[tuple[int, int | None], Values]
    high: dict[tuple[int, int | None], Values]


def intervals(plan: Plan, scores: Values, control: Values) -> Intervals:
    """scores: shape (candidates, pairs). control: shape (pairs,)."""
    rule, n = rule_of(plan, QUALITY, plan.margin), len(plan.candidates)
    pairs: list[tuple[int, int | None]] = [(i, None) for i in range(n)]
    pairs += [(j, i) for i in range(n) for j in range(i + 1, n)]
    x = np.array([scores[i] - (control if j is None else scores[j]) for i, j in pairs])
    low, high, count = bounds(rule, x)
    mean = np.cumsum(x, axis=1) / count
    made = Intervals({}, {}, {})
    for k, (i, j) in enumerate(pairs):
        made.mean[i, j], made.low[i, j], made.high[i, j] = mean[k], low[k], high[k]
        if j is not None:
            made.mean[j, i], made.low[j, i], made.high[j, i] = -mean[k], -high[k], -low[k]
    return made


@dataclass(frozen=True)
class Outcome:
    best: BestOfK
    pairs: int
    paid: int
    dropped: dict[str, DroppedCandidate]


def looks_of(plan: Plan, of: Intervals, at: int) -> list[CandidateLook]:
    found = []
    for i, (arm, _) in enumerate(plan.candidates):
        difference = Estimate(of.mean[i, None][at], of.low[i, None][at], of.high[i, None][at])
        margin = margin_finding(difference, plan.margin)
        verdict: Verdict = "reject" if margin == "inferior" else "hold" if margin == "unclear" else "ship"
        c = Comparison(
            "quality", "", "primary", NONE, NONE, difference, None, at + 1, 0.0, plan.margin, "unclear", margin
        )
        found.append(CandidateLook(arm, Decision(verdict, "", ()), c))
    return found


def played(plan: Plan, of: Intervals) -> Outcome:
    """Looks after every pair with which an interval has come to say something else, as the consumer does."""
    n, most, dropped, paid, since = len(plan.candidates), plan.ends_at or 0, {}, 0, 0
    for at in _changes(plan, of, most):
        paid += (at - since) * (n - len(dropped))
        since = at

        def lead(ahead: str, behind: str, at: int = at) -> Lead:
            a, b = int(ahead[1:]), int(behind[1:])
            return Lead(Estimate(of.mean[a, b][at - 1], of.low[a, b][at - 1], of.high[a, b][at - 1]), at)

        looks = looks_of(plan, of, at - 1)
        dropped = dropped_at(plan, looks, lead, dropped, 0.0)
        best = ranking(plan, looks, lead, dropped)
        if best.verdict != "open":
            break
    return Outcome(best, at, paid, dropped)


def _changes(plan: Plan, of: Intervals, most: int) -> Iterator[int]:
    """The numbers of pairs at which a look may find something else, and the horizon."""
    said: list[Flags] = []
    for key, low in of.low.items():
        said += [low > -plan.margin, of.high[key] < -plan.margin] if key[1] is None else [low > 0, low > -plan.margin]
    every = np.array(said)
    changed = (every[:, 1:] != every[:, :-1]).any(axis=0)
    yield from sorted({*(np.nonzero(changed)[0] + 2), most})


def drawn(rng: np.random.Generator, plan: Plan, means: Sequence[float], ties: float = 0.0) -> Intervals:
    """One experiment. means: of each candidate's difference from the control. ties: share of requests to which all
    arms give the same answer, but for what the means are worth."""
    n, pairs = len(means), plan.ends_at or 0
    spread = DEVIATION / math.sqrt(2) / math.sqrt(1.0 - ties)
    noise = rng.normal(0.0, spread, (n + 1, pairs)) * (rng.random(pairs) >= ties)
    return intervals(plan, np.array(means)[:, None] + noise[1:], noise[0])


def test_the_arrays_say_what_the_plan_says() -> None:
    plan = replace(plan_of(3), max_pairs=100, auto_horizon=False)
    assert plan.ends_at == 100
    rng = np.random.default_rng(1)
    scores, control = rng.integers(0, 5, (3, 100)) / 4, rng.integers(0, 5, 100) / 4
    of, progress = intervals(plan, scores, control), PlanProgress(plan, plan.hash, {})
    for at in range(100):
        arms = {f"c{i}": seen(float(scores[i, at])) for i in range(3)}
        progress.take(at + 1, a_pair(at, seen(float(control[at])), **arms))
        if at + 1 < BURN_IN:
            continue
        sequences = {(s.candidate, s.metric): each for s, each in progress.sequences.items()}
        for i, j in permutations(range(3), 2):
            if j < i:
                found = sequences[Duel(f"c{j}", f"c{i}").name, "quality"].interval()
                assert found == pytest.approx((of.low[i, j][at], of.high[i, j][at]))
        assert sequences["c1", "quality"].interval() == pytest.approx((of.low[1, None][at], of.high[1, None][at]))


WORLDS: dict[str, tuple[float, ...]] = {  # the candidates' differences from the control, in margins
    "4 candidates, all alike": (0.0,) * 4,
    "4 candidates, one better by 2 margins": (2.0, 0.0, 0.0, 0.0),
    "4 candidates, one better by 3 margins": (3.0, 0.0, 0.0, 0.0),
    "4 candidates, three worse by 2 margins": (0.0, -2.0, -2.0, -2.0),
    "8 candidates, spread from -3 to 2.25 margins": tuple(-3.0 + 0.75 * i for i in range(8)),
}


Price = tuple[str, int, float, float, float, float, float]
"""World, pairs at which it ends, pairs, paid calls, those of separate experiments, shares right and wrong."""


def prices(runs: int) -> list[Price]:
    rows = []
    for name, margins in WORLDS.items():
        plan, rng, means = plan_of(len(margins)), np.random.default_rng(4), [m * MARGIN for m in margins]
        found = [played(plan, drawn(rng, plan, means)) for _ in range(runs)]
        named = [o.best.best for o in found]
        right = sum(best is not None and means[int(best[1:])] >= max(means) - MARGIN for best in named)
        wrong = sum(best is not None and means[int(best[1:])] < max(means) - MARGIN for best in named)
        separate = len(margins) * fixed_n(DEVIATION, MARGIN)
        rows.append((name, plan.ends_at or 0, np.median([o.pairs for o in found]), np.median([o.paid for o in found]),
                     separate, right / runs, wrong / runs))  # fmt: skip
    return rows


def show(rows: list[Price], runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"\nThe best of several candidates, {runs} runs each (sd {DEVIATION}, margin {MARGIN}, alpha {ALPHA})")  # noqa: T201
        print("world                                         ends at  pairs  paid calls  separate  ratio  right  wrong")  # noqa: T201
        for name, horizon, pairs, paid, separate, right, wrong in rows:
            shares = f"{paid / separate:6.2f} {right:6.2f} {wrong:6.2f}"
            print(f"{name:45} {horizon:7d} {pairs:6.0f} {paid:11.0f} {separate:9.0f} {shares}")  # noqa: T201


def check_prices(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = prices(runs)
    show(rows, runs, capsys)
    alike, two, three, worse, spread = (paid / separate for _, _, _, paid, separate, *_ in rows)
    assert alike <= 1.35, "all are paid for until the end"
    assert two <= 0.5
    assert three <= 0.4
    assert worse <= 0.9
    assert spread <= 0.55
    assert not [name for name, *_, wrong in rows if wrong > 0.05]
    assert min(right for *_, right, _ in rows[1:]) >= 0.8


def test_the_best_costs_less_than_separate_experiments(capsys: pytest.CaptureFixture[str]) -> None:
    check_prices(12, capsys)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_price_of_the_best_over_many_runs(capsys: pytest.CaptureFixture[str]) -> None:
    check_prices(400, capsys)


BOUNDARIES: dict[str, tuple[tuple[float, ...], float]] = {  # differences in margins, ties
    "the best is better by one margin": ((0.999, 0.0, 0.0, 0.0), 0.0),
    "the best is better by one margin, 60 % ties": ((0.999, 0.0, 0.0, 0.0), 0.6),
    "all are worse than the control by one margin": ((-1.0,) * 4, 0.0),
    "all are worse by one margin, 60 % ties": ((-1.0,) * 4, 0.6),
    "two are the best": ((1.0, 1.0, 0.0, 0.0), 0.0),
    "eight alike": ((0.0,) * 8, 0.0),
}


def errors(runs: int, worlds: Collection[str]) -> list[tuple[str, float, float, float]]:
    """Rates of errors, by world: the best candidate is dropped for another's sake though none is better, one that is
    worse than the best by the margin is named, one that is worse than the control by the margin is named."""
    rows = []
    for name in worlds:
        margins, ties = BOUNDARIES[name]
        plan, rng = plan_of(len(margins)), np.random.default_rng(6)
        means = [m * MARGIN for m in margins]
        top = [f"c{i}" for i, mean in enumerate(means) if mean == max(means)]
        beaten = behind = inferior = 0
        for _ in range(runs):
            o = played(plan, drawn(rng, plan, means, ties))
            beaten += any(o.dropped[arm].reason == "beaten" for arm in top[:1] if arm in o.dropped)
            mean = None if o.best.best is None else means[int(o.best.best[1:])]
            behind += mean is not None and mean <= max(means) - 0.998 * MARGIN
            inferior += mean is not None and mean <= -MARGIN
        rows.append((name, beaten / runs, behind / runs, inferior / runs))
    return rows


def check_errors(runs: int, capsys: pytest.CaptureFixture[str], worlds: Collection[str] = BOUNDARIES) -> None:
    rows = errors(runs, worlds)
    with capsys.disabled():
        print(f"\nWrong about the best, a look after every pair, {runs} runs; each may be {ALPHA / 2:g}")  # noqa: T201
        print("world                                         best dropped  named though behind  named though inferior")  # noqa: T201
        for name, beaten, behind, inferior in rows:
            print(f"{name:45} {beaten:12.4f} {behind:20.4f} {inferior:22.4f}")  # noqa: T201
    most = ALPHA / 2 + 3 * math.sqrt(ALPHA / 2 * (1 - ALPHA / 2) / runs)
    for name, beaten, behind, inferior in rows:
        assert beaten + behind <= most, name
        assert inferior <= most, name


def test_the_best_is_seldom_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    check_errors(10, capsys, ("the best is better by one margin", "all are worse than the control by one margin"))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_many_runs_are_seldom_wrong_about_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    check_errors(2_000, capsys)
