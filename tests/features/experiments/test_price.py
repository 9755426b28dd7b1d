"""Measures what a verdict costs: pairs and paid calls until it is given, how often it is wrong, and what the A/A alarm
notices.

Many experiments at once, on arrays, with a look after every pair: the primary, a guardrail on failures, and the alarm,
by the rules that the product derives from a plan. All seeds are fixed; the tables go to the terminal. `make test` has
500 runs of the worlds in which shipping is wrong, `make test-long` 2 000 of all. Price: pairs until the whole verdict,
in pairs of a fixed-n paired test of the same error and power 0.8 that decides the margin for a candidate without a
difference.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist

import numpy as np
import pytest
from fixtures.simulated import a_pair, a_plan, seen
from numpy.typing import NDArray

from gateway.core.horizon import BURN_IN, EARLY, FEWEST_REPEATS, guarded
from gateway.core.plan import REPEAT, Guardrail, Plan
from gateway.core.plan_horizon import SCORE_VARIANCE, horizon_of
from gateway.statistics.asymptotic import best_rho
from gateway.statistics.hybrid import TIGHTEST
from gateway.statistics.rare import RareDifference
from gateway.verdict.metrics import ALONE, Metric
from gateway.verdict.sequences.difference import SequenceRule, rule_of
from gateway.verdict.sequences.progress import PlanProgress

Values = NDArray[np.float64]
Counts = NDArray[np.int64]
Flags = NDArray[np.bool_]
QUALITY, FAILED, FAILED_ALONE = Metric("quality", "score"), Metric("error_rate", "failed"), Metric(ALONE, "failed")
BETS, WEIGHTS = np.geomspace(1 / 64, 0.95, 13), 1.25 ** np.arange(13)  # of RareDifference
Z = NormalDist().inv_cdf


@dataclass(frozen=True)
class World:
    """A law by which pairs are drawn. Differences are the candidate's score minus the control's."""

    deviation: float = 0.3  # of one difference
    effect: float = 0.0  # mean of the difference
    bias: float = 0.0  # what the shadow path adds to every score on it
    ties: float = 0.0  # share of pairs without a difference; the others are -1 or 1
    grows: bool = False  # the deviation grows from a third of its value to 4/3
    fails: float = 0.002  # of the candidate
    control_fails: float = 0.002  # of the control's repeat


@dataclass(frozen=True)
class Outcome:
    """The pair of each run after which it was so; infinity: never."""

    ship: Values
    reject: Values
    red: Values
    """The first time that the alarm was red."""
    repeats: Counts
    """Drawn until the first verdict, or the horizon."""
    horizon: int

    @property
    def first(self) -> Values:
        return np.minimum(np.minimum(self.ship, self.reject), self.horizon)

    @property
    def shipped(self) -> Flags:
        return np.isfinite(self.ship) & (self.ship < self.reject)

    @property
    def rejected(self) -> Flags:
        return np.isfinite(self.reject) & (self.reject < self.ship)

    @property
    def paid(self) -> Values:
        return self.first + self.repeats


def hybrid_plan(margin: float, deviation: float, repeats: float = 0.25, guardrail: float | None = None) -> Plan:
    """A plan with the horizon for this deviation. guardrail: the margin of the error rate; None: the primary's."""
    rail = (Guardrail("error_rate", guardrail or margin),)
    plan = a_plan(
        method="hybrid", aa="alarm", margin=margin, repeat_control=repeats, guardrails=rail, auto_horizon=True
    )
    return replace(plan, max_pairs=horizon_of(plan, deviation**2))


def half_widths(rule: SequenceRule, n: Counts, m2: Values) -> Values:
    """Half-widths of the hybrid or guarded interval after n values with these sums of squared deviations."""
    alpha, n_star = (
        (rule.alpha * EARLY, TIGHTEST * rule.horizon) if rule.method == "hybrid" else (rule.alpha, rule.n_opt)
    )
    total = m2 + 3.4 * np.minimum(1.0, 7.0 / np.maximum(m2, 1e-12))
    rho2 = best_rho(alpha, n_star) ** 2
    count = np.maximum(n, 1)
    growth = count * rho2 + 1
    half = np.sqrt(2 * growth / rho2 * np.log(np.sqrt(growth) / alpha) * total / count) / count
    if rule.method == "hybrid":
        half = np.where(n >= rule.horizon, Z(1 - rule.alpha * (1 - EARLY) / 2) * np.sqrt(total) / count, half)
    return np.where(n < BURN_IN, np.inf, half)


