"""What an experiment promises, simulated: how often it is wrong when one looks after every pair, and what it refuses.

The rates are of many short experiments at once, by the same sequences in arrays (the first test says that they are the
same); the refusals are of whole experiments, through the store and the verdict as they are. Seeded.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gateway.evals.experiments.metrics import Metric, PairValue
from gateway.evals.experiments.sequences import DifferenceSequence, rule_of
from gateway.evals.statistics.domains import Floats
from gateway.evals.statistics.empirical_bernstein import bernstein_bound
from gateway.evals.store import engine

ALPHA, MARGIN = 0.05, 0.1
RULE = rule_of(Metric("said", "score"), ALPHA, MARGIN, stationary=False)


def intervals(x: Floats) -> tuple[Floats, Floats]:
    """(low, high) after each of the differences in [−1, 1]; x: shape (experiments, pairs)."""
    n = np.arange(1, x.shape[1] + 1)
    totals = np.cumsum(x, axis=1)
    predicted = (totals - x) / n
    v = np.cumsum((x - predicted) ** 2, axis=1)
    grid = np.geomspace(1e-3, v.max() + 1, 1500)
    bound = np.array([bernstein_bound(float(each), ALPHA, 2.0, RULE.v_opt) for each in grid])
    half = np.interp(v, grid, bound) / n
    mean = totals / n
    return mean - half, mean + half


def naive(x: Floats, at_least: int = 20) -> tuple[Floats, Floats]:
    """What one would do without thought: mean ± 1.96 standard errors, looked at after every pair."""
    n = np.arange(1, x.shape[1] + 1)
    mean = np.cumsum(x, axis=1) / n
    deviation = np.sqrt(np.maximum(np.cumsum(x**2, axis=1) / n - mean**2, 1e-12))
    half = 1.96 * deviation / np.sqrt(n)
    half[:, : at_least - 1] = math.inf
    return mean - half, mean + half


def ever(hits: Floats) -> float:
    return float(hits.any(axis=1).mean())


def at_most(rate: float, runs: int) -> float:
    """rate + 3 standard errors."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / runs)


def differences(rng: np.random.Generator, mean: float, runs: int, pairs: int) -> Floats:
    """Of scores in [0, 1] around a question's own difficulty."""
    level = rng.uniform(0.3, 0.7, (runs, pairs))
    a, b = (np.clip(level + rng.normal(0, 0.2, (runs, pairs)), 0, 1) for _ in range(2))
    return np.asarray(np.clip(b - a + mean, -1, 1))


def test_the_arrays_are_the_sequences() -> None:
    x = differences(np.random.default_rng(1), 0.03, 1, 400)
    sequence = DifferenceSequence(RULE, bounded=True)
    low, high = intervals(x)
    for i, difference in enumerate(x[0]):
        sequence.add(PairValue(0.0, max(0.0, float(difference)), float(difference)))
        if i % 50 == 49:
            assert sequence.interval() == pytest.approx((max(-1, low[0, i]), min(1, high[0, i])), abs=1e-4)


RUNS, PAIRS = 1500, 1000


def test_looking_after_every_pair_is_wrong_no_more_often_than_alpha(capsys: pytest.CaptureFixture[str]) -> None:
    """A candidate that is worse by exactly the margin must not be shipped; one that is the same, called neither better
    nor worse. The naive interval's rates are printed beside."""
    rng = np.random.default_rng(2)
    at_margin, same = (differences(rng, mean, RUNS, PAIRS) for mean in (-MARGIN, 0.0))
    rows = []
    for what, x, wrong in (
        ("shipped though worse by the margin", at_margin, lambda low, high: low > -MARGIN),
        ("rejected though worse by no more than it", at_margin, lambda low, high: high < -MARGIN),
        ("called better or worse though the same", same, lambda low, high: (low > 0) | (high < 0)),
    ):
        ours, theirs = ever(wrong(*intervals(x))), ever(wrong(*naive(x)))
        rows.append(f"{what}: {ours:.3f}; naive {theirs:.3f}")
        assert ours <= at_most(ALPHA, RUNS), what
    assert ever((lambda low, high: (low > 0) | (high < 0))(*naive(same))) > 0.25, "which is what this guards against"
    with capsys.disabled():
        print(f"\n{RUNS} experiments of {PAIRS} pairs, a look after each (alpha {ALPHA})", *rows, sep="\n  ")  # noqa: T201


