"""F1 of words."""

from __future__ import annotations

import pytest

from gateway.evals.scorers.f1 import F1


@pytest.mark.parametrize(
    ("answer", "reference", "value"),
    [("the cat sat", "cat sat", 1.0), ("cat", "cat sat down", 0.5), ("dog", "cat", 0.0), ("an", "the", 1.0)],
)
def test_the_value_is_the_overlap(ask, subject, answer, reference, value):
    assert ask(F1("f1"), subject(answer, None, reference)).value == pytest.approx(value)
