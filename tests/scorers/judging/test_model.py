"""A judge model: asked in the way its upstream understands, and once more when it mumbles."""

from __future__ import annotations

import pytest

from gateway.scorers.judging import verdicts
from gateway.scorers.judging.model import JudgeModel, JudgeQuestion, UnreadableVerdict
from gateway.scoring.asker import Asker, ModelRefused
from gateway.scoring.budget import InMemoryLedger, ScorerBudget
from gateway.scoring.types import Denied, OverBudget

FORM = verdicts.response_format("verdict", {"score": {"type": "integer"}})
QUESTION = JudgeQuestion(
    [{"role": "user", "content": "?"}], "score", FORM, lambda v: verdicts.read_number(v, "score", 1, 5)
)


@pytest.fixture
def judge(model):
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


async def test_what_was_paid_before_it_failed_is_known(model, judge):
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
