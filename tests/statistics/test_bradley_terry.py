"""Strengths from pairwise verdicts."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.bradley_terry import Duels, Strengths, fit_bradley_terry

TRUE = {"a": 0.0, "b": 0.7, "c": -0.4, "d": 1.5}
ORDER = 0.5


def play(seed: int, n: int) -> list[Duels]:
    rng = np.random.default_rng(seed)
    duels = []
    for first in TRUE:
        for second in TRUE.keys() - {first}:
            wins = rng.binomial(n, 1 / (1 + math.exp(-(TRUE[first] - TRUE[second] + ORDER))))
            duels.append(Duels(first, second, wins, n - wins))
    return sorted(duels, key=lambda duel: (duel.first, duel.second))


def test_strengths_and_the_first_slot_advantage_are_recovered() -> None:
    """Estimates are centred on the truth over 150 tournaments, and 95 % intervals cover it about as often."""
    fits = [fit_bradley_terry(play(seed, 40), "a", order_effect=True) for seed in range(150)]

    for name in ("b", "c", "d"):
        estimates = np.array([f.strength[name] for f in fits])
        errors = np.array([f.robust_se[name] for f in fits])
        assert abs(estimates.mean() - TRUE[name]) <= 3 * estimates.std() / math.sqrt(150) + 0.01
        assert (np.abs(estimates - TRUE[name]) <= 1.96 * errors).mean() >= 0.9
        assert errors.mean() == pytest.approx(estimates.std(), rel=0.2)
    orders = np.array([f.order for f in fits])
    assert abs(orders.mean() - ORDER) <= 3 * orders.std() / math.sqrt(150) + 0.01


def test_a_first_slot_bias_misleads_a_fit_without_order_effect() -> None:
    """b is always shown first: only the model with the order effect sees that it is not better than a."""
    duels = [Duels("b", "a", 60, 40), Duels("b", "c", 70, 30), Duels("c", "a", 50, 50), Duels("a", "c", 70, 30)]

    plain, ordered = fit_bradley_terry(duels, "a"), fit_bradley_terry(duels, "a", order_effect=True)

    assert plain.strength["b"] > 0.3
    assert ordered.order > 0.3
    assert ordered.strength["b"] < 0.1


@given(seed=st.integers(0, 30), reference=st.sampled_from("abcd"))
def test_reference_and_row_order_do_not_change_differences(seed: int, reference: str) -> None:
    duels = play(seed, 30)
    one, other = fit_bradley_terry(duels, "a"), fit_bradley_terry(duels[::-1], reference)

    for name in TRUE:
        assert other.strength[name] == pytest.approx(one.strength[name] - one.strength[reference], abs=1e-7)


def test_swapped_slots_change_only_the_order_effect() -> None:
    duels = play(1, 30)
    turned = [Duels(d.second, d.first, d.second_wins, d.first_wins) for d in duels]

    assert fit_bradley_terry(turned, "a").strength == pytest.approx(fit_bradley_terry(duels, "a").strength)
    assert fit_bradley_terry(turned, "a", order_effect=True).order == pytest.approx(
        -fit_bradley_terry(duels, "a", order_effect=True).order
    )


def test_ties_count_half_and_empty_rows_do_not_count() -> None:
    tied = fit_bradley_terry([Duels("a", "b", 0.5, 0.5)], "a")

    assert tied.strength["b"] == pytest.approx(0.0)
    assert fit_bradley_terry([Duels("a", "b", 3, 1), Duels("a", "z", 0, 0)], "a").strength.keys() == {"a", "b"}


def test_lopsided_counts_still_converge() -> None:
    lopsided = fit_bradley_terry([Duels("a", "b", 1e5, 1), Duels("b", "c", 1e5, 1), Duels("a", "c", 1e6, 1)], "c")

    assert isinstance(lopsided, Strengths)
    assert lopsided.strength["b"] == pytest.approx(math.log(1e5), rel=0.2)


def test_data_without_a_finite_maximum_is_rejected() -> None:
    chain = [Duels("a", "b", 3, 1), Duels("c", "a", 2, 0), Duels("c", "b", 2, 0)]
    for refused, message in (
        (lambda: fit_bradley_terry(chain, "a"), "a, b never beat c"),
        (lambda: fit_bradley_terry([Duels("a", "b", 1, 1), Duels("c", "d", 1, 1)], "a"), "a, b never beat c, d"),
        (lambda: fit_bradley_terry(chain[:1], "z"), "reference: 'z' is not one of a, b"),
        (lambda: fit_bradley_terry([], "a"), "reference: 'a' is not one of no names: no verdicts"),
        (
            lambda: fit_bradley_terry([Duels("a", "b", 5, 0), Duels("b", "a", 5, 0)], "a", order_effect=True),
            "no finite maximum",
        ),
        (lambda: Duels("a", "a", 1, 1), "duel of 'a' with itself"),
        (lambda: Duels("a", "b", -1, 1), "first_wins: -1"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
