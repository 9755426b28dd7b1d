"""Maps of probabilities: how often one is accepted without need, and how near the truth an accepted one comes.

The short form has 300 runs a world, `make test-long` 2 000.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from fixtures.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.statistics.domains import Floats
from gateway.statistics.recalibration import IDENTITY, LEVEL, PlattMap, expit, fit_platt, logit, tries, try_map

RUNS = [300, pytest.param(2_000, marks=(pytest.mark.long, pytest.mark.timeout(1200)))]


@dataclass(frozen=True)
class Judged:
    """Labels in their order, of a scorer whose p has a Beta distribution and whose truth is a Platt map of p."""

    truth: PlattMap = IDENTITY
    shape: tuple[float, float] = (0.7, 0.5)
    weighted: bool = False

    def draw(self, random: np.random.Generator, n: int) -> tuple[Floats, Floats, Floats]:
        p = random.beta(*self.shape, 8 * n).clip(1e-6, 1 - 1e-6)
        weight = 1 + 9 * random.random(p.size) * (p < 0.5) * self.weighted
        [drawn] = np.nonzero(random.random(p.size) < 1 / weight)
        p, weight = p[drawn[:n]], weight[drawn[:n]]
        return p, (random.random(p.size) < self.truth(p)).astype(float), weight


def last_map(p: Floats, y: Floats, w: Floats) -> PlattMap:
    """The map in force after all tries."""
    now = IDENTITY
    for n, level in tries(p.size):
        found = try_map(p[:n], y[:n], w[:n], level=level, before=now)
        now = found.map if found.accepted else now
    return now


@pytest.mark.parametrize("runs", RUNS)
@pytest.mark.parametrize(
    "world",
    [Judged(), Judged(shape=(0.15, 0.15)), Judged(shape=(0.3, 3.0)), Judged(weighted=True)],
    ids=["spread", "extreme", "rare", "weighted"],
)
def test_a_calibrated_scorer_is_rarely_recalibrated(world: Judged, runs: int) -> None:
    random = np.random.default_rng(51)
    accepted = np.mean([not last_map(*world.draw(random, 800)).is_identity for _ in range(runs)])
    assert accepted <= LEVEL + 3 * math.sqrt(LEVEL * (1 - LEVEL) / runs)


@pytest.mark.parametrize("runs", RUNS)
def test_an_overconfident_scorer_is_recalibrated(runs: int) -> None:
    """The squared distance to the truth is 0.0114 without a map."""
    random, world, distances, now = np.random.default_rng(52), Judged(PlattMap(-0.3, 0.6)), [], []
    for _ in range(runs):
        p, y, w = world.draw(random, 800)
        found = last_map(p, y, w)
        distances.append(float(((found(p) - world.truth(p)) ** 2).mean()))
        now.append(try_map(p[:100], y[:100], w[:100], level=0.05).accepted)
    assert np.mean(distances) < 0.002
    assert np.mean(now) > 0.4, "at the first hundred labels"


@settings(max_examples=examples(40), deadline=None)
@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 1)), min_size=1, max_size=60))
def test_no_map_near_the_fitted_one_has_less_loss(labels: list[tuple[float, int]]) -> None:
    p, y = np.array(labels).T
    x = logit(p)

    def loss(a: float, b: float) -> float:
        z = a + b * x
        return float((np.logaddexp(0, z) - y * z).sum()) + 0.5 * (a * a + (b - 1) ** 2)

    found = fit_platt(p, y)
    best = loss(found.intercept, found.slope)
    for da, db in ((0.01, 0), (-0.01, 0), (0, 0.01), (0, -0.01)):
        assert loss(found.intercept + da, found.slope + db) >= best - 1e-9


@given(st.floats(0, 1))
def test_identity_changes_nothing_between_the_edges(p: float) -> None:
    assert float(IDENTITY(p)) == pytest.approx(min(max(p, 0.001), 0.999))
    assert float(expit(logit(p))) == pytest.approx(float(IDENTITY(p)))


def test_a_map_has_a_digest_of_its_own() -> None:
    assert PlattMap(0.1, 1.0).digest != PlattMap(0.1, 1.1).digest
    assert PlattMap(0.1, 1.0).digest == PlattMap(0.1, 1.0).digest
    assert len(IDENTITY.digest) == 12


def test_the_tries_share_one_level() -> None:
    assert list(tries(450)) == [(100, 0.05), (200, 0.025), (400, 0.0125)]
    assert sum(level for _, level in tries(10**9)) < LEVEL
    assert list(tries(99)) == []


def test_few_one_sided_labels_move_a_map_little() -> None:
    found = fit_platt([0.5] * 3, [1.0] * 3)
    assert 0.5 < float(found(0.5)) < 0.75


@pytest.mark.parametrize("arguments", [([1.2], [1.0]), ([0.5], [1.5]), ([0.5], [1.0], [0.0]), ([], [])])
def test_arguments_outside_the_domain_are_refused(arguments: tuple[list[float], ...]) -> None:
    with pytest.raises(ValueError, match=r"outside|expected"):
        fit_platt(*arguments)


def test_a_try_needs_a_newer_third() -> None:
    with pytest.raises(ValueError, match="newer third"):
        try_map([0.5] * 5, [1.0] * 5, level=0.05)


def test_labels_of_one_conversation_accept_no_map_together() -> None:
    """Ten labels of each conversation have the same probability and the same outcome."""
    random, accepted = np.random.default_rng(53), np.zeros(2)
    clusters = np.repeat(range(40), 10).tolist()
    for _ in range(300):
        p, y, _ = Judged().draw(random, 40)
        p, y = np.repeat(p, 10), np.repeat(y, 10)
        for at, of in enumerate((clusters, None)):
            accepted[at] += try_map(p, y, None, of, level=0.05).accepted
    assert accepted[0] / 300 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 300)
    assert accepted[1] / 300 > 0.1, "as independent labels, they would"