def bounds(rule: SequenceRule, x: Values, taken: Flags | None = None) -> tuple[Values, Values, Counts]:
    """(low, high, values so far) after every pair. taken: which pairs have a value; None: all."""
    use = np.ones(x.shape, bool) if taken is None else taken
    n = np.cumsum(use, axis=1)
    if rule.horizon:
        use = use & (n <= rule.horizon)
        n = np.minimum(n, rule.horizon)
    count = np.maximum(n, 1)
    mean = np.cumsum(x * use, axis=1) / count
    m2 = np.maximum(np.cumsum(x * x * use, axis=1) - count * mean**2, 0.0)
    half = half_widths(rule, n, m2)
    return mean - half, mean + half, n


def pairs_without(rule: SequenceRule, margin: float, most: int) -> Counts:
    """Pairs after which the candidate is shown to fail in less than the margin, by number of failures."""

    def least(failures: int) -> int:
        low, high = failures, most + 1
        while high - low > 1:
            n = (low + high) // 2
            shown = RareDifference(rule.alpha, n, 0, failures).log_evidence_above(-margin) >= math.log(2 / rule.alpha)
            low, high = (low, n) if shown else (n, high)
        return high

    return np.array([least(k) for k in range(40)])


def shown_by_repeats(rule: SequenceRule, margin: float, n: Counts, candidate: Counts, control: Counts) -> Flags:
    """Whether n pairs of candidate and repeat show the same. candidate, control: pairs in which it failed alone."""
    terms = ((candidate, margin - 1), (n - candidate - control, margin), (control, margin + 1))
    logs = sum(count[..., None] * np.log1p(BETS * step) for count, step in terms) + np.log(WEIGHTS / WEIGHTS.sum())
    return np.asarray(np.logaddexp.reduce(logs, axis=-1) >= math.log(2 / rule.alpha))


def first(claimed: Flags) -> Values:
    return np.where(claimed.any(axis=1), claimed.argmax(axis=1) + 1.0, np.inf)


def differences(world: World, rng: np.random.Generator, shape: tuple[int, int]) -> tuple[Values, Values]:
    """(candidate minus served, repeat minus served)."""
    if world.ties:
        u, worse = rng.random(shape), (1 - world.ties - world.effect) / 2
        d = np.where(u < worse, -1.0, np.where(u < 1 - world.ties, 1.0, 0.0))
        v = rng.random(shape)
        return d, np.where(v < (1 - world.ties) / 2, -1.0, np.where(v < 1 - world.ties, 1.0, 0.0))
    place = np.linspace(0, 1, shape[1])
    deviation = world.deviation * (1 / 3 + place if world.grows else np.ones(shape[1])) / math.sqrt(2)
    served, candidate, repeat = (rng.normal(0, deviation, shape) for _ in range(3))
    d = candidate - served + world.effect + world.bias
    return np.clip(d, -1, 1), np.clip(repeat - served + world.bias, -1, 1)


def simulated(plan: Plan, world: World, runs: int, seed: int) -> Outcome:
    assert plan.max_pairs is not None
    rng, shape = np.random.default_rng(seed), (runs, plan.max_pairs)
    d, e = differences(world, rng, shape)
    low, high, _ = bounds(rule_of(plan, QUALITY, plan.margin), d)
    drawn = rng.random(shape) < plan.repeat_control
    aa_low, aa_high, repeats = bounds(rule_of(plan, QUALITY, plan.margin, REPEAT), e, drawn)
    red = (aa_low > 0) | (aa_high < 0)
    rail = plan.guardrails[0].margin
    fails, control_fails = rng.random(shape) < world.fails, rng.random(shape) < world.control_fails
    failures = np.cumsum(fails, axis=1)
    enough = pairs_without(rule_of(plan, FAILED_ALONE, rail), rail, plan.max_pairs)
    holds = np.arange(1, plan.max_pairs + 1) >= enough[np.minimum(failures, enough.size - 1)]
    if world.fails >= rail:  # else the repeats, which are fewer, say nothing sooner
        alone = (
            np.cumsum(drawn & one & ~other, axis=1) for one, other in ((fails, control_fails), (control_fails, fails))
        )
        holds |= shown_by_repeats(rule_of(plan, FAILED, rail), rail, np.cumsum(drawn, axis=1), *alone)
    ship = first((low > -plan.margin) & holds & (repeats >= FEWEST_REPEATS) & ~red)
    reject = first((high < -plan.margin) & ~red & ~doubted(plan, d, e, drawn))
    until = np.minimum(np.minimum(ship, reject), plan.max_pairs).astype(int) - 1
    paid = np.take_along_axis(np.cumsum(drawn, axis=1), until[:, None], axis=1)[:, 0]
    return Outcome(ship, reject, first(red), paid, plan.max_pairs)


