"""The permutation of the rounds of questions: against enumeration, its size without a change, and its domain."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.round_permutation import RoundScores, kernel_scores, permutation_p, rank_scores

SCORES = st.lists(st.integers(-4, 4).map(float), min_size=2, max_size=4)


def enumerated(questions: list[list[float]]) -> float:
    observed = sum(scores[0] for scores in questions)
    sums = [sum(drawn) for drawn in itertools.product(*questions)]
    return sum(total >= observed - 1e-9 for total in sums) / len(sums)


@given(st.lists(SCORES, min_size=1, max_size=5))
def test_the_null_distribution_is_the_enumerated_one(questions: list[list[float]]) -> None:
    """Rounding is upwards, by at most a cell of the grid for each question."""
    p = permutation_p([RoundScores(scores[0], scores[1:]) for scores in questions])
    assert p >= enumerated(questions) - 1e-12
    slack = [[scores[0] - 0.05, *scores[1:]] for scores in questions]
    assert p <= max(enumerated(slack), enumerated(questions)) + 1e-12


def test_a_change_of_all_questions_has_the_smallest_p() -> None:
    """Two equal answers a round; the newest round has others."""
    similarity = np.kron(np.array([[1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [0, 0, 0, 1]]), np.ones((2, 2)))
    scores = kernel_scores(similarity, [0, 0, 1, 1, 2, 2, 3, 3])
    assert scores.newest == pytest.approx(2.0)
    assert permutation_p([scores] * 10) == pytest.approx(4.0**-10, rel=0.01)


def test_rounds_that_are_exchangeable_are_rarely_extreme() -> None:
    """Answers of one round are equal to each other, as a cache makes them; at 1 % and 400 tries, 17 are beyond 4.5
    standard errors."""
    rng = np.random.default_rng(52)
    rounds = np.repeat(np.arange(5), 2)
    extreme = 0
    for _ in range(400):
        days = np.repeat(rng.integers(0, 3, (8, 5)), 2, axis=1)
        p = permutation_p([kernel_scores(day[:, None] == day[None, :], rounds) for day in days])
        extreme += p <= 0.01
    assert extreme <= 17


def test_ranks_see_larger_values_and_their_negatives_smaller_ones() -> None:
    rounds = [0, 0, 1, 1, 2, 2]
    up = rank_scores([1, 2, 1, 2, 8, 9], rounds)
    down = rank_scores([-1, -2, -1, -2, -8, -9], rounds)
    assert up.newest == -down.newest == pytest.approx(1 / 3)
    assert permutation_p([up] * 6) == pytest.approx(3.0**-6)
    assert permutation_p([down] * 6) > 0.5


def test_questions_without_any_difference_say_nothing() -> None:
    assert permutation_p([]) == permutation_p([RoundScores(0.0, [0.0, 0.0])]) == 1.0


def test_scores_outside_the_domain_are_refused() -> None:
    with pytest.raises(ValueError, match="finite"):
        permutation_p([RoundScores(float("nan"), [0.0])])
    with pytest.raises(ValueError, match="finite"):
        rank_scores([float("inf"), 1.0], [0, 1])
    with pytest.raises(ValueError, match="rounds"):
        kernel_scores(np.eye(3), [0, 1, 1])
    with pytest.raises(ValueError, match="rounds"):
        rank_scores([1.0, 2.0], [0, 0])
