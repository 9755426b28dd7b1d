"""A judge model: asked in the way its upstream understands, and once more when it mumbles."""

from __future__ import annotations

import math
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.scorers.judging.model import (
    JudgeModel,
    JudgeQuestion,
    NoVerdict,
    UnreadableVerdict,
    expected_score,
    find_verdict,
    read_bool,
    read_number,
    read_reason,
    response_format,
    score_distribution,
)
from gateway.scoring.asker import Asker, ModelRefused
from gateway.scoring.budget import InMemoryLedger, ScorerBudget
from gateway.scoring.types import Denied, OverBudget

FORM = response_format("verdict", {"score": {"type": "integer"}})
QUESTION = JudgeQuestion([{"role": "user", "content": "?"}], "score", FORM, lambda v: read_number(v, "score", 1, 5))


@pytest.fixture
def judge(model):
    """Makes a JudgeModel that asks the scripted model."""

    def make(budget=None, **fields):
        return JudgeModel(Asker(model.outside.client, model.outside.prices, budget), "referee", **fields)

    return make


async def test_a_rejected_parameter_is_omitted_from_then_on(model, judge):
    """One that knows no JSON schema, no logprobs, no temperature, and calls the limit otherwise."""

    def think(body):
        for field, message in (
            ("logprobs", "logprobs are not supported"),
            ("max_tokens", "'max_tokens' is not supported; use 'max_completion_tokens'"),
            ("temperature", "temperature must be 1"),
        ):
            if field in body:
                return model.refuses(400, message)
        if body.get("response_format", {}).get("type") == "json_schema":
            return model.refuses(400, "unknown response_format")
        return '{"score": 3}'

    model.think = think
    asking = judge()
    assert (await asking.verdict(QUESTION, logprobs=True)).value == 3.0
    assert len(model.bodies) == 5
    assert (await asking.verdict(QUESTION, logprobs=True)).value == 3.0
    (last,) = model.bodies[5:]
    assert sorted(last) == ["max_completion_tokens", "messages", "model", "response_format", "seed"]
    assert last["response_format"] == {"type": "json_object"}


async def test_an_upstream_without_formats_is_called_without(model, judge):
    model.think = lambda body: model.refuses(422, "bad") if "response_format" in body else 'So: {"score": 2}'
    assert (await judge().verdict(QUESTION)).value == 2.0


@pytest.mark.parametrize(("status", "message"), [(500, "logprobs"), (429, "max_tokens"), (400, "context too long")])
async def test_an_error_that_omitting_cannot_fix_is_raised(model, judge, status, message):
    model.think = lambda body: model.refuses(status, message)
    with pytest.raises(ModelRefused) as caught:
        await judge().verdict(QUESTION)
    assert (caught.value.status, len(model.bodies)) == (status, 1)


async def test_an_unreadable_verdict_is_requested_again(model, judge):
    model.says("I would say four.", '{"score": 4}')
    verdict = await judge().verdict(QUESTION)
    assert (verdict.value, verdict.spent.tokens) == (4.0, 220)
    again = model.bodies[1]["messages"]
    assert again[1] == {"role": "assistant", "content": "I would say four."}
    assert 'its members, in this order: "score"' in again[2]["content"]


async def test_twice_is_enough(model, judge):
    model.says("hm", '{"score": 9}')
    with pytest.raises(UnreadableVerdict, match="expected a number from 1 to 5") as caught:
        await judge().verdict(QUESTION)
    assert (len(model.bodies), caught.value.spent.tokens) == (2, 220)


async def test_params_of_the_config_win(model, judge):
    model.says('{"score": 3}')
    await judge(params={"temperature": 0.7, "reasoning_effort": "low"}, max_tokens=64).verdict(QUESTION)
    (body,) = model.bodies
    assert (body["temperature"], body["reasoning_effort"], body["max_tokens"]) == (0.7, "low", 64)


async def test_the_cost_before_a_failure_is_known(model, judge):
    model.think = lambda body: "hm" if len(model.bodies) == 1 else model.refuses(401, "no key")
    with pytest.raises(Denied) as caught:
        await judge().verdict(QUESTION)
    assert caught.value.spent.tokens == 110


async def test_a_spent_budget_asks_nobody(model, judge):
    model.says('{"score": 3}')
    asking = judge(ScorerBudget("j", None, 150, InMemoryLedger()))
    await asking.verdict(QUESTION)
    with pytest.raises(OverBudget):
        await asking.verdict(QUESTION)
    assert len(model.bodies) == 1


async def test_an_answer_of_another_shape_is_an_error_of_the_judge(model, judge):
    model.think = lambda body: model.refuses(200)
    with pytest.raises(ValueError, match="not a chat completion"):
        await judge().verdict(QUESTION)


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 4}',
        '  {"reason": "good", "score": 4}\n',
        '```json\n{"score": 4}\n```',
        'I think so. {"score": 4} That is all.',
        '<think>{"score": 1}</think>{"score": 4}',
        'The answer says {"score": 9} and {"other": 1}, so: {"score": 4} {"other": 2}',
        '{ {{{ {"score": 4}',
        '[{"score": 4}]',
    ],
)
def test_the_last_object_with_the_key_is_the_verdict(text):
    assert find_verdict(text, "score")["score"] == 4


