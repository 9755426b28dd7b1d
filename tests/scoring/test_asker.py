"""Calls of a model by a scorer: their costs, denials and refusals."""

from __future__ import annotations

import math
from urllib.parse import unquote

import pytest

from gateway.core.prices import Prices
from gateway.core.score import Spent
from gateway.scoring.asker import Asker, ModelRefused, total_spent
from gateway.scoring.budget import InMemoryLedger, ScorerBudget
from gateway.scoring.http_client import Unreachable
from gateway.scoring.types import Denied

BODY = {"model": "m", "messages": []}


@pytest.fixture
def ask(model):
    """Makes an Asker of the scripted model."""

    def make(budget=None, prices=None, deadline_s=10.0):
        return Asker(model.outside.client, prices or model.outside.prices, budget, deadline_s)

    return make


async def test_the_answer_comes_with_its_cost(model, ask):
    reply, spent = await ask().ask("/chat/completions", BODY)
    assert reply["object"] == "chat.completion"
    assert (spent.judge_model, spent.tokens) == ("up/judge-1", 110)
    assert math.isclose(spent.cost_usd, 110e-6)


async def test_the_key_goes_along_and_the_call_is_never_sampled(model, ask):
    await ask(deadline_s=7).ask("/chat/completions", BODY)
    received = model.upstream.calls[0]
    assert received.header("authorization") == "Bearer sk-evals"
    assert received.header("x-gateway-sample") == "never"
    assert received.header("x-gateway-timeout-s") == "7.000"


async def test_the_gateway_is_told_which_scorer_pays(model, ask, subject):
    """A name may have any letters; a header may not."""
    await Asker(model.outside.client, Prices(), scorer="größer als").ask("/chat/completions", BODY)
    await ask().ask("/chat/completions", BODY)
    judge = model.build("helpful", use="judge", model="referee", scale=[1, 5])
    model.says({"score": 4})
    await model.result(judge, subject("blue"))
    sent = [call.header("x-gateway-scorer") for call in model.upstream.calls]
    assert [name and unquote(name) for name in sent] == ["größer als", None, "helpful"]


@pytest.mark.parametrize(
    ("status", "code"),
    [(401, None), (402, None), (403, None), (429, "insufficient_quota"), (400, "invalid_api_key"),
     (400, "billing_not_active")],
)  # fmt: skip
async def test_authentication_and_billing_errors_deny(model, ask, status, code):
    model.think = lambda body: model.refuses(status, "pay first", code)
    with pytest.raises(Denied, match=f"HTTP {status}: pay first"):
        await ask().ask("/chat/completions", BODY)


async def test_other_errors_refuse_and_name_the_field(model, ask):
    model.think = lambda body: model.refuses(400, "too hot", param="temperature")
    with pytest.raises(ModelRefused) as caught:
        await ask().ask("/chat/completions", BODY)
    assert (caught.value.status, caught.value.message, caught.value.param) == (400, "too hot", "temperature")


async def test_a_budget_in_usd_needs_a_price(model, ask):
    budget = ScorerBudget("j", 1.0, None, InMemoryLedger())
    with pytest.raises(Denied, match="budget_usd cannot be enforced: up/judge-1 has no price"):
        await ask(budget, Prices()).ask("/chat/completions", BODY)


async def test_a_failed_call_costs_nothing_of_the_budget(model, ask):
    ledger = InMemoryLedger()
    budget = ScorerBudget("j", 1.0, 1000, ledger)
    await ask(budget).ask("/chat/completions", BODY)
    model.think = lambda body: model.refuses(500)
    with pytest.raises(ModelRefused):
        await ask(budget).ask("/chat/completions", BODY)
    assert [round(v, 9) for (_, f), v in ledger.sums.items() if f == "j:tokens"] == [110]


async def test_without_a_gateway_no_call_is_made(model):
    with pytest.raises(Denied, match="whose address is unknown"):
        await Asker(None, Prices()).ask("/chat/completions", BODY)


async def test_a_gateway_that_is_down_is_unreachable(model, ask):
    await model.upstream.stop()
    with pytest.raises(Unreachable):
        await ask().ask("/chat/completions", BODY)


def test_a_sum_of_which_a_part_is_unknown_is_unknown():
    assert total_spent([]) is None
    assert total_spent([Spent(1.0, "a", 2), Spent(2.0, "b", 3)]) == Spent(3.0, "a, b", 5)
    assert total_spent([Spent(1.0, "a", 2), Spent(None, "a", None)]) == Spent(None, "a", None)
