"""List prices are those of genai-prices, and plausible."""

from __future__ import annotations

from datetime import date

import orjson
import pytest
from fixtures import list_prices

from gateway.core.price_list import listed
from gateway.core.prices import Price
from gateway.core.providers import PROVIDERS

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
