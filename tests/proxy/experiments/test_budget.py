"""What shadows may use in a UTC day, over all gateways of a stream server."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from gateway.config.experiments import ExperimentBudget
from gateway.core.errors import StreamDown
from gateway.core.exchange import Usage
from gateway.proxy.experiments.budget import ShadowSpending, usage_or_guess
from gateway.stream.shared_state import SHADOW_COUNTS, SPENDING_DAY_S

NOON = 20_000.5 * SPENDING_DAY_S


class Clock:
    def __init__(self, now: float = NOON) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


class Server:
    """The sums of a stream server, without one. down: answers nothing."""

    def __init__(self) -> None:
        self.sums: dict[str, dict[str, float]] = {}
        self.down = False

    async def add(self, name: str, amounts: Mapping[str, float], keep_s: int | None = None) -> dict[str, float]:
        if self.down:
            raise StreamDown("away")
        there = self.sums.setdefault(name, {})
        for field, amount in amounts.items():
            there[field] = there.get(field, 0.0) + amount
        return {field: there[field] for field in amounts}


def test_a_budget_is_of_one_experiment_and_of_one_utc_day() -> None:
    clock = Clock()
    spending, budget = ShadowSpending(clock), ExperimentBudget(tokens_per_day=100)
    spending.took("swap", Usage(60, 39), None)
    assert not spending.over("swap", budget)
    spending.took("swap", Usage(1, 0), None)
    assert spending.over("swap", budget)
    assert not spending.over("other", budget)
    assert not spending.over("swap", ExperimentBudget())
    clock.now = 20_001 * SPENDING_DAY_S - 1
    assert spending.over("swap", budget)
    clock.now += 1
    assert not spending.over("swap", budget)


def test_dollars_are_a_budget_of_their_own() -> None:
    spending, budget = ShadowSpending(Clock()), ExperimentBudget(usd_per_day=0.5, tokens_per_day=10_000)
    spending.took("swap", Usage(10, 10), 0.3)
    assert not spending.over("swap", budget)
    spending.took("swap", Usage(10, 10), 0.2)
    assert spending.over("swap", budget)


async def test_gateways_share_what_they_used() -> None:
    server, clock = Server(), Clock()
    one, other = ShadowSpending(clock), ShadowSpending(clock)
    one.took("swap", Usage(60, 0), None)
    other.took("swap", Usage(50, 0), None)
    for each in (one, other, one):
        await each.share(server, ["swap"])
    assert one.spent("swap", "tokens") == other.spent("swap", "tokens") == 110
    await one.share(server, ["swap"])
    assert one.spent("swap", "tokens") == 110, "what was added is not added again"


async def test_without_the_server_each_process_keeps_its_own_sums() -> None:
    server, spending = Server(), ShadowSpending(Clock())
    spending.took("swap", Usage(60, 0), None)
    spending.counted("hash", "candidate:asked")
    server.down = True
    with pytest.raises(StreamDown):
        await spending.share(server, ["swap"])
    assert spending.spent("swap", "tokens") == 60
    server.down = False
    await spending.share(server, ["swap"])
    assert server.sums[f"spent:{int(NOON // SPENDING_DAY_S)}"]["swap:tokens"] == 60
    assert server.sums[SHADOW_COUNTS] == {"hash:candidate:asked": 1}
    await spending.share(server, ["swap"])
    assert server.sums[SHADOW_COUNTS] == {"hash:candidate:asked": 1}


def test_an_upstream_that_counts_nothing_is_not_free() -> None:
    assert usage_or_guess(None, b"x" * 300, b"y" * 30) == Usage(100, 10)
    assert usage_or_guess(Usage(1, 2), b"x" * 300, b"y" * 30) == Usage(1, 2)