def doubted(plan: Plan, d: Values, e: Values, drawn: Flags) -> Flags:
    """Whether the candidate's path may explain its loss, as gates.with_doubt says."""
    n = np.cumsum(drawn, axis=1)
    count = np.maximum(n, 1)
    mean = np.cumsum(e * drawn, axis=1) / count
    m2 = np.maximum(np.cumsum(e * e * drawn, axis=1) - count * mean**2, 0.0)
    error = 1.64 * np.sqrt(m2 + (n < 15)) / count
    worse = np.cumsum(d, axis=1) / np.arange(1, d.shape[1] + 1)
    explained = worse - mean + error >= -plan.margin
    return np.asarray((n < 3) | (explained & ((n < 15) | (-mean > error))))


def fixed_n(deviation: float, gap: float) -> float:
    return ((Z(0.975) + Z(0.8)) * deviation / gap) ** 2


def test_the_arrays_say_what_the_sequences_say() -> None:
    plan = replace(hybrid_plan(0.1, 0.5, 0.5), max_pairs=120)
    rng = np.random.default_rng(1)
    served, again, other = (rng.integers(0, 5, 120) / 4 for _ in range(3))
    drawn = rng.random(120) < 0.5
    progress = PlanProgress(plan, plan.hash, {})
    for i in range(120):
        arms = {"candidate": seen(float(other[i]))} | ({REPEAT: seen(float(again[i]))} if drawn[i] else {})
        progress.take(i + 1, a_pair(i, seen(float(served[i])), **arms))
        found = {(name.candidate, name.metric): s for name, s in progress.sequences.items()}
        for arm, x, taken in (("candidate", other, np.ones(120, bool)), (REPEAT, again, drawn)):
            low, high, n = bounds(rule_of(plan, QUALITY, 0.1, arm), (x - served)[None], taken[None])
            if (arm, "quality") in found and n[0, i] >= BURN_IN:
                assert found[arm, "quality"].interval() == pytest.approx((low[0, i], high[0, i]))
    failed = RareDifference(0.01, 300, 2, 9)  # the candidate failed alone in 9
    for margin in (0.05, 0.06, 0.07, 0.08):
        shown = shown_by_repeats(SequenceRule("rare", 0.01), margin, *(np.array([k]) for k in (300, 9, 2)))
        assert shown[0] == (failed.log_evidence_above(-margin) >= math.log(2 / 0.01))
    alone = found["candidate", ALONE]
    enough = pairs_without(alone.rule, 0.1, 200)[0]
    assert (alone.interval()[0] > -0.1) == (alone.n >= enough)
    assert guarded(0.0, 1.0) == 3.4


PRICES = [(0.3, 0.05, 0.05), (0.3, 0.02, 0.02), (0.3, 0.05, 0.01)]  # deviation, margin, margin of the error rate
EFFECTS = (0.0, 0.5, 1.0, -3.0)  # in margins: the planned effect, 1.5 and 2 times it, and three margins worse


def prices(runs: int) -> list[tuple[float, ...]]:
    rows = []
    for deviation, margin, rail in PRICES:
        plan, fixed = hybrid_plan(margin, deviation, guardrail=rail), fixed_n(deviation, margin)
        count = runs if (plan.max_pairs or 0) > 1000 else 4 * runs
        found = [simulated(plan, World(deviation, effect * margin), count, 2) for effect in EFFECTS]
        right = [
            o.rejected.mean() if effect < 0 else o.shipped.mean() for o, effect in zip(found, EFFECTS, strict=True)
        ]
        rows.append((deviation, margin, rail, fixed, *(np.median(o.first) / fixed for o in found), *right))
    return rows


