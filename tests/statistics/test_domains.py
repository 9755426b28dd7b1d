"""Values outside a domain are refused, with the argument and its value."""

import math
from typing import Any

import numpy as np
import pytest

from gateway.statistics import domains


@pytest.mark.parametrize("value", [0.0, 1.0, -0.1, 1.1, math.nan, math.inf])
def test_an_open_domain_has_no_ends(value: float) -> None:
    with pytest.raises(ValueError, match=r"alpha: .* is outside \(0, 1\)") as refused:
        domains.inside("alpha", value)

    assert repr(value) in str(refused.value)


def test_a_closed_domain_has_its_ends() -> None:
    assert domains.between("x", 0.0) == 0.0
    assert domains.between("x", 1.0) == 1.0
    with pytest.raises(ValueError, match=r"x: nan is outside \[0, 1\]"):
        domains.between("x", math.nan)


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (domains.finite, math.inf, "x: inf is not a finite number"),
        (domains.positive, 0.0, "x: 0.0 is outside (0, inf)"),
        (domains.not_negative, -1.0, "x: -1.0 is outside (0, inf)"),
        (domains.vector, [1.0, math.nan], "x[1]: nan is not a finite number"),
        (domains.vector, [[1.0]], "x: shape (1, 1), expected (n,)"),
        (domains.vector, [], "x: 0 values, expected 1 or more"),
        (domains.counts, [[1, -2]], "x: -2.0 is not a count"),
        (domains.counts, [[0, 0]], "x: all counts are 0"),
        (domains.counts, [1, 2], "x: shape (2,), expected two dimensions"),
    ],
)
def test_refusals_say_what_was_wrong(check: Any, value: Any, message: str) -> None:
    with pytest.raises(ValueError) as refused:  # noqa: PT011  # the message is compared below, whole
        check("x", value)

    assert str(refused.value) == message


def test_the_rest_pass_or_are_refused_with_their_value() -> None:
    assert domains.not_negative("x", 0.0) == 0.0
    assert domains.at_least("n", 2, 2) == 2
    assert domains.one_of("kind", "b", ("a", "b")) == "b"
    domains.same_length("a, b", np.zeros(2), [1, 2])
    with pytest.raises(ValueError, match="n: 1, expected 2 or more"):
        domains.at_least("n", 1, 2)
    with pytest.raises(ValueError, match="kind: 'c' is not one of a, b"):
        domains.one_of("kind", "c", ("b", "a"))
    with pytest.raises(ValueError, match=r"a, b: lengths \[2, 1\] differ"):
        domains.same_length("a, b", np.zeros(2), [1])
