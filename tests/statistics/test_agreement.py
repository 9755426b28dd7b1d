"""Agreement beyond chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics.agreement import cohen_kappa, krippendorff_alpha

tables = st.lists(st.lists(st.integers(1, 30), min_size=3, max_size=3), min_size=3, max_size=3)


def test_the_interval_covers_the_kappa_of_the_population() -> None:
    rng = np.random.default_rng(30)
    truth = np.array([[0.3, 0.05, 0.02], [0.06, 0.2, 0.05], [0.02, 0.08, 0.22]])
    kappa = cohen_kappa(truth * 1e6).kappa
    fits = [cohen_kappa(rng.multinomial(300, truth.ravel()).reshape(3, 3), 0.05) for _ in range(500)]

    assert np.mean([f.low <= kappa <= f.high for f in fits]) == pytest.approx(0.95, abs=0.035)
    assert np.mean([f.ase for f in fits]) == pytest.approx(np.std([f.kappa for f in fits]), rel=0.15)


def test_independent_raters_have_no_kappa() -> None:
    """The 95 % interval of independent raters covers 0 in about 95 % of 500 studies; the seed is fixed."""
    rng = np.random.default_rng(31)
    chance = np.outer([0.5, 0.3, 0.2], [0.2, 0.5, 0.3]).ravel()
    fits = [cohen_kappa(rng.multinomial(300, chance).reshape(3, 3)) for _ in range(500)]

    assert np.mean([f.low <= 0 <= f.high for f in fits]) == pytest.approx(0.95, abs=0.03)


@given(table=tables)
def test_kappa_is_symmetric_and_one_on_the_diagonal(table: list[list[int]]) -> None:
    one, other = cohen_kappa(table), cohen_kappa(np.transpose(table))
    assert one.kappa == pytest.approx(other.kappa, abs=1e-12)
    assert one.ase == pytest.approx(other.ase, abs=1e-9)
    perfect = cohen_kappa(np.diag(np.diag(table)))
    assert perfect.kappa == pytest.approx(1.0)
    assert perfect.ase == pytest.approx(0.0, abs=1e-6)


@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_alpha_ignores_shift_and_scale(shift: float, scale: float) -> None:
    data = [[1, 2, 3, 3, 2, 1, 4, None], [1, 2, 3, 4, 2, 2, 4, 1], [None, 3, 3, 3, 2, 1, 4, 1]]
    moved = [[None if x is None else shift + scale * x for x in rater] for rater in data]

    assert krippendorff_alpha(moved) == pytest.approx(krippendorff_alpha(data), abs=1e-9)
    assert krippendorff_alpha([data[1], data[1]]) == 1.0


def test_chance_ratings_have_an_alpha_near_zero() -> None:
    ratings = np.random.default_rng(33).integers(0, 4, (4, 2000)).tolist()

    assert krippendorff_alpha(ratings) == pytest.approx(0.0, abs=0.04)


def test_domains() -> None:
    for refused, message in (
        (lambda: cohen_kappa([[1, 2, 3], [1, 2, 3]]), r"table: shape \(2, 3\)"),
        (lambda: cohen_kappa([[5, 0], [0, 0]]), "table: agreement by chance is 1.0"),
        (lambda: cohen_kappa([[1, -1], [0, 1]]), "table: -1.0 is not a count"),
        (lambda: cohen_kappa([[1, 0], [0, 1]], alpha=0.0), "alpha: 0.0"),
        (lambda: krippendorff_alpha([[1, None], [None, 2]]), "units with two ratings: 0"),
        (lambda: krippendorff_alpha([[1, 1], [1, 1]]), "different ratings: 1"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
