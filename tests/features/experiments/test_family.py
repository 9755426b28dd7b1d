"""Holm's procedure on several candidates: who leaves the family, what is left for the others, and the errors."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from fixtures.simulated import a_pair, seen
from numpy.typing import NDArray

from gateway.core.exchange import Target
from gateway.core.horizon import BURN_IN, planned_pairs
from gateway.features.experiments.family import holm
from gateway.features.experiments.findings import finding
from gateway.features.experiments.report.presentation import sharing
from gateway.features.experiments.sequences import EVEN, AlphaShare
from gateway.reports.model import Verdict
from gateway.statistics.hybrid import half_width
from gateway.store.plans import StoredPlan

Values = NDArray[np.float64]
THREE = ("fast", "slow", "tiny")


def by_share(needs: Mapping[str, tuple[Verdict, float]]) -> Any:
    """Each candidate has its verdict once its share is at least the number."""

    def verdict(arm: str, share: AlphaShare) -> Verdict:
        kind, least = needs[arm]
        there = share.ship if kind == "ship" else share.reject
        return kind if there >= least else "hold"

    return verdict


def test_each_that_ships_leaves_its_part_to_the_others() -> None:
    found = holm(THREE, by_share({"fast": ("ship", 1.0), "slow": ("ship", 1.5), "tiny": ("ship", 9.0)}))
    assert {arm: share.ship for arm, share in found.items()} == {"fast": 1.0, "slow": 1.5, "tiny": 3.0}
    assert {share.reject for share in found.values()} == {1.0}


def test_what_is_rejected_leaves_nothing_to_those_that_might_ship() -> None:
    found = holm(THREE, by_share({"fast": ("reject", 1.0), "slow": ("reject", 1.2), "tiny": ("ship", 1.1)}))
    assert found["tiny"] == AlphaShare(1.0, 3.0)


def test_without_a_first_one_all_keep_even_shares() -> None:
    found = holm(THREE, by_share(dict.fromkeys(THREE, ("ship", 1.5))))
    assert set(found.values()) == {EVEN}
    assert holm(("only",), by_share({"only": ("ship", 1.0)})) == {"only": EVEN}


def bounds(x: Values, horizon: int, alpha: float) -> Values:
    """Lower bounds after every pair."""
    n = np.arange(1, horizon + 1)
    mean = np.cumsum(x, axis=-1) / n
    m2 = np.maximum(np.cumsum(x * x, axis=-1) - n * mean**2, 0.0)
    per_root = np.array(
        [half_width(alpha, horizon, int(k), float(k) ** 2, 0.0) if k >= BURN_IN else math.inf for k in n]
    )
    return mean - per_root * np.sqrt((m2 + 3.4 * np.minimum(1.0, 7.0 / np.maximum(m2, 1e-12))) / n**2)


def shipped(means: tuple[float, ...], runs: int, steps: bool) -> Values:
    """The pair after which each candidate ships, shape (candidates, runs); infinity: never. Margin 0.05, sd 0.3."""
    k, rng = len(means), np.random.default_rng(8)
    horizon = planned_pairs(0.3, 0.05, 0.05 / k)
    served = rng.normal(0, 0.3 / math.sqrt(2), (runs, horizon))  # all candidates are compared with the same answers
    x = np.array([np.clip(rng.normal(m, 0.3 / math.sqrt(2), served.shape) - served, -1, 1) for m in means])
    passes = {m: bounds(x, horizon, 0.05 / m) > -0.05 for m in range(1, k + 1)}
    out = passes[k]
    for left in range(k - 1, 0, -1) if steps else ():
        out = out | (passes[left] & (out.sum(axis=0) >= k - left))
    return np.where(out.any(axis=2), out.argmax(axis=2) + 1.0, np.inf)


def test_no_more_wrong_ships_and_more_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    """Any of the worse ones is shipped in at most alpha; five standard errors are allowed."""
    runs, rows = 800, []
    for means in ((-0.05,) * 3, (0.05, -0.05, -0.05), (0.05, 0.05, -0.05), (0.0,) * 3):
        worse = [i for i, m in enumerate(means) if m < 0]
        found = {steps: shipped(means, runs, steps) for steps in (False, True)}
        wrong, right = (
            [np.isfinite(f[worse]).any(axis=0).mean() if worse else 0.0 for f in found.values()],
            [np.isfinite(f).all(axis=0).mean() if not worse else 0.0 for f in found.values()],
        )
        rows.append((means, *wrong, *right))
        assert wrong[1] <= 0.05 + 5 * math.sqrt(0.05 * 0.95 / runs)
    with capsys.disabled():
        print("\nThree candidates, alpha 0.05: any wrong ship (even, Holm), all three ship (even, Holm)")  # noqa: T201
        for means, *numbers in rows:
            print(f"{means!s:22}", *(f"{n:7.4f}" for n in numbers))  # noqa: T201
    assert rows[-1][4] > rows[-1][3] + 0.03, "equal candidates"


def score(rng: random.Random, mean: float) -> Any:
    return seen(min(1.0, max(0.0, rng.gauss(mean, 0.15))))


def found_by(experiment: Any, family: str) -> dict[str, Any]:
    """The same pairs, as a plan with this procedure sees them."""
    plan = replace(experiment.plan, family=family)
    stored = StoredPlan(plan, experiment.plan.hash, "running", 1.0)
    with experiment.engine.connect() as connection:
        return {arm: finding(connection, stored, arm) for arm in THREE}


def test_a_candidate_ships_earlier_once_another_has(begin_experiment: Any) -> None:
    """One is much better, one is as good as the control, one much worse. At the same pairs the one that is as good is
    undecided with its own part of the error, and ships with that of the better one."""
    arms = tuple((arm, Target("b", arm)) for arm in THREE)
    design = {"method": "hybrid", "max_pairs": 200, "aa": "alarm", "guardrails": (), "family": "holm", "margin": 0.1}
    experiment, rng = begin_experiment(candidates=arms, **design), random.Random(3)
    means, holm_ = {"fast": 0.8, "slow": 0.5, "tiny": 0.1, "repeat": 0.5}, {}
    while not holm_ or holm_["slow"].decision.verdict == "hold":
        experiment.add(
            a_pair(i, score(rng, 0.5), **{arm: score(rng, mean) for arm, mean in means.items()})
            for i in range(experiment.n, experiment.n + 1 if experiment.n else 170)
        )
        holm_ = found_by(experiment, "holm")
    even = found_by(experiment, "even")
    assert [f.decision.verdict for f in holm_.values()] == ["ship", "ship", "reject"]
    assert [f.decision.verdict for f in even.values()] == ["ship", "hold", "reject"]
    assert holm_["slow"].family.ship == pytest.approx(0.05 / 2)
    assert holm_["slow"].family.reject == pytest.approx(0.05 / 2)
    assert holm_["tiny"].family.reject == pytest.approx(0.05 / 3)
    assert holm_["slow"].primary.difference.low > even["slow"].primary.difference.low
    assert sharing(holm_["slow"].family) == (
        "3 candidates share an error of 0.05 by Holm's procedure: 0.025 to ship and 0.025 to reject this one "
        "(fast ship, slow ship, tiny reject)."
    )
    assert even["slow"].family.ship == pytest.approx(0.05 / 3)
