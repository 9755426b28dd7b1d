"""Adjusted differences: right on average, with less variance where something is known, untouched where nothing is.

The table goes to the terminal. The short form has 400 runs a world, `make test-long` 4 000.
"""

from __future__ import annotations

import json
import math
from statistics import NormalDist

import numpy as np
import pytest
from numpy.typing import NDArray

from gateway.core.horizon import BURN_IN, EARLY, planned_pairs
from gateway.statistics.asymptotic import best_rho
from gateway.statistics.hybrid import TIGHTEST
from gateway.statistics.past_adjustment import LEARN, WAITING, PastAdjustment

Values = NDArray[np.float64]
ALPHA, BESIDE = 0.05, 9  # requests without a pair for each that has one: shadow 0.1
Z = NormalDist().inv_cdf


def drawn(world: str, rng: np.random.Generator, mean: float, shape: tuple[int, int]) -> tuple[Values, Values, Values]:
    """(differences, covariate of the pairs, of the requests next to them)."""
    others = (*shape, BESIDE)
    if world.startswith("correlation"):
        r = float(world.split()[1])
        x, noise = rng.normal(size=shape), rng.normal(size=shape)
        return np.clip(mean + 0.3 * (r * x + math.sqrt(1 - r * r) * noise), -1, 1), x, rng.normal(size=others)
    if world == "the control's score, yes or no":
        a, b = (rng.random(shape) < 0.7) * 1.0, (rng.random(shape) < 0.7 + mean) * 1.0
        return b - a, a, (rng.random(others) < 0.7) * 1.0
    a, b = (rng.random(shape) >= 0.03) * 1.0, (rng.random(shape) >= 0.03 - mean) * 1.0
    return b - a, a, (rng.random(others) >= 0.03) * 1.0


WORLDS = {  # deviation of a difference, margin, share of the variance that the covariate explains
    "correlation 0": (0.3, 0.05, 0.0),
    "correlation 0.5": (0.3, 0.05, 0.25),
    "correlation 0.5, margin 0.02": (0.3, 0.02, 0.25),
    "correlation 0.7": (0.3, 0.05, 0.49),
    "the control's score, yes or no": (math.sqrt(0.42), 0.1, 0.5),
    "failures of 3 %": (math.sqrt(0.06), 0.02, 0.5),
}


def adjusted(y: Values, x: Values, others: Values) -> Values:
    """Values that PastAdjustment makes of many paths at once; one covariate."""
    out, zero = np.empty_like(y), np.zeros(len(y))
    mean, products, cross, agreement, squares, noise = (zero.copy() for _ in range(6))
    for i in range(y.shape[1]):
        z = x[:, i] - (x[:, i] + others[:, i].sum(axis=1)) / (BESIDE + 1)
        theta = cross / (products * (1 + 4.0 / max(i, 1)) + 1e-9) if i >= LEARN else zero
        q = np.clip(theta * z, -1, 1)
        trusted = (i >= 2 * LEARN) & (agreement > 2.0 * np.sqrt(noise))
        weight = np.where(trusted, np.minimum(1.0, agreement / np.maximum(squares, 1e-300)), 0.0)
        out[:, i] = y[:, i] - weight * q
        apart = y[:, i] - mean
        agreement, squares, noise = agreement + apart * q, squares + q * q, noise + (apart * q) ** 2
        mean, products, cross = mean + apart / (i + 1), products + z * z, cross + z * apart
    return out


def looks(d: Values, y: Values, horizon: int) -> tuple[Values, Values, Values, Values]:
    """(mean, half-width, pair of the last look, saved share), with a look after every pair up to the last look."""
    n = np.arange(1, horizon + 1)

    def squares(x: Values) -> Values:
        m2 = np.maximum(np.cumsum(x * x, axis=1) - np.cumsum(x, axis=1) ** 2 / n, 0.0)
        return np.asarray(m2 + 3.4 * np.minimum(1.0, 7.0 / np.maximum(m2, 1e-12)))

    total, rho = squares(d), best_rho(ALPHA * EARLY, TIGHTEST * horizon)
    saved = np.maximum(0.0, 1 - total / squares(y))
    last = ((n >= BURN_IN) & (n >= np.ceil(horizon * (1 - saved)))).argmax(axis=1)
    growth = n * rho**2 + 1
    half = np.sqrt(2 * growth * np.log(np.sqrt(growth) / (ALPHA * EARLY)) / n * total) / rho / n
    half[:, : BURN_IN - 1] = np.inf
    rows = np.arange(len(d))
    half[rows, last] = Z(1 - ALPHA * (1 - EARLY) / 2) * np.sqrt(total[rows, last]) / (last + 1)
    half[n[None] - 1 > last[:, None]] = np.inf
    return np.cumsum(d, axis=1) / n, half, last + 1.0, saved[rows, last]


def first(claimed: NDArray[np.bool_]) -> Values:
    return np.where(claimed.any(axis=1), claimed.argmax(axis=1) + 1.0, np.inf)


def test_the_arrays_say_what_the_class_says() -> None:
    rng = np.random.default_rng(1)
    y, x, others = drawn("correlation 0.7", rng, 0.1, (1, 120))
    one, expected = PastAdjustment(1, BESIDE), adjusted(y, x, others)
    for i in range(120):
        for each in others[0, i]:
            one.wait([float(each)])
        assert one.adjust(float(y[0, i]), [float(x[0, i])]) == pytest.approx(expected[0, i])
        one = PastAdjustment.from_state(json.loads(json.dumps(one.state())))
    assert one.weight > 0.8


