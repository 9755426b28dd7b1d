"""The hybrid interval: its formula, its state, its error with a look after every pair, and the price of its verdicts.

The tables go to the terminal. The short form has 2 000 runs a world, `make test-long` 20 000.
"""

import json
import math
from collections.abc import Callable
from functools import partial
from statistics import NormalDist

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from gateway.core.horizon import BURN_IN, EARLY, planned_pairs
from gateway.statistics.asymptotic import AsymptoticMean, best_rho
from gateway.statistics.hybrid import TIGHTEST, GuardedMean, HybridMean, half_width

ALPHA = 0.05
Z = NormalDist().inv_cdf
Values = NDArray[np.float64]
Draw = Callable[[np.random.Generator, float, tuple[int, int]], Values]
Claim = Callable[[Values, Values], NDArray[np.bool_]]  # (means, half-widths) → what is claimed at each look
Wave = Callable[[Values], Values]  # place in [0, 1) → what the conditional mean is above its average


def flat(at: Values) -> Values:
    return np.zeros(at.size)


def normal(deviation: float, wave: Wave = flat) -> Draw:
    """Clipped to [-1, 1]; the mean moves by `wave` around its average."""

    def draw(rng: np.random.Generator, mean: float, shape: tuple[int, int]) -> Values:
        return np.clip(rng.normal(mean + wave(np.linspace(0, 1, shape[1])), deviation, shape), -1, 1)

    return draw


def ties(share: float) -> Draw:
    """-1, 0 or 1; this share of the pairs is tied."""

    def draw(rng: np.random.Generator, mean: float, shape: tuple[int, int]) -> Values:
        u, worse = rng.random(shape), (1 - share - mean) / 2
        return np.where(u < worse, -1.0, np.where(u < 1 - share, 1.0, 0.0))

    return draw


def one_sided(rng: np.random.Generator, mean: float, shape: tuple[int, int]) -> Values:
    """The candidate fails where the control does not, and never the other way round."""
    return -(rng.random(shape) < -mean).astype(float)


def spreading(rng: np.random.Generator, mean: float, shape: tuple[int, int]) -> Values:
    """The deviation grows from 0.1 to 0.4."""
    return np.clip(rng.normal(mean, np.linspace(0.1, 0.4, shape[1]), shape), -1, 1)


def step(at: Values) -> Values:
    return np.where(at < 0.5, 0.1, -0.1)


def swing(at: Values) -> Values:
    return 0.2 * np.sin(40 * at)


WORLDS: dict[str, tuple[Draw, float, float, Wave]] = {  # draw, deviation, margin, drift
    "normal 0.3, margin 0.05": (normal(0.3), 0.3, 0.05, flat),
    "normal 0.3, margin 0.02": (normal(0.3), 0.3, 0.02, flat),
    "normal 0.1, margin 0.05": (normal(0.1), 0.1, 0.05, flat),
    "60 % ties": (ties(0.6), math.sqrt(0.4), 0.1, flat),
    "90 % ties": (ties(0.9), math.sqrt(0.1), 0.05, flat),
    "98 % ties": (ties(0.98), math.sqrt(0.02), 0.02, flat),
    "one-sided failures, 5 %": (one_sided, math.sqrt(0.05 * 0.95), 0.05, flat),
    "one-sided failures, 1 %": (one_sided, math.sqrt(0.01 * 0.99), 0.01, flat),
    "a step": (normal(0.3, step), 0.32, 0.05, step),
    "a wave": (normal(0.3, swing), 0.33, 0.05, swing),
    "growing deviation": (spreading, 0.26, 0.05, flat),
}


def widths(x: Values, horizon: int, largest: float = 1.0) -> tuple[Values, Values]:
    """Running means and half-widths after every value of many paths at once; x: shape (paths, horizon)."""
    n = np.arange(1, horizon + 1)
    mean = np.cumsum(x, axis=1) / n
    m2 = np.maximum(np.cumsum(x * x, axis=1) - n * mean**2, 0.0)
    total = m2 + largest**2 * 3.4 * np.minimum(1.0, 7.0 / np.maximum(m2 / largest**2, 1e-12))
    early = ALPHA * EARLY
    growth = n * best_rho(early, TIGHTEST * horizon) ** 2 + 1
    per_sum = np.sqrt(2 * growth * np.log(np.sqrt(growth) / early)) / best_rho(early, TIGHTEST * horizon)
    half = per_sum / np.sqrt(n) * np.sqrt(total) / n
    half[:, : BURN_IN - 1] = np.inf
    half[:, -1] = Z(1 - ALPHA * (1 - EARLY) / 2) * np.sqrt(total[:, -1]) / horizon
    return mean, half


