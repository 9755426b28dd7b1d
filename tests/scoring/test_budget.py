"""A budget holds for a day and for all consumers together, to the call."""

from __future__ import annotations

import asyncio

import pytest

from gateway.scoring.budget import InMemoryLedger, ScorerBudget
from gateway.scoring.types import OverBudget
from gateway.stream import Corridor

DAY = 86_400.0


async def spend(budget, usd, tokens=0):
    await budget.correct(await budget.reserve(), usd, tokens)


async def test_a_spent_budget_refuses_the_next_call():
    budget = ScorerBudget("j", 1.0, None, InMemoryLedger(), lambda: DAY)
    for _ in range(4):
        await spend(budget, 0.25)
    with pytest.raises(OverBudget, match=r"budget_usd: 1 of today's 1 USD are spent"):
        await budget.reserve()


async def test_tokens_are_counted_apart():
    budget = ScorerBudget("j", None, 100, InMemoryLedger(), lambda: DAY)
    await spend(budget, 0.0, 60)
    with pytest.raises(OverBudget, match=r"budget_tokens: 60 of today's 100 tokens are spent"):
        await budget.reserve()  # another 60 would be too many


async def test_the_next_day_begins_again():
    now = [DAY]
    budget = ScorerBudget("j", 1.0, None, InMemoryLedger(), lambda: now[0])
    await spend(budget, 1.0)
    with pytest.raises(OverBudget):
        await budget.reserve()
    now[0] += DAY
    await budget.reserve()


async def test_a_budget_of_nothing_asks_nobody():
    with pytest.raises(OverBudget):
        await ScorerBudget("j", 0.0, None, InMemoryLedger()).reserve()


async def test_concurrent_calls_do_not_exceed_the_budget():
    """32 at once, 0.1 USD each, of a budget of 1: the first tells the price, and then it is kept to the call."""
    ledger = InMemoryLedger()
    budget = ScorerBudget("j", 1.0, None, ledger, lambda: DAY)
    await spend(budget, 0.1)
    asked = 0

    async def one():
        nonlocal asked
        reserved = await budget.reserve()
        asked += 1
        await asyncio.sleep(0)
        await budget.correct(reserved, 0.1, 0)

    results = await asyncio.gather(*(one() for _ in range(32)), return_exceptions=True)
    assert asked == 9
    assert sum(isinstance(s, OverBudget) for s in results) == 23
    assert round(sum(v for (_, f), v in ledger.sums.items() if f == "j:usd"), 9) == 1.0


async def test_consumers_share_it_through_the_stream_server(stream_url, stream_name):
    corridor = Corridor(stream_url, stream_name)
    one, other = (ScorerBudget("j", None, 100, corridor.state, lambda: DAY) for _ in range(2))
    await spend(one, 0.0, 100)
    with pytest.raises(OverBudget, match="100 of today's 100"):
        await other.reserve()
    await ScorerBudget("k", None, 100, corridor.state, lambda: DAY).reserve()
    await corridor.aclose()
