"""The pairwise judge: both orders, a flip is a tie, and nobody is asked what needs no judging."""

from __future__ import annotations

import math

import pytest


def prefers(good: str):
    """A judge that finds the answer with this word, wherever it stands."""

    def think(body):
        told = body["messages"][-1]["content"]
        first = told.partition("answer_2")[0].rpartition("answer_1")[0]
        return f'{{"reason": "r", "better": "{1 if good in first.rpartition("BEGIN answer_1")[2] else 2}"}}'

    return think


@pytest.fixture
def judge(model):
    return model.build(use="judge", kind="pairwise", model="referee")


@pytest.mark.parametrize("first", ["a", "b"])
@pytest.mark.parametrize(("good", "value", "label"), [("apples", 0.0, "a"), ("bananas", 1.0, "b")])
async def test_the_better_answer_wins_in_both_orders(model, judge, pair, first, good, value, label):
    model.think = prefers(good)
    result = await model.result(judge, pair("apples", "bananas", first=first))
    assert (result.score.value, result.score.label, result.score.detail["flip"]) == (value, label, 0.0)
    shown_first = {"a": "apples", "b": "bananas"}[first]
    assert result.score.detail["first_slot"] == float(shown_first == good)
    assert math.isclose(result.spent.cost_usd, 220e-6)
    one, other = model.prompts()
    assert one.index(shown_first) < min(one.index(w) for w in {"apples", "bananas"} - {shown_first})
    assert one != other


async def test_a_judge_of_the_first_place_gives_ties_and_shows_it(model, judge, pair):
    model.says({"better": "1"})
    score = (await model.result(judge, pair("apples", "bananas"))).score
    assert (score.value, score.label, dict(score.detail)) == (0.5, "tie", {"flip": 1.0, "first_slot": 1.0})
    assert score.explanation.startswith("The order decided, so it is a tie.")


async def test_neither_in_one_order_counts_half(model, judge, pair):
    model.says({"better": "neither"}, {"better": "2"})  # turned: 2 is a
    score = (await model.result(judge, pair("apples", "bananas"))).score
    assert (score.value, dict(score.detail)) == (0.25, {"flip": 0.0, "first_slot": 0.5})


async def test_answers_that_are_the_same_are_a_tie_and_cost_nothing(model, judge, pair):
    score = (await model.result(judge, pair("apples", " apples\n"))).score
    assert (score.value, model.bodies) == (0.5, [])


async def test_a_pair_without_an_answer_is_not_applicable(model, judge, pair):
    result = await model.result(judge, pair("apples", "", status=503))
    assert (result.status, model.bodies) == ("not_applicable", [])


async def test_a_word_that_is_no_place_is_no_verdict(model, judge, pair):
    model.says({"better": "the second one, clearly"})
    result = await model.result(judge, pair("apples", "bananas"))
    assert result.status == "error"
    assert 'expected "1", "2" or "neither"' in result.explanation
    assert result.spent.tokens == 220