def first(claimed: NDArray[np.bool_]) -> Values:
    """The first look at which something is claimed; infinity: never."""
    return np.where(claimed.any(axis=1), claimed.argmax(axis=1) + 1.0, np.inf)


def test_widths_of_many_paths_are_those_of_the_class() -> None:
    x = np.random.default_rng(3).normal(0.1, 0.3, (1, 60))
    mean, half = widths(x, 60)
    sequence = HybridMean(ALPHA, 60)
    for i, value in enumerate(x[0]):
        sequence.add(float(value))
        assert sequence.mean == pytest.approx(mean[0, i])
        assert sequence.half_width() == pytest.approx(half[0, i])


def test_the_last_look_is_the_textbook_interval_plus_the_floor() -> None:
    m2 = 400 * 0.09
    expected = Z(0.98) * math.sqrt(m2 + 3.4 * 7 / m2) / 400
    assert half_width(0.05, 400, 400, m2) == pytest.approx(expected)
    assert half_width(0.05, 400, 400, m2, largest=0.0) == pytest.approx(Z(0.98) * 0.3 / 20)


def test_equal_values_claim_no_more_than_the_rule_of_three() -> None:
    assert half_width(0.05, 300, 300, 0.0) == pytest.approx(3.8 / 300, rel=0.01)


def test_nothing_is_claimed_below_the_burn_in() -> None:
    sequence = HybridMean(0.05, 100)
    for _ in range(BURN_IN - 1):
        sequence.add(1.0)
    assert sequence.interval() == (-math.inf, math.inf)


def test_a_sequence_is_closed_at_its_horizon() -> None:
    sequence = HybridMean(0.05, BURN_IN)
    for _ in range(BURN_IN):
        sequence.add(0.0)
    assert sequence.closed
    with pytest.raises(ValueError, match="the horizon of 20 is reached"):
        sequence.add(0.0)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=60), st.integers(0, 60))
def test_a_restored_sequence_continues_with_the_same_bits(values: list[float], cut: int) -> None:
    whole, part = HybridMean(0.05, 60), HybridMean(0.05, 60)
    for value in values:
        whole.add(value)
    for value in values[:cut]:
        part.add(value)
    part = HybridMean.from_state(json.loads(json.dumps(part.state())))
    for value in values[cut:]:
        part.add(value)
    assert part.interval() == whole.interval()


def test_a_sequence_without_a_horizon_has_the_floor_too() -> None:
    """The sequence is the asymptotic one for common values, and claims little from equal ones."""
    rng, guarded_, plain = np.random.default_rng(4), GuardedMean(0.05, 200.0), AsymptoticMean(0.05, 200.0)
    for value in rng.normal(0.1, 0.3, 500):
        guarded_.add(float(value))
        plain.add(float(value))
    assert plain.interval()[0] - 0.001 < guarded_.interval()[0] < plain.interval()[0]
    assert guarded_.log_e_value() == pytest.approx(plain.log_e_value(), rel=0.02)
    equal = GuardedMean(0.05, 200.0)
    for _ in range(200):
        equal.add(0.0)
    assert equal.interval()[1] > 3.8 / 200
    assert GuardedMean.from_state(json.loads(json.dumps(guarded_.state()))).interval() == guarded_.interval()


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.0}, {"horizon": 5}, {"largest": -1.0}, {"n": -1}])
def test_values_outside_the_domain_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        HybridMean(**wrong)  # type: ignore[arg-type]


def above_the(truth: Values | float, mean: Values, half: Values) -> NDArray[np.bool_]:
    return mean - half > truth


def below_the(truth: Values | float, mean: Values, half: Values) -> NDArray[np.bool_]:
    return mean + half < truth


def firsts(
    draw: Draw, rng: np.random.Generator, mean: float, shape: tuple[int, int], claims: tuple[Claim, ...]
) -> list[Values]:
    """The first look at which each claim is made, by run; a hundred runs at a time, so that the arrays stay small."""
    runs, horizon = shape
    found: list[list[Values]] = []
    for at in range(0, runs, 100):
        part = widths(draw(rng, mean, (min(100, runs - at), horizon)), horizon)
        found.append([first(claim(*part)) for claim in claims])
    return [np.concatenate(each) for each in zip(*found, strict=True)]


