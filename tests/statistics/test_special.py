"""Special functions against scipy, and against what must hold of them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.statistics import special

sizes = st.floats(0.05, 5000)


@given(p=st.floats(1e-300, 1, exclude_max=True))
def test_the_normal_quantile_is_scipys(p: float) -> None:
    from scipy import stats

    assert special.normal_quantile(p) == pytest.approx(stats.norm.ppf(p), rel=1e-12, abs=1e-14)


@given(a=sizes, ratio=st.floats(0, 5))
def test_incomplete_gamma(a: float, ratio: float) -> None:
    from scipy import special as oracle

    x = a * ratio

    assert special.gamma_p(a, x) == pytest.approx(oracle.gammainc(a, x), rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("x", [0.998e6, 1e6, 1.003e6])
def test_incomplete_gamma_converges_for_a_million_values(x: float) -> None:
    from scipy import special as oracle

    assert special.gamma_p(1e6, x) == pytest.approx(oracle.gammainc(1e6, x), abs=1e-8)


@given(a=sizes, b=sizes, x=st.floats(-0.1, 1.1))
def test_incomplete_beta(a: float, b: float, x: float) -> None:
    from scipy import special as oracle

    expected = oracle.betainc(a, b, min(max(x, 0.0), 1.0))

    assert special.beta_cdf(a, b, x) == pytest.approx(expected, rel=1e-8, abs=1e-10)


@given(p=st.floats(1e-6, 1 - 1e-6), df=st.floats(1, 1e4))
def test_student_quantiles(p: float, df: float) -> None:
    from scipy import stats

    t = special.student_quantile(p, df)

    assert t == pytest.approx(stats.t.ppf(p, df), rel=1e-7, abs=1e-9)
    assert special.student_tail(t, df) == pytest.approx(1 - p, rel=1e-7)


@given(root=st.floats(-50, 50), power=st.sampled_from([1, 3]), rising=st.booleans())
def test_roots_are_found(root: float, power: int, rising: bool) -> None:
    sign = 1 if rising else -1
    found = special.find_root(lambda x: sign * ((x - root) ** power + 1e-3 * (x - root)), -60.0, 70.0)

    assert found == pytest.approx(root, abs=1e-9)


def test_roots_next_to_infinite_values_are_found() -> None:
    assert special.find_root(lambda x: -math.inf if x <= 0 else math.log(x), 0.0, 5.0) == pytest.approx(1.0)
    assert special.find_root(lambda x: -1.0 if x < 0.3 else math.inf, 0.0, 1.0) == pytest.approx(0.3)


def test_a_root_of_a_smooth_function_takes_few_evaluations() -> None:
    at: list[float] = []

    def f(x: float) -> float:
        at.append(x)
        return math.exp(x) - 20.0

    assert special.find_root(f, 0.0, 64.0) == pytest.approx(math.log(20.0), rel=1e-13)
    assert len(at) <= 16


def test_domains() -> None:
    with pytest.raises(ValueError, match=r"no change of sign between f\(0.0\) = 1.0 and f\(1.0\) = 2.0"):
        special.find_root(lambda x: 1 + x, 0.0, 1.0)
    for refused in (
        lambda: special.normal_quantile(1.0),
        lambda: special.gamma_p(0.0, 1.0),
        lambda: special.gamma_p(1.0, -1.0),
        lambda: special.log_beta(-1.0, 1.0),
        lambda: special.student_quantile(0.0, 3),
        lambda: special.student_quantile(0.9, 0),
        lambda: special.student_tail(0.0, 0),
    ):
        with pytest.raises(ValueError, match="is outside"):
            refused()
