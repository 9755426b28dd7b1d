"""The number of repeats of a judge, and the combination of its verdicts."""

from __future__ import annotations

import math

import pytest

from gateway.core.score import Spent
from gateway.scorers.judging.model import UnreadableVerdict
from gateway.scorers.judging.repeats import RepeatedVerdict, RepeatPolicy, score_repeatedly, standard_error


def says(*values):
    """An asker of these opinions; None: unreadable."""
    asked = []

    async def ask(seed):
        asked.append(seed)
        value = values[seed]
        if value is None:
            raise UnreadableVerdict("mumbling", Spent(1.0, "m", 5))
        return RepeatedVerdict(
            value, f"r{seed}", f"l{seed}", Spent(1.0, "m", 5), {"1": value, "2": 1 - value}, {"x": value}
        )

    ask.asked = asked
    return ask


async def test_one_opinion_is_the_score():
    found = await score_repeatedly(says(0.25), RepeatPolicy())
    assert (found.value, found.label, found.explanation, found.standard_error) == (0.25, "l0", "r0", None)
    assert (found.spent, found.distribution) == (Spent(1.0, "m", 5), {"1": 0.25, "2": 0.75})


async def test_several_are_averaged_with_all_they_say():
    found = await score_repeatedly(says(0.0, 1.0), RepeatPolicy(2))
    assert (found.value, found.label, found.detail) == (0.5, None, {"x": 0.5, "repeats": 2})
    assert (found.distribution, found.spent.cost_usd) == ({"1": 0.5, "2": 0.5}, 2.0)
    assert math.isclose(found.standard_error, math.sqrt(0.5 / 2))


async def test_it_is_asked_until_it_is_sure_enough():
    sure = says(0.5, 0.5, 1.0)
    assert (await score_repeatedly(sure, RepeatPolicy(1, 3, 0.01))).value == 0.5
    assert sure.asked == [0, 1], "one opinion has no standard error; two equal ones have 0"
    torn = says(0.0, 1.0, 0.0, 1.0)
    await score_repeatedly(torn, RepeatPolicy(2, 4, 0.01))
    assert torn.asked == [0, 1, 2, 3]


async def test_an_unreadable_one_is_left_out_and_paid_for():
    found = await score_repeatedly(says(None, 1.0, 1.0), RepeatPolicy(3))
    assert (found.value, found.spent.tokens) == (1.0, 15)


async def test_where_none_can_be_read_there_is_no_score():
    with pytest.raises(UnreadableVerdict) as caught:
        await score_repeatedly(says(None, None), RepeatPolicy(2))
    assert caught.value.spent == Spent(2.0, "m", 10)


@pytest.mark.parametrize("fields", [(0,), (3, 2, 0.1), (1, 3, None), (1, None, 0.1)])
def test_repeats_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match="repeats"):
        RepeatPolicy(*fields)


def test_the_standard_error_is_of_the_mean():
    assert standard_error([1.0]) is None
    assert math.isclose(standard_error([0.0, 0.5, 1.0]), math.sqrt(0.25 / 3))
