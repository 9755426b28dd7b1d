"""Counts how often each interval ever misses the truth with a look after every value; the table goes to the terminal.

All sequences see the same values, and each may miss in at most 5 % of the paths, at any look. The fixed-n interval,
which is valid for one look only, is shown for comparison.
"""

import math
from collections.abc import Callable

import numpy as np
import pytest
from fixtures.simulation_bounds import most_misses
from numpy.typing import NDArray

from gateway.statistics.asymptotic import Tuning, half_width
from gateway.statistics.bernoulli import bernoulli_interval
from gateway.statistics.betting import bet, log_gains, next_squares
from gateway.statistics.empirical_bernstein import bernstein_bound
from gateway.statistics.quantiles import quantile_ranks

ALPHA = 0.05
Values = NDArray[np.float64]
Missed = Callable[[Values, Values], Values]  # values (paths, n) and conditional means (n,) → missed (paths,)


def laws(n: int) -> dict[str, Values]:
    """The conditional mean of each value."""
    at = np.arange(n)
    return {
        "a coin": np.full(n, 0.5),
        "rare": np.full(n, 0.05),
        "a step": np.where(at < 0.3 * n, 0.9, 0.3),
        "a wave": 0.5 + 0.4 * np.sin(at / 15),
    }


def deviation_of_means(x: Values, means: Values) -> Values:
    """|running mean - running average of the conditional means|."""
    n = np.arange(1, means.size + 1)
    return np.abs(np.cumsum(x - means, axis=1)) / n


def empirical_bernstein(x: Values, means: Values) -> Values:
    n = np.arange(1, means.size + 1)
    v = np.cumsum((x - (0.5 + np.cumsum(x, axis=1) - x) / n) ** 2, axis=1)
    grid = np.concatenate((np.linspace(0, 5, 100), np.linspace(5.1, v.max() + 1, 400)))
    bound = np.interp(v, grid, [bernstein_bound(float(w), ALPHA, 1.0, 10.0) for w in grid])
    missed: Values = (deviation_of_means(x, means) >= bound / n).any(axis=1)
    return missed


def betting(x: Values, means: Values) -> Values:
    total = squares = np.zeros(x.shape[0])
    wealth, missed = np.zeros((2, x.shape[0])), np.zeros(x.shape[0], dtype=bool)
    for n, column in enumerate(x.T):
        wealth = wealth + log_gains(column, bet(ALPHA, n, squares), np.array(means[0]))
        squares = next_squares(column, n, total, squares)
        total = total + column
        missed |= wealth.max(axis=0) - math.log(2) >= -math.log(ALPHA)
    return missed


def beta_binomial(x: Values, means: Values) -> Values:
    """Intervals, computed once for each sum: the interval depends on the sum alone."""
    sums, missed = np.cumsum(x, axis=1).astype(int), np.zeros(x.shape[0], dtype=bool)
    for n in np.unique(np.geomspace(1, x.shape[1], 60).astype(int)):
        for total in np.unique(sums[:, n - 1]):
            low, high = bernoulli_interval(float(total), int(n), ALPHA, 200)
            if not low <= means[0] <= high:
                missed |= sums[:, n - 1] == total
    return missed


def asymptotic(x: Values, means: Values) -> Values:
    n = np.arange(1, means.size + 1)
    mean = np.cumsum(x, axis=1) / n
    width = np.array([half_width(1.0, int(k), Tuning(ALPHA, 500, 100)) for k in n[99:]])
    deviation = np.sqrt(mean * (1 - mean))
    missed: Values = (deviation_of_means(x, means)[:, 99:] >= deviation[:, 99:] * width).any(axis=1)
    return missed


def fixed(x: Values, means: Values) -> Values:
    """mean +- 1.96 se, from the thirtieth value on."""
    n = np.arange(1, means.size + 1)
    mean = np.cumsum(x, axis=1) / n
    se = np.sqrt(np.maximum(mean * (1 - mean), 1e-12) / n)
    missed: Values = (deviation_of_means(x, means) > 1.96 * se)[:, 29:].any(axis=1)
    return missed


SEQUENCES: dict[str, tuple[Missed, tuple[str, ...]]] = {
    "empirical Bernstein": (empirical_bernstein, ("a coin", "rare", "a step", "a wave")),
    "betting": (betting, ("a coin", "rare")),
    "beta-binomial": (beta_binomial, ("a coin", "rare")),
    "asymptotic, from 100": (asymptotic, ("a coin", "a step", "a wave")),
}
SCALES = [(1000, 500), pytest.param(10_000, 2000, marks=pytest.mark.long)]


@pytest.mark.parametrize(("paths", "n"), SCALES, ids=["quick", "large"])
def test_each_sequence_misses_in_at_most_one_path_of_twenty(paths: int, n: int, request: pytest.FixtureRequest) -> None:
    """Betting and the beta-binomial for a constant mean, the others also under drift."""
    allowed = most_misses(ALPHA, paths)
    lines, wrong = [f"ever missed, {paths} paths, a look after each of {n} values (at most {allowed:.3f} allowed):"], []
    for law, means in laws(n).items():
        x = (np.random.default_rng(31).random((paths, n)) < means).astype(float)
        cells = [f"fixed n {fixed(x, means).mean():.3f}"]
        for name, (missed, fits) in SEQUENCES.items():
            if law in fits:
                ever = float(missed(x, means).mean())
                cells.append(f"{name} {ever:.3f}")
                wrong += [f"{name}, {law}: {ever:.3f}"] if ever > allowed else []
        lines.append(f"  {law:8} {'; '.join(cells)}")
        if law == "a coin":
            assert fixed(x, means).mean() > 0.3, "peeking at a fixed-n interval must be shown to be wrong"
    show(request, lines)
    assert not wrong


@pytest.mark.parametrize(("paths", "n"), SCALES, ids=["quick", "large"])
def test_p95_misses_in_at_most_one_path_of_twenty(paths: int, n: int, request: pytest.FixtureRequest) -> None:
    """Latency, lognormal: the order statistics of quantile_ranks, after every value."""
    allowed = most_misses(ALPHA, paths)
    x = np.random.default_rng(32).lognormal(size=(paths, n))
    truth, missed = math.exp(1.6448536269514722), np.zeros(paths, dtype=bool)
    below = np.cumsum(x <= truth, axis=1)
    for k in range(1, n + 1):
        low, high = quantile_ranks(k, 0.95, ALPHA, n / 2)
        missed |= (below[:, k - 1] < low) | (below[:, k - 1] >= high)
    show(request, [f"ever missed, p95, {paths} paths of {n}: {missed.mean():.3f} ({allowed:.3f} allowed)"])
    assert missed.mean() <= allowed


def show(request: pytest.FixtureRequest, lines: list[str]) -> None:
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        reporter.write_line("")
        for line in lines:
            reporter.write_line(line)