def simulated(runs: int) -> list[tuple[str, int, float, float, float, float, float, float]]:
    """World, horizon, wrong `ship` at the margin without and with adjusting, wrong `reject` at it, pairs saved as the
    report says, and as measured: without a difference, median pairs with and without."""
    rows = []
    for name, (deviation, margin, _) in WORLDS.items():
        rng, horizon = np.random.default_rng(11), planned_pairs(deviation, margin, ALPHA)
        count = runs if horizon < 1000 else runs // 4
        worse, same = (
            drawn(name.split(",")[0] if "corr" in name else name, rng, m, (count, horizon)) for m in (-margin, 0.0)
        )
        before, plain, _, _ = looks(worse[0], worse[0], horizon)
        mean, half, _, _ = looks(adjusted(*worse), worse[0], horizon)
        ship, without = (np.isfinite(first(m - h > -margin)).mean() for m, h in ((mean, half), (before, plain)))
        reject = np.isfinite(first(mean + half < -margin)).mean()
        mean, half, last, saved = looks(adjusted(*same), same[0], horizon)
        before, plain, _, _ = looks(same[0], same[0], horizon)
        pairs = np.median(np.minimum(first(mean - half > -margin), last))
        alone = np.median(np.minimum(first(before - plain > -margin), horizon))
        power = np.isfinite(first(mean - half > -margin)).mean()
        rows.append((name, horizon, without, ship, reject, float(saved.mean()), 1 - pairs / alone, power))
    return rows


def check(runs: int, capsys: pytest.CaptureFixture[str]) -> None:
    rows = simulated(runs)
    with capsys.disabled():
        print(f"\nAdjusted differences, shadow 0.1, a look after every pair, {runs} runs")  # noqa: T201
        print("world  horizon  wrong ship: without, with  wrong reject  saved: says, is  power")  # noqa: T201
        for name, *numbers in rows:
            print(f"{name:32}", *(format(n, "8d" if isinstance(n, int) else "8.4f") for n in numbers))  # noqa: T201
    for name, horizon, _, ship, reject, says, saves, power in rows:
        count = runs if horizon < 1000 else runs // 4
        bound = 0.03 + 5 * math.sqrt(0.03 * 0.97 / count)
        assert ship <= bound, name
        assert reject <= bound, name
        assert power > 0.72, name
        assert abs(says - saves) < 0.1, "the report promises what it saves"
        explained = WORLDS[name][2]
        assert 0.6 * 0.9 * explained - 0.01 <= says <= 0.9 * explained + 0.02, name


def test_fewer_pairs_and_no_more_errors(capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong verdicts at the margin in at most 3 %, as without adjusting; five standard errors are allowed."""
    check(400, capsys)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_fewer_pairs_and_no_more_errors_in_many_runs(capsys: pytest.CaptureFixture[str]) -> None:
    check(4_000, capsys)


def test_a_useless_covariate_changes_nothing() -> None:
    """The weight is exactly 0 in nearly all runs, and what is left is noise of a thousandth of the variance."""
    y, x, others = drawn("correlation 0", np.random.default_rng(2), 0.1, (400, 300))
    made = adjusted(y, x, others)
    assert (made == y).mean() > 0.95
    assert made.var() < 1.001 * y.var()


def test_a_pair_without_other_requests_stays_as_it_is() -> None:
    one, rng = PastAdjustment(2), np.random.default_rng(3)
    for value in rng.normal(0, 0.3, 100):
        assert one.adjust(float(value), [float(value), 1.0]) == value
    assert one.n == 0


def test_each_other_request_is_used_once_and_old_ones_are_dropped() -> None:
    one = PastAdjustment(1, most=3)
    for i in range(2 * WAITING):
        one.wait([float(i)])
    assert [x for (x,) in one.waiting] == list(range(WAITING, 2 * WAITING))
    one.adjust(0.1, [90.0])
    assert [x for (x,) in one.waiting] == list(range(WAITING + 3, 2 * WAITING))


def test_requests_that_are_recorded_more_often_are_thinned() -> None:
    """Rare ones are all recorded, others with 0.1: of the rare ones, a tenth waits, as of the others."""
    one, rng, seen = PastAdjustment(1, most=10), np.random.default_rng(4), []
    for _ in range(60_000):
        rare = bool(rng.random() < 0.5)
        if rare or rng.random() < 0.1:
            one.wait([float(rare)], 1.0 if rare else 0.1, float(rng.random()))
            if len(one.waiting) == 30:
                seen += [x for (x,) in one.waiting]
                one.waiting = []
    assert len(seen) > 5000
    assert abs(np.mean(seen) - 0.5) < 5 * 0.5 / math.sqrt(len(seen))


def test_nothing_is_adjusted_once_many_pairs_have_no_difference() -> None:
    one, rng = PastAdjustment(1), np.random.default_rng(5)
    for _ in range(100):
        x = rng.normal(size=11)
        for each in x[1:]:
            one.wait([float(each)])
        one.adjust(float(0.3 * x[0]), [float(x[0])])
    assert one.weight > 0.9
    for _ in range(3):
        one.miss()
    assert one.weight == 0.0


@pytest.mark.parametrize("wrong", [{"size": 0}, {"most": 0}])
def test_values_outside_the_domain_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        PastAdjustment(**{"size": 1, **wrong})
