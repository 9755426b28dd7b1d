"""The edits that turn one answer into the other."""

from __future__ import annotations

import pytest

from gateway.core.score import Skipped
from gateway.scorers.edit_distance import MAX_CHARACTERS, EditDistance


@pytest.mark.parametrize(
    ("a", "b", "white_space", "value", "edits"),
    [
        ("kitten", "sitting", False, 3 / 7, 3),
        ("Paris", "Paris.", False, 1 / 6, 1),
        ("a  b\n", "a b", False, 0.0, 0),
        ("a  b\n", "a b", True, 2 / 5, 2),
        ("", "abc", False, 1.0, 3),
    ],
)
def test_edits_over_the_longer_length(ask_pair, pair, a, b, white_space, value, edits):
    score = ask_pair(EditDistance("e", white_space), pair(a, b))
    assert (score.value, score.detail["edits"]) == (pytest.approx(value), edits)


def test_two_silent_answers_are_not_compared(ask_pair, pair):
    assert isinstance(ask_pair(EditDistance("e"), pair("", " \n")), Skipped)


def test_only_the_beginning_of_a_long_answer_is_compared(ask_pair, pair, steps):
    a, b = "ab" * MAX_CHARACTERS, "ba" * MAX_CHARACTERS
    with steps() as counted:
        assert 0 < ask_pair(EditDistance("e"), pair(a, b)).value < 0.01
    assert counted.n < 1_500, "the number of steps does not follow the number of characters"