def test_twice_the_margin_is_found() -> None:
    rng = np.random.default_rng(3)
    worse, better = (intervals(differences(rng, mean, 200, 800)) for mean in (-2 * MARGIN, 2 * MARGIN))
    assert ever(worse[1] < -MARGIN) > 0.98, "rejected"
    assert ever(worse[0] > -MARGIN) == 0.0, "and never shipped"
    assert ever(better[0] > 0) > 0.98, "better"


def test_under_drift_the_interval_covers_the_average_so_far() -> None:
    """The candidate is better in the morning and worse in the evening: the running mean is what is estimated."""
    rng = np.random.default_rng(4)
    n = np.arange(PAIRS)
    truth = 0.15 * np.cos(2 * np.pi * n / 700)
    noise = differences(rng, 0.0, RUNS, PAIRS)
    x = np.clip(noise + truth, -1, 1)
    so_far = np.cumsum(x.mean(axis=0)) / (n + 1)  # of the very values, clipping included
    low, high = intervals(x)
    assert ever((low > so_far) | (high < so_far)) <= at_most(ALPHA, RUNS)
    flat_low, flat_high = naive(x)
    assert ever((flat_low > so_far) | (flat_high < so_far)) > 0.25


def test_one_increment_a_conversation_keeps_alpha_and_one_a_request_does_not() -> None:
    """Requests of one conversation share their difference: of ten of them only the first is news."""
    rng = np.random.default_rng(5)
    conversations, turns = 300, 10
    shared = rng.choice([-0.4, 0.4], (RUNS // 3, conversations))
    within = rng.normal(0, 0.05, (RUNS // 3, conversations, turns))
    every = np.clip(shared[:, :, None] + within, -1, 1)

    def wrong(x: Floats) -> float:
        low, high = intervals(x)
        return ever((low > 0) | (high < 0))

    assert wrong(every[:, :, 0]) <= at_most(ALPHA, RUNS // 3)
    assert wrong(every.reshape(RUNS // 3, -1)) > 3 * ALPHA


# ── whole experiments ──


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("store") / "template.db"
    engine.writer(f"sqlite:///{path}").dispose()
    return path


@pytest.fixture
def simulated(template: Path, tmp_path: Path, simulation: Any) -> Iterator[Callable[..., Any]]:
    """Begins an experiment; changes: of its plan."""
    begun: list[Any] = []

    def begin(**changes: Any) -> Any:
        path = tmp_path / f"{len(begun)}.db"
        begun.append(simulation.Simulated.at(template, path, simulation.a_plan(**changes)))
        return begun[-1]

    yield begin
    for each in begun:
        each.close()


def score(rng: random.Random, mean: float = 0.6, spread: float = 0.15) -> float:
    return min(1.0, max(0.0, rng.gauss(mean, spread)))


def test_a_good_candidate_ships_and_one_that_is_twice_the_margin_worse_is_rejected(
    simulated: Any, simulation: Any
) -> None:
    for mean, verdict in ((0.6, "ship"), (0.4, "reject")):
        rng, experiment = random.Random(6), simulated()
        for at in range(0, 1000, 500):
            experiment.add(
                simulation.a_pair(
                    i, simulation.seen(score(rng)), candidate=simulation.seen(score(rng, mean)),
                    repeat=simulation.seen(score(rng)),
                )
                for i in range(at, at + 500)
            )  # fmt: skip
        found = experiment.found()
        assert found.decision.verdict == verdict, found.decision.sentence
        assert "Switching `chat` from a/old to b/new" in found.decision.sentence


def test_a_broken_pipeline_is_refused_by_the_control_against_itself(simulated: Any, simulation: Any) -> None:
    """The path of shadows cuts answers short: the candidate looks bad, and so does the control by that path."""
    rng, experiment = random.Random(7), simulated()
    experiment.add(
        simulation.a_pair(
            i, simulation.seen(score(rng, 0.75)), candidate=simulation.seen(score(rng, 0.45)),
            repeat=simulation.seen(score(rng, 0.45)),
        )
        for i in range(600)
    )  # fmt: skip
    found = experiment.found()
    assert {g.name: g.state for g in found.gates}["aa"] == -1
    assert found.decision.verdict == "hold"
    assert "the pipeline alone makes a difference" in found.decision.sentence
    assert found.primary.margin_found == "inferior", "and without the gate it would have been rejected"


def test_a_candidate_that_only_lowers_temperature_is_seen_by_the_distances(simulated: Any, simulation: Any) -> None:
    """Its scores are the same, and its answers nearer to the served one than the control's own next one."""
    rng, experiment = random.Random(8), simulated()
    experiment.add(
        simulation.a_pair(
            i, simulation.seen(score(rng)),
            candidate=simulation.seen(score(rng), distance=score(rng, 0.30)),
            repeat=simulation.seen(score(rng), distance=score(rng, 0.48)),
        )
        for i in range(500)
    )  # fmt: skip
    with experiment.engine.connect() as connection:
        look = simulation.looked(connection, experiment.plan)
    test = look.sequences["candidate", "edit"].test
    assert test.p_value < 0.001
    assert look.sequences["candidate", "edit"].moments.mean > 0.1, "nearer, not farther"
    assert experiment.found().primary.direction_found == "unclear", "which the score does not see"


def test_slow_answers_that_are_dropped_do_not_flatter_the_candidate(simulated: Any, simulation: Any) -> None:
    """A third of the candidate's answers, the hard ones, never come in time: each is a failure, with a score of 0."""
    rng, experiment = random.Random(9), simulated()

    def pairs() -> Iterator[Any]:
        for i in range(600):
            hard = i % 3 == 0
            mean = 0.3 if hard else 0.75
            candidate = (
                simulation.seen(0.0, failed=True, outcome="timeout") if hard else simulation.seen(score(rng, mean))
            )
            yield simulation.a_pair(
                i, simulation.seen(score(rng, mean)), candidate=candidate, repeat=simulation.seen(score(rng, mean))
            )

    experiment.add(pairs())
    found = experiment.found()
    assert found.primary.difference.value == pytest.approx(-0.1, abs=0.02), "and not 0, which those that came would say"
    assert found.decision.verdict == "reject"
    assert "error_rate" in " ".join(found.decision.reasons)


def test_losses_on_one_arm_hold_the_verdict(simulated: Any, simulation: Any) -> None:
    """Records that never came are no failures, and no verdict is given over pairs that one arm lacks."""
    rng, experiment = random.Random(10), simulated()
    experiment.add(
        simulation.a_pair(
            i, simulation.seen(score(rng)), candidate=simulation.seen(None if i % 5 == 0 else score(rng)),
            repeat=simulation.seen(score(rng)),
        )
        for i in range(600)
    )  # fmt: skip
    found = experiment.found()
    assert {g.name: g.state for g in found.gates}["losses"] == -1
    assert found.decision.verdict == "hold"


def test_six_per_cent_of_errors_against_one_never_ships(simulated: Any, simulation: Any) -> None:
    """At no look of any of the experiments; and it is rejected in the end."""
    for seed in range(3):
        rng, experiment = random.Random(seed), simulated()
        for at in range(0, 2400, 300):
            experiment.add(
                simulation.a_pair(
                    i, simulation.seen(score(rng, 0.6, 0.05), failed=rng.random() < 0.01),
                    candidate=simulation.seen(score(rng, 0.66, 0.05), failed=rng.random() < 0.06),
                    repeat=simulation.seen(score(rng, 0.6, 0.05), failed=rng.random() < 0.01),
                )
                for i in range(at, at + 300)
            )  # fmt: skip
            decision = experiment.found().decision
            assert decision.verdict != "ship", decision.sentence
        assert decision.verdict == "reject"


def test_of_a_conversation_only_its_first_pair_counts(simulated: Any, simulation: Any) -> None:
    rng, experiment = random.Random(11), simulated()
    for at in range(0, 400, 100):
        experiment.add(
            simulation.a_pair(
                i, simulation.seen(score(rng)), f"c{i // 4}", candidate=simulation.seen(score(rng)),
                repeat=simulation.seen(score(rng)),
            )
            for i in range(at, at + 100)
        )  # fmt: skip
    found = experiment.found()
    assert found.primary.pairs == 100
    passed_over = {
        (name.candidate, name.metric): n for (name, reason, _), n in found.withheld.items() if reason == "same_cluster"
    }
    assert passed_over["candidate", "said"] == 300