@pytest.mark.parametrize(
    "text",
    [
        '{"score": 4} (the answer ends in {"score": 5})',
        '```json\n{"score": 4}\n```\nThe answer asked for {"score": 5}.',
        '<think>{"score": 2}</think>\n{"score": 4} The answer says {"score": 5}.',
        '{"score": 2} is a draft</think>{"score": 4}',
    ],
)
def test_a_verdict_that_comes_first_is_not_replaced_by_a_quotation(text):
    assert find_verdict(text, "score")["score"] == 4


@pytest.mark.parametrize(
    "text",
    [
        '{"reason": "it says </thinking> and stops", "score": 4}',
        '<think>hm</think>{"reason": "it says </think>", "score": 4}',
        'So: {"reason": "it says </THINKING>", "score": 4} That is all.',
        '{"score": 4} It ends in </thinking>.',
        '<think>{"score": 1}</think>{"score": 4} It ends in </thinking> too.',
    ],
)
def test_a_quoted_end_of_a_thought_does_not_lose_the_verdict(text):
    """An answer could otherwise avoid its score by making the judge quote it."""
    assert find_verdict(text, "score")["score"] == 4


@pytest.mark.parametrize("text", ["", "four", '{"grade": 4}', "{" * 5000, '{"score": 4', "[1, 2]", "null"])
def test_without_one_there_is_no_verdict(text):
    with pytest.raises(NoVerdict, match='no JSON object with "score"'):
        find_verdict(text, "score")


@given(st.text(st.sampled_from('{}[]":,score1 \\n'), max_size=300))
def test_any_answer_of_a_judge_can_be_read(text):
    with suppress(NoVerdict):
        assert "score" in find_verdict(text, "score")


def test_deep_nesting_is_not_a_verdict_and_no_crash():
    with pytest.raises(NoVerdict):
        find_verdict('{"a":' * 100_000, "score")


@pytest.mark.parametrize("given_", [4, 4.0, "4", "4/5", " 4 of 5 ", "4 out of 5"])
def test_a_number_may_be_written_as_text(given_):
    assert read_number({"score": given_}, "score", 1, 5) == 4.0


@pytest.mark.parametrize("given_", [0, 6, "six", True, None, [4], "4.5.6", "14", float("nan"), float("inf")])
def test_a_value_outside_the_scale_is_not_a_verdict(given_):
    with pytest.raises(NoVerdict, match="expected a number from 1 to 5"):
        read_number({"score": given_}, "score", 1, 5)


def test_yes_and_no():
    assert [read_bool(x) for x in (True, "yes", "True", False, "NO")] == [True, True, True, False, False]
    with pytest.raises(NoVerdict):
        read_bool(1)


def test_a_reason_is_text_or_none():
    assert [read_reason(v) for v in ({"reason": "r"}, {"reason": " "}, {"reason": 3}, {})] == ["r", None, None, None]


def test_the_response_format_is_strict():
    form = response_format("verdict", {"a": {"type": "string"}, "b": {"type": "integer"}})
    inner = form["json_schema"]["schema"]
    assert (form["json_schema"]["strict"], inner["required"], inner["additionalProperties"]) == (
        True,
        ["a", "b"],
        False,
    )


def tokens(*pieces, **tops):
    """The piece "@" bears the alternatives; the others none."""
    top = [{"token": t, "logprob": math.log(p)} for t, p in tops.items()]
    return [{"token": next(iter(tops)), "top_logprobs": top} if p == "@" else {"token": p} for p in pieces]


def test_the_alternatives_at_the_score_are_weighed():
    found = score_distribution(tokens('{"', 'score": ', "@", "}", **{"4": 0.5, "5": 0.3, "ok": 0.2}), "score", 1, 5)
    assert {k: round(v, 9) for k, v in found.items()} == {"4": 0.625, "5": 0.375}
    assert math.isclose(expected_score(found), 4.375)


def test_spellings_of_one_digit_add_up():
    found = score_distribution(tokens('{"score":', "@", **{" 4": 0.4, "4": 0.3, "2": 0.3}), "score", 1, 5)
    assert {k: round(v, 9) for k, v in found.items()} == {"2": 0.3, "4": 0.7}


def test_a_superscript_is_no_alternative_to_a_score():
    found = score_distribution(tokens('{"score":', "@", **{"4": 0.6, "\u00b2": 0.4}), "score", 1, 5)
    assert found in (None, {"4": 1.0})


def test_a_score_that_shares_its_token_is_found():
    top = [{"token": "4", "logprob": -0.1}]
    assert score_distribution([{"token": '{"score": 4}', "top_logprobs": top}], "score", 1, 5) == {"4": 1.0}


@pytest.mark.parametrize(
    "given",
    [
        [],
        tokens("no score here", "@", **{"4": 1.0}),
        tokens('{"score": ', "@", **{"4": 0.2, "x": 0.8}),
        tokens('{"score": ', "@", **{"9": 1.0}),
        [{"token": '{"score": '}, {"token": "4"}],
        [{"token": '{"score": '}, {"token": "4", "top_logprobs": "x"}],
        [3, None],
        tokens('{"score": ', "@", "5", **{"1": 1.0}),
    ],
)
def test_tokens_without_the_score_give_no_distribution(given):
    assert score_distribution(given, "score", 1, 5) is None


def test_a_scale_of_two_digits_cannot_be_weighed():
    assert score_distribution(tokens('{"score": ', "@", **{"7": 1.0}), "score", 0, 10) is None
