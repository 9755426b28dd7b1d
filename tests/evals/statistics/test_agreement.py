"""Agreement beyond chance."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.evals.statistics.agreement import cohen_kappa, fleiss_kappa, krippendorff_alpha, randolph_kappa

tables = st.lists(st.lists(st.integers(1, 30), min_size=3, max_size=3), min_size=3, max_size=3)


@pytest.mark.parametrize("weighting", ["none", "linear", "quadratic"])
def test_the_interval_covers_the_kappa_of_the_population(weighting: str) -> None:
    rng = np.random.default_rng(30)
    truth = np.array([[0.3, 0.05, 0.02], [0.06, 0.2, 0.05], [0.02, 0.08, 0.22]])
    kappa = cohen_kappa(truth * 1e6, weighting=weighting).kappa  # type: ignore[arg-type]
    fits = [cohen_kappa(rng.multinomial(300, truth.ravel()).reshape(3, 3), 0.05, weighting) for _ in range(500)]  # type: ignore[arg-type]

    assert np.mean([f.low <= kappa <= f.high for f in fits]) == pytest.approx(0.95, abs=0.035)
    assert np.mean([f.ase for f in fits]) == pytest.approx(np.std([f.kappa for f in fits]), rel=0.15)


def test_independent_raters_test_at_their_level() -> None:
    rng = np.random.default_rng(31)
    chance = np.outer([0.5, 0.3, 0.2], [0.2, 0.5, 0.3]).ravel()
    z = [cohen_kappa(rng.multinomial(300, chance).reshape(3, 3)).z for _ in range(500)]

    assert np.mean(np.abs(z) > 1.96) == pytest.approx(0.05, abs=0.03)


@given(table=tables)
def test_kappa_is_symmetric_in_the_raters_and_one_on_the_diagonal(table: list[list[int]]) -> None:
    for weighting in ("none", "linear", "quadratic"):
        one, other = cohen_kappa(table, 0.05, weighting), cohen_kappa(np.transpose(table), 0.05, weighting)  # type: ignore[arg-type]
        assert one.kappa == pytest.approx(other.kappa, abs=1e-12)
        assert one.ase == pytest.approx(other.ase, abs=1e-9)
    perfect = cohen_kappa(np.diag(np.diag(table)))
    assert perfect.kappa == pytest.approx(1.0)
    assert perfect.ase == pytest.approx(0.0, abs=1e-6)


def test_two_raters_and_many_agree_on_what_agreement_is() -> None:
    """Fleiss on two raters is Scott's pi; Krippendorff's nominal alpha is that with a small-sample correction."""
    rng = np.random.default_rng(32)
    first = rng.integers(0, 3, 200)
    second = np.where(rng.random(200) < 0.7, first, rng.integers(0, 3, 200))
    table = np.stack([(first == c).astype(int) + (second == c) for c in range(3)], axis=1)
    alpha = krippendorff_alpha([first.tolist(), second.tolist()])

    assert alpha == pytest.approx(1 - (1 - fleiss_kappa(table)) * (1 - 1 / 400), abs=1e-12)
    assert randolph_kappa(table) == pytest.approx(fleiss_kappa(table), abs=0.02)


@given(shift=st.floats(-5, 5), scale=st.floats(0.1, 10))
def test_interval_alpha_ignores_the_scale_and_ordinal_alpha_all_but_the_order(shift: float, scale: float) -> None:
    data = [[1, 2, 3, 3, 2, 1, 4, None], [1, 2, 3, 4, 2, 2, 4, 1], [None, 3, 3, 3, 2, 1, 4, 1]]
    moved = [[None if x is None else shift + scale * x for x in rater] for rater in data]
    bent = [[None if x is None else float(x**3) for x in rater] for rater in data]

    assert krippendorff_alpha(moved, "interval") == pytest.approx(krippendorff_alpha(data, "interval"), abs=1e-9)
    assert krippendorff_alpha(bent, "ordinal") == pytest.approx(krippendorff_alpha(data, "ordinal"))
    assert krippendorff_alpha([data[1], data[1]], "ordinal") == 1.0


def test_chance_ratings_have_an_alpha_near_zero() -> None:
    ratings = np.random.default_rng(33).integers(0, 4, (4, 2000)).tolist()

    for level in ("nominal", "ordinal", "interval"):
        assert krippendorff_alpha(ratings, level) == pytest.approx(0.0, abs=0.04)  # type: ignore[arg-type]


def test_domains() -> None:
    for refused, message in (
        (lambda: cohen_kappa([[1, 2, 3], [1, 2, 3]]), r"table: shape \(2, 3\)"),
        (lambda: cohen_kappa([[5, 0], [0, 0]]), "table: agreement by chance is 1.0"),
        (lambda: cohen_kappa([[1, -1], [0, 1]]), "table: -1.0 is not a count"),
        (lambda: cohen_kappa([[1, 0], [0, 1]], weighting="cubic"), "weighting: 'cubic'"),
        (lambda: cohen_kappa([[1, 0], [0, 1]], alpha=0.0), "alpha: 0.0"),
        (lambda: fleiss_kappa([[2, 1], [1, 1]]), "table: 2 to 3 ratings a subject"),
        (lambda: fleiss_kappa([[2, 0], [2, 0]]), "agreement by chance is 1.0"),
        (lambda: randolph_kappa([[2], [2]]), "categories: 1, expected 2"),
        (lambda: krippendorff_alpha([[1, None], [None, 2]]), "units with two ratings: 0"),
        (lambda: krippendorff_alpha([[1, 1], [1, 1]]), "different ratings: 1"),
        (lambda: krippendorff_alpha([[1, 2], [1, 2]], "ratio"), "level: 'ratio'"),
    ):
        with pytest.raises(ValueError, match=message):
            refused()
