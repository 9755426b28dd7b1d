"""Costs of tokens, and models without a known price."""

from __future__ import annotations

from datetime import date

import orjson
import pytest
from fixtures import list_prices
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.exchange import Attempt, Target, Usage
from gateway.core.prices import Price, Prices, listed
from gateway.core.providers import PROVIDERS

TARGET = Target("openai", "gpt-x")
PRICE = Price(2.0, 8.0, cached_input=0.5)
M = 1_000_000


@pytest.mark.parametrize(
    ("price", "usage", "usd"),
    [
        (PRICE, Usage(M, 0), 2.0),
        (PRICE, Usage(0, M), 8.0),
        (PRICE, Usage(M, M, cached_input_tokens=M // 2), 1.0 + 0.25 + 8.0),
        (PRICE, Usage(M, M, reasoning_tokens=M), 10.0),  # reasoning is output
        (Price(2.0, 8.0), Usage(M, 0, cached_input_tokens=M), 2.0),  # no discount is known
        (Price(2.0, 8.0, reasoning=3.0), Usage(0, M, None, M // 4), 6.0 + 0.75),
        (PRICE, Usage(M, 0, cached_input_tokens=9 * M), 0.5),  # an upstream that miscounts earns nobody money
        (PRICE, Usage(0, 0), 0.0),
    ],
)
def test_tokens_cost_what_their_kind_costs(price: Price, usage: Usage, usd: float) -> None:
    assert price.cost(usage) == pytest.approx(usd)


@given(*[st.integers(0, 1 << 53)] * 4, st.booleans())
def test_no_usage_costs_less_than_nothing(given: int, taken: int, cached: int, thought: int, apart: bool) -> None:
    price = Price(2.0, 8.0, 0.5, 3.0 if apart else None)
    assert 0 <= price.cost(Usage(given, taken, cached, thought)) <= price.cost(Usage(given, taken)) + 1e-9


OWN, GENERAL, SHIPPED = Price(1, 1), Price(2, 2), Price(3, 3)


@pytest.mark.parametrize(
    ("given", "target", "price"),
    [
        ({"openai/gpt-x": OWN, "gpt-x": GENERAL}, TARGET, OWN),
        ({"gpt-x": GENERAL}, TARGET, GENERAL),
        ({"other/gpt-x": OWN}, TARGET, SHIPPED),
        ({}, TARGET, SHIPPED),
        ({}, Target("elsewhere", "gpt-x"), None),
        ({}, Target("openai", "gpt-x-2025-04-14"), SHIPPED),
        ({"gpt-x-2025-04-14": OWN, "gpt-x": GENERAL}, Target("openai", "gpt-x-2025-04-14"), OWN),
        ({"gpt-x": GENERAL}, Target("openai", "gpt-x-20250414"), GENERAL),
        ({}, Target("openai", "gpt-x-mini"), None),
        ({"a/b": OWN}, Target("router", "a/b"), OWN),
    ],
)
def test_the_nearest_price_counts_and_a_stranger_has_none(
    given: dict[str, Price], target: Target, price: Price | None
) -> None:
    assert Prices(given, {"openai": {"gpt-x": SHIPPED}}).of(target) == price


def test_an_unknown_cost_is_none_and_never_nothing() -> None:
    prices = Prices({"gpt-x": PRICE})
    assert prices.cost(TARGET, None) is None
    assert prices.cost(Target("openai", "who"), Usage(1, 1)) is None
    assert Prices({"gpt-x": Price(0, 0)}).cost(TARGET, Usage(1, 1)) == 0.0


def attempt(target: Target, usage: Usage | None) -> Attempt:
    return Attempt(target, 200, None, 0.1, usage)


@pytest.mark.parametrize(
    ("usage", "attempts", "usd"),
    [
        (Usage(M, 0), (), 2.0),
        (Usage(M, 0), (attempt(TARGET, None),), 2.0),
        (Usage(M, 0), (attempt(TARGET, Usage(M, 0)),), 2.0),
        (Usage(0, M), (attempt(TARGET, Usage(M, 0)),), 8.0),  # what the answer itself says is newer
        (None, (attempt(TARGET, Usage(M, 0)),), 2.0),
        (Usage(M, 0), (attempt(Target("b", "dear"), Usage(M, 0)), attempt(TARGET, Usage(M, 0))), 22.0),
        (Usage(M, 0), (attempt(Target("b", "who"), Usage(1, 0)), attempt(TARGET, Usage(M, 0))), None),
        (Usage(M, 0), (attempt(Target("b", "who"), None), attempt(TARGET, Usage(M, 0))), 2.0),
        (None, (attempt(TARGET, None),), None),
    ],
)
def test_a_call_costs_what_each_model_took(
    usage: Usage | None, attempts: tuple[Attempt, ...], usd: float | None
) -> None:
    prices = Prices({"gpt-x": PRICE, "b/dear": Price(20.0, 80.0)})
    assert prices.of_call(TARGET, usage, attempts) == (None if usd is None else pytest.approx(usd))


TABLE = orjson.loads(list_prices.TABLE.read_bytes())


def test_the_table_is_what_the_package_says() -> None:
    day = date.fromisoformat(TABLE["date"])
    assert list_prices.TABLE.read_bytes() == list_prices.written(list_prices.table(day)), (
        "run: python tests/fixtures/list_prices.py"
    )


@pytest.mark.parametrize("kind", TABLE["prices"])
def test_every_kind_is_a_provider_at_its_own_address(kind: str) -> None:
    assert PROVIDERS[kind].base_url
    assert not PROVIDERS[kind].local, "a local engine has no price except its owner's"
    assert listed(kind)


@pytest.mark.parametrize("kind", TABLE["prices"])
def test_no_price_is_negative(kind: str) -> None:
    for model, price in listed(kind).items():
        assert min(price.input, price.output, price.cached_input or 0.0) >= 0, model


@pytest.mark.parametrize(
    ("kind", "model", "price"),
    [
        ("openai", "gpt-4.1", Price(2.0, 8.0, 0.5)),
        ("openai", "text-embedding-3-small", Price(0.02, 0.0)),
        ("anthropic", "claude-haiku-4-5", Price(1.0, 5.0, 0.1)),
    ],
)
def test_a_well_known_model_has_its_published_price(kind: str, model: str, price: Price) -> None:
    assert listed(kind)[model] == price


def test_a_kind_without_list_prices_has_none() -> None:
    assert listed("vllm") == {}
