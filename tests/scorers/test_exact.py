"""The same words, or the same text."""

from __future__ import annotations

import pytest

from gateway.scorers.exact import Exact
from gateway.scoring.golden import check_golden


@pytest.mark.parametrize(
    ("answer", "reference", "loosely", "literally"),
    [
        ("Paris", "Paris", 1, 1),
        (" Paris\n", "Paris", 1, 1),
        ("the PARIS!", "paris", 1, 0),
        ("Paris, France", "Paris", 0, 0),
        ("", "the", 1, 0),
        ("42", "42.", 1, 0),
    ],
)
def test_literal_disregards_only_the_ends(ask, subject, answer, reference, loosely, literally):
    of = subject(answer, None, reference)
    assert ask(Exact("exact"), of).value == loosely
    assert ask(Exact("exact", literal=True), of).value == literally


def test_its_golden_cases_follow_the_option():
    assert check_golden(Exact("exact", literal=True)) == []