def simulated(runs: int) -> list[tuple[str, int, float, float, float, float, float]]:
    """World, horizon, share of runs whose lower and upper bound ever pass the truth, price at 1, 1.5 and 2 ×.

    The truth at n is the average of the conditional means so far. On average it is the margin itself, so that a lower
    bound above it is a wrong "not worse". Price: median pairs to that verdict, in pairs of a fixed test of the same
    error and power 0.8.
    """
    rng, rows = np.random.default_rng(7), []
    for name, (draw, deviation, margin, wave) in WORLDS.items():
        horizon = planned_pairs(deviation, margin, ALPHA)
        fixed = (2.8016 * deviation / margin) ** 2
        drift = np.cumsum(wave(np.linspace(0, 1, horizon))) / np.arange(1, horizon + 1)
        claims = (partial(above_the, drift - margin), partial(below_the, drift - margin))
        shipped, rejected = firsts(draw, rng, -margin, (runs, horizon), claims)
        above, below = np.isfinite(shipped).mean(), np.isfinite(rejected).mean()
        prices = []
        for effect in (0.0, 0.5, 1.0):
            if wave is not flat or draw is one_sided or (name == "98 % ties" and effect):
                prices.append(math.nan)
                continue
            (shipped,) = firsts(draw, rng, effect * margin, (runs, horizon), (partial(above_the, -margin),))
            prices.append(float(np.median(np.minimum(shipped, horizon))) / fixed)
        rows.append((name, horizon, float(above), float(below), *prices))
    return rows


def table(rows: list[tuple[str, int, float, float, float, float, float]], runs: int) -> str:
    lines = [
        f"\n{runs} runs a world, a look after every pair, alpha {ALPHA}",
        f"{'world':26} {'horizon':>7} {'wrong ship':>10} {'wrong reject':>12} {'price 1×':>8} {'1.5×':>6} {'2×':>6}",
    ]
    for name, horizon, ship, reject, *prices in rows:
        shown = " ".join(f"{'–' if math.isnan(p) else format(p, '.2f'):>6}" for p in prices)
        lines.append(f"{name:26} {horizon:7d} {ship:10.4f} {reject:12.4f}  {shown}")
    return "\n".join(lines)


def test_the_error_holds_with_a_look_after_every_pair(capsys: pytest.CaptureFixture[str]) -> None:
    """The error is at most alpha; the bound of five standard errors has a false-alarm rate below 1e-6 a world."""
    check(2_000, capsys)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_the_error_holds_in_twenty_thousand_runs(capsys: pytest.CaptureFixture[str]) -> None:
    check(20_000, capsys)


def check(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = simulated(runs)
    with capsys.disabled():
        print(table(rows, runs))  # noqa: T201
    bound = ALPHA + 5 * math.sqrt(ALPHA * (1 - ALPHA) / runs)
    for name, _, ship, reject, planned, half_more, double in rows:
        assert ship <= bound, name
        assert reject <= bound, name
        if name.startswith("normal 0.3"):
            assert planned <= 1.15
            assert half_more <= 0.75
            assert double <= 0.5


MORE_RUNS, MORE_N, MORE_MARGIN = 400, 283, 0.05


def test_going_on_after_the_last_look_takes_only_the_early_sequence() -> None:
    sequence = HybridMean(horizon=40)
    with pytest.raises(ValueError, match="only after its last look"):
        sequence.go_on(10)
    for i in range(40):
        sequence.add((-1.0) ** i)
    last, twin = sequence.half_width(), HybridMean(horizon=41)
    for i in range(40):
        twin.add((-1.0) ** i)
    sequence.go_on(10)
    assert (sequence.closed, sequence.last_look) == (False, False)
    early = half_width(0.05, 40, 40, sequence.m2, last=False)
    assert sequence.half_width() == early > last
    restored = HybridMean.from_state(sequence.state())
    assert restored == sequence
    for i in range(10):
        restored.add((-1.0) ** i)
    assert (restored.closed, restored.last_look) == (True, False), "it pauses, without another last look"
    assert restored.half_width() == half_width(0.05, 40, 50, restored.m2, last=False)
    assert "until" not in HybridMean(horizon=40).state(), "other states are as they were"


@pytest.mark.timeout(120)
def test_going_on_each_time_ships_no_worse_candidate() -> None:
    """The candidate is worse by exactly one margin, and somebody goes on up to four times the horizon, with a look
    after every pair."""
    rng, shipped = np.random.default_rng(47), 0
    for values in rng.normal(-MORE_MARGIN, 0.3, (MORE_RUNS, 4 * MORE_N)).tolist():
        shipped += _ships_at_last(values)
    assert shipped / MORE_RUNS <= 0.025 + 3 * math.sqrt(0.025 * 0.975 / MORE_RUNS)


def _ships_at_last(values: list[float]) -> bool:
    sequence = HybridMean(horizon=MORE_N)
    for x in values:
        if sequence.closed:
            sequence.go_on(MORE_N // 2)
        sequence.add(x)
        if sequence.interval()[0] > -MORE_MARGIN:
            return True
    return False