def check_prices(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = prices(runs)
    with capsys.disabled():
        print(f"\nThe price of a verdict (medians of {runs} or more runs, alpha 0.05, repeats 0.25)")  # noqa: T201
        print("  sd margin errors fixed n    1×  1.5×    2×  -3 margins  right verdict")  # noqa: T201
        for sd, margin, rail, fixed, once, more, twice, worse, *right in rows:
            shares = " ".join(f"{share:.2f}" for share in right)
            print(  # noqa: T201
                f"{sd:4} {margin:6} {rail:6} {fixed:7.0f} {once:5.2f} {more:5.2f} {twice:5.2f} {worse:11.2f}  {shares}"
            )
    for _, margin, rail, _, once, more, twice, worse, *right in rows:
        assert worse <= 0.5
        assert right[-1] > 0.95
        if rail == margin:
            assert min(right) > 0.75
            assert once <= 1.15
            assert more <= 0.75
            assert twice <= (0.5 if margin == 0.02 else 0.56), (
                "113 pairs without a failure show a rate below 5 %, 160 with one"
            )


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_verdict_has_its_price(capsys: pytest.CaptureFixture[str]) -> None:
    check_prices(2_000, capsys)


WRONG: dict[str, tuple[World, float, float | None]] = {  # world, margin, margin of the error rate
    "constant": (World(effect=-0.05), 0.05, None),
    "constant, half the margin": (World(effect=-0.02), 0.02, None),
    "60 % ties": (World(math.sqrt(0.4), -0.1, ties=0.6), 0.1, None),
    "90 % ties": (World(math.sqrt(0.1), -0.05, ties=0.9), 0.05, None),
    "98 % ties": (World(math.sqrt(0.02), -0.02, ties=0.98), 0.02, 0.05),
    "growing deviation": (World(effect=-0.05, grows=True), 0.05, None),
    "guardrail worse, control never fails": (World(effect=0.05, fails=0.05, control_fails=0.0), 0.05, None),
    "guardrail worse, control fails": (World(effect=0.05, fails=0.06, control_fails=0.01), 0.05, None),
    "guardrail worse, control fails often": (World(effect=0.05, fails=0.3, control_fails=0.2), 0.1, None),
}


def check_errors(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = []
    for name, (world, margin, rail) in WRONG.items():
        plan = hybrid_plan(margin, max(world.deviation, 0.1), guardrail=rail)
        rows.append((name, plan.max_pairs, simulated(plan, world, runs, 5).shipped.mean()))
    with capsys.disabled():
        print(f"\nShipped though worse by the margin, a look after every pair, {runs} runs")  # noqa: T201
        for name, horizon, share in rows:
            print(f"{name:40} {horizon:6d} {share:.4f}")  # noqa: T201
    for name, _, share in rows:
        assert share <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / runs), name


def test_a_worse_candidate_is_seldom_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    check_errors(500, capsys)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_many_runs_seldom_ship_a_worse_candidate(capsys: pytest.CaptureFixture[str]) -> None:
    check_errors(2_000, capsys)


SHARES = (0.1, 0.25, 0.5, 1.0)


def shares(runs: int) -> list[tuple[float, ...]]:
    """Results by share of repeats: paid calls to a verdict at 1, 1.5 and 2 times the planned effect and three margins
    worse; the alarm's power against a bias of one and of two margins, and its false alarms."""
    rows = []
    for share in SHARES:
        plan = hybrid_plan(0.05, 0.3, share)
        paid = [np.median(simulated(plan, World(effect=effect * 0.05), runs, 3).paid) for effect in EFFECTS]
        power = [np.isfinite(simulated(plan, World(bias=k * 0.05), runs, 4).red).mean() for k in (1, 2, 3)]
        false = np.isfinite(simulated(plan, World(), 4 * runs, 6).red).mean()
        small = hybrid_plan(0.15, math.sqrt(SCORE_VARIANCE), share)
        quick = np.median(simulated(small, World(0.5, 0.45), runs, 8).first)
        rows.append((share, *paid, *power, false, quick))
    return rows


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_default_share_of_repeats_pays_the_least_calls(capsys: pytest.CaptureFixture[str]) -> None:
    rows = shares(500)
    with capsys.disabled():
        print("\nPaid calls to a verdict (sd 0.3, margin 0.05; medians), and what the A/A alarm notices")  # noqa: T201
        print("share   1×  1.5×   2×  -3 m   bias 1 m  2 m   3 m  false alarm  pairs, much better")  # noqa: T201
        for share, once, more, twice, worse, one, two, three, false, quick in rows:
            print(  # noqa: T201
                f"{share:5} {once:5.0f} {more:5.0f} {twice:4.0f} {worse:5.0f} {one:9.2f} {two:5.2f} {three:5.2f}"
                f" {false:9.4f} {quick:12.0f}"
            )
    for _, *_, false, _ in rows:
        assert false <= 0.01 + 5 * math.sqrt(0.01 / 2000)
    by_share = {row[0]: row for row in rows}
    assert by_share[0.25][1] < by_share[0.5][1] < by_share[1.0][1]
    assert by_share[0.25][7] > 0.6, "a bias of three margins"
    assert by_share[1.0][5] > 0.5, "of one margin"


BIASES = (0, 1, 2, 3, 4)  # of the shadow path, in margins against every answer on it


def check_doubts(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Checks how often a candidate is rejected: one that is worse by 2, 3 and 4 margins, and one as good as the control
    on a biased path."""
    print_of = []
    for deviation, margin in ((0.3, 0.05), (math.sqrt(SCORE_VARIANCE), 0.15)):
        plan = hybrid_plan(margin, deviation)
        worse = [simulated(plan, World(deviation, -k * margin), runs, 3).rejected.mean() for k in (2, 3, 4)]
        path = [simulated(plan, World(deviation, bias=-k * margin), runs, 4).rejected.mean() for k in BIASES]
        print_of.append((deviation, margin, worse, path))
    with capsys.disabled():
        print("\nRejected: worse by 2, 3, 4 margins | as good, on a path biased by 0 to 4 margins")  # noqa: T201
        for deviation, margin, worse, path in print_of:
            print(  # noqa: T201
                f"{deviation:4.2f} {margin:5} ", " ".join(f"{x:.3f}" for x in worse), "|",
                " ".join(f"{x:.3f}" for x in path),
            )  # fmt: skip
    for deviation, margin, (two, three, four), path in print_of:
        noise = 5 * math.sqrt(0.25 / runs)
        assert two > (0.75 if margin == 0.05 else 0.94) - noise, deviation
        assert min(three, four) > 0.97
        assert path[0] < 0.025 + noise
        assert max(path) < 0.25 + noise, "without the doubt it is 1.0"


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_biased_path_seldom_leads_to_a_reject(capsys: pytest.CaptureFixture[str]) -> None:
    check_doubts(4_000, capsys)


def binary(control: float, candidate: float, runs: int, seed: int) -> Outcome:
    """Valid answers, at the defaults: margin 0.15, an automatic horizon, a guessed variance."""
    plan = a_plan(method="hybrid", aa="alarm", margin=0.15, repeat_control=0.25, guardrails=(), auto_horizon=True)
    plan = replace(plan, max_pairs=horizon_of(plan))
    assert plan.max_pairs is not None
    rng, shape = np.random.default_rng(seed), (runs, plan.max_pairs)
    served, again, other = (rng.random(shape) < p for p in (control, control, candidate))
    low, high, _ = bounds(rule_of(plan, QUALITY, 0.15), other * 1.0 - served)
    drawn = rng.random(shape) < 0.25
    aa_low, aa_high, repeats = bounds(rule_of(plan, QUALITY, 0.15, REPEAT), again * 1.0 - served, drawn)
    red = (aa_low > 0) | (aa_high < 0)
    ship = first((low > -0.15) & (repeats >= FEWEST_REPEATS) & ~red)
    reject = first((high < -0.15) & ~red)
    return Outcome(ship, reject, first(red), np.zeros(runs, int), plan.max_pairs)


def test_a_large_difference_is_decided_within_100_pairs() -> None:
    better, worse = binary(0.5, 0.95, 2000, 1), binary(0.9, 0.4, 2000, 2)
    assert better.horizon < 100
    assert better.shipped.mean() > 0.98
    assert worse.rejected.mean() > 0.95
    assert np.median(worse.first) < 60
